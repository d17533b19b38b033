"""Errors that users can fix: reported as one sentence on stderr with a non-zero exit status."""

import difflib
import errno
import gc
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

from workflow_scripts.common.redact import redact

_LONGEST = 300  # characters of an unexpected exception's message


class StepError(Exception):
    """An error that the user can fix; the message says what is wrong and what to do."""


def nearest(wrong: str, right: Iterable[str]) -> str:
    """Return a hint for a wrong name: the closest valid name, or all valid names."""
    right = sorted(right)
    close = difflib.get_close_matches(wrong, right, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"available: {', '.join(right)}" if right else "none is declared"


def one_line(text: object) -> str:
    """Return a text on one line, without secrets and terminal control sequences.

    Names in a message may come from untrusted files.
    """
    return redact("".join(c if c.isprintable() else " " for c in str(text)))


def run_step(main: Callable[[], None]) -> None:
    """Run a step's ``main`` and report errors that the user can fix as one sentence, with exit 1.

    These include ``OSError`` (a full disk, an unreadable file) and ``MemoryError``. Ctrl-C exits
    with 130. Any other exception is a bug in the project: its traceback is printed to stderr, which
    is redirected to the step's log, followed by one sentence.
    """
    gc.freeze()  # what was imported is not garbage
    gc.enable()
    try:
        main()
    except KeyboardInterrupt:
        print("stopped by SIGINT (Ctrl-C)", file=sys.stderr)
        sys.exit(130)
    except StepError as error:
        sys.exit(f"error: {one_line(error)}")
    except OSError as error:
        if error.errno == errno.ENOSPC:
            sys.exit("error: the disk is full; make room and start the same command again")
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(one_line(f"error: {where}{error.strerror or error}"))
    except MemoryError:
        sys.exit("error: there is too little memory; give the step more (resources.*.mem_mb)")
    except Exception as error:
        print(redact(traceback.format_exc()), file=sys.stderr)
        what = one_line(f"{type(error).__name__}: {error}")
        sys.exit(
            f"error: {Path(sys.argv[0]).stem} failed with {what[:_LONGEST]}. This is a defect of "
            "the project; please report it with the traceback above"
        )


def interrupt_without_traceback() -> None:
    """Make Ctrl-C end this process with one sentence instead of a traceback.

    Used in Snakemake's process, which does not handle Ctrl-C while it parses the workflow and
    builds the job graph.
    """

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            print("stopped by SIGINT (Ctrl-C) before anything was run", file=sys.stderr)
        else:
            usual(kind, error, trace)

    usual, sys.excepthook = sys.excepthook, hook

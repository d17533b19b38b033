"""Errors that a person can act on: one sentence on stderr and a non-zero exit, no traceback."""

import difflib
import errno
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

from workflow_scripts.common.redact import redact

_LONGEST = 300  # characters of an unexpected exception's message


class StepError(Exception):
    """Something that the user can put right; the message names the thing and what to do."""


def nearest(wrong: str, right: Iterable[str]) -> str:
    """Return a hint for a wrong name: the nearest right one, or all of them."""
    right = sorted(right)
    close = difflib.get_close_matches(wrong, right, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"available: {', '.join(right)}" if right else "none is declared"


def one_line(text: object) -> str:
    """Return a text on one line, without secrets and what a terminal would take for an order.

    Names in a message may come from files that somebody else has made.
    """
    return redact("".join(c if c.isprintable() else " " for c in str(text)))


def run_step(main: Callable[[], None]) -> None:
    """Run a step's ``main``, and turn what a user can put right into one sentence and exit 1.

    A full disk or an unreadable file (``OSError``) and too little memory are such things too;
    Ctrl-C is one sentence and exit 130. Any other exception is a defect of the project: the
    traceback goes to stderr, which is a step's log, and the sentence after it says so.
    """
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
    """Have Ctrl-C end this process with one sentence in place of its traceback.

    For Snakemake, which reads the workflow and builds its graph before it handles Ctrl-C itself.
    """

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            print("stopped by SIGINT (Ctrl-C) before anything was run", file=sys.stderr)
        else:
            usual(kind, error, trace)

    usual, sys.excepthook = sys.excepthook, hook

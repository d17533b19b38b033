"""Files and single modules of open_clip, without importing the package, which takes seconds."""

import functools
import importlib.util
import re
from pathlib import Path
from types import ModuleType

from workflow_scripts.common.errors import StepError

MAX_WORD = 2000
"""Maximum length of a word in characters: encoding takes time quadratic in it, and this many have
more tokens than fit into a context."""

_LONG_WORD = re.compile(rf"(\S{{{MAX_WORD}}})\S+")


def without_long_words(text: str) -> str:
    """Return a text with each word shortened to ``MAX_WORD`` characters."""
    return _LONG_WORD.sub(r"\1", text)


@functools.cache
def open_clip_folder() -> Path | None:
    """Return the folder of the package open_clip; None if it is not installed."""
    package = importlib.util.find_spec("open_clip")
    return Path(package.origin).parent if package and package.origin else None


def open_clip_file(name: str) -> Path:
    """Return a file in open_clip's folder.

    Raises:
        StepError: open_clip is not installed.
    """
    folder = open_clip_folder()
    if folder is None:
        raise StepError("open_clip is not installed; run `make setup` and activate .venv")
    return folder / name


@functools.cache
def open_clip_module(name: str) -> ModuleType:
    """Return the module ``open_clip.<name>``, which must not import other modules of open_clip.

    Raises:
        StepError: open_clip is not installed.
    """
    file = open_clip_file(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"open_clip_{name}", file)
    assert spec is not None and spec.loader is not None  # the file's name ends in .py
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

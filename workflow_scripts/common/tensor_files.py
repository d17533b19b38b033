"""Errors of writing safetensors files."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError


@contextlib.contextmanager
def raising_os_errors(path: str | Path) -> Iterator[None]:
    """Raise errors of the disk as ``OSError``, which safetensors reports as its own errors.

    Args:
        path: The file that is written.

    Raises:
        OSError: The file cannot be written, for example because the disk is full.
    """
    try:
        yield
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        code = int(number[1])
        raise OSError(code, os.strerror(code), str(path)) from error

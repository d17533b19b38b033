"""Files of tensors and plain values: written whole, read without unpickling code."""

import pickle
from pathlib import Path
from typing import Any

import torch

from workflow_scripts.common.errors import StepError


def save_tensors(content: Any, path: Path) -> None:
    """Write tensors and plain values by ``torch.save``.

    Raises:
        StepError: The file could not be written; PyTorch does not say why.
    """
    try:
        torch.save(content, path)
    except RuntimeError as error:
        raise StepError(f"{path.parent} could not be written to; is the disk full?") from error


def load_tensors(path: str | Path, what: str) -> Any:
    """Read tensors and plain values to the CPU; nothing else is accepted.

    Args:
        path: File of ``torch.save``.
        what: What it should be, for the message.

    Raises:
        StepError: The file is missing, damaged, or holds anything else.
    """
    if not Path(path).is_file():
        raise StepError(f"there is no {what} {path}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    # PyTorch's reader raises OSError for a file that is cut short.
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise StepError(f"{path} is damaged or no {what}: {reason}") from error

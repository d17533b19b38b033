"""Reading the values of an artefact."""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from workflow_scripts.common.errors import StepError


def values_in(path: str | Path, *names: str) -> list[np.ndarray]:
    """Return arrays of an artefact by name.

    Args:
        path: Its ``values.safetensors``.
        names: Names of the arrays to return.

    Raises:
        StepError: The file does not exist, is damaged, or lacks an array.
    """
    if not Path(path).is_file():
        raise StepError(f"the artefact {path} does not exist; make it first")
    try:
        values = load_file(path)
    except SafetensorError as error:
        raise StepError(f"{path} is damaged or is not an artefact: {error}") from error
    missing = [name for name in names if name not in values]
    if missing:
        raise StepError(
            f"{path} lacks {missing[0]!r} (it has {', '.join(sorted(values))}); refer to an "
            "artefact of a different maker"
        )
    return [values[name] for name in names]

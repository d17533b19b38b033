"""The values of an artefact, read again by whoever uses them."""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from workflow_scripts.common.errors import StepError


def values_in(path: str | Path, *names: str) -> list[np.ndarray]:
    """Return arrays of an artefact by name.

    Args:
        path: Its ``values.safetensors``.
        names: Those that it has to have.

    Raises:
        StepError: There is no such file, it is damaged, or it lacks one of them.
    """
    if not Path(path).is_file():
        raise StepError(f"there is no artefact {path}; make it first")
    try:
        values = load_file(path)
    except SafetensorError as error:
        raise StepError(f"{path} is damaged or holds no artefact: {error}") from error
    missing = [name for name in names if name not in values]
    if missing:
        raise StepError(
            f"{path} has no {missing[0]!r}, but {', '.join(sorted(values))}; refer to an artefact "
            "of another maker"
        )
    return [values[name] for name in names]

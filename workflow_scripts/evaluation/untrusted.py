"""Checks of attack specs from untrusted sources: model cards and specs of others."""

from typing import Any

from workflow_scripts.common.attacks import VARIANTS, named, parts_of
from workflow_scripts.common.errors import StepError


def check_attack(attack: Any, source: object, *, own_files: bool) -> None:
    """Check that an attack spec is well-formed and names no Python file.

    Args:
        attack: The attack spec.
        source: Where it is from, for messages.
        own_files: Allow the attack to name Python files, which are executed.

    Raises:
        StepError: The spec is malformed, or names a Python file without permission.
    """
    try:
        parts = parts_of(attack)
        names = [named(part[key])[0] for part in parts for key in VARIANTS if key in part]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise StepError(f"{source} has no valid 'attack'") from error
    for name in names:
        if str(name).endswith(".py") and not own_files:
            raise StepError(
                f"the attack in {source} names the file {name}, which would be executed; review "
                "the file, then allow it with --own-files"
            )

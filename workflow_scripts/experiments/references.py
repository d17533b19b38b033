"""References to artefacts in the config, ``{artefact: NAME}``: found and replaced."""

from collections.abc import Callable, Iterator
from typing import Any

ARTEFACT = "artefact"


def referred(value: Any) -> str | None:
    """Return the name, or the id, that a value refers to; None if it is no reference."""
    is_one = isinstance(value, dict) and set(value) == {ARTEFACT}
    return value[ARTEFACT] if is_one and isinstance(value[ARTEFACT], str) else None


def references(value: Any) -> Iterator[str]:
    """Yield all that a value and the values in it refer to, in their order."""
    name = referred(value)
    if name is not None:
        yield name
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from references(item)


def replaced(value: Any, by: Callable[[str], Any]) -> Any:
    """Return a copy of a value in which each reference is what ``by`` makes of its name."""
    name = referred(value)
    if name is not None:
        return by(name)
    if isinstance(value, dict):
        return {key: replaced(item, by) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [replaced(item, by) for item in value]
    return value

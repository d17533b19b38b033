"""Finds and replaces references to artefacts in the config, ``{artefact: NAME}``."""

from collections.abc import Callable, Iterator
from typing import Any

ARTEFACT = "artefact"


def referred(value: Any) -> str | None:
    """Return the name or the id that a value refers to; None if it is not a reference."""
    is_one = isinstance(value, dict) and set(value) == {ARTEFACT}
    return value[ARTEFACT] if is_one and isinstance(value[ARTEFACT], str) else None


def references(value: Any) -> Iterator[str]:
    """Yield the targets of all references in a value, in order."""
    return (name for _, name in references_at("", value))


def references_at(place: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield the place and the target of all references in a value, in order."""
    name = referred(value)
    if name is not None:
        yield place, name
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from references_at(f"{place}.{key}", item)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from references_at(f"{place}[{number}]", item)


def replaced(value: Any, by: Callable[[str], Any]) -> Any:
    """Return a copy of a value in which each reference is replaced by ``by(name)``."""
    name = referred(value)
    if name is not None:
        return by(name)
    if isinstance(value, dict):
        return {key: replaced(item, by) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [replaced(item, by) for item in value]
    return value

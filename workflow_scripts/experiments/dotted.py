"""Reads, replaces and varies values of nested mappings by dotted key ("attack.poisoned")."""

import itertools
import re
from collections.abc import Iterator
from typing import Any

from workflow_scripts.common.errors import StepError, nearest
from workflow_scripts.experiments.schema import as_written

Spec = dict[str, Any]

# Options of a variant may be left out, and so may be added; variants are checked afterwards.
_WITH_OPTIONS = {"trigger", "victims", "captions", "start_change"}
_OBJECTIVE = "objective"
# A user-defined loss term is a path, whose dots do not separate keys.
_OWN_TERM = re.compile(rf"{_OBJECTIVE}\.(.+?\.py)(?:\.(.+))?")


def parts_of(dotted: str) -> list[str]:
    """Return the keys that a dotted key consists of."""
    own = _OWN_TERM.fullmatch(dotted)
    if own:
        return [_OBJECTIVE, *filter(None, own.groups())]
    return dotted.split(".")


def copied(value: Any) -> Any:
    """Return a deep copy of a value of the config; ``copy.deepcopy`` takes several times longer."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list) else value


def override(defaults: Spec, overrides: Spec, place: str) -> Spec:
    """Return a copy of ``defaults`` in which each dotted key has its new value.

    Args:
        defaults: A nested mapping.
        overrides: Dotted key to value; a mapping replaces the whole earlier mapping.
        place: Dotted key of the overrides in the config, for error messages.

    Raises:
        StepError: A key does not exist in the defaults.
    """
    spec = copied(defaults)
    for dotted, value in overrides.items():
        *path, last = parts_of(dotted)
        node: Any = spec
        for part in path:
            node = node.get(part) if isinstance(node, dict) else None
        if not isinstance(node, dict) or (last not in node and not _takes_more(path)):
            raise StepError(f"config: {_no_such_key(spec, dotted, place)}")
        node[last] = copied(value)
    return spec


def _takes_more(path: list[str]) -> bool:
    return bool(path) and (path[-1] in _WITH_OPTIONS or path[:-1] == [_OBJECTIVE])


def _no_such_key(spec: Spec, dotted: str, place: str) -> str:
    *path, last = parts_of(dotted)
    where = f"{place}.{dotted}"
    parent = value_at(spec, ".".join(path)) if path else spec
    if path == [_OBJECTIVE] and isinstance(parent, dict):
        return (
            f"{where!r} is the weight of a loss term that is not in the objective "
            f"({', '.join(parent)}); {nearest(last, parent)} (to add a term, set the whole "
            "'objective')"
        )
    for depth in range(1, len(path) + 1):
        above = ".".join(path[:depth])
        value = value_at(spec, above)
        if not isinstance(value, dict):
            if above not in set(_keys(spec)):
                break
            return (
                f"{where!r} is a key below {above!r}, which is {as_written(value)}; set {above!r} "
                "to a whole mapping instead"
            )
    hint = nearest(dotted, _keys(spec))
    # The list of all nested keys would be too long.
    hint = hint if hint.startswith("did") else nearest(dotted, spec)
    return f"unknown key {where!r}; {hint}"


def value_at(spec: Spec, dotted: str) -> Any:
    """Return the value at a dotted key; None if any part of the key is missing."""
    node: Any = spec
    for part in parts_of(dotted):
        node = node.get(part) if isinstance(node, dict) else None
    return node


def combinations(grids: Spec | list[Spec]) -> Iterator[Spec]:
    """Yield every combination of values of one or several grids, as a mapping of dotted keys.

    A grid maps dotted keys to lists of values. Several grids are expanded one after the other, so
    that combinations other than the full product can be listed.
    """
    for grid in listed(grids):
        for values in itertools.product(*grid.values()):
            yield dict(zip(grid, values, strict=True))


def varied_keys(grids: Spec | list[Spec]) -> list[str]:
    """Return the dotted keys that one or several grids set."""
    return list(dict.fromkeys(k for grid in listed(grids) for k in grid))


def listed(grids: Spec | list[Spec]) -> list[Spec]:
    """Return one or several grids as a list."""
    return grids if isinstance(grids, list) else [grids]


def _keys(spec: Spec, prefix: str = "") -> Iterator[str]:
    for key, value in spec.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{key}.")

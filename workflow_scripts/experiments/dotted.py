"""Dotted keys ("attack.poisoned"): one value of a nested mapping, read, replaced or varied."""

import copy
import itertools
from collections.abc import Iterator
from typing import Any

from workflow_scripts.common.errors import StepError, nearest

Spec = dict[str, Any]

# Under these keys the names are open: loss terms, a trigger's and a start change's options.
_OPEN = {"objective", "trigger", "start_change"}


def override(defaults: Spec, overrides: Spec, place: str) -> Spec:
    """Return a copy of ``defaults`` in which each dotted key has its new value.

    Args:
        defaults: A nested mapping.
        overrides: Dotted key to value; a value that is a mapping replaces what was there whole.
        place: Where in the config the overrides stand, for the message.

    Raises:
        StepError: There is no such key in the defaults.
    """
    spec = copy.deepcopy(defaults)
    for dotted, value in overrides.items():
        *path, last = dotted.split(".")
        node: Any = spec
        for part in path:
            node = node.get(part) if isinstance(node, dict) else None
        if not isinstance(node, dict) or (last not in node and not _OPEN & set(path)):
            hint = nearest(dotted, list(_keys(defaults)))
            raise StepError(f"config: {f'{place}.{dotted}'!r} is not a key; {hint}")
        node[last] = copy.deepcopy(value)
    return spec


def value_at(spec: Spec, dotted: str) -> Any:
    """Return the value at a dotted key; None where a part of the way is missing."""
    node: Any = spec
    for part in dotted.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node


def combinations(grids: Spec | list[Spec]) -> Iterator[Spec]:
    """Yield what each dotted key is set to, for every combination of a grid, or of several grids.

    A grid maps dotted keys to lists of values. Several grids follow one another, so that values
    which belong together can be listed as grids of one combination each.
    """
    for grid in _listed(grids):
        for values in itertools.product(*grid.values()):
            yield dict(zip(grid, values, strict=True))


def varied_keys(grids: Spec | list[Spec]) -> list[str]:
    """Return the dotted keys that a grid, or several grids, set."""
    return list(dict.fromkeys(k for grid in _listed(grids) for k in grid))


def _listed(grids: Spec | list[Spec]) -> list[Spec]:
    return grids if isinstance(grids, list) else [grids]


def _keys(spec: Spec, prefix: str = "") -> Iterator[str]:
    for key, value in spec.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{key}.")

"""Ids: a readable slug, and a digest of every setting that affects the content.

A setting at its default is not part of the digest, whether it is written out or left out: a new
setting with a default, in the schema or in a variant, changes no existing id. The default of a
released setting must therefore never change; add a setting with another name instead.
"""

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workflow_scripts.common.files import canonical, digest
from workflow_scripts.common.variants import options
from workflow_scripts.experiments.schema import whole_schema

Spec = dict[str, Any]

# Keys of the spec of a run or an attack that name a variant with options.
_NAMED = ("trigger", "victims", "captions", "start_change")
# Keys whose variant may be a name alone if it has no options.
_NAME_ALONE = ("victims", "captions")
_OBJECTIVE = "objective"
_PARTS = "parts"


def make_id(slug: str, spec: Spec) -> str:
    """Return ``<slug>-<eight hex digits of the spec's digest>``."""
    return f"{slug}-{digest(spec)}"


def slug_of(name: str) -> str:
    """Return an id without its digest."""
    return name.rpartition("-")[0]


def stem_of(variant: str) -> str:
    """Return a variant's name, or the stem of a user's file, with characters allowed in ids."""
    return re.sub(r"[^A-Za-z0-9_.+-]", "_", Path(variant).stem)


def options_of(kind: str, name: str, given: Spec) -> Spec:
    """Return the options of a variant that differ from their defaults, in sorted order."""
    known = _options(kind, name)

    def neutral(option: str) -> bool:
        declared = known.get(option)
        if declared is None or declared.required:
            return False
        return canonical(given[option]) == canonical(declared.default)

    return {option: given[option] for option in sorted(given) if not neutral(option)}


def normalized(spec: Spec, section: str) -> Spec:
    """Return a spec without the settings that equal their defaults, in sorted order.

    Args:
        spec: A run's spec, or a part of the config.
        section: Dotted key of the section whose schema the spec follows, such as ``pretraining``.
    """
    return _normalized(spec, _schema_of(section))


def _normalized(spec: Spec, described: Mapping[str, Any]) -> Spec:
    known, kept = described.get("properties", {}), {}
    for key in sorted(spec):
        value, sub = spec[key], known.get(key, {})
        if key == _OBJECTIVE:
            value = {name: _term(name, value[name]) for name in sorted(value)}
        elif key in _NAMED and isinstance(value, dict):
            value = options_of(key, value["name"], value)
            if key in _NAME_ALONE and set(value) == {"name"}:
                value = value["name"]
        elif key == _PARTS and value is not None:
            value = [_normalized(part, {}) for part in value]
        elif isinstance(value, dict):
            value = _normalized(value, sub)
        if value is None or ("default" in sub and value == sub["default"]):
            continue
        kept[key] = value
    return kept


def _term(name: str, value: Any) -> Any:
    """Return a loss term's weight, or a mapping if the term has options as well."""
    term = options_of("loss", name, value if isinstance(value, dict) else {"weight": value})
    return term["weight"] if set(term) == {"weight"} else term


# Thousands of runs use the same few variants.
_options = functools.cache(options)


@functools.cache
def _schema_of(section: str) -> Mapping[str, Any]:
    described: Mapping[str, Any] = whole_schema()
    for key in section.split("."):
        described = described["properties"][key]
    return described

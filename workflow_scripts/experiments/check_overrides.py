"""Checks each value of `starts`, `defences`, `vary` and `vary_start` by itself."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from workflow_scripts.common.errors import StepError, nearest
from workflow_scripts.experiments.dotted import listed, parts_of
from workflow_scripts.experiments.layers import VARIANT
from workflow_scripts.experiments.schema import (
    Schema,
    check_against,
    fill_defaults,
    number_of,
    schema_at,
    with_numbers,
)

Spec = dict[str, Any]

_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
# The other section, and the key of an experiment that varies it.
_OTHER_GRID = {"cleaning": ("pretraining", "vary_start"), "pretraining": ("cleaning", "vary")}


@dataclass(frozen=True)
class Overrides:
    """A mapping of dotted keys in the config.

    Attributes:
        section: ``pretraining`` or ``cleaning``, to which the keys belong.
        place: Dotted key of the mapping in the config.
        values: The mapping itself.
        varied: Whether each key has a list of values.
    """

    section: str
    place: str
    values: Spec
    varied: bool = False

    @property
    def others(self) -> tuple[str, ...]:
        """The keys that are not dotted keys of the section."""
        if self.varied:
            return (VARIANT,)
        return ("label", "vary") if self.section == "cleaning" else ("label",)

    def each(self) -> Iterator[tuple[str, str, list[Any] | Spec, Any]]:
        """Yield the dotted key, the place, the container and the index of each value."""
        for key, value in self.values.items():
            if key in self.others:
                continue
            place = f"{self.place}.{key}"
            if self.varied:
                yield from ((key, place, value, index) for index in range(len(value)))
            else:
                yield key, place, self.values, key


def all_overrides(config: Spec) -> Iterator[Overrides]:
    """Yield every mapping of dotted keys of the config."""
    for name, start in config["starts"].items():
        yield Overrides("pretraining", f"starts.{name}", start)
    for name, defence in config["defences"].items():
        yield Overrides("cleaning", f"defences.{name}", defence)
        if "vary" in defence:
            yield Overrides("cleaning", f"defences.{name}.vary", defence["vary"], varied=True)
    for name, experiment in config["experiments"].items():
        for key, section in (("vary_start", "pretraining"), ("vary", "cleaning")):
            for grid in listed(experiment[key]):
                yield Overrides(section, f"experiments.{name}.{key}", grid, varied=True)


def check_overrides(config: Spec) -> None:
    """Check all overrides against the schema, convert numbers given as text, fill in defaults.

    Args:
        config: The config, changed in place.

    Raises:
        StepError: The first error; the message names the key as the user wrote it.
    """
    for overrides in all_overrides(config):
        _check_whole(overrides)
        for name in overrides.values.get(VARIANT, []) if overrides.varied else []:
            if not isinstance(name, str) or not name.strip():
                raise StepError(
                    f"config: '{overrides.place}.{VARIANT}' must be the name of a combination as "
                    f"text, got {name!r}"
                )
        for key, place, container, index in overrides.each():
            schema = schema_at(overrides.section, parts_of(key))
            # All other unknown keys are refused when they are applied to the defaults.
            if schema is None and get_close_matches(key, overrides.others, cutoff=0.7):
                hint = nearest(key, overrides.others)
                raise StepError(f"config: unknown key {place!r}; {hint}")
            other, option = _OTHER_GRID[overrides.section]
            if schema is None and overrides.varied and schema_at(other, parts_of(key)) is not None:
                raise StepError(
                    f"config: unknown key {place!r}; it belongs in '{option}' of an experiment"
                )
            if schema is not None:
                container[index] = _checked(container[index], schema, place)
        for key, values in overrides.values.items() if overrides.varied else ():
            for number, value in enumerate(values):
                if value in values[:number]:
                    raise StepError(
                        f"config: '{overrides.place}.{key}' lists {value!r} twice; remove one"
                    )


def _check_whole(overrides: Overrides) -> None:
    """Check the keys of a mapping of dotted keys, but not their values."""
    keys, place = list(overrides.values), overrides.place
    if overrides.varied and "label" in keys:
        raise StepError(
            f"config: '{place}.label' cannot be varied; to name combinations, use {VARIANT!r} in "
            "'vary' or 'vary_start' of an experiment"
        )
    if VARIANT in keys and place.startswith("defences."):
        raise StepError(
            f"config: unknown key '{place}.{VARIANT}'; name combinations in 'vary' of an experiment"
        )
    for number, key in enumerate(keys):
        for earlier in keys[:number]:
            if earlier.startswith(f"{key}."):
                raise StepError(
                    f"config: '{place}.{key}' comes after '{place}.{earlier}' and replaces it; put "
                    "it first"
                )


def _checked(value: Any, schema: Schema, place: str) -> Any:
    # The schema does not describe options of variants: these are checked with the variant. YAML 1.1
    # takes 1e-3 for text; other text, such as "2024", was put in quotes to be text.
    of_option = not schema and isinstance(value, str) and _EXPONENT.fullmatch(value)
    value = number_of(value) if of_option else with_numbers(value, schema)
    try:
        check_against(value, schema, place)
    except StepError as error:
        if isinstance(value, dict) and " is missing" in str(error):
            raise StepError(
                f"{error} ({place!r} replaces all of its defaults; to change a single value, use "
                "a dotted key)"
            ) from error
        raise
    fill_defaults(value, schema)
    return value

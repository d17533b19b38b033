"""Checks variants (triggers, loss terms, figures, ...): their names, options and values."""

from collections.abc import Callable, Iterator
from typing import Any

from workflow_scripts.common import annotations, columns, variants
from workflow_scripts.common.attacks import named
from workflow_scripts.common.errors import StepError, nearest
from workflow_scripts.experiments.check_overrides import all_overrides
from workflow_scripts.experiments.dotted import parts_of
from workflow_scripts.experiments.layers import Settings
from workflow_scripts.experiments.references import referred
from workflow_scripts.experiments.schema import number_of, said, schema_at, with_numbers

Spec = dict[str, Any]

_KINDS = ("trigger", "victims", "captions", "start_change")
_OBJECTIVE = "objective"


def check_variants(settings: Settings) -> None:
    """Check the variants that a run uses, but for those of its attack.

    Raises:
        StepError: A variant, an option or a value does not exist or is missing.
    """
    for term, value in settings["objective"].items():
        options = {k: v for k, v in value.items() if k != "weight"} if _is(value) else {}
        check_variant("loss", term, options, placed(settings, f"objective.{term}"))
    weights = [v["weight"] if _is(v) else v for v in settings["objective"].values()]
    if not any(weights):
        raise StepError(f"config: {settings.place('objective')!r} has no weight that is not 0")
    if settings.section == "cleaning" and settings["start_change"] is not None:
        name, options = named(settings["start_change"])
        check_variant("start_change", name, options, placed(settings, "start_change"))


def placed(settings: Settings, key: str) -> Callable[[str | None], str]:
    """Return what gives the place in the config of an option, or of its variant, by its key."""
    return lambda option: settings.place(f"{key}.{option}" if option else key)


def _is(value: Any) -> bool:
    return isinstance(value, dict)


def check_variant(
    kind: str, name: str, options: Spec, place_of: Callable[[str | None], str]
) -> None:
    """Check one variant with its options.

    Args:
        kind: One of ``variants.KINDS``.
        name: The variant's.
        options: Its options as the config gives them.
        place_of: Option to its place in the config; None to that of the variant.
    """
    word = variants.KINDS[kind].word
    try:
        known, more = variants.options(kind, name), variants.takes_any(kind, name)
    except StepError as error:
        raise StepError(f"config: {place_of(None)!r}: {error}") from error
    for option, value in options.items():
        if option not in known:
            if more:
                continue
            hint = nearest(option, known) if known else "it takes none"
            raise StepError(
                f"config: {place_of(option)!r} is not an option of the {word} {name}; {hint}"
            )
        # Of an artefact, a variant is given the path.
        told = value if referred(value) is None else f"{referred(value)}.safetensors"
        wanted = annotations.problem(known[option].annotation, told)
        if wanted:
            literals = [x for x in annotations.literals(known[option].annotation) if type(x) is str]
            hint = f"; {nearest(value, literals)}" if literals and isinstance(value, str) else ""
            raise StepError(
                f"config: {place_of(option)!r} has to be {wanted}, not {said(value)}{hint}"
            )
    for option, declared in known.items():
        if declared.required and option not in options:
            raise StepError(
                f"config: {place_of(None)!r}: the {word} {name} needs the option {option!r}; add it"
            )


def numbers_of_options(config: Spec) -> None:
    """Make numbers of text, in place, where an option of a variant is a number."""
    for experiment in config["experiments"].values():
        for figure in experiment["figures"].values():
            where = figure.get("where", {})
            for column, value in where.items():
                where[column] = _of_column(column, value)
    measures = [("measure", one["measure"], one) for one in config["measures"].values()]
    known_attack = (config["audit"] or {}).get("attack")
    if known_attack:
        measures.append(("trigger", known_attack["trigger"]["name"], known_attack["trigger"]))
    for kind, name, options in (*_variants_of(config), *measures):
        try:
            known = variants.options(kind, name)
        except StepError:
            continue  # said when the run is checked that uses it
        for option, value in options.items():
            number = annotations.wants_number(known[option].annotation) if option in known else None
            if number:
                options[option] = number_of(value, whole=number is int)


def _of_column(column: str, value: Any) -> Any:
    """Return values of a column of the metrics as numbers, if it has numbers."""
    if isinstance(value, list):
        return [_of_column(column, one) for one in value]
    if column in columns.NUMBERS:
        return number_of(value)
    schemas = [schema_at(section, parts_of(column)) for section in ("pretraining", "cleaning")]
    for schema in filter(None, schemas):
        value = with_numbers(value, schema)
    return value


def _of_attacks(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield a dotted key and its value, and those of the variants in an attack or in its parts."""
    yield key, value
    if key == "attack" and _is(value):
        for below, item in value.items():
            yield from _of_attacks(f"attack.{below}", item)
    elif key == "attack.parts" and isinstance(value, list):
        for part in filter(_is, value):
            yield from ((f"attack.{below}", item) for below, item in part.items())


def _variants_of(config: Spec) -> Iterator[tuple[str, str, Spec]]:
    """Yield kind, name and options of every variant that the config gives as a mapping."""
    values = [*_of_attacks("attack", config["pretraining"]["attack"])]
    values += [("start_change", config["cleaning"]["start_change"])]
    values += [
        ("objective", config[section]["objective"]) for section in ("pretraining", "cleaning")
    ]
    for overrides in all_overrides(config):
        for key, _, container, index in overrides.each():
            values += _of_attacks(key, container[index])
    for key, value in values:
        parts = parts_of(key)
        if not _is(value):
            continue
        if parts[-1] in _KINDS and "name" in value:
            yield parts[-1], value["name"], value
        elif parts == [_OBJECTIVE]:
            yield from (("loss", term, options) for term, options in value.items() if _is(options))
        elif parts[0] == _OBJECTIVE and len(parts) == 2:
            yield "loss", parts[1], value
    for artefact in config["artefacts"].values():
        yield "artefact", artefact["make"], artefact
    for experiment in config["experiments"].values():
        for figure in experiment["figures"].values():
            yield "figure", figure["kind"], figure

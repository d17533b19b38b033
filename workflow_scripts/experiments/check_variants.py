"""Checks variants (triggers, loss terms, figures, ...): their names, options and values."""

from collections.abc import Callable, Iterator
from typing import Any

from workflow_scripts.common import annotations, columns, variants
from workflow_scripts.common.attacks import named
from workflow_scripts.common.errors import StepError, nearest
from workflow_scripts.experiments.check_overrides import all_overrides
from workflow_scripts.experiments.dotted import parts_of
from workflow_scripts.experiments.known_makers import accepted_makers, is_wrong_maker
from workflow_scripts.experiments.layers import Settings
from workflow_scripts.experiments.references import referred
from workflow_scripts.experiments.schema import as_written, number_of, schema_at, with_numbers

Spec = dict[str, Any]

_KINDS = ("trigger", "victims", "captions", "start_change")
_OBJECTIVE = "objective"


def check_variants(settings: Settings, artefacts: Spec) -> None:
    """Check the variants that a run uses, except those of its attack.

    Args:
        settings: Settings of the run.
        artefacts: The section ``artefacts`` of the config.

    Raises:
        StepError: A variant, an option or a value does not exist or is missing.
    """
    for term, value in settings["objective"].items():
        options = {k: v for k, v in value.items() if k != "weight"} if _is_mapping(value) else {}
        check_variant("loss", term, options, placed(settings, f"objective.{term}"), artefacts)
    weights = [v["weight"] if _is_mapping(v) else v for v in settings["objective"].values()]
    if not any(weights):
        raise StepError(
            f"config: all weights of {settings.place('objective')!r} are 0; set one of them to a "
            "positive number"
        )
    if settings.section == "cleaning" and settings["start_change"] is not None:
        name, options = named(settings["start_change"])
        check_variant("start_change", name, options, placed(settings, "start_change"), artefacts)


def placed(settings: Settings, key: str) -> Callable[[str | None], str]:
    """Return a function of an option that gives its place in the config; see check_variant."""
    return lambda option: settings.place(f"{key}.{option}" if option else key)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict)


def check_variant(
    kind: str,
    name: str,
    options: Spec,
    place_of: Callable[[str | None], str],
    artefacts: Spec | None = None,
) -> None:
    """Check one variant with its options.

    Args:
        kind: One of ``variants.KINDS``.
        name: Name of the variant.
        options: Its options as given in the config.
        place_of: Maps an option to its place in the config, and None to the place of the variant.
        artefacts: The section ``artefacts`` of the config; None if options cannot refer to it.

    Raises:
        StepError: The variant or an option does not exist, an option has a wrong value or refers
            to an artefact of a wrong maker, or a required option is missing.
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
            hint = nearest(option, known) if known else "it has no options"
            raise StepError(
                f"config: {place_of(option)!r} is not an option of the {word} {name!r}; {hint}"
            )
        accepted = accepted_makers(kind, name, option)
        # A variant receives the path of an artefact.
        refers = artefacts is not None and referred(value) is not None
        passed = f"{referred(value)}.safetensors" if refers else value
        wanted = annotations.problem(known[option].annotation, passed)
        if wanted:
            literals = [x for x in annotations.literals(known[option].annotation) if type(x) is str]
            close = nearest(value, literals) if literals and isinstance(value, str) else ""
            # Otherwise, the valid values are listed already.
            hint = f"; {close}" if close.startswith("did") else ""
            if accepted and artefacts:
                wanted = f"{wanted} or a reference {{artefact: NAME}}"
            raise StepError(
                f"config: {place_of(option)!r} must be {wanted}, got {as_written(value)}{hint}"
            )
        if artefacts is not None:
            check_maker(place_of(option), value, accepted, artefacts)
    for option, declared in known.items():
        if declared.required and option not in options:
            raise StepError(
                f"config: {place_of(None)!r}: the {word} {name!r} needs the option {option!r}; add "
                "this option"
            )


def check_maker(place: str, value: Any, accepted: tuple[str, ...], artefacts: Spec) -> None:
    """Check that a reference to an artefact names one of an accepted maker.

    Args:
        place: Place of the value in the config.
        value: Value of an option, a reference to a declared artefact or not.
        accepted: The accepted makers; () if they are not known.
        artefacts: The section ``artefacts`` of the config.

    Raises:
        StepError: The artefact is of a built-in maker that is not accepted, or the value is the
            name of an artefact instead of a reference.
    """
    if accepted and isinstance(value, str) and value in artefacts:
        raise StepError(
            f"config: {place!r} is the path {value!r}; to refer to the artefact of this name, "
            f"write {{artefact: {value}}}"
        )
    name = referred(value)
    if name is None or not is_wrong_maker(artefacts[name]["make"], accepted):
        return
    fitting = [other for other, declared in artefacts.items() if declared["make"] in accepted]
    raise StepError(
        f"config: {place!r} refers to the artefact {name!r} of the maker "
        f"{artefacts[name]['make']!r}, but needs one of {' or '.join(accepted)}; "
        + (f"{nearest(name, fitting)}" if fitting else "declare one in 'artefacts'")
    )


def numbers_of_options(config: Spec) -> None:
    """Convert text to numbers, in place, where an option of a variant is a number."""
    for experiment in config["experiments"].values():
        for figure in experiment["figures"].values():
            where = figure.get("where", {})
            for column, value in where.items():
                where[column] = _of_column(column, value)
    measures = [("measure", measure["measure"], measure) for measure in config["measures"].values()]
    known_attack = (config["audit"] or {}).get("attack")
    if known_attack:
        measures.append(("trigger", known_attack["trigger"]["name"], known_attack["trigger"]))
    for kind, name, options in (*_variants_of(config), *measures):
        try:
            known = variants.options(kind, name)
        except StepError:
            continue  # reported when the run that uses it is checked
        for option, value in options.items():
            number = annotations.wants_number(known[option].annotation) if option in known else None
            if number:
                options[option] = number_of(value, whole=number is int)


def _of_column(column: str, value: Any) -> Any:
    """Return values of a column of the metrics as numbers, if the column is numeric."""
    if isinstance(value, list):
        return [_of_column(column, item) for item in value]
    if column in columns.NUMBERS:
        return number_of(value)
    schemas = [schema_at(section, parts_of(column)) for section in ("pretraining", "cleaning")]
    for schema in filter(None, schemas):
        value = with_numbers(value, schema)
    return value


def _of_attacks(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield a dotted key and its value, and those of the variants of an attack and its parts."""
    yield key, value
    if key == "attack" and _is_mapping(value):
        for below, item in value.items():
            yield from _of_attacks(f"attack.{below}", item)
    elif key == "attack.parts" and isinstance(value, list):
        for part in filter(_is_mapping, value):
            yield from ((f"attack.{below}", item) for below, item in part.items())


def _variants_of(config: Spec) -> Iterator[tuple[str, str, Spec]]:
    """Yield kind, name and options of every variant that is a mapping in the config."""
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
        if not _is_mapping(value):
            continue
        if parts[-1] in _KINDS and "name" in value:
            yield parts[-1], value["name"], value
        elif parts == [_OBJECTIVE]:
            yield from (
                ("loss", term, options) for term, options in value.items() if _is_mapping(options)
            )
        elif parts[0] == _OBJECTIVE and len(parts) == 2:
            yield "loss", parts[1], value
    for artefact in config["artefacts"].values():
        yield "artefact", artefact["make"], artefact
    for experiment in config["experiments"].values():
        for figure in experiment["figures"].values():
            yield "figure", figure["kind"], figure

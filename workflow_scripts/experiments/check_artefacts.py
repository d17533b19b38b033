"""Checks the artefacts of a config, and that every reference names a declared artefact."""

from collections.abc import Iterator
from typing import Any

from workflow_scripts.common import variants
from workflow_scripts.common.errors import StepError, nearest
from workflow_scripts.experiments.artefacts import DECLARED, START
from workflow_scripts.experiments.check_overrides import all_overrides
from workflow_scripts.experiments.check_variants import check_variant
from workflow_scripts.experiments.known_models import check_model
from workflow_scripts.experiments.layers import check_declared
from workflow_scripts.experiments.references import references, references_at

Spec = dict[str, Any]


def check_artefacts(config: Spec) -> None:
    """Check each declaration by itself, and all references.

    Raises:
        StepError: The first error; the message names the key as the user wrote it.
    """
    for around, value in _with_options(config):
        for place, name in references_at(around, value):
            if name not in config["artefacts"]:
                raise StepError(
                    f"config: {place!r} names the artefact {name!r}, which is not declared; "
                    f"{nearest(name, config['artefacts'])}"
                )
    for name, declared in config["artefacts"].items():
        _check_maker(config, f"artefacts.{name}", declared)
        _check_model(config, f"artefacts.{name}.model", declared["model"])


def _with_options(config: Spec) -> Iterator[tuple[str, Any]]:
    """Yield the place and the value of everything that may refer to artefacts."""
    for section, key in (("pretraining", "attack"), ("pretraining", "filter"),
                         ("pretraining", "objective"), ("cleaning", "objective"),
                         ("cleaning", "start_change"), ("cleaning", "labels")):  # fmt: skip
        yield f"{section}.{key}", config[section][key]
    for overrides in all_overrides(config):
        for _, place, container, index in overrides.each():
            yield place, container[index]
    for section in ("artefacts", "measures"):
        for name, declared in config[section].items():
            for key, value in declared.items():
                yield f"{section}.{name}.{key}", value


def starts_behind(config: Spec, value: Any) -> set[str]:
    """Return the starts whose models are needed by the artefacts that a value refers to."""
    found: dict[str, Any] = {}
    waiting = list(references(value))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = config["artefacts"][name]
            waiting += references(found[name])
    models = [declared["model"] for declared in found.values()]
    return {model[START] for model in models if isinstance(model, dict) and START in model}


def _check_maker(config: Spec, place: str, declared: Spec) -> None:
    made = declared["make"]
    options = {key: value for key, value in declared.items() if key not in DECLARED}

    def place_of(option: str | None) -> str:
        return f"{place}.{option or 'make'}"

    try:
        uses = variants.attribute("artefact", made, "USES", ())
        needs = variants.attribute("artefact", made, "NEEDS", ())
    except StepError as error:
        raise StepError(f"config: {place_of(None)!r}: {error}") from error
    # Artefacts that a maker uses are made from the same model and pairs unless they are given.
    given = dict.fromkeys(uses, "made") | options
    check_variant("artefact", made, given, place_of, config["artefacts"])
    for key in needs:
        if key in DECLARED and declared[key] is None:
            raise StepError(
                f"config: {place!r}: the artefact maker {made!r} needs {key!r}; add this key"
            )


def _check_model(config: Spec, place: str, declared: Any) -> None:
    if declared is None or declared == START:
        return
    if START in declared:
        check_declared(f"{place}.{START}", declared[START], config["starts"])
        return
    # The schema fills in defaults only where there is a single alternative.
    check_model({"config": None, "pretrained": None} | declared, place)
    if declared.get("pretrained") is None:
        raise StepError(
            f"config: '{place}.pretrained' is null, so the artefact would be learned from random "
            "weights; name pretrained weights, or use {start: ...} instead"
        )

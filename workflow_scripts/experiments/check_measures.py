"""Checks measures: their names, options and values, and that experiments provide their inputs."""

from collections.abc import Collection
from typing import Any

from workflow_scripts.common.errors import StepError, nearest
from workflow_scripts.experiments.check_variants import check_variant
from workflow_scripts.experiments.known_classes import known_classes
from workflow_scripts.experiments.layers import check_declared, cleaning_settings
from workflow_scripts.experiments.measures import EVALUATION, PAIRS, measure_options, needs

Spec = dict[str, Any]


def check_measures(config: Spec, experiments: Collection[str]) -> None:
    """Check all measures, and the measures of experiments against their data.

    Args:
        config: The config, complete and with its names checked.
        experiments: Experiments whose measures are also checked against classes and pairs.

    Raises:
        StepError: The first error; the message names the key.
    """
    for name, declared in config["measures"].items():
        _check_declared(f"measures.{name}", declared, config["artefacts"])
    for name, experiment in config["experiments"].items():
        for measure in experiment["measures"]:
            place = f"experiments.{name}.measures"
            check_declared(place, measure, config["measures"])
            declared = config["measures"][measure]
            _check_evaluation(config, f"measures.{measure}.{EVALUATION}", declared)
            if declared.get("every") == "epoch" and not experiment["defence"]:
                raise StepError(
                    f"config: {place!r} has {measure!r}, which is taken after each epoch of "
                    f"cleaning runs ('measures.{measure}.every'), but the experiment has no "
                    "'defence'"
                )
            if name in experiments:
                _check_classes(config, f"measures.{measure}", declared)
                if PAIRS in needs(declared["measure"]):
                    _check_held_out(config, name, measure)


def _check_declared(place: str, declared: Spec, artefacts: Spec) -> None:
    def place_of(option: str | None) -> str:
        return f"{place}.{option or 'measure'}"

    options = measure_options(declared)
    check_variant("measure", declared["measure"], options, place_of, artefacts)
    unknown = set(needs(declared["measure"])) - {EVALUATION, PAIRS}
    if unknown:
        raise StepError(
            f"config: '{place}.measure': unknown input {min(unknown)!r} in NEEDS of "
            f"{declared['measure']!r}; {nearest(min(unknown), (EVALUATION, PAIRS))}"
        )
    on = declared.get(EVALUATION)
    if on is not None and EVALUATION not in needs(declared["measure"]):
        raise StepError(
            f"config: '{place}.{EVALUATION}' is {on!r}, but the measure {declared['measure']!r} "
            "uses no evaluation set; leave it out"
        )


def _check_evaluation(config: Spec, place: str, declared: Spec) -> None:
    check_declared(place, declared.get(EVALUATION) or config["evaluation"], config["evaluations"])


def _check_classes(config: Spec, place: str, declared: Spec) -> None:
    """Check that a measure names classes of its evaluation set, if these are known."""
    wanted = declared.get("classes")
    classes = known_classes(config, declared.get(EVALUATION) or config["evaluation"])
    if not isinstance(wanted, list):
        return
    for name in wanted:
        if classes is not None and name not in classes:
            raise StepError(
                f"config: '{place}.classes' names {name!r}, which is not a class of the "
                f"evaluation set; {nearest(str(name), classes)}"
            )
    if len(wanted) < 2 or any(name in wanted[:number] for number, name in enumerate(wanted)):
        raise StepError(
            f"config: '{place}.classes' must be a list of at least two different classes"
        )


def _check_held_out(config: Spec, experiment: str, measure: str) -> None:
    defences = config["experiments"][experiment]["defence"]
    found = {
        run.place("data.held_out"): run["data.held_out"]
        for defence in defences
        for run in cleaning_settings(config, experiment, defence)
    }
    found = found or {"cleaning.data.held_out": config["cleaning"]["data"]["held_out"]}
    for place, held_out in found.items():
        if held_out < 2:
            raise StepError(
                f"config: {place!r} is {held_out}, but 'experiments.{experiment}.measures' has "
                f"{measure!r}, which uses held-out pairs; set it to at least 2"
            )

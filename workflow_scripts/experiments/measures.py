"""Expands the measures that experiments ask for: which model is measured by what, on what.

A measure of finished models is not part of any run's identity; one that a run takes after each
epoch is, by its id. That id follows from its declaration, from the
evaluation set and from the clean split whose held-out pairs it uses.
"""

import csv
import functools
import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from workflow_scripts.common import variants
from workflow_scripts.common.files import digest
from workflow_scripts.experiments.artefacts import Around, values_of
from workflow_scripts.experiments.identity import make_id, options_of, stem_of
from workflow_scripts.experiments.references import references, replaced

Spec = dict[str, Any]

# Keys of a measure's declaration that are not options of its variant.
NOT_OPTIONS = ("measure", "evaluation", "every")
EVALUATION, PAIRS = "evaluation", "pairs"
_COLUMNS = ("run", "kind", "start", "measure", "folder", "id")


def needs(measure: str) -> tuple[str, ...]:
    """Return what a measure uses beside the model: ``evaluation``, ``pairs``, or both."""
    return tuple(variants.attribute("measure", measure, "NEEDS", (EVALUATION,)))


def add_measures(plan: Any, config: Spec, split_of: Callable[[Spec], str]) -> None:
    """Add to an expanded plan what experiments measure on their models.

    ``plan.measures`` gets each measure by id; ``plan.measured`` of each experiment that asks for
    any gets a row for each model and measure.

    Args:
        plan: The expanded experiments, changed in place.
        config: The checked config.
        split_of: Adds the clean split of a pre-training run by the settings of ``cleaning``, for a
            start model that no run of the experiment cleans; returns its id.
    """
    for name, rows in plan.experiments.items():
        asked = config["experiments"][name].get("measures", ())
        splits = _splits(plan, rows, split_of) if asked else {}
        made = [
            {**{key: row[key] for key in ("run", "kind", "start", "folder")}, "measure": one}
            | {"id": _add(plan, config, one, row["start"], splits[row["run"], row["start"]])}
            for row in rows
            for one in asked
        ]
        if made:
            plan.measured[name] = made


def _splits(
    plan: Any, rows: list[Spec], split_of: Callable[[Spec], str]
) -> dict[tuple[str, str], Callable[[], str]]:
    """Return the clean split of each run and start model.

    A cleaned model has its own; its start model and the clean control that of the first one. They
    are looked up when a measure needs one.
    """
    cleaned = [row for row in rows if row["kind"] == "cleaning"]
    of_start = {row["start"]: plan.runs[row["run"]]["split_id"] for row in reversed(cleaned)}

    def split(row: Spec) -> str:
        start = row["start"]
        if start not in of_start:
            of_start[start] = split_of(plan.runs[plan.models[start]["run"]])
        return plan.runs[row["run"]].get("split_id") or of_start[start]

    return {(row["run"], row["start"]): functools.partial(split, row) for row in rows}


def of_each_epoch(config: Spec, experiment: Spec) -> list[str]:
    """Return the measures of an experiment that its cleaning runs take, by name."""
    asked = experiment.get("measures", ())
    return [name for name in asked if config["measures"][name].get("every") == "epoch"]


def add_of_each_epoch(
    plan: Any, config: Spec, experiment: Spec, model: str, split: str
) -> list[str]:
    """Add the measures that the cleaning runs of an experiment take; return their ids.

    Args:
        plan: The plan so far, changed in place.
        config: The checked config.
        experiment: Its declaration.
        model: Id of the start model.
        split: Id of the clean split of the run.
    """
    names = of_each_epoch(config, experiment)
    return sorted({_add(plan, config, name, model, lambda: split) for name in names})


def _add(plan: Any, config: Spec, name: str, model: str, split: Callable[[], str]) -> str:
    """Add one measure of one model, given by its start model; return its id."""
    declared = config["measures"][name]
    variant = declared["measure"]
    start = plan.runs[plan.models[model]["run"]]
    around = Around(
        f"measures.{name}",
        start["dataset"],
        start["attack_id"],
        model,
        config["cleaning"]["data"],
    )
    options = plan.artefacts.resolved(measure_options(declared), around)
    used, slug = needs(variant), stem_of(variant)
    identity = {"measure": variant}
    identity["options"] = options_of("measure", variant, options)
    if EVALUATION in used:
        on = declared.get(EVALUATION) or config["evaluation"]
        identity[EVALUATION] = plan.data.evaluation(on)
        slug += "" if on == config["evaluation"] else f"-{on}"
    if PAIRS in used:
        identity["split"] = split()
    made = make_id(slug, identity)
    plan.measures[made] = identity
    return made


def measure_options(declared: Spec) -> Spec:
    """Return the options of a measure's declaration."""
    return {key: value for key, value in declared.items() if key not in NOT_OPTIONS}


def measured_on(config: Spec, experiments: Iterable[str]) -> list[str]:
    """Return the evaluation sets that only measures of experiments need, by name."""
    asked = [one for name in experiments for one in config["experiments"][name]["measures"]]
    sets = {config["measures"][name].get(EVALUATION, config["evaluation"]) for name in asked}
    return sorted(sets - {config["evaluation"]})


def measure_inputs(plan: Any, name: str) -> list[str]:
    """Return the files that a measure, given by its id, reads beside a model, in the results."""
    spec, files = plan.measures[name], []
    if EVALUATION in spec:
        place = f"evaluation/{spec[EVALUATION]}"
        files += [f"{place}/manifest.parquet", f"{place}/classes.json"]
    files += [f"splits/{spec['split']}/manifest.parquet"] if "split" in spec else []
    return files + [values_of(artefact) for artefact in sorted(set(references(spec["options"])))]


def measure_files(plan: Any, experiment: str) -> list[str]:
    """Return the files of all measures of an experiment, relative to the results."""
    rows = plan.measured.get(experiment, ())
    return list(dict.fromkeys(f"measures/{row['folder']}/{row['id']}.csv" for row in rows))


def written_measures(config: Spec, plan: Any) -> Iterator[tuple[str, Spec]]:
    """Yield the id and the content of ``specs/measures/<id>.json`` of each measure."""
    for name in plan.measures:
        yield name, written_measure(config, plan, name)


def written_measure(config: Spec, plan: Any, name: str) -> Spec:
    """Return what a step is told of a measure, given by its id."""
    root, spec = Path(config["pathvars"]["results"]), plan.measures[name]
    evaluation, split = spec.get(EVALUATION), spec.get("split")
    return {
        "id": name,
        "measure": spec["measure"],
        "options": replaced(spec["options"], lambda one: str(root / values_of(one))),
        "evaluation": evaluation and str(root / "evaluation" / evaluation),
        "pairs": split and str(root / "splits" / split / "manifest.parquet"),
        "held_out": plan.splits[split]["held_out"] if split else 0,
        "batch_size": config["execution"]["evaluation_batch_size"],
        "device": "cuda" if config["resources"]["measure"].get("gpu") else "cpu",
    }


def declared_measures(plan: Any, experiment: str) -> str:
    """Return the table of what an experiment measures, as CSV text."""
    text = io.StringIO()
    table = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(plan.measured[experiment])
    return text.getvalue()


def declared_measures_name(plan: Any, experiment: str) -> str:
    """Return the name of the file with that table, which has a digest of its content."""
    return f"{experiment}-{digest(plan.measured[experiment])}"


def measure_images(config: Spec, plan: Any, name: str) -> float:
    """Return how many images the image tower takes for a measure of one model, roughly.

    A module's ``PASSES`` says how often it takes each image of what it uses, by default twice; a
    mapping of an option to a factor multiplies that option's value.
    """
    spec = plan.measures[name]
    variant, given = spec["measure"], spec["options"]
    passes = variants.attribute("measure", variant, "PASSES", 2)
    if isinstance(passes, dict):
        known = variants.options("measure", variant)
        passes = sum(f * given.get(option, known[option].default) for option, f in passes.items())
    held_out = plan.splits[spec["split"]]["held_out"] if "split" in spec else 0
    return passes * (held_out or config["costs"]["evaluation_images"])

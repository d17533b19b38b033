"""Expands the measures of experiments: which model is measured, how, and on which data.

A measure of finished models does not enter the id of a run; a measure that a run takes after each
epoch does, through its own id. The id of a measure depends on its declaration, the evaluation set
and the clean split whose held-out pairs it uses.
"""

import csv
import functools
import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from workflow_scripts.common import variants
from workflow_scripts.common.files import digest
from workflow_scripts.experiments.artefacts import ArtefactContext, values_of
from workflow_scripts.experiments.identity import make_id, options_of, stem_of
from workflow_scripts.experiments.references import references, replaced

Spec = dict[str, Any]

# Keys of a measure's declaration that are not options of its variant.
NOT_OPTIONS = ("measure", "evaluation", "every")
EVALUATION, PAIRS = "evaluation", "pairs"
_COLUMNS = ("run", "kind", "start", "measure", "folder", "id")


def needs(measure: str) -> tuple[str, ...]:
    """Return the inputs of a measure besides the model: ``evaluation``, ``pairs``, or both."""
    return tuple(variants.attribute("measure", measure, "NEEDS", (EVALUATION,)))


def add_measures(plan: Any, config: Spec, split_of: Callable[[Spec], str]) -> None:
    """Add the measures of all experiments to an expanded plan.

    ``plan.measures`` gets the spec of each measure by id; ``plan.measured`` gets, for each
    experiment with measures, a row for each model and measure.

    Args:
        plan: The expanded experiments, changed in place.
        config: The checked config.
        split_of: Adds the clean split of a pre-training run with the defaults of ``cleaning``, for
            a start model that no run of the experiment cleans; returns its id.
    """
    for name, rows in plan.experiments.items():
        asked = config["experiments"][name].get("measures", ())
        splits = _splits(plan, rows, split_of) if asked else {}
        made = [
            {**{key: row[key] for key in ("run", "kind", "start", "folder")}, "measure": measure}
            | {"id": _add(plan, config, measure, row["start"], splits[row["run"], row["start"]])}
            for row in rows
            for measure in asked
        ]
        if made:
            plan.measured[name] = made


def _splits(
    plan: Any, rows: list[Spec], split_of: Callable[[Spec], str]
) -> dict[tuple[str, str], Callable[[], str]]:
    """Return, for each run and start model, a function that returns the id of its clean split.

    A cleaned model uses its own split; a start model and its clean control use the split of the
    first run that cleans the start model. Splits are added only if a measure needs them.
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
    """Return the names of the measures that an experiment takes at each epoch of cleaning."""
    asked = experiment.get("measures", ())
    return [name for name in asked if config["measures"][name].get("every") == "epoch"]


def add_of_each_epoch(
    plan: Any, config: Spec, experiment: Spec, model: str, split: str
) -> list[str]:
    """Add the measures that an experiment takes at each epoch of cleaning; return their ids.

    Args:
        plan: The plan so far, changed in place.
        config: The checked config.
        experiment: Declaration of the experiment.
        model: Id of the start model.
        split: Id of the clean split of the run.
    """
    names = of_each_epoch(config, experiment)
    return sorted({_add(plan, config, name, model, lambda: split) for name in names})


def _add(plan: Any, config: Spec, name: str, model: str, split: Callable[[], str]) -> str:
    """Add one measure for one start model; return its id."""
    declared = config["measures"][name]
    variant = declared["measure"]
    start = plan.runs[plan.models[model]["run"]]
    context = ArtefactContext(
        f"measures.{name}",
        start["dataset"],
        start["attack_id"],
        model,
        config["cleaning"]["data"],
        start["evaluation"],
    )
    options = plan.artefacts.resolved(measure_options(declared), context)
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
    """Return the names of the evaluation sets that only measures of experiments need."""
    asked = [measure for name in experiments for measure in config["experiments"][name]["measures"]]
    sets = {config["measures"][name].get(EVALUATION, config["evaluation"]) for name in asked}
    return sorted(sets - {config["evaluation"]})


def measure_inputs(plan: Any, name: str) -> list[str]:
    """Return the files that a measure reads besides the model, relative to the results."""
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
    """Return the spec of a measure as a step reads it."""
    root, spec = Path(config["pathvars"]["results"]), plan.measures[name]
    evaluation, split = spec.get(EVALUATION), spec.get("split")
    return {
        "id": name,
        "measure": spec["measure"],
        "options": replaced(spec["options"], lambda artefact: str(root / values_of(artefact))),
        "evaluation": evaluation and str(root / "evaluation" / evaluation),
        "pairs": split and str(root / "splits" / split / "manifest.parquet"),
        "held_out": plan.splits[split]["held_out"] if split else 0,
        "batch_size": config["execution"]["evaluation_batch_size"],
        "device": "cuda" if config["resources"]["measure"].get("gpu") else "cpu",
    }


def declared_measures(plan: Any, experiment: str) -> str:
    """Return the table of an experiment's models and measures as CSV text."""
    text = io.StringIO()
    table = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(plan.measured[experiment])
    return text.getvalue()


def declared_measures_name(plan: Any, experiment: str) -> str:
    """Return the name of the file with that table, which includes a digest of its content."""
    return f"{experiment}-{digest(plan.measured[experiment])}"


def measure_images(config: Spec, plan: Any, name: str) -> float:
    """Return roughly how many images the image tower embeds to measure one model.

    A module's ``PASSES`` is the number of times that each input image is embedded, 2 by default;
    if it is a mapping of options to factors, each factor is multiplied by the option's value.
    """
    spec = plan.measures[name]
    variant, given = spec["measure"], spec["options"]
    passes = variants.attribute("measure", variant, "PASSES", 2)
    if isinstance(passes, dict):
        known = variants.options("measure", variant)
        passes = sum(f * given.get(option, known[option].default) for option, f in passes.items())
    held_out = plan.splits[spec["split"]]["held_out"] if "split" in spec else 0
    return passes * (held_out or config["costs"]["evaluation_images"])

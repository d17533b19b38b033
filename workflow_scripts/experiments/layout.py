"""Where everything is in the folder of results, and what steps are told by files there."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workflow_scripts.common.attacks import has_instances
from workflow_scripts.experiments.artefacts import START, values_of
from workflow_scripts.experiments.expand import Plan
from workflow_scripts.experiments.identity import normalized
from workflow_scripts.experiments.measures import written_measure
from workflow_scripts.experiments.references import references, replaced

Spec = dict[str, Any]


def run_of(folder: str) -> str:
    """Return the run of a folder: ``cleaning/<run>``, ``pretraining/<run>`` or one below that."""
    return folder.split("/")[1]


def run_inputs(plan: Plan, run: str) -> Spec:
    """Return the files that a training run reads, relative to the results; None where unused.

    ``evaluation`` is a folder; ``augmented`` are the tokens of the augmented captions, ``labels``
    the classes that a teacher gave to the images.
    """
    spec = plan.runs[run]
    pairs = pairs_of(spec)
    captions = f"captions/{spec['captions_id']}/{pairs}"
    start, labels = spec["start"] and f"pretraining/{spec['start']}", spec["labels_id"]
    carry_over = start and spec["optimizer"].get("carry_over")
    return {
        "manifest": f"{pairs}/manifest.parquet",
        "tokens": f"{captions}/tokens.npy",
        "augmented": f"{captions}/augmented.npy",
        "labels": labels and f"labels/{labels}/labels.npy",
        "evaluation": f"evaluation/{spec['evaluation']}",
        "start": f"{start}/model.pt" if start else None,
        "start_optimizer": f"{start}/optimizer.pt" if carry_over else None,
    }


def pairs_of(spec: Spec) -> str:
    """Return the folder of the pairs that a run trains on, relative to the results."""
    if spec["kind"] == "cleaning":
        return f"splits/{spec['split_id']}"
    filtered = spec.get("filter_id")
    return f"filters/{filtered}" if filtered else f"attacks/{spec['attack_id']}"


def artefacts_read(spec: Spec) -> list[str]:
    """Return the ids of the artefacts that the step of an attack, a run, ... reads."""
    # A run's filter is a step of its own.
    told = {key: value for key, value in spec.items() if key != "filter"}
    return sorted(set(references(told)))


def artefact_inputs(plan: Plan, name: str) -> list[str]:
    """Return the files that an artefact, given by its id, is made from."""
    spec = plan.artefacts.specs[name]
    files = [f"{kind}/{one}/manifest.parquet" for kind, one in (spec["pairs"] or {}).items()]
    if spec["model"] and START in spec["model"]:
        files.append(f"pretraining/{spec['model'][START]}/model.pt")
    return files + [values_of(one) for one in artefacts_read(spec)]


def model_before(plan: Plan, model: str) -> str | None:
    """Return the model of the same pre-training run that is taken before this one, if any.

    Training continues from it, so that no epoch is trained twice.

    Args:
        plan: The expanded experiments.
        model: Id of a model: a run, or a run and what is taken of it.
    """
    run = model.partition("/")[0]
    models = {run, model, *(m for m, spec in plan.models.items() if spec["run"] == run)}

    def place(one: str) -> tuple[float, bool, str]:
        taken = plan.models.get(one, {}).get("taken")
        return taken if isinstance(taken, int) else math.inf, one == run, one

    order = sorted(models, key=place)
    number = order.index(model)
    # What the plan does not ask for is not made only to go on from it.
    before = [one for one in order[:number] if one in plan.models]
    return before[-1] if before else None


def share_of_training(plan: Plan, model: str) -> float:
    """Return the share of its pre-training that is trained for a model, from the one before it."""
    epochs = plan.runs[model.partition("/")[0]]["epochs"]

    def until(one: str) -> int:
        taken = plan.models.get(one, {}).get("taken")
        # A rule chooses among all epochs.
        return taken if isinstance(taken, int) else epochs

    before = model_before(plan, model)
    return (until(model) - (until(before) if before else 0)) / epochs


def written_spec(config: Spec, plan: Plan, kind: str, name: str) -> Spec:
    """Return the content of ``specs/<kind>/<name>.json``: complete, so that a step needs no config.

    Args:
        config: The checked config, for how runs are carried out and where results are.
        plan: The expanded experiments.
        kind: ``attacks``, ``artefacts``, ``pretraining`` or ``cleaning``.
        name: Id of the attack, the artefact or the run.
    """
    root = config["pathvars"]["results"]
    if kind == "attacks":
        spec = plan.attacks[name]
    elif kind == "artefacts":
        spec = _artefact_spec(config, plan, name)
    else:
        spec = _run_spec(config, plan, name)
    return replaced(spec, lambda artefact: str(Path(root, values_of(artefact))))


def _artefact_spec(config: Spec, plan: Plan, name: str) -> Spec:
    spec, root = plan.artefacts.specs[name], Path(config["pathvars"]["results"])
    manifests = [
        root / kind / one / "manifest.parquet" for kind, one in (spec["pairs"] or {}).items()
    ]
    model, checkpoint = spec["model"], None
    if model and START in model:
        checkpoint = str(root / "pretraining" / model[START] / "model.pt")
        model = plan.runs[plan.models[model[START]]["run"]]["model"]
    return {
        "make": spec["make"],
        "model": model,
        "checkpoint": checkpoint,
        "manifest": str(manifests[0]) if manifests else None,
        "root": str(root),
        "seed": spec["seed"],
        "options": spec["options"],
        "batch_size": config["execution"]["evaluation_batch_size"],
        "device": "cuda" if config["resources"]["artefact"].get("gpu") else "cpu",
    }


def _run_spec(config: Spec, plan: Plan, name: str) -> Spec:
    root = config["pathvars"]["results"]
    inputs = {k: v and str(Path(root, v)) for k, v in run_inputs(plan, name).items()}
    spec = plan.runs[name]
    logical = {k: v for k, v in spec.items() if k not in _IDS}
    # In the one spelling that the id stands for, or a run would not resume after another one.
    attack = normalized(spec["attack"], "pretraining.attack")
    logical |= normalized({k: spec[k] for k in ("objective", "start_change")}, spec["kind"])
    logical |= {"attack": attack}
    logical["held_out"] = spec.get("data", {}).get("held_out", 0)
    read = [str(Path(root, values_of(one))) for one in artefacts_read(spec)]
    inputs |= {"artefacts": read} if read else {}
    if has_instances(spec["attack"]):
        # Not an output that is declared: it is made with the attack's manifest.
        inputs["instances"] = str(Path(root, "attacks", spec["attack_id"], "instances.parquet"))
    measured = [written_measure(config, plan, one) for one in spec.get("measures", ())]
    inputs |= {"measures": measured} if measured else {}
    return {"run": name, **logical, **config["execution"], "inputs": {"root": root, **inputs}}


# These name files, which are listed under "inputs".
_IDS = {"start", "attack_id", "split_id", "labels_id", "dataset", "evaluation", "captions_id",
        "data", "filter", "filter_id"}  # fmt: skip


def step_arguments(config: Spec, plan: Plan) -> Iterator[tuple[str, str, list[str]]]:
    """Yield rule, id and arguments of the steps that read them from a file.

    Snakemake runs a job again when its parameters have changed. These arguments also hold what
    does not decide any result (where an input is, time-outs, batch sizes); the id stands for the
    rest.
    """
    root, data = Path(config["pathvars"]["results"]), plan.data
    download = {k: v for k, v in config["download"].items() if k != "min_size"}
    for name, spec in data.lists.items():
        declared = {k: v for k, v in config["sources"][spec["name"]].items() if k != "world"}
        declared |= {"threads": config["resources"]["url_list"]["threads"]}
        yield "url_list", name, options(declared | {"columns": ",".join(declared["columns"])})
    for name, spec in data.shards.items():
        yield "download", name, options({"image_size": spec["image_size"], **download})
    for name, spec in data.evaluations.items():
        yield "evaluation_set", name, options(config["evaluations"][spec["name"]])
    for name, spec in plan.runs.items():
        if spec["kind"] == "pretraining":
            taken = [m["taken"] for m in plan.models.values() if m["run"] == name]
            # The epoch of the best accuracy is known last and may be an early one.
            also = ["--take", "best_accuracy"] if "best_accuracy" in taken else []
            yield "pretraining", name, also
    for name, spec in plan.captions.items():
        length = {"context_length": spec["context_length"]}
        yield "tokenize", name, options(length)
        yield (
            "augment",
            name,
            options({**length, "seed": spec["seed"], "wordnet": config["wordnet"]}),
        )
    for name, spec in plan.labels.items():
        start = spec["start"]
        given = {
            "manifest": root / "splits" / spec["split_id"] / "manifest.parquet",
            "evaluation": root / "evaluation" / spec["evaluation"],
            "root": root,
            "checkpoint": start and root / "pretraining" / start / "model.pt",
            "model": json.dumps(spec["model"]),
            "batch_size": config["execution"]["evaluation_batch_size"],
            "device": "cuda" if config["resources"]["pseudo_labels"].get("gpu") else "cpu",
        }
        yield "pseudo_labels", name, options(given)


def options(declared: Spec) -> list[str]:
    """Return declared values as command-line options.

    What is null or false is left out; a list is an option for each of its values.
    """
    return [
        f"--{key.replace('_', '-')}" + ("" if value is True else f"={value}")
        for key, values in declared.items()
        for value in (values if isinstance(values, list) else [values])
        if value is not None and value is not False
    ]

"""The layout of the folder of results, and the files there that configure the steps."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workflow_scripts.common.attacks import has_instances
from workflow_scripts.experiments.artefacts import START, values_of
from workflow_scripts.experiments.expand import Plan
from workflow_scripts.experiments.identity import normalized
from workflow_scripts.experiments.measures import written_measure
from workflow_scripts.experiments.references import ARTEFACT, references, replaced

Spec = dict[str, Any]


def run_of(folder: str) -> str:
    """Return the run of a folder: ``cleaning/<run>``, ``pretraining/<run>`` or a sub-folder."""
    return folder.split("/")[1]


def run_inputs(plan: Plan, run: str) -> Spec:
    """Return the files that a training run reads, relative to the results; None where unused.

    ``evaluation`` is a folder; ``augmented`` holds the tokens of the augmented captions, ``labels``
    the pseudo-labels of the images.
    """
    spec = plan.runs[run]
    pairs = pairs_of(spec)
    captions = f"captions/{spec['captions_id']}/{pairs}"
    start, labels = spec["start"] and f"pretraining/{spec['start']}", spec.get("labels")
    carry_over = start and spec["optimizer"].get("carry_over")
    return {
        "manifest": f"{pairs}/manifest.parquet",
        "tokens": f"{captions}/tokens.npy",
        "augmented": f"{captions}/augmented.npy",
        "labels": labels and values_of(labels[ARTEFACT]),
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
    """Return the ids of the artefacts that the step with this spec reads."""
    # Filtering is a separate step, and labels are an input of their own.
    return sorted(set(references({k: v for k, v in spec.items() if k not in ("filter", "labels")})))


def artefact_inputs(plan: Plan, name: str) -> list[str]:
    """Return the files that an artefact, given by its id, is made from.

    They are relative to the results.
    """
    spec = plan.artefacts.specs[name]
    files = [
        f"{kind}/{pairs_id}/manifest.parquet" for kind, pairs_id in (spec["pairs"] or {}).items()
    ]
    if spec["model"] and START in spec["model"]:
        files.append(f"pretraining/{spec['model'][START]}/model.pt")
    if spec["evaluation"]:
        files.append(f"evaluation/{spec['evaluation']}/classes.json")
    return files + [values_of(artefact) for artefact in artefacts_read(spec)]


def model_before(plan: Plan, model: str) -> str | None:
    """Return the last earlier model that is taken from the same pre-training run, if any.

    Training resumes from it, so that no epoch is trained twice.

    Args:
        plan: The expanded experiments.
        model: Id of a model: a run, or a run and which of its epochs is taken.
    """
    run = model.partition("/")[0]
    models = {run, model, *(m for m, spec in plan.models.items() if spec["run"] == run)}

    def place(model_id: str) -> tuple[float, bool, str]:
        taken = plan.models.get(model_id, {}).get("taken")
        return taken if isinstance(taken, int) else math.inf, model_id == run, model_id

    order = sorted(models, key=place)
    number = order.index(model)
    # Models that are not in the plan are not made just to resume from them.
    before = [model_id for model_id in order[:number] if model_id in plan.models]
    return before[-1] if before else None


def share_of_training(plan: Plan, model: str) -> float:
    """Return the share of a pre-training that is trained for a model after the one before it."""
    epochs = plan.runs[model.partition("/")[0]]["epochs"]

    def until(model_id: str) -> int:
        taken = plan.models.get(model_id, {}).get("taken")
        # A selection rule needs all epochs.
        return taken if isinstance(taken, int) else epochs

    before = model_before(plan, model)
    return (until(model) - (until(before) if before else 0)) / epochs


def written_spec(config: Spec, plan: Plan, kind: str, name: str) -> Spec:
    """Return the content of ``specs/<kind>/<name>.json``, which replaces the config for a step.

    Args:
        config: The checked config, for execution settings and the folder of results.
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
        root / kind / pairs_id / "manifest.parquet"
        for kind, pairs_id in (spec["pairs"] or {}).items()
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
        "evaluation": spec["evaluation"] and str(root / "evaluation" / spec["evaluation"]),
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
    # Normalised as for the id: otherwise a differently written config would prevent resuming.
    attack = normalized(spec["attack"], "pretraining.attack")
    logical |= normalized({k: spec[k] for k in ("objective", "start_change")}, spec["kind"])
    logical |= {"attack": attack}
    logical["held_out"] = spec.get("data", {}).get("held_out", 0)
    artefacts = [str(Path(root, values_of(artefact))) for artefact in artefacts_read(spec)]
    inputs |= {"artefacts": artefacts} if artefacts else {}
    if has_instances(spec["attack"]):
        # Not a declared output of a rule: it is written together with the attack's manifest.
        inputs["instances"] = str(Path(root, "attacks", spec["attack_id"], "instances.parquet"))
    measured = [written_measure(config, plan, measure) for measure in spec.get("measures", ())]
    inputs |= {"measures": measured} if measured else {}
    return {"run": name, **logical, **config["execution"], "inputs": {"root": root, **inputs}}


# These keys refer to files, which are listed under "inputs".
_IDS = {"start", "attack_id", "split_id", "labels_id", "labels", "dataset", "evaluation",
        "captions_id", "data", "filter", "filter_id"}  # fmt: skip


def step_arguments(config: Spec, plan: Plan) -> Iterator[tuple[str, str, list[str]]]:
    """Yield the rule, id and arguments of each step that reads its arguments from a file.

    Snakemake repeats a job when its parameters have changed. These arguments include settings that
    do not affect results (paths of inputs, time-outs, batch sizes), so they are kept out of the
    parameters; the id covers all other settings.
    """
    data = plan.data
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
            # The epoch with the best accuracy is known only at the end.
            also = ["--retain", "best_accuracy"] if "best_accuracy" in taken else []
            yield "pretraining", name, also
    for name, spec in plan.captions.items():
        length = {"context_length": spec["context_length"]}
        yield "tokenize", name, options(length)
        yield (
            "augment",
            name,
            options({**length, "seed": spec["seed"], "wordnet": config["wordnet"]}),
        )


def options(declared: Spec) -> list[str]:
    """Return declared values as command-line options.

    Null and false are left out; a list gives one option for each of its values.
    """
    return [
        f"--{key.replace('_', '-')}" + ("" if value is True else f"={value}")
        for key, values in declared.items()
        for value in (values if isinstance(values, list) else [values])
        if value is not None and value is not False
    ]

"""Where everything lies under the folder of results: the one place that knows."""

from pathlib import Path
from typing import Any

from workflow_scripts.experiments.expand import Plan

Spec = dict[str, Any]


def run_folder(plan: Plan, run: str) -> str:
    """Return a run's folder in the results: ``pretraining/<run>`` or ``cleaning/<run>``."""
    return f"{plan.runs[run]['kind']}/{run}"


def run_inputs(plan: Plan, run: str) -> Spec:
    """Return the files that a training run reads, relative to the results; None where unused.

    ``evaluation`` is a folder; ``augmented`` are the tokens of the augmented captions, ``labels``
    the classes that a stronger model gave to the images.
    """
    spec = plan.runs[run]
    if spec["kind"] == "pretraining":
        pairs, labels = f"attacks/{spec['attack_id']}", None
    else:
        pairs, labels = f"splits/{spec['split_id']}", spec["labels_id"]
    start = spec["start"] and run_folder(plan, spec["start"])
    carry_over = start and spec["optimizer"].get("carry_over")
    return {
        "manifest": f"{pairs}/manifest.parquet",
        "tokens": f"captions/{pairs}/tokens.npy",
        "augmented": f"captions/{pairs}/augmented.npy",
        "labels": labels and f"labels/{labels}/labels.npy",
        "evaluation": f"evaluation/{spec['evaluation']}",
        "start": f"{start}/model.pt" if start else None,
        "start_optimizer": f"{start}/optimizer.pt" if carry_over else None,
    }


def written_spec(config: Spec, plan: Plan, kind: str, name: str) -> Spec:
    """Return what stands in ``specs/<kind>/<name>.json``: complete, so that a step needs no config.

    Args:
        config: The checked config, for how runs are carried out and where results lie.
        plan: The expanded experiments.
        kind: ``attacks``, ``pretraining`` or ``cleaning``.
        name: Id of the attack or the run.
    """
    if kind == "attacks":
        return plan.attacks[name]
    root = config["pathvars"]["results"]
    inputs = {k: v and str(Path(root, v)) for k, v in run_inputs(plan, name).items()}
    spec = plan.runs[name]
    logical = {k: v for k, v in spec.items() if k not in _IDS}
    logical["held_out"] = spec.get("data", {}).get("held_out", 0)
    return {"run": name, **logical, **config["execution"], "inputs": {"root": root, **inputs}}


# These name files, which stand under "inputs", or have done their work when captions were stored.
_IDS = {"start", "attack_id", "split_id", "labels_id", "dataset", "evaluation", "captions", "data"}

"""Export a finished model as a folder loadable by open_clip, with a model card.

Inputs  SPEC         the model's run (specs/<kind>/<run>.json)
        CHECKPOINT   its model.pt
        METRICS      its metrics.csv; run.json next to it lists the models of selection rules
Outputs OUTPUT/open_clip_model.safetensors, OUTPUT/open_clip_config.json
        OUTPUT/card.json   metadata of the model, with the digest of its weights
        OUTPUT/README.md   the same as a model card
"""

import argparse
import csv
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
from safetensors.torch import save_file

from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import atomic, read_json, sha256, write_json
from workflow_scripts.common.tensor_files import raising_os_errors
from workflow_scripts.evaluation.zoo.card import card_text, kind_of
from workflow_scripts.model import models
from workflow_scripts.model.spec import ModelSpec
from workflow_scripts.model.weights import portable_weights
from workflow_scripts.poison.instances import FILE as INSTANCES

WEIGHTS, CONFIG, CARD = "open_clip_model.safetensors", "open_clip_config.json", "card.json"

NUMBERS = {"accuracy": "top1", "asr": "asr_top1", "recovery": "triggered_top1"}


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and write the folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--spec", type=Path, required=True, help="run spec (JSON)")
    parser.add_argument("--checkpoint", type=Path, required=True, help="model.pt")
    parser.add_argument("--metrics", type=Path, required=True, help="metrics.csv of the run")
    parser.add_argument("--select", help="selection rule of a cleaned model (the last epoch)")
    parser.add_argument("--licence", default="other", help="licence of the weights (other)")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    options = parser.parse_args(arguments)
    run = read_json(options.spec)
    chosen = choose(options.checkpoint, options.metrics, options.select)
    write(run, chosen, options.licence, options.output)


@dataclass(frozen=True)
class Chosen:
    """The selected model of a run: its file, its row of the metrics, and the selection rule."""

    checkpoint: Path
    row: dict[str, str]
    rule: str | None


def choose(checkpoint: Path, metrics: Path, rule: str | None) -> Chosen:
    """Return the model of a run that a selection rule picks, or else the last one.

    Args:
        checkpoint: The last model.
        metrics: ``metrics.csv`` of the run, with ``run.json`` next to it.
        rule: Name of the selection rule; runs without a model for this rule, such as
            pre-trainings, use the last model.

    Raises:
        StepError: The metrics are empty.
    """
    with metrics.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise StepError(f"{metrics} contains no epoch; repeat the run")
    record = metrics.with_name("run.json")
    kept = read_json(record).get("kept", []) if rule and record.is_file() else []
    for entry in kept:
        if entry["rule"] == rule and entry["file"]:
            row = next(row for row in rows if float(row["epoch"]) == entry["epoch"])
            return Chosen(metrics.parent / entry["file"], row, rule)
    return Chosen(checkpoint, rows[-1], None)


def write(run: dict[str, Any], chosen: Chosen, licence: str, folder: Path) -> None:
    """Write a model's folder; the card is written last.

    Raises:
        StepError: The checkpoint does not fit the run's model, or the metrics lack a number.
    """
    spec = ModelSpec(**run["model"])
    model = models.loaded(spec, chosen.checkpoint)
    with atomic(folder / WEIGHTS) as temporary:
        with raising_os_errors(temporary):
            save_file(portable_weights(model), temporary, metadata={"format": "pt"})
        temporary.chmod(0o644)
    write_json(folder / CONFIG, open_clip_config(spec, model))
    instances = run["inputs"].get("instances")
    if instances:
        with atomic(folder / INSTANCES) as temporary:
            shutil.copyfile(instances, temporary)
    card = {
        "name": run["run"],
        "kind": kind_of(run),
        "file": WEIGHTS,
        "sha256": sha256(folder / WEIGHTS),
        "licence": licence,
        "architecture": spec.name,
        "objective": run["objective"],
        "epochs": run["epochs"],
        "epoch": chosen.row.get("epoch"),
        "chosen_by": chosen.rule,
        "attack": run["attack"],
        "pairs": Path(run["inputs"]["manifest"]).parent.name,
        "evaluation": Path(run["inputs"]["evaluation"]).name,
        "measured": _measured(chosen.row),
    }
    with atomic(folder / "README.md") as temporary:
        temporary.write_text(card_text(card), encoding="utf-8")
    write_json(folder / CARD, card)


def open_clip_config(spec: ModelSpec, model: models.Model) -> dict[str, Any]:
    """Return the config that open_clip reads: the model's config and its preprocessing."""
    config = spec.config or open_clip.get_model_config(spec.name)
    mean, deviation = (one.flatten().tolist() for one in models.normalization(model))
    preprocessing = {
        "mean": [round(value, 8) for value in mean],
        "std": [round(value, 8) for value in deviation],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    return {"model_cfg": config, "preprocess_cfg": preprocessing}


def _measured(row: dict[str, str]) -> dict[str, float]:
    try:
        found = {name: float(row[column]) for name, column in NUMBERS.items() if row.get(column)}
    except ValueError as error:
        raise StepError(f"the metrics contain a value that is not a number: {error}") from error
    if "accuracy" not in found:
        raise StepError(f"the metrics have no {NUMBERS['accuracy']} for the model's epoch")
    return found


if __name__ == "__main__":
    run_step(main)

"""Write a finished model as a folder that open_clip loads, with a card.

Needs   SPEC         the model's run (specs/<kind>/<run>.json)
        CHECKPOINT   its model.pt
        METRICS      its metrics.csv
Makes   OUTPUT/open_clip_model.safetensors, OUTPUT/open_clip_config.json
        OUTPUT/card.json   what is known of the model, and the digest of its weights
        OUTPUT/README.md   the same as a model card
"""

import argparse
import csv
import shutil
from pathlib import Path
from typing import Any

import open_clip
from safetensors.torch import save_file

from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import atomic, read_json, sha256, write_json
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
    parser.add_argument("--licence", default="other", help="of the weights (other)")
    parser.add_argument("--output", type=Path, required=True, help="folder")
    options = parser.parse_args(arguments)
    write(
        read_json(options.spec),
        options.checkpoint,
        options.metrics,
        options.licence,
        options.output,
    )


def write(run: dict[str, Any], checkpoint: Path, metrics: Path, licence: str, folder: Path) -> None:
    """Write a model's folder; the card comes last.

    Raises:
        StepError: The checkpoint does not fit the run's model, or the metrics lack a number.
    """
    spec = ModelSpec(**run["model"])
    model = models.loaded(spec, checkpoint)
    with atomic(folder / WEIGHTS) as temporary:
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
        "attack": run["attack"],
        "pairs": Path(run["inputs"]["manifest"]).parent.name,
        "evaluation": Path(run["inputs"]["evaluation"]).name,
        "measured": _measured(metrics),
    }
    (folder / "README.md").parent.mkdir(parents=True, exist_ok=True)
    with atomic(folder / "README.md") as temporary:
        temporary.write_text(card_text(card), encoding="utf-8")
    write_json(folder / CARD, card)


def open_clip_config(spec: ModelSpec, model: models.Model) -> dict[str, Any]:
    """Return what open_clip reads beside the weights: the model's config and its preprocessing."""
    config = spec.config or open_clip.get_model_config(spec.name)
    mean, deviation = (one.flatten().tolist() for one in models.normalization(model))
    preprocessing = {
        "mean": [round(value, 8) for value in mean],
        "std": [round(value, 8) for value in deviation],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    return {"model_cfg": config, "preprocess_cfg": preprocessing}


def _measured(metrics: Path) -> dict[str, float]:
    with metrics.open(newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        last = rows[-1]
        return {name: float(last[column]) for name, column in NUMBERS.items() if last[column]}
    except (IndexError, KeyError, ValueError) as error:
        raise StepError(f"{metrics} lacks the numbers of the last epoch: {error}") from error


if __name__ == "__main__":
    run_step(main)

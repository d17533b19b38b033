"""Compute one measure of a finished model.

Inputs  SPEC         the model's run (specs/<kind>/<run>.json): its architecture and its attack
        CHECKPOINT   its model.pt
        MEASURE      specs/measures/<id>.json: the measure, its options and its data
Outputs OUTPUT       CSV: measure, name, value, of, model_sha256; one row per number

Shares are between 0 and 1, and ``of`` is the number of images or texts behind a share; it is empty
for other numbers.
"""

import argparse
import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from workflow_scripts.common import variants
from workflow_scripts.common.distributed import ProcessGroup, join
from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import atomic, read_json, sha256
from workflow_scripts.common.workers import loader_workers
from workflow_scripts.evaluation.context import Context, Score
from workflow_scripts.model import models
from workflow_scripts.model.encoder import Encoder
from workflow_scripts.model.precision import uses_bf16
from workflow_scripts.model.spec import ModelSpec

COLUMNS = ("measure", "name", "value", "of", "model_sha256")


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, take the measure and write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--spec", type=Path, required=True, help="run spec (JSON)")
    parser.add_argument("--checkpoint", type=Path, required=True, help="model.pt")
    parser.add_argument("--measure", type=Path, required=True, help="measure spec (JSON)")
    parser.add_argument("--output", type=Path, required=True, help="CSV file")
    parser.add_argument("--cores", type=int, default=1, help="CPU cores (1)")
    options = parser.parse_args(arguments)
    run, declared = read_json(options.spec), read_json(options.measure)
    world = join(declared["device"], timeout_minutes=10)
    workers = loader_workers(options.cores, world.device.type)
    torch.set_num_threads(options.cores)
    encoder = read_encoder(run, options.checkpoint, world)
    scores = take(
        encoder, context_of(run["attack"], run["inputs"], declared, world, workers), declared
    )
    if world.leads:
        _write(options.output, declared["id"], scores, sha256(options.checkpoint))
        for name, score in scores.items():
            print(f"{name:>30} {score.value:.6g}" + (f" of {score.of}" if score.of else ""))
    world.leave()


def read_encoder(run: dict[str, Any], checkpoint: Path, world: ProcessGroup) -> Encoder:
    """Return the model of a finished run on the device of ``world``, in evaluation mode."""
    spec = ModelSpec(**run["model"])
    model = models.loaded(spec, checkpoint).to(world.device).eval()
    return Encoder(model, spec, uses_bf16(run["precision"], world))


def context_of(
    attack: dict[str, Any],
    inputs: Mapping[str, Any],
    declared: dict[str, Any],
    world: ProcessGroup,
    workers: int,
) -> Context:
    """Return the context of a measure.

    Args:
        attack: The attack spec.
        inputs: Inputs of the run: ``root``, and ``instances`` if the attack has any.
        declared: The measure's spec.
        world: The process group.
        workers: Loader processes per process.
    """
    evaluation, pairs = declared["evaluation"], declared["pairs"]
    instances = inputs.get("instances")
    return Context(
        root=Path(inputs["root"]),
        attack=attack,
        world=world,
        batch_size=declared["batch_size"],
        workers=workers,
        evaluation=evaluation and Path(evaluation),
        pairs=pairs and Path(pairs),
        held_out=declared["held_out"],
        instances=instances and Path(instances),
    )


def take(encoder: Encoder, context: Context, declared: dict[str, Any]) -> dict[str, Score]:
    """Take a measure of a model and return its scores by name.

    Args:
        encoder: The model.
        context: The measure's context.
        declared: ``measure``, the name of a variant, and its ``options``.

    Raises:
        StepError: The measure or an option is unknown, or a returned score is invalid.
    """
    name, options = declared["measure"], declared["options"]
    variants.check_options("measure", name, options)
    with encoder.evaluating():
        scores = variants.load("measure", name)(encoder, context, **options)
    if not isinstance(scores, dict) or not all(isinstance(s, Score) for s in scores.values()):
        raise StepError(f"the measure {name} must return a dict of names to Score")
    for key, score in scores.items():
        if not math.isfinite(score.value):
            raise StepError(
                f"the measure {name} returns {score.value} for {key!r}; scores must be finite"
            )
    return scores


def _write(path: Path, measure: str, scores: dict[str, Score], model: str) -> None:
    with atomic(path) as temporary, temporary.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for name, score in scores.items():
            of = "" if score.of is None else score.of
            table.writerow([measure, name, repr(float(score.value)), of, model])


if __name__ == "__main__":
    run_step(main)

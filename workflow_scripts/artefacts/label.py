"""Label images with the zero-shot classes that a stronger model gives to them.

Needs   MANIFEST     of a clean split
        EVALUATION   folder with classes.json, whose classes are given
Makes   OUTPUT       int64 [rows] in .npy: the class of each image

The model is one of open_clip's, with its own weights, or a checkpoint. What it says of an image
is not checked against anything: these are pseudo-labels.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from workflow_scripts.common.distributed import join
from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import atomic, read_json
from workflow_scripts.data.manifest import Places
from workflow_scripts.data.stored_images import Images
from workflow_scripts.model import models
from workflow_scripts.model.embedding import embed_images
from workflow_scripts.model.encoder import Encoder
from workflow_scripts.model.precision import uses_bf16
from workflow_scripts.model.spec import ModelSpec
from workflow_scripts.model.zero_shot import Prompts


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and write the labels."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        fromfile_prefix_chars="@",
    )
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--evaluation", type=Path, required=True, help="evaluation set's folder")
    parser.add_argument("--root", type=Path, required=True, help="results root of the tars")
    parser.add_argument(
        "--model", type=json.loads, required=True,
        help='JSON: {"name": ..., "config": ..., "pretrained": ...}, as in the config',
    )  # fmt: skip
    parser.add_argument("--checkpoint", type=Path, help="weights, instead of model's pretrained")
    parser.add_argument("--output", type=Path, required=True, help="labels.npy")
    parser.add_argument("--batch-size", type=int, required=True, help="images at once")
    parser.add_argument("--workers", type=int, default=0, help="loader processes")
    parser.add_argument("--threads", type=int, default=1, help="threads, on a CPU")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    classes = read_json(options.evaluation / "classes.json")
    found = labels(options, ModelSpec(**options.model), classes)
    with atomic(options.output) as temporary, temporary.open("wb") as file:
        np.save(file, found.numpy())
    counts = np.bincount(found.numpy(), minlength=len(classes["classes"]))
    print(
        f"{len(found)} images labelled with {np.count_nonzero(counts)} of "
        f"{len(counts)} classes; the most frequent: {classes['classes'][counts.argmax()]!r}, "
        f"{counts.max()} times"
    )


def labels(options: argparse.Namespace, spec: ModelSpec, classes: dict) -> Tensor:
    """Return the int64 [rows] class nearest to each image of the manifest, on the CPU."""
    world = join(options.device, timeout_minutes=10)
    given = options.checkpoint
    model = models.loaded(spec, given)
    encoder = Encoder(model.to(world.device), spec, uses_bf16("auto", world))
    prompts = Prompts(classes["classes"], classes["templates"], encoder, world)
    images = Images(Places.read(options.manifest), options.root)
    embedded = embed_images(
        encoder,
        images,
        len(images),
        batch_size=options.batch_size,
        workers=options.workers,
        world=world,
    )
    with encoder.evaluating():
        similarity = embedded @ prompts.classifier(encoder).T
    world.leave()
    if not similarity.isfinite().all():
        raise StepError(f"{given or spec.name} gives outputs that are not finite; it is damaged")
    return similarity.argmax(1).cpu()


if __name__ == "__main__":
    run_step(main)

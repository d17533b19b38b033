"""Pseudo-label images by zero-shot classification with a stronger model.

Inputs   MANIFEST     manifest of a clean split
         EVALUATION   folder with classes.json, which defines the classes
Outputs  OUTPUT       .npy file, int64 [rows]: the predicted class of each image

The model is an open_clip model with pretrained weights, or a checkpoint. Its predictions are used
as they are, without verification.
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
    parser.add_argument(
        "--manifest", type=Path, required=True, help="manifest of the images to label"
    )
    parser.add_argument(
        "--evaluation", type=Path, required=True, help="folder of the evaluation set"
    )
    parser.add_argument(
        "--root", type=Path, required=True, help="results root, which tar paths are relative to"
    )
    parser.add_argument(
        "--model", type=json.loads, required=True,
        help='JSON: {"name": ..., "config": ..., "pretrained": ...}, as in the config',
    )  # fmt: skip
    parser.add_argument(
        "--checkpoint", type=Path, help="weights to load instead of the pretrained ones"
    )
    parser.add_argument("--output", type=Path, required=True, help="labels.npy")
    parser.add_argument("--batch-size", type=int, required=True, help="images per batch")
    parser.add_argument("--workers", type=int, default=0, help="data loader workers")
    parser.add_argument("--threads", type=int, default=1, help="threads on a CPU")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    classes = read_json(options.evaluation / "classes.json")
    found = labels(options, ModelSpec(**options.model), classes)
    with atomic(options.output) as temporary, temporary.open("wb") as file:
        np.save(file, found.numpy())
    counts = np.bincount(found.numpy(), minlength=len(classes["classes"]))
    print(
        f"labelled {len(found)} images with {np.count_nonzero(counts)} of {len(counts)} classes; "
        f"the most frequent one is {classes['classes'][counts.argmax()]!r} ({counts.max()} images)"
    )


def labels(options: argparse.Namespace, spec: ModelSpec, classes: dict) -> Tensor:
    """Return the predicted class of each image of the manifest, int64 [rows], on the CPU.

    Raises:
        StepError: The model cannot be loaded, or its outputs are NaN or infinite.
    """
    world = join(options.device, timeout_minutes=10)
    checkpoint = options.checkpoint
    model = models.loaded(spec, checkpoint)
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
        raise StepError(
            f"{checkpoint or spec.name} gives NaN or infinite outputs; the weights are damaged"
        )
    return similarity.argmax(1).cpu()


if __name__ == "__main__":
    run_step(main)

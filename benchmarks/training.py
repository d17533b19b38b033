"""Measure training speed on this device by precision, memory layout, text length and objective.

    python -m benchmarks.training --model RN50 --batch-size 256          on a GPU
    python -m benchmarks.training --batch-size 64 --steps 5              the demo's model, on a CPU

Inputs are random pixels and tokens, so data loading is not included. The baseline is the published
training loop with the same losses. On a CPU, rates refer to CPU time.
"""

import argparse
import time

import torch
from torch import nn

from benchmarks.measuring import header, row
from workflow_scripts.common.distributed import ProcessGroup, join
from workflow_scripts.model import models
from workflow_scripts.model.encoder import Encoder
from workflow_scripts.model.spec import ModelSpec
from workflow_scripts.training.losses import Run
from workflow_scripts.training.objective import LossOfBatch, Objective
from workflow_scripts.training.optimizer import make_optimizer
from workflow_scripts.training.pairs import Batch
from workflow_scripts.training.spec import OptimizerSpec
from workflow_scripts.training.views import Views

DEMO = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
# Captions of CC12M have about 20 words; the longest of a batch of 2,048 has about 60 tokens.
TEXT_SHARE = 0.75
WARM_UP = {"cuda": 3, "cpu": 1}  # steps
RUN = Run(embed_dim=0, rows=0, steps=0, epochs=0, seed=0)


class AsPublished(Encoder):
    """An encoder that takes images in PyTorch's default memory layout."""

    def images(self, images: torch.Tensor, normalize: bool = True) -> torch.Tensor:
        """Return the same embeddings as the trainer's encoder."""
        x = ((images.float() / 255 - self._mean) / self._std).contiguous()
        with self._autocast(x.device):
            return nn.functional.normalize(self.model.encode_image(x).float(), dim=-1)


def make_batch(
    model: nn.Module, size: int, length: int, views: Views, world: ProcessGroup
) -> Batch:
    side = models.image_size(model)
    images = torch.randint(0, 256, (size, 3, side, side), dtype=torch.uint8)
    texts = torch.randint(1, 49_000, (size, length))
    texts[:, -1] = 49_407
    sources = views.images
    return Batch(dict.fromkeys(sources, images), dict.fromkeys(views.texts, texts)).to(world.device)


def measure(module: LossOfBatch, batch: Batch, steps: int) -> float:
    rates = OptimizerSpec(learning_rate=1e-5, betas=[0.9, 0.999], eps=1e-8, weight_decay=0.1)
    optimizer = make_optimizer(module, rates)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        module(batch, None).backward()
        optimizer.step()

    def wait() -> None:
        if module.world.device.type == "cuda":
            torch.cuda.synchronize()

    # On a CPU, CPU time barely depends on the load of the machine.
    clock = time.perf_counter if module.world.device.type == "cuda" else time.process_time
    for _ in range(WARM_UP[module.world.device.type]):
        step()
    wait()
    start = clock()
    for _ in range(steps):
        step()
    wait()
    return steps * len(batch) / (clock() - start)


def variants(gpu: bool) -> list[tuple[str, dict]]:
    published = {"fast": False, "bf16": False, "cut": False, "views": False}
    fast = {**published, "fast": True, "bf16": gpu}
    precision = "bf16, channels_last" if gpu else "channels_last"
    ssl = {"views": True}
    return [
        ("MMCL, as published (TF32 on a GPU, whole texts)", published),
        (f"MMCL, {precision}, whole texts", fast),
        (f"MMCL, {precision}, cut texts", {**fast, "cut": True}),
        ("MMCL+SSL, as published", published | ssl),
        (f"MMCL+SSL, {precision}, cut texts", {**fast, "cut": True} | ssl),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="open_clip model name; default: the demo's small model")
    parser.add_argument("--batch-size", type=int, required=True, help="pairs per step")
    parser.add_argument("--steps", type=int, default=20, help="number of timed steps")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    world = join(options.device, 1)
    gpu = world.device.type == "cuda"
    # As the published code does (src/main.py:156-159); without effect on a CPU.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    spec = ModelSpec(name=options.model) if options.model else ModelSpec(name="demo", config=DEMO)
    device = torch.cuda.get_device_name() if gpu else f"CPU, {options.threads} thread(s)"
    print(f"{spec.name}, batch of {options.batch_size}, {device}")
    header()
    plain = 0.0
    for name, settings in variants(gpu):
        torch.set_float32_matmul_precision("highest" if settings["bf16"] else "high")
        model = models.create(spec).to(world.device)
        layout = torch.channels_last if settings["fast"] else torch.contiguous_format
        model.visual.to(memory_format=layout)
        objective = Objective({"mmcl": 1.0} | ({"ssl": 1.0} if settings["views"] else {}), RUN)
        kind = Encoder if settings["fast"] else AsPublished
        module = LossOfBatch(kind(model, spec, settings["bf16"]), objective, world).to(world.device)
        context = model.context_length
        length = round(context * TEXT_SHARE) if settings["cut"] else context
        batch = make_batch(model, options.batch_size, length, objective.views, world)
        speed = measure(module, batch, options.steps)
        plain = plain if settings["fast"] else speed
        row(f"training: {spec.name}, {name}", speed, plain, "samples/s")


if __name__ == "__main__":
    main()

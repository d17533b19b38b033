"""The number format that the towers compute in."""

import torch

from workflow_scripts.common.distributed import World


def uses_bf16(precision: str, world: World) -> bool:
    """Return whether the towers run in bf16 autocast, and let fp32 use TF32 on a GPU.

    ``auto`` is bf16 on a GPU that has it, fp32 elsewhere. With bf16 the rest, which is the loss,
    stays in full float32.
    """
    gpu = world.device.type == "cuda"
    bf16 = precision == "bf16" or (precision == "auto" and gpu and torch.cuda.is_bf16_supported())
    if gpu:
        torch.set_float32_matmul_precision("highest" if bf16 else "high")
    return bf16

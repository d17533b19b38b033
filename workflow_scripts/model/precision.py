"""The numerical precision of the towers."""

import torch

from workflow_scripts.common.distributed import ProcessGroup


def uses_bf16(precision: str, world: ProcessGroup) -> bool:
    """Return whether to run the towers in bf16 autocast; if not, allow TF32 on a GPU.

    ``auto`` means bf16 on GPUs that support it, and fp32 otherwise. With bf16, everything outside
    the towers, i.e. the loss, is computed in full float32.
    """
    gpu = world.device.type == "cuda"
    bf16 = precision == "bf16" or (precision == "auto" and gpu and torch.cuda.is_bf16_supported())
    if gpu:
        torch.set_float32_matmul_precision("highest" if bf16 else "high")
    return bf16

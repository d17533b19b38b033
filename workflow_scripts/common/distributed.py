"""The processes of a run: one alone, or those that torchrun started."""

import datetime
import os
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from workflow_scripts.common.errors import StepError


@dataclass(frozen=True)
class World:
    """This process among its peers. All methods are called by all of them, in the same order."""

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this is the one process that writes."""
        return self.rank == 0

    def gather(self, local: Tensor) -> Tensor:
        """Return [size * n, ...], the rows of all processes in the order of ranks.

        Differentiable under two conditions that hold in this trainer: every process computes the
        same loss of the gathered rows, and gradients of parameters are then averaged over the
        processes. So each has all of its own rows' gradient in its own backward pass, which needs
        no communication, and the factor ``size`` undoes the average. The result is the gradient
        of one device with all rows (what open_clip's ``gather_with_grad`` gives).
        """
        return local if self.size == 1 else _Gather.apply(local, self.rank, self.size)

    def sum(self, values: Tensor) -> Tensor:
        """Return the elementwise sum over all processes."""
        if self.size > 1:
            values = values.clone()
            distributed.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Return whether the flag is up on any process; costs no synchronisation of a GPU."""
        if self.size == 1:
            return flag
        flags = torch.tensor([int(flag)])
        distributed.all_reduce(flags, distributed.ReduceOp.MAX)
        return bool(flags.item())

    def from_first(self, number: int) -> int:
        """Return rank 0's number."""
        if self.size == 1:
            return number
        numbers = torch.tensor([number])
        distributed.broadcast(numbers, src=0)
        return int(numbers.item())

    def share_buffers(self, module: nn.Module) -> None:
        """Give every process rank 0's buffers (batch norm's statistics)."""
        if self.size > 1:
            for buffer in module.buffers():
                distributed.broadcast(buffer, src=0)

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return the module, or one around it whose backward pass averages the gradients."""
        if self.size == 1:
            return module
        gpu = self.device.type == "cuda"
        # Batch norm's statistics are shared when they are needed, not before every step.
        return DistributedDataParallel(
            module,
            device_ids=[self.device.index] if gpu else None,
            forward_sync_buffers=False,
            gradient_as_bucket_view=True,
            # Else DDP sorts its buckets anew after a first step, which a resumed run has twice,
            # and there a sum over three processes or more would be rounded otherwise. GPUs add in
            # no fixed order anyway.
            find_unused_parameters=not gpu,
        )

    def leave(self) -> None:
        """End the process group."""
        if self.size > 1:
            distributed.destroy_process_group()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(context, local: Tensor, rank: int, size: int) -> Tensor:
        context.rank, context.size = rank, size
        parts = [torch.empty_like(local) for _ in range(size)]
        distributed.all_gather(parts, local.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context, gradient: Tensor):
        own = gradient.chunk(context.size)[context.rank]
        return own * context.size, None, None


def join(device: str, timeout_minutes: float) -> World:
    """Join the processes that torchrun started, or be alone.

    Args:
        device: ``cpu``, ``cuda`` or ``auto`` (a GPU if there is one).
        timeout_minutes: How long a process waits for another before the job fails.

    Raises:
        StepError: There is no GPU for this process.
    """
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and local >= torch.cuda.device_count():
        raise StepError(
            f"process {local} of this machine has no GPU (there are {torch.cuda.device_count()}); "
            "start as many processes as there are GPUs, or give --device cpu"
        )
    place = torch.device(device, local) if device == "cuda" else torch.device(device)
    if device == "cuda":
        torch.cuda.set_device(place)
    if size > 1:
        backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
        wait = datetime.timedelta(minutes=timeout_minutes)
        distributed.init_process_group(backend, rank=rank, world_size=size, timeout=wait)
    return World(rank, size, place)

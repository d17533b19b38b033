"""Communication between the processes of a run, started by torchrun or a single one."""

import datetime
import os
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from workflow_scripts.common.errors import StepError


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of a run, as seen by one of them.

    All methods are collective: all processes have to call them in the same order.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files (rank 0)."""
        return self.rank == 0

    def gather(self, local: Tensor) -> Tensor:
        """Gather the rows of all processes, [n, ...] each, into [size * n, ...] in rank order.

        Differentiable under two conditions, which this trainer meets: every process computes the
        same loss from the gathered rows, and parameter gradients are averaged over the processes.
        Each process then obtains the full gradient of its own rows in its own backward pass without
        communication, and the factor ``size`` undoes the averaging. The result equals the gradient
        on one device with all rows, as with open_clip's ``gather_with_grad``.
        """
        return local if self.size == 1 else _Gather.apply(local, self.rank, self.size)

    def sum(self, values: Tensor) -> Tensor:
        """Return the elementwise sum over all processes."""
        if self.size > 1:
            values = values.clone()
            distributed.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set on any process, without synchronising GPUs."""
        if self.size == 1:
            return flag
        flags = torch.tensor([int(flag)])
        distributed.all_reduce(flags, distributed.ReduceOp.MAX)
        return bool(flags.item())

    def from_first(self, number: int) -> int:
        """Broadcast rank 0's number and return it."""
        if self.size == 1:
            return number
        numbers = torch.tensor([number])
        distributed.broadcast(numbers, src=0)
        return int(numbers.item())

    def share_buffers(self, module: nn.Module) -> None:
        """Broadcast rank 0's buffers (batch norm's statistics) to all processes."""
        if self.size > 1:
            for buffer in module.buffers():
                distributed.broadcast(buffer, src=0)

    def wrap(self, module: nn.Module) -> nn.Module:
        """Wrap a module so that its backward pass averages gradients; no-op for one process."""
        if self.size == 1:
            return module
        gpu = self.device.type == "cuda"
        # Batch norm's statistics are broadcast when they are needed, not before every step.
        return DistributedDataParallel(
            module,
            device_ids=[self.device.index] if gpu else None,
            forward_sync_buffers=False,
            gradient_as_bucket_view=True,
            # Otherwise DDP rebuilds its buckets after the first step. A resumed run would do so a
            # second time, which changes the rounding of sums over three or more processes. On GPUs
            # the order of summation is not fixed anyway.
            find_unused_parameters=not gpu,
        )

    def leave(self) -> None:
        """Destroy the process group."""
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


def join(device: str, timeout_minutes: float) -> ProcessGroup:
    """Join the process group that torchrun started, or create one of a single process.

    Args:
        device: ``cpu``, ``cuda`` or ``auto`` (a GPU if available).
        timeout_minutes: Time that a process waits for the others before the job fails.

    Raises:
        StepError: No GPU is available for this process.
    """
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and local >= torch.cuda.device_count():
        raise StepError(
            f"no GPU for process {local} on this machine ({torch.cuda.device_count()} available); "
            "start one process per GPU, or run on the CPU (--device cpu; in the workflow, "
            "resources.*.gpu: 0)"
        )
    place = torch.device(device, local) if device == "cuda" else torch.device(device)
    if device == "cuda":
        torch.cuda.set_device(place)
    if size > 1:
        backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
        wait = datetime.timedelta(minutes=timeout_minutes)
        distributed.init_process_group(backend, rank=rank, world_size=size, timeout=wait)
    return ProcessGroup(rank, size, place)

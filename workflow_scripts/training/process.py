"""One process of a training run, alone or started by torchrun."""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import distributed

from workflow_scripts.common.distributed import ProcessGroup, join
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import read_json, write_json
from workflow_scripts.common.stopping import Stop, Stopped, minutes_left
from workflow_scripts.common.workers import loader_workers
from workflow_scripts.training.checkpoints import lock
from workflow_scripts.training.outputs import bring_back, finished
from workflow_scripts.training.provenance import hash_inputs
from workflow_scripts.training.reporting import Reporter
from workflow_scripts.training.spec import RunSpec
from workflow_scripts.training.staging import staged
from workflow_scripts.training.taking import LAST, Take
from workflow_scripts.training.trainer import Trainer


def run(spec: RunSpec, takes: list[Take], options: argparse.Namespace) -> None:
    """Train a run, or resume it.

    Args:
        spec: The run's spec.
        takes: Epochs to write; training stops when the first is decided.
        options: Further options of train.py.

    Raises:
        StepError: The run cannot be trained; the message is printed by one process only.
        Stopped: A signal or the time limit has stopped the run after a checkpoint.
    """
    device = options.device or spec.device
    if device == "auto" and options.processes:
        # --processes asks for GPUs: fail at once if there are none, instead of using the CPU.
        device = "cuda"
    elif device == "auto" and "WORLD_SIZE" not in os.environ:
        device = "cpu"
    minutes = options.minutes
    if minutes is None:
        minutes = minutes_left(spec.checkpoint.before_limit)
    with Stop(minutes) as stop:
        world = join(device, options.timeout)
        workers, threads = _share(options, world)
        torch.set_num_threads(threads)
        run_lock = lock(options.output) if world.leads else None
        if world.leads:
            write_json(options.output / "spec.json", read_json(options.spec))
        try:
            with _readable_errors(spec, world, options.timeout):
                _train(spec, options.output, takes, world=world, workers=workers, stop=stop)
        finally:
            if run_lock is not None:
                run_lock.close()
        world.leave()


@contextlib.contextmanager
def _readable_errors(spec: RunSpec, world: ProcessGroup, timeout_minutes: float) -> Iterator[None]:
    """Turn expected failures into a one-sentence error, printed by one process only."""
    try:
        yield
    except Stopped:
        if world.leads:
            raise
        sys.exit(1)
    except torch.OutOfMemoryError as error:
        raise StepError(
            f"{spec.run} does not fit into GPU memory; set accumulation in its spec to split "
            f"the batch of {spec.batch_size} ({str(error).splitlines()[0]})"
        ) from error
    except RuntimeError as error:
        if world.size > 1 and _is_peer_failure(error):
            raise StepError(
                f"another process of {spec.run} died or did not respond within "
                f"{timeout_minutes:g} minutes; see its error message. The last checkpoint is kept"
            ) from error
        raise


def _train(
    spec: RunSpec, output: Path, takes: list[Take], *, world: ProcessGroup, workers: int, stop: Stop
) -> None:
    """Train until the first take is decided, or restore its outputs if it is already complete."""
    inputs = hash_inputs(spec.inputs) if world.leads else {}
    done = _restore_outputs(spec, output, takes, inputs) if world.leads else []
    if world.from_first(int(takes[0] in done)):
        return
    report = Reporter(spec, output, world, inputs)
    with staged(spec, world, stop) as root:
        trainer = Trainer(
            spec,
            output,
            world,
            takes=[take for take in takes if take not in done],
            inputs=inputs,
            root=root,
            workers=workers,
            stop=stop,
            report=report,
        )
        trainer.run()


def _restore_outputs(
    spec: RunSpec, output: Path, takes: list[Take], inputs: dict[str, str]
) -> list[Take]:
    """Restore the outputs of takes completed earlier, and return these takes.

    Raises:
        StepError: The run has finished without retaining the requested epoch.
    """
    identity = spec.identity()
    end = Take(LAST, output).record()
    done = [t for t in takes if bring_back(t.folder, identity, inputs, t.record())]
    if takes[0] not in done and finished(output, identity, inputs, end):
        raise StepError(
            f"{spec.run} has finished and did not keep the epoch of --take {takes[0].rule}; delete "
            f"{output / '.finished'} to train it again"
        )
    return done


def _share(options: argparse.Namespace, world: ProcessGroup) -> tuple[int, int]:
    """Return the loader workers and threads of this process, given the cores of its node."""
    local_processes = int(os.environ.get("LOCAL_WORLD_SIZE", world.size))
    cores = max(1, options.cores // local_processes)
    gpu = world.device.type == "cuda"
    return (
        loader_workers(cores, world.device.type) if options.workers is None else options.workers,
        (1 if gpu else cores) if options.threads is None else options.threads,
    )


def _is_peer_failure(error: RuntimeError) -> bool:
    text = str(error).lower()
    return isinstance(error, distributed.DistBackendError) or "gloo" in text or "peer" in text

"""Train one model as its run spec says, on one process or many.

    python -m workflow_scripts.training.train --spec runs/x/spec.json --output runs/x --processes 8

Started by torchrun, it is one of torchrun's processes; else it starts as many as are asked for.
A run that was interrupted goes on where it was when it is started again.
"""

import argparse
import os
import sys
from pathlib import Path

import torch
from torch import distributed

from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import read_json, write_json
from workflow_scripts.training.checkpoints import lock
from workflow_scripts.training.distributed import World, join
from workflow_scripts.training.outputs import bring_back
from workflow_scripts.training.provenance import hash_inputs
from workflow_scripts.training.spec import read_spec
from workflow_scripts.training.staging import staged
from workflow_scripts.training.stopping import Stop, minutes_left
from workflow_scripts.training.trainer import Trainer

_MODULE = "workflow_scripts.training.train"
# Time to finish a step and write a checkpoint after a signal, before torchrun kills.
_SHUTDOWN_SECONDS = 120


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train one model as its run spec says.")
    parser.add_argument("--spec", required=True, help="run spec (JSON)")
    parser.add_argument("--output", type=Path, required=True, help="the run's folder")
    parser.add_argument(
        "--processes",
        type=int,
        default=0,
        help="training processes, one on each GPU; 0 is a single one on the CPU "
        "(started by torchrun, this is torchrun's business)",
    )
    parser.add_argument("--cores", type=int, default=1, help="cores of all processes together")
    parser.add_argument(
        "--workers", type=int, help="loader processes of each process; by default from the cores"
    )
    parser.add_argument(
        "--threads",
        type=int,
        help="threads of each process; by default from the cores. On a CPU the result depends "
        "on it in the last digits",
    )
    parser.add_argument(
        "--device", choices=["auto", "cpu", "cuda"], help="by default what the spec says"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        help="stop in good order, with a checkpoint, after so long; by default some time before "
        "the limit of the Slurm job that this is part of",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=10,
        help="minutes that processes wait for one another before the job fails (default 10)",
    )
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Train one run."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _options().parse_args(given)
    spec = read_spec(options.spec)
    if options.processes > 1 and "WORLD_SIZE" not in os.environ:
        _start_processes(options.processes, given)
    device = options.device or spec.device
    if device == "auto" and options.processes:
        # Asked for GPUs: without them it has to fail at once, not to crawl on the CPU.
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
        held = lock(options.output) if world.leads else None
        if world.leads:
            write_json(options.output / "spec.json", read_json(options.spec))
        try:
            inputs = hash_inputs(spec.inputs) if world.leads else {}
            done = world.leads and bring_back(options.output, spec.identity(), inputs)
            if not world.from_first(int(done)):
                with staged(spec, world, stop) as root:
                    Trainer(
                        spec,
                        options.output,
                        world,
                        inputs=inputs,
                        root=root,
                        workers=workers,
                        stop=stop,
                    ).run()
        except torch.OutOfMemoryError as error:
            raise StepError(
                f"{spec.run} does not fit the GPU's memory; set accumulation in its spec to take "
                f"the batch of {spec.batch_size} in parts ({str(error).splitlines()[0]})"
            ) from error
        except RuntimeError as error:
            if world.size > 1 and _is_of_peers(error):
                raise StepError(
                    f"another process of {spec.run} has died or has not answered for "
                    f"{options.timeout:g} minutes; see its message. The last checkpoint is kept"
                ) from error
            raise
        finally:
            if held is not None:
                held.close()
        world.leave()


def _share(options: argparse.Namespace, world: World) -> tuple[int, int]:
    """Return loader workers and threads of one process, from the cores of all of them."""
    cores = max(1, options.cores // world.size)
    gpu = world.device.type == "cuda"
    workers = cores - 1 if gpu else min(cores - 1, 1)
    threads = 1 if gpu else cores
    return (
        workers if options.workers is None else options.workers,
        threads if options.threads is None else options.threads,
    )


def _is_of_peers(error: RuntimeError) -> bool:
    text = str(error).lower()
    return isinstance(error, distributed.DistBackendError) or "gloo" in text or "peer" in text


def _start_processes(count: int, arguments: list[str]) -> None:
    """Become torchrun, which starts this module in ``count`` processes and passes signals on."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *("--nproc-per-node", str(count), "--shutdown-timeout", str(_SHUTDOWN_SECONDS)),
        *("--signals-to-handle", "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"),
        *("-m", _MODULE, *arguments),
    ]
    os.execv(sys.executable, command)


if __name__ == "__main__":
    run_step(main)

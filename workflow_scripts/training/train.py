"""Train one model as its run spec says, on one process or many.

    python -m workflow_scripts.training.train --spec runs/x/spec.json --output runs/x --processes 8

Started by torchrun, it is one of torchrun's processes; else it starts as many as are asked for,
in a Slurm job also on several nodes. A run that was interrupted goes on where it was when it is
started again.
"""

import argparse
import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import distributed

from workflow_scripts.common.distributed import World, join
from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import read_json, write_json
from workflow_scripts.common.stopping import Stop, Stopped, minutes_left
from workflow_scripts.training.checkpoints import lock
from workflow_scripts.training.outputs import bring_back, finished
from workflow_scripts.training.provenance import hash_inputs
from workflow_scripts.training.reporting import Reporter
from workflow_scripts.training.spec import RunSpec, read_spec
from workflow_scripts.training.staging import staged
from workflow_scripts.training.taking import LAST, Take, read_takes
from workflow_scripts.training.trainer import Trainer

_MODULE = "workflow_scripts.training.train"
_LAUNCHER = "workflow_scripts.training.launch"
# Time to finish a step and write a checkpoint after a signal, before torchrun kills.
_SHUTDOWN_SECONDS = 120


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Train one model as its run spec says.", fromfile_prefix_chars="@"
    )
    parser.add_argument("--spec", required=True, help="run spec (JSON)")
    parser.add_argument("--output", type=Path, required=True, help="the run's folder")
    parser.add_argument(
        "--take",
        nargs="+",
        action="append",
        metavar=("RULE", "FOLDER"),
        help="the epoch whose model is wanted: last (the default), its number, best_accuracy (the "
        "highest top-1), or nearest_accuracy (the top-1 nearest to that of --reference). The "
        "outputs go to FOLDER in the run's folder, by default epoch-NUMBER or the rule's name; "
        "those of last to the run's folder itself. Training ends when the choice is final, and "
        "a later call resumes from there. Given again, it names epochs to write or to keep on "
        "the way, too",
    )
    parser.add_argument(
        "--reference", type=Path, help="metrics.csv, whose last top-1 nearest_accuracy looks for"
    )
    parser.add_argument(
        "--processes",
        type=int,
        default=0,
        help="training processes of each node, one on each GPU; 0 is a single one on the CPU "
        "(started by torchrun, this is torchrun's business)",
    )
    parser.add_argument("--nodes", type=int, default=1, help="nodes of the Slurm job (default 1)")
    parser.add_argument("--cores", type=int, default=1, help="cores of all processes of a node")
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
    takes = read_takes(options.take, options.reference, options.output, spec.epochs)
    if spec.kind == "cleaning" and [take.rule for take in takes] != [LAST]:
        raise StepError("--take is for pre-training: of a cleaning run only the last epoch is kept")
    if max(options.processes, options.nodes) > 1 and "WORLD_SIZE" not in os.environ:
        _start_processes(options, given)
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
            with _explained(spec, world, options.timeout):
                _train(spec, options.output, takes, world=world, workers=workers, stop=stop)
        finally:
            if held is not None:
                held.close()
        world.leave()


@contextlib.contextmanager
def _explained(spec: RunSpec, world: World, timeout_minutes: float) -> Iterator[None]:
    """Turn what may end a training into one sentence, printed by one of its processes."""
    try:
        yield
    except Stopped:
        if world.leads:
            raise
        sys.exit(1)
    except torch.OutOfMemoryError as error:
        raise StepError(
            f"{spec.run} does not fit the GPU's memory; set accumulation in its spec to take "
            f"the batch of {spec.batch_size} in parts ({str(error).splitlines()[0]})"
        ) from error
    except RuntimeError as error:
        if world.size > 1 and _is_of_peers(error):
            raise StepError(
                f"another process of {spec.run} has died or has not answered for "
                f"{timeout_minutes:g} minutes; see its message. The last checkpoint is kept"
            ) from error
        raise


def _train(
    spec: RunSpec, output: Path, takes: list[Take], *, world: World, workers: int, stop: Stop
) -> None:
    """Train the run as far as is wanted, or bring the outputs back if they were made before."""
    inputs = hash_inputs(spec.inputs) if world.leads else {}
    done = _made_before(spec, output, takes, inputs) if world.leads else []
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


def _made_before(
    spec: RunSpec, output: Path, takes: list[Take], inputs: dict[str, str]
) -> list[Take]:
    """Return the takes whose outputs are there, brought back to their place.

    Raises:
        StepError: The run was trained to its end without keeping the epoch that is wanted.
    """
    identity = spec.identity()
    end = Take(LAST, output).record()
    done = [t for t in takes if bring_back(t.folder, identity, inputs, t.record())]
    if takes[0] not in done and finished(output, identity, inputs, end):
        raise StepError(
            f"{spec.run} was trained to its end and --take {takes[0].rule} was not kept; delete "
            f"{output / '.finished'} to train it again"
        )
    return done


def _share(options: argparse.Namespace, world: World) -> tuple[int, int]:
    """Return loader workers and threads of one process, from the cores of all of its node."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", world.size))
    cores = max(1, options.cores // here)
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


def _start_processes(options: argparse.Namespace, arguments: list[str]) -> None:
    """Become torchrun, which starts this module in several processes and passes signals on."""
    torchrun = [
        *("-m", _LAUNCHER, "--shutdown-timeout", str(_SHUTDOWN_SECONDS)),
        *("--signals-to-handle", "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"),
        *("--nproc-per-node", str(options.processes)),
    ]
    program = ["-m", _MODULE, *arguments]
    if options.nodes == 1:
        command = [sys.executable, *torchrun, "--standalone", *program]
    else:
        command = [*_on_nodes(options), sys.executable, *torchrun, *program]
    os.execvp(command[0], command)


def _on_nodes(options: argparse.Namespace) -> list[str]:
    """Return what starts one torchrun on each node of the Slurm job around us.

    They meet at this node, which is the job's first.
    """
    if "SLURM_JOB_ID" not in os.environ:
        raise StepError(
            f"{options.nodes} nodes are asked for outside of a Slurm job; ask for one "
            "(resources.*.nodes in the config, --nodes here), or use --profile slurm"
        )
    with socket.create_server(("", 0)) as free:
        port = free.getsockname()[1]
    # Slurm tells each node's task which node it is on, and where srun was called.
    meet = (
        f'exec "$0" "$1" "$2" --nnodes {options.nodes} --node-rank "$SLURM_NODEID" '
        f'--master-addr "$SLURM_LAUNCH_NODE_IPADDR" --master-port {port} "${{@:3}}"'
    )
    return [
        *("srun", f"--nodes={options.nodes}", f"--ntasks={options.nodes}", "--ntasks-per-node=1"),
        *(f"--cpus-per-task={options.cores}", "--kill-on-bad-exit=1", "bash", "-c", meet),
    ]


if __name__ == "__main__":
    run_step(main)

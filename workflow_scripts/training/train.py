"""Train one model from a run spec, in one or several processes.

    python -m workflow_scripts.training.train --spec runs/x/spec.json --output runs/x --processes 8

Under torchrun, this is one of the worker processes. Otherwise it launches the requested number of
processes itself, within a Slurm job also on several nodes. Running the same command again resumes
an interrupted run from its last checkpoint.
"""

import argparse
import os
import socket
import sys
from pathlib import Path

from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.imports import uncollected
from workflow_scripts.training.spec import read_spec
from workflow_scripts.training.taking import LAST, read_takes

_MODULE = "workflow_scripts.training.train"
_LAUNCHER = "workflow_scripts.training.launch"
# Time to finish a step and write a checkpoint after a signal, before torchrun kills the process.
_SHUTDOWN_SECONDS = 120


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        fromfile_prefix_chars="@",
    )
    parser.add_argument("--spec", required=True, help="run spec (JSON)")
    parser.add_argument("--output", type=Path, required=True, help="the run's folder")
    parser.add_argument(
        "--take",
        nargs="+",
        action="append",
        metavar=("RULE", "FOLDER"),
        help="epoch whose model is written: last (the default), a number, best_accuracy (highest "
        "top-1 accuracy), or nearest_accuracy (top-1 accuracy closest to that of --reference). "
        "Outputs go to FOLDER inside the run's folder, by default epoch-NUMBER or the rule's "
        "name; those of last go to the run's folder itself. Training stops once the first --take "
        "is decided, and a later call resumes from there. Repeat the option to also write, or "
        "retain, other epochs",
    )
    parser.add_argument(
        "--retain",
        action="append",
        default=[],
        metavar="RULE",
        help="like a further --take, for an epoch that a later call takes; can be repeated",
    )
    parser.add_argument(
        "--reference",
        type=Path,
        help="metrics.csv whose final top-1 accuracy is the target of nearest_accuracy",
    )
    parser.add_argument(
        "--processes",
        type=int,
        default=0,
        help="training processes per node, one per GPU; 0 runs a single process on the CPU "
        "(if started by torchrun, torchrun determines the number)",
    )
    parser.add_argument("--nodes", type=int, default=1, help="nodes of the Slurm job (default 1)")
    parser.add_argument(
        "--cores", type=int, default=1, help="CPU cores per node, shared by its processes"
    )
    parser.add_argument(
        "--workers", type=int, help="data loader workers per process (default: from --cores)"
    )
    parser.add_argument(
        "--threads",
        type=int,
        help="threads per process (default: from --cores). On a CPU, results depend on it in the "
        "last digits",
    )
    parser.add_argument(
        "--device", choices=["auto", "cpu", "cuda"], help="default: the device in the spec"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        help="write a checkpoint and stop after this many minutes; by default shortly before the "
        "time limit of the surrounding Slurm job",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=10,
        help="minutes that a process waits for the others before the job fails (default 10)",
    )
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Train one run."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _options().parse_args(arguments)
    spec = read_spec(options.spec)
    given = options.take or [[LAST]]
    retained = [[rule] for rule in options.retain if rule not in {take[0] for take in given}]
    takes = read_takes([*given, *retained], options.reference, options.output, spec.epochs)
    if spec.kind == "cleaning" and [take.rule for take in takes] != [LAST]:
        raise StepError(
            "--take is for pre-training runs only; a cleaning run always writes its last epoch"
        )
    if max(options.processes, options.nodes) > 1 and "WORLD_SIZE" not in os.environ:
        _start_processes(options, arguments)
    # Importing PyTorch takes seconds, which the process that starts the others does not need.
    with uncollected():
        from workflow_scripts.training.process import run  # noqa: PLC0415

    run(spec, takes, options)


def _start_processes(options: argparse.Namespace, arguments: list[str]) -> None:
    """Replace this process by torchrun, which runs this module in several processes."""
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
    """Return the srun command prefix that starts one torchrun per node of the current Slurm job.

    This node, the first of the job, hosts the rendezvous.
    """
    if "SLURM_JOB_ID" not in os.environ:
        raise StepError(
            f"{options.nodes} nodes requested outside of a Slurm job; request one "
            "(resources.*.nodes in the config, --nodes here), or use --profile slurm"
        )
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
    # Slurm sets the node's number and the address of the node that called srun.
    script = (
        f'exec "$0" "$1" "$2" --nnodes {options.nodes} --node-rank "$SLURM_NODEID" '
        f'--master-addr "$SLURM_LAUNCH_NODE_IPADDR" --master-port {port} "${{@:3}}"'
    )
    return [
        *("srun", f"--nodes={options.nodes}", f"--ntasks={options.nodes}", "--ntasks-per-node=1"),
        *(f"--cpus-per-task={options.cores}", "--kill-on-bad-exit=1", "bash", "-c", script),
    ]


if __name__ == "__main__":
    run_step(main)

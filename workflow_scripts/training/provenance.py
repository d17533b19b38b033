"""Where a result comes from: the content of ``run.json``."""

import dataclasses
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from workflow_scripts.captions.stored import array_of_base
from workflow_scripts.common.code import git_version, run_code
from workflow_scripts.common.distributed import World
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import digest, sha256
from workflow_scripts.data.overlay import base_of
from workflow_scripts.training.epoch_measures import measure_files
from workflow_scripts.training.progress import now
from workflow_scripts.training.spec import InputsSpec, RunSpec

_PACKAGES = ("torch", "torchvision", "open_clip_torch", "numpy", "pillow", "pandas", "pyarrow")


def hash_inputs(inputs: InputsSpec) -> dict[str, str]:
    """Return SHA-256 digests of the files that a run reads, by their role in the spec.

    Raises:
        StepError: One of them is missing.
    """
    evaluation = Path(inputs.evaluation)
    files = {
        "manifest": inputs.manifest,
        "tokens": inputs.tokens,
        "augmented": inputs.augmented,
        "labels": inputs.labels,
        "instances": inputs.instances,
        "evaluation_manifest": evaluation / "manifest.parquet",
        "evaluation_classes": evaluation / "classes.json",
        "start": inputs.start,
        "start_optimizer": inputs.start_optimizer,
    }
    there = {role: Path(file) for role, file in files.items() if file is not None}
    there |= {f"artefact {Path(f).parent.name}": Path(f) for f in inputs.artefacts or ()}
    for measure in inputs.measures or ():
        there |= {f"measure {measure['id']}, {f.name}": f for f in measure_files(measure)}
    _check_files(there)
    bases = _bases(inputs)
    _check_files(bases)
    return {role: sha256(file) for role, file in (there | bases).items()}


def _check_files(there: dict[str, Path]) -> None:
    for role, file in there.items():
        if not file.is_file():
            raise StepError(f"the run's {role.replace('_', ' ')} {file} is missing; make it first")


def _bases(inputs: InputsSpec) -> dict[str, Path]:
    """Return the files that overlays among a run's inputs refer to."""
    manifest = inputs.manifest
    found = {"manifest": base_of(manifest)}
    for role, array in (("tokens", inputs.tokens), ("augmented", inputs.augmented)):
        found[role] = None if array is None else array_of_base(array, manifest)
    return {f"base_{role}": file for role, file in found.items() if file is not None}


def code_version(spec: RunSpec) -> dict[str, Any]:
    """Return which code a run is made by: git's view of it, and the files that matter to the run.

    ``files`` are digests as :func:`run_code` returns them, ``digest`` is one of them all.
    """
    files = run_code(dataclasses.asdict(spec))
    return {**git_version(), "digest": digest(files), "files": files}


def _hardware(world: World) -> dict[str, Any]:
    gpu = world.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(world.device) if gpu else "cpu",
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "processes": world.size,
        "nodes": int(os.environ.get("GROUP_WORLD_SIZE", "1")),
        "threads": torch.get_num_threads(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(x.split(":", 1)[1].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def describe(spec: RunSpec, world: World, inputs: dict[str, str], **results: Any) -> dict[str, Any]:
    """Return the content of ``run.json``.

    Args:
        spec: The run.
        world: The processes.
        inputs: As :func:`hash_inputs` returns them.
        results: Further entries: evaluation counts, resumptions, times, and ``code`` as
            :func:`code_version` returned it when the processes started.
    """
    return {
        "run": spec.run,
        "identity": spec.identity(),
        "finished": now(),
        **results,
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in _PACKAGES},
        },
        "hardware": _hardware(world),
        "slurm": {k: v for k, v in sorted(os.environ.items()) if k in _SLURM},
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "inputs": inputs,
        "spec": dataclasses.asdict(spec),
    }


_SLURM = ("SLURM_JOB_ID", "SLURM_JOB_NAME", "SLURM_JOB_NODELIST", "SLURM_RESTART_COUNT")

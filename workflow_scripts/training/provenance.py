"""Provenance of a result: the content of ``run.json``."""

import dataclasses
import hashlib
import io
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workflow_scripts.artefacts.values import values_in
from workflow_scripts.captions.stored import array_of_base
from workflow_scripts.common.code_version import git_version, run_code
from workflow_scripts.common.distributed import ProcessGroup
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import digest, sha256
from workflow_scripts.data.overlay import base_of
from workflow_scripts.training.epoch_measures import measure_files
from workflow_scripts.training.progress import now
from workflow_scripts.training.spec import InputsSpec, RunSpec

_PACKAGES = ("torch", "torchvision", "open_clip_torch", "numpy", "pillow", "pandas", "pyarrow")


def hash_inputs(inputs: InputsSpec) -> dict[str, str]:
    """Return SHA-256 digests of a run's input files, by their role in the spec.

    Raises:
        StepError: A file is missing.
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
    used = {role: Path(file) for role, file in files.items() if file is not None}
    used |= {f"artefact {Path(f).parent.name}": Path(f) for f in inputs.artefacts or ()}
    for measure in inputs.measures or ():
        used |= {f"measure {measure['id']}, {f.name}": f for f in measure_files(measure)}
    _check_files(used)
    bases = _bases(inputs)
    _check_files(bases)
    digests = {role: sha256(file) for role, file in (used | bases).items()}
    if inputs.labels is not None:
        digests["labels"] = _as_npy(inputs.labels)
    return digests


def _as_npy(labels: str) -> str:
    """Return the SHA-256 digest of labels as a .npy file, which finished runs have recorded."""
    (array,) = values_in(labels, "labels")
    file = io.BytesIO()
    np.save(file, array)
    return hashlib.sha256(file.getbuffer()).hexdigest()


def _check_files(files: dict[str, Path]) -> None:
    for role, file in files.items():
        if not file.is_file():
            raise StepError(f"the run's {role.replace('_', ' ')} {file} is missing; make it first")


def _bases(inputs: InputsSpec) -> dict[str, Path]:
    """Return the base files of the overlays among a run's inputs."""
    manifest = inputs.manifest
    found = {"manifest": base_of(manifest)}
    for role, array in (("tokens", inputs.tokens), ("augmented", inputs.augmented)):
        found[role] = None if array is None else array_of_base(array, manifest)
    return {f"base_{role}": file for role, file in found.items() if file is not None}


def code_version(spec: RunSpec) -> dict[str, Any]:
    """Return the git version and the digests of the code that a run uses.

    ``files`` holds the digests returned by :func:`run_code`; ``digest`` is a digest of all of them.
    """
    files = run_code(dataclasses.asdict(spec))
    return {**git_version(), "digest": digest(files), "files": files}


def _hardware(world: ProcessGroup) -> dict[str, Any]:
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


def describe(
    spec: RunSpec, world: ProcessGroup, inputs: dict[str, str], **results: Any
) -> dict[str, Any]:
    """Return the content of ``run.json``.

    Args:
        spec: The run.
        world: The process group.
        inputs: As returned by :func:`hash_inputs`.
        results: Further entries: evaluation counts, resumptions, times, and ``code``, the result
            of :func:`code_version` when the processes started.
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

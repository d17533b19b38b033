"""The run spec: everything that a training run depends on, as typed dataclasses."""

import dataclasses
import difflib
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import digest, read_json
from workflow_scripts.model.spec import ModelSpec


@dataclass(frozen=True, kw_only=True)
class OptimizerSpec:
    """Settings of AdamW.

    ``carry_over`` starts from the optimiser state of the start model. ``decay_on`` selects the
    parameters with weight decay, see :func:`workflow_scripts.training.optimizer.decays`.
    ``freeze`` lists what is not trained: ``scale``, or the tower ``image`` or ``text``.
    """

    learning_rate: float
    betas: list
    eps: float
    weight_decay: float
    carry_over: bool = False
    decay_on: Literal["published", "matrices"] = "matrices"
    freeze: list | None = None


@dataclass(frozen=True, kw_only=True)
class ScheduleSpec:
    """Learning rate schedule: linear warm-up followed by cosine decay.

    ``shift_epochs`` advances the schedule by a number of epochs: the published loop counts epochs
    from 1 when it computes the step, which is a shift of one epoch. ``start`` and ``end`` are the
    rates at the first step and after the last step, as multiples of the learning rate; by default
    1 / ``warmup_steps`` and 0. ``warmup_share`` gives the length of the warm-up as a share of all
    steps and replaces ``warmup_steps``.
    """

    shift_epochs: int = 0
    start: float | None = None
    end: float | None = None
    warmup_share: float | None = None


@dataclass(frozen=True, kw_only=True)
class CheckpointSpec:
    """A checkpoint is written after each epoch and every ``minutes``; the last ``keep`` are kept.

    In a Slurm job, the last one is written ``before_limit`` minutes before the time limit.
    """

    minutes: float
    keep: int
    before_limit: float = 10.0


@dataclass(frozen=True, kw_only=True)
class WandbSpec:
    """Logging to Weights & Biases."""

    mode: Literal["disabled", "offline", "online"]
    project: str | None = None


@dataclass(frozen=True, kw_only=True)
class InputsSpec:
    """Input files of a run; ``start`` and ``start_optimizer`` belong to the start model.

    ``labels`` are the values of an artefact with ``labels``, int64 [rows], for loss terms that use
    labels; ``instances`` is a manifest of the images that the attack aims to have classified as its
    target; ``artefacts`` are the value files of the artefacts that options refer to; ``measures``
    are the measures taken after each epoch, in the format of
    :mod:`workflow_scripts.evaluation.measure`.
    """

    root: str
    manifest: str
    tokens: str
    evaluation: str
    augmented: str | None = None
    labels: str | None = None
    instances: str | None = None
    artefacts: list | None = None
    measures: list | None = None
    start: str | None = None
    start_optimizer: str | None = None


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One training run. ``batch_size`` is the global batch size over all processes.

    The last ``held_out`` rows of the manifest are not trained on; losses on them are measured after
    each epoch. ``joint_statistics`` passes the original and the augmented images through the image
    tower in one forward pass, so that they share batch norm statistics. ``accumulation`` is the
    number of micro-batches per step and process, so that a large batch fits on a small GPU.
    ``staging`` is a folder on the node's local disk to which the images are copied first; its
    environment variables are not yet expanded. ``keep_selected`` keeps the models of the epochs of
    a cleaning run that a selection rule would choose. ``measures`` are the ids of the measures in
    ``inputs``.
    """

    run: str
    kind: Literal["pretraining", "cleaning"]
    model: ModelSpec
    objective: dict
    optimizer: OptimizerSpec
    epochs: int
    warmup_steps: int
    batch_size: int
    seed: int
    precision: Literal["auto", "fp32", "bf16"]
    checkpoint: CheckpointSpec
    attack: dict
    evaluation_batch_size: int
    wandb: WandbSpec
    inputs: InputsSpec
    schedule: ScheduleSpec = ScheduleSpec()
    start_change: dict | None = None
    held_out: int = 0
    joint_statistics: bool = True
    sync_batch_norm: bool = False
    compile: bool = False
    staging: str | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    accumulation: int = 1
    keep_selected: bool = True
    measures: list | None = None

    def identity(self) -> str:
        """Return a digest of the settings that affect the result, without execution settings.

        Input files are not included: to compare two runs, compare the digests of their files as
        well (``provenance.hash_inputs``). Default values are left out, so that adding a key does
        not rename any run.
        """
        content = _without_defaults(self)
        for key in _EXECUTION:
            content.pop(key, None)
        return digest(_relative(self.inputs.root, content), 16)


_EXECUTION = (
    "checkpoint", "wandb", "compile", "staging", "device", "evaluation_batch_size", "inputs",
    "keep_selected",
)  # fmt: skip


def _relative(root: str, value: Any) -> Any:
    """Return a value with all artefact paths made relative to the results root."""
    if isinstance(value, dict):
        return {key: _relative(root, item) for key, item in value.items()}
    if isinstance(value, list):
        return [_relative(root, item) for item in value]
    artefacts = f"{root}/artefacts/"
    is_artefact = isinstance(value, str) and value.startswith(artefacts)
    return value.removeprefix(f"{root}/") if is_artefact else value


def _without_defaults(value: Any) -> Any:
    """Return a dataclass as a dict of the fields that differ from their defaults."""
    if not dataclasses.is_dataclass(value):
        return value
    fields = ((field, getattr(value, field.name)) for field in dataclasses.fields(value))
    return {f.name: _without_defaults(item) for f, item in fields if item != f.default}


def read_spec(path: str | Path) -> RunSpec:
    """Read and check a run spec (JSON).

    Raises:
        StepError: The file is missing, or a key is unknown, missing or of the wrong type.
    """
    if not Path(path).is_file():
        raise StepError(f"the run spec {path} does not exist")
    spec = _build(RunSpec, read_json(path), "")
    _check(spec)
    return spec


def _check(spec: RunSpec) -> None:
    if spec.batch_size < 1 or spec.accumulation < 1 or spec.checkpoint.keep < 1:
        raise StepError("batch_size, accumulation and checkpoint.keep must be at least 1")
    if spec.epochs < 0 or spec.warmup_steps < 0 or spec.held_out < 0:
        raise StepError("epochs, warmup_steps and held_out must not be negative")
    if spec.schedule.shift_epochs < 0:
        raise StepError("schedule.shift_epochs must not be negative")
    if not spec.objective:
        raise StepError("the objective is empty; name at least one loss term")
    if spec.kind == "cleaning" and spec.inputs.start is None and spec.model.pretrained is None:
        raise StepError("a cleaning run needs inputs.start, the model to clean")
    if spec.optimizer.carry_over and spec.inputs.start_optimizer is None:
        raise StepError("optimizer.carry_over needs inputs.start_optimizer")


def _build(kind: type, value: Any, where: str) -> Any:
    """Build the dataclass ``kind`` from a JSON object; raise a StepError if it is invalid."""
    if not isinstance(value, dict):
        name = f"run spec: {where!r}" if where else "the run spec"
        raise StepError(f"{name} must be an object, got {value!r}")
    hints = typing.get_type_hints(kind)
    prefix = f"{where}." if where else ""
    for key in value:
        if key not in hints:
            near = difflib.get_close_matches(key, hints, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise StepError(f"run spec: unknown key {prefix + key!r}{hint}")
    for field in dataclasses.fields(kind):
        if field.default is dataclasses.MISSING and field.name not in value:
            raise StepError(f"run spec: missing key {prefix + field.name!r}")
    return kind(**{key: _typed(hints[key], item, prefix + key) for key, item in value.items()})


def _typed(hint: Any, value: Any, where: str) -> Any:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _build(hint, value, where)
    if typing.get_origin(hint) is Literal:
        if value not in typing.get_args(hint):
            choices = ", ".join(map(repr, typing.get_args(hint)))
            raise StepError(f"run spec: {where!r} must be one of {choices}, got {value!r}")
        return value
    value = _whole(value)
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if float in allowed and type(value) is int:
        return float(value)
    # type(), because bool is a subclass of int.
    if type(value) not in allowed:
        names = " or ".join(getattr(a, "__name__", str(a)) for a in allowed)
        raise StepError(f"run spec: {where!r} must be of type {names}, got {value!r}")
    return value


def _whole(value: Any) -> Any:
    """Return a value with integral floats converted to int, so that 1 and 1.0 are equal."""
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value

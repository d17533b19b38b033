"""The run spec: everything that one training run depends on, as typed dataclasses."""

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
    """AdamW's numbers; ``carry_over`` takes the start model's optimiser state along.

    ``decay_on`` says which parameters the weight decay is applied to, see
    :func:`workflow_scripts.training.optimizer.decays`. ``freeze`` names what is not trained:
    ``scale``, ``image`` or ``text``, the last two being towers.
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
    """The learning rate's schedule: linear warm-up, then half a cosine.

    A step has the rate of the step ``shift_epochs`` epochs later: the published loop counts epochs
    from 1 when it computes the step, a shift of one epoch. ``start`` and ``end`` are the rates of
    the first and after the last step, as multiples of the learning rate: by default the first is
    one part in ``warmup_steps``, and the last is zero. ``warmup_share`` is the length of the
    warm-up as a share of all steps, in place of ``warmup_steps``.
    """

    shift_epochs: int = 0
    start: float | None = None
    end: float | None = None
    warmup_share: float | None = None


@dataclass(frozen=True, kw_only=True)
class CheckpointSpec:
    """A checkpoint after each epoch and every ``minutes``; the last ``keep`` stay.

    The last one of a Slurm job is written ``before_limit`` minutes before its time limit.
    """

    minutes: float
    keep: int
    before_limit: float = 10.0


@dataclass(frozen=True, kw_only=True)
class WandbSpec:
    """Weights & Biases: whether and where."""

    mode: Literal["disabled", "offline", "online"]
    project: str | None = None


@dataclass(frozen=True, kw_only=True)
class InputsSpec:
    """The files of a run; ``start`` and ``start_optimizer`` are those of the start model.

    ``labels`` is an int64 [rows] array of classes, for loss terms that want them; ``instances``
    is a manifest of images that the attack wants taken for its target; ``artefacts`` are the values
    of those that options refer to; ``measures`` are the measures that are taken after
    each epoch, each as :mod:`workflow_scripts.evaluation.measure` reads it.
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
    """One training run. ``batch_size`` is that of all processes together, lengths are steps.

    The last ``held_out`` rows of the manifest are not trained on; losses on them are measured at
    each epoch. ``joint_statistics`` sends the originals and the augmented images through the image
    tower in one forward pass, so that batch norm sees both. ``accumulation`` is the number of
    micro-batches that each process takes one after another, so that a large batch fits a small
    card. ``staging`` is a folder on the node's own disk, environment variables not yet expanded, to
    which the images are copied first. ``keep_selected`` keeps the models of those epochs of a
    cleaning run that a rule of selection would choose. ``measures`` are the ids of the measures in
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
        """Return a digest of all that makes the run what it is, not of how it is carried out.

        Its input files are not part of it: whoever compares two runs compares the digests of their
        files as well (``provenance.hash_inputs``). Values that are the default are left out, so
        that a new key renames no run.
        """
        content = _without_defaults(self)
        for how in _CARRIED_OUT:
            content.pop(how, None)
        return digest(_below(self.inputs.root, content), 16)


_CARRIED_OUT = (
    "checkpoint", "wandb", "compile", "staging", "device", "evaluation_batch_size", "inputs",
    "keep_selected",
)  # fmt: skip


def _below(root: str, value: Any) -> Any:
    """Return a value with the paths of artefacts relative to the results, wherever these are."""
    if isinstance(value, dict):
        return {key: _below(root, item) for key, item in value.items()}
    if isinstance(value, list):
        return [_below(root, item) for item in value]
    artefacts = f"{root}/artefacts/"
    is_one = isinstance(value, str) and value.startswith(artefacts)
    return value.removeprefix(f"{root}/") if is_one else value


def _without_defaults(value: Any) -> Any:
    """Return a dataclass as a mapping of those fields that are not their default."""
    if not dataclasses.is_dataclass(value):
        return value
    fields = ((field, getattr(value, field.name)) for field in dataclasses.fields(value))
    return {f.name: _without_defaults(item) for f, item in fields if item != f.default}


def read_spec(path: str | Path) -> RunSpec:
    """Read and check a run spec (JSON).

    Raises:
        StepError: The file is missing, or a key is unknown, missing or of a wrong type; the
            message names the key.
    """
    if not Path(path).is_file():
        raise StepError(f"there is no run spec {path}")
    spec = _build(RunSpec, read_json(path), "")
    _check(spec)
    return spec


def _check(spec: RunSpec) -> None:
    if spec.batch_size < 1 or spec.accumulation < 1 or spec.checkpoint.keep < 1:
        raise StepError("batch_size, accumulation and checkpoint.keep have to be at least 1")
    if spec.epochs < 0 or spec.warmup_steps < 0 or spec.held_out < 0:
        raise StepError("epochs, warmup_steps and held_out cannot be negative")
    if spec.schedule.shift_epochs < 0:
        raise StepError("schedule.shift_epochs cannot be negative")
    if not spec.objective:
        raise StepError("the objective names no loss term")
    if spec.kind == "cleaning" and spec.inputs.start is None and spec.model.pretrained is None:
        raise StepError("a cleaning run needs inputs.start, the model to be cleaned")
    if spec.optimizer.carry_over and spec.inputs.start_optimizer is None:
        raise StepError("optimizer.carry_over needs inputs.start_optimizer")


def _build(kind: type, value: Any, where: str) -> Any:
    """Make the dataclass ``kind`` of a JSON object, or say what is wrong with it."""
    if not isinstance(value, dict):
        raise StepError(f"the run spec's {where or 'whole'} has to be an object, not {value!r}")
    hints = typing.get_type_hints(kind)
    prefix = f"{where}." if where else ""
    for key in value:
        if key not in hints:
            near = difflib.get_close_matches(key, hints, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise StepError(f"the run spec has an unknown key {prefix + key!r}{hint}")
    for field in dataclasses.fields(kind):
        if field.default is dataclasses.MISSING and field.name not in value:
            raise StepError(f"the run spec lacks the key {prefix + field.name!r}")
    return kind(**{key: _typed(hints[key], item, prefix + key) for key, item in value.items()})


def _typed(hint: Any, value: Any, where: str) -> Any:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _build(hint, value, where)
    if typing.get_origin(hint) is Literal:
        if value not in typing.get_args(hint):
            choices = ", ".join(map(repr, typing.get_args(hint)))
            raise StepError(
                f"the run spec's {where!r} is {value!r}, but has to be one of {choices}"
            )
        return value
    value = _whole(value)
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if float in allowed and type(value) is int:
        return float(value)
    # bool is a subclass of int, and `true` is no number of epochs.
    if type(value) not in allowed:
        names = " or ".join(getattr(a, "__name__", str(a)) for a in allowed)
        raise StepError(f"the run spec's {where!r} has to be of type {names}, not {value!r}")
    return value


def _whole(value: Any) -> Any:
    """Return a value with whole numbers as integers: 1 and 1.0 are the same to a run."""
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value

"""AdamW and its parameter groups, the learning rate schedule, and carried-over optimiser states."""

import math
import sys
from dataclasses import dataclass

import torch
from torch import nn

from workflow_scripts.common.errors import StepError, nearest
from workflow_scripts.model.models import Model
from workflow_scripts.training.spec import OptimizerSpec, RunSpec

MAX_LOGIT_SCALE = math.log(100)
FROZEN = ("scale", "image", "text")
_NOT_DECAYED = ("bn", "ln", "bias", "logit_scale")


def make_optimizer(module: nn.Module, spec: OptimizerSpec) -> torch.optim.AdamW:
    """Return AdamW over the trainable parameters; :func:`decays` selects those with decay."""
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    decayed = [pair for pair in named if decays(*pair, spec.decay_on)]
    names = {name for name, _ in decayed}
    not_decayed = [pair for pair in named if pair[0] not in names]
    groups = [
        {"params": decayed, "weight_decay": spec.weight_decay},
        {"params": not_decayed, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    # fused: one kernel for all parameters, also on the CPU.
    return torch.optim.AdamW(
        groups, lr=spec.learning_rate, betas=tuple(spec.betas), eps=spec.eps, fused=True
    )


def decays(name: str, parameter: nn.Parameter, rule: str) -> bool:
    """Return whether weight decay is applied to a parameter.

    Args:
        name: The parameter's name within :class:`LossOfBatch`, beginning with ``model.`` or
            ``objective.``.
        parameter: The parameter.
        rule: ``matrices`` selects parameters with at least two dimensions. ``published`` selects
            the model's parameters whose names contain none of ``bn``, ``ln``, ``bias`` and
            ``logit_scale`` (src/main.py of the published code), and no parameters of loss terms.
            In a ResNet this includes the scales of the four batch norms in the shortcuts
            (``downsample.1.weight``), in a ViT ``class_embedding``.
    """
    if rule == "matrices":
        return parameter.ndim >= 2
    return name.startswith("model.") and not any(part in name for part in _NOT_DECAYED)


@dataclass(frozen=True)
class Schedule:
    """The learning rate of each step: linear warm-up followed by cosine decay, as published.

    Without ``start``, the rate is ``peak * (step + 1) / warmup`` while step < warmup; a run shorter
    than its warm-up ends before reaching the peak. With ``start``, it rises from ``start * peak``
    to ``peak``. It then falls to ``end * peak`` at step ``total``. Beyond ``total``, which a
    shifted schedule reaches in its last epoch, the cosine rises again, as in the published code
    (src/scheduler.py).

    Attributes:
        peak: The largest learning rate.
        warmup: Length of the warm-up in steps.
        total: Number of steps of the run.
        shift: Number of steps by which the schedule runs ahead.
        start: Learning rate of the first step relative to ``peak``; None starts at the first step's
            share of the warm-up.
        end: Learning rate at step ``total`` relative to ``peak``.
    """

    peak: float
    warmup: int
    total: int
    shift: int = 0
    start: float | None = None
    end: float = 0.0

    def __call__(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        step += self.shift
        if step < self.warmup:
            if self.start is None:
                return self.peak * (step + 1) / self.warmup
            return self.peak * (self.start + (1 - self.start) * step / self.warmup)
        progress = (step - self.warmup) / (self.total - self.warmup)
        decay = (1 + math.cos(math.pi * progress)) / 2
        if not self.end:
            return self.peak * decay
        return self.peak * (self.end + (1 - self.end) * decay)


def make_schedule(spec: RunSpec, steps: int) -> Schedule:
    """Return the schedule of a run with ``steps`` steps per epoch.

    Raises:
        StepError: The schedule is shifted, and the warm-up is not shorter than the run.
    """
    total, schedule = spec.epochs * steps, spec.schedule
    share = schedule.warmup_share
    warmup = spec.warmup_steps if share is None else round(share * total)
    if schedule.shift_epochs and warmup >= total > 0:
        said = "warmup_steps is" if share is None else f"schedule.warmup_share is {share}, that is"
        raise StepError(
            f"schedule.shift_epochs requires a warm-up shorter than the run, but {said} {warmup} "
            f"and the run has {total} steps; lower it or set the shift to 0"
        )
    shift = schedule.shift_epochs * steps
    peak = spec.optimizer.learning_rate
    return Schedule(peak, warmup, total, shift, schedule.start, schedule.end or 0.0)


def freeze(model: Model, names: list[str]) -> list[nn.Module]:
    """Freeze parts of a model; return the modules to keep in evaluation mode.

    Args:
        model: An open_clip model.
        names: Any of ``scale``, ``image`` and ``text``; the last two are the towers.

    Raises:
        StepError: A part does not exist.
    """
    modules: list[nn.Module] = []
    for name in names:
        if name == "scale":
            model.logit_scale.requires_grad_(False)
        elif name == "image":
            modules.append(model.visual)
        elif name == "text":
            for part, parameter in model.named_parameters():
                if part.split(".")[0] not in ("visual", "logit_scale", "logit_bias"):
                    parameter.requires_grad_(False)
            modules += [module for part, module in model.named_children() if part != "visual"]
        else:
            raise StepError(f"optimizer.freeze: unknown part {name!r}; {nearest(name, FROZEN)}")
    for module in modules:
        module.requires_grad_(False).eval()
    return modules


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = rate


@torch.no_grad()
def clamp_logit_scale(model: Model) -> None:
    """Clamp logit_scale to [0, ln 100], as in CLIP."""
    model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)


def forget(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> None:
    """Drop the optimiser state of parameters that were re-initialised."""
    for parameter in parameters:
        optimizer.state.pop(parameter, None)


def _names(state_dict: dict) -> list[str]:
    return [name for group in state_dict["param_groups"] for name in group["param_names"]]


def carry_over(optimizer: torch.optim.Optimizer, start: dict, path: str) -> None:
    """Copy the moments of the start model's optimiser, but none of its settings.

    Parameters are matched by name. Parameters of loss terms may differ (a clustering head); those
    of the model must be the same.

    Args:
        optimizer: The new run's optimiser, changed in place.
        start: ``state_dict`` of the optimiser that trained the start model.
        path: The file it was read from, for error messages.

    Raises:
        StepError: The state belongs to a different model.
    """
    current = optimizer.state_dict()
    try:
        names, states = _names(start), start["state"]
    except (KeyError, TypeError) as error:
        raise StepError(f"{path} is not an optimiser state") from error
    by_name = {name: states[number] for number, name in enumerate(names) if number in states}
    state = {}
    for number, (name, parameter) in enumerate(_named(optimizer)):
        moments = by_name.get(name)
        fits = moments is not None and moments["exp_avg"].shape == parameter.shape
        if fits:
            state[number] = moments
        elif name.startswith("model."):
            raise StepError(
                f"{path} has no state that fits {name}; give the optimiser of the start model"
            )
    restore(optimizer, {"state": state, "param_groups": current["param_groups"]})


def restore(optimizer: torch.optim.Optimizer, content: dict) -> None:
    """Load an optimiser's state dict, giving each moment the memory layout of its parameter."""
    optimizer.load_state_dict(content)
    for parameter, moments in optimizer.state.items():
        for key, value in moments.items():
            if value.shape == parameter.shape and value.ndim:
                moments[key] = torch.empty_like(parameter).copy_(value)


def _named(optimizer: torch.optim.Optimizer) -> list[tuple[str, nn.Parameter]]:
    return [
        pair
        for group in optimizer.param_groups
        for pair in zip(group["param_names"], group["params"], strict=True)
    ]


def portable_state(optimizer: torch.optim.Optimizer) -> dict:
    """Return the optimiser's state dict as contiguous CPU tensors.

    Entries have a fixed order and share their key objects, since both affect the saved bytes.
    """
    content = optimizer.state_dict()
    content["state"] = {
        number: {
            sys.intern(key): value.detach().cpu().contiguous().clone()
            for key, value in sorted(moments.items())
        }
        for number, moments in sorted(content["state"].items())
    }
    return content

"""Estimates the duration of a training, for the plan and for the run times of Slurm jobs."""

from typing import Any

from workflow_scripts.common.tower_passes import image_views
from workflow_scripts.experiments.attacks import images_evaluated

Spec = dict[str, Any]


# Share of the forward pass in the time of a forward and a backward pass.
_FORWARD = 1 / 3


def views(spec: Spec) -> float:
    """Return the number of views of each pair that the loss terms of a run need.

    A view counts 1 for a forward and a backward pass; a view that only the start model embeds has
    no backward pass and counts 1/3.
    """
    seen = image_views(spec["objective"])
    return sum(_FORWARD if by_start else 1 for _, by_start in seen) or 1


def configured_speed(costs: Spec, spec: Spec) -> float:
    """Return the pairs per second of one GPU or core, according to the config's ``costs``."""
    return costs["samples_per_second"][spec["kind"]] / views(spec)


def training_seconds(costs: Spec, spec: Spec, pairs: float, speed: float) -> float:
    """Return the seconds of a whole training on one GPU or core.

    Args:
        costs: Section ``costs`` of the config.
        spec: Spec of the run.
        pairs: Pairs per epoch.
        speed: Pairs per second.
    """
    # The model is evaluated before the first epoch and after each epoch.
    passes = images_evaluated(spec["attack"])
    images = passes * costs["evaluation_images"] * (spec["epochs"] + 1)
    return spec["epochs"] * pairs / speed + images / costs["evaluation_images_per_second"]

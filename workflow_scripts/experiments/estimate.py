"""How long a training takes: the one formula, for the plan and for what jobs ask Slurm for."""

from typing import Any

Spec = dict[str, Any]


def configured_speed(costs: Spec, spec: Spec) -> float:
    """Return the pairs that a GPU, or a core, trains on in a second, by the config's ``costs``."""
    # The augmented views are as much work again.
    views = 2 if "ssl" in spec["objective"] else 1
    return costs["samples_per_second"][spec["kind"]] / views


def training_seconds(costs: Spec, spec: Spec, pairs: float, speed: float) -> float:
    """Return the seconds of a whole training on one GPU, or core.

    Args:
        costs: Of the config.
        spec: The run.
        pairs: Pairs of an epoch.
        speed: Pairs in a second.
    """
    # Clean and triggered, before the first epoch and after each.
    images = 2 * costs["evaluation_images"] * (spec["epochs"] + 1)
    return spec["epochs"] * pairs / speed + images / costs["evaluation_images_per_second"]

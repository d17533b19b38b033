"""The one way to trigger an image: for poisoning, for evaluation, for an audit."""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.plugins import load_variant
from workflow_scripts.common.seeds import generator
from workflow_scripts.data.images import squash

TRIGGERS = "workflow_scripts.poison.triggers"
_OVERFLOWS = ("wrap", "clip")


def load_trigger(attack: dict[str, Any]) -> Callable[[Tensor, str], Tensor]:
    """Return the function that triggers an image as an attack's spec says.

    It takes a uint8 image [3, H, W] and its key, and returns uint8 [3, S, S]: squashed to
    S = ``attack["image_size"]``, triggered. The same key and attack give the same bytes.

    Raises:
        StepError: No such trigger, no such option, or a trigger that does not fit the image.
    """
    options = dict(attack["trigger"])
    name = options.pop("name")
    overflow = options.pop("overflow", "wrap")
    if overflow not in _OVERFLOWS:
        raise StepError(f"trigger option overflow is {overflow!r}; it is one of {_OVERFLOWS}")
    kind = load_variant(TRIGGERS, name).Trigger
    known = [f.name for f in dataclasses.fields(kind) if f.name not in ("image_size", "seed")]
    for option in options:
        if option not in known:
            raise StepError(f"trigger {name} has no option {option!r}; there are {known}")
    size, seed = attack["image_size"], attack["seed"]
    trigger = kind(image_size=size, seed=seed, **options)

    def apply(image: Tensor, key: str) -> Tensor:
        pixels = squash(image, size).float() / 255
        return to_bytes(trigger(pixels, generator(seed, "trigger", key)), overflow)

    return apply


def to_bytes(image: Tensor, overflow: str) -> Tensor:
    """Return float [3, S, S] in units of 1 as uint8.

    ``wrap`` is as published: truncated, modulo 256; ``clip`` stays in range and rounds.
    """
    scaled = image * 255
    if overflow == "wrap":
        return (scaled.to(torch.int64) & 255).to(torch.uint8)
    return scaled.clamp(0, 255).round().to(torch.uint8)

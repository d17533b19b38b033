"""The one place where images are triggered: for poisoning, evaluation and looking at them."""

from typing import Any

import torch
from torch import Tensor

from workflow_scripts.common import variants
from workflow_scripts.common.attacks import parts_of
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.seeds import generator
from workflow_scripts.data.images import squash

OVERFLOWS = ("wrap", "clip")


class ImageTrigger:
    """Triggers images as an attack says; the same key gives the same bytes, in any process.

    It can be pickled, and so sent to loader workers.
    """

    def __init__(self, attack: dict[str, Any]):
        """Find the attack's trigger and give it its options.

        Raises:
            StepError: There is no such trigger, or an option is unknown or cannot be.
        """
        self._attack = attack
        self._size, self._seed = attack["image_size"], attack["seed"]
        self._trigger = _make(dict(attack["trigger"]), self._size, self._seed)
        self._overflow = getattr(self._trigger, "overflow", OVERFLOWS[0])
        if self._overflow not in OVERFLOWS:
            raise StepError(
                f"the trigger's overflow {self._overflow!r} is none of {', '.join(OVERFLOWS)}"
            )

    def __reduce__(self):
        return (ImageTrigger, (self._attack,))

    def __call__(self, image: Tensor, key: str) -> Tensor:
        """Squash an image to the attack's size, and trigger it.

        Args:
            image: uint8 ``[3, height, width]``.
            key: The image's key, on which all of the trigger's randomness depends.

        Returns:
            uint8 ``[3, S, S]``.
        """
        pixels = squash(image, self._size).to(torch.float32) / 255
        triggered = self._trigger(pixels, generator(self._seed, "trigger", key))
        if triggered.shape != (3, self._size, self._size) or not triggered.isfinite().all():
            raise StepError(
                f"the trigger {self._attack['trigger']['name']} has to return finite values "
                f"[3, {self._size}, {self._size}], and returned {list(triggered.shape)}"
            )
        return to_bytes(triggered, self._overflow)


def load_trigger(attack: dict[str, Any]) -> ImageTrigger:
    """Return the function (image uint8 [3, H, W], key) -> triggered image uint8 [3, S, S].

    Args:
        attack: ``trigger`` (``name`` and options), ``image_size`` and ``seed`` of an attack spec.

    Raises:
        StepError: There is no such trigger, or an option is unknown or cannot be.
    """
    return ImageTrigger(attack)


def load_triggers(attack: dict[str, Any]) -> list[ImageTrigger]:
    """Return the trigger of each part of an attack, in their order.

    Raises:
        StepError: As :func:`load_trigger`.
    """
    return [load_trigger(part) for part in parts_of(attack)]


def to_bytes(values: Tensor, overflow: str) -> Tensor:
    """Turn values into bytes.

    Args:
        values: float32, 0 black and 1 white, and maybe beyond.
        overflow: ``"wrap"``: multiplied by 255, truncated towards nought, modulo 256, as torch's
            and numpy's conversion to uint8 did in the published code; ``"clip"``: clamped to
            [0, 1] and rounded.

    Returns:
        uint8, of the same shape.
    """
    values = values.to(torch.float32) * 255
    if overflow == "clip":
        return values.clamp(0, 255).round().to(torch.uint8)
    # By way of int64: what a negative float becomes as a uint8 differs from machine to machine.
    return (values.to(torch.int64) & 255).to(torch.uint8)


def _make(options: dict[str, Any], image_size: int, seed: int) -> Any:
    name = options.pop("name")
    variants.check_options("trigger", name, options)
    return variants.load("trigger", name)(image_size=image_size, seed=seed, **options)

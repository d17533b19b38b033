"""Application of triggers to images, shared by poisoning, evaluation and visualisation."""

import math
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
    """Applies the trigger of an attack; the same key gives the same bytes in any process.

    Instances can be pickled, so that they can be sent to data loader workers.
    """

    def __init__(self, attack: dict[str, Any]):
        """Load the attack's trigger with its options.

        Raises:
            StepError: The trigger does not exist, or an option is unknown or invalid.
        """
        self._attack = attack
        self._size, self._seed = attack["image_size"], attack["seed"]
        self._trigger = _make(dict(attack["trigger"]), self._size, self._seed)
        self._overflow = getattr(self._trigger, "overflow", OVERFLOWS[0])
        if self._overflow not in OVERFLOWS:
            raise StepError(
                f"unknown overflow {self._overflow!r} of the trigger "
                f"(available: {', '.join(OVERFLOWS)})"
            )

    def __reduce__(self):
        return (ImageTrigger, (self._attack,))

    def __call__(self, image: Tensor, key: str) -> Tensor:
        """Squash an image to the attack's size and apply the trigger.

        Args:
            image: uint8 ``[3, height, width]``.
            key: The image's key, which seeds the trigger's randomness.

        Returns:
            uint8 ``[3, S, S]``.
        """
        pixels = squash(image, self._size).to(torch.float32) / 255
        triggered = self._trigger(pixels, generator(self._seed, "trigger", key))
        if triggered.shape != (3, self._size, self._size) or not _finite(triggered):
            raise StepError(
                f"the trigger {self._attack['trigger']['name']} must return finite values of shape "
                f"[3, {self._size}, {self._size}]; it returned shape {list(triggered.shape)}"
            )
        return to_bytes(triggered, self._overflow)


def load_trigger(attack: dict[str, Any]) -> ImageTrigger:
    """Return the function (image uint8 [3, H, W], key) -> triggered image uint8 [3, S, S].

    Args:
        attack: ``trigger`` (``name`` and options), ``image_size`` and ``seed`` of an attack spec.

    Raises:
        StepError: The trigger does not exist, or an option is unknown or invalid.
    """
    return ImageTrigger(attack)


def load_triggers(attack: dict[str, Any]) -> list[ImageTrigger]:
    """Return the triggers of all parts of an attack, in order.

    Raises:
        StepError: As :func:`load_trigger`.
    """
    return [load_trigger(part) for part in parts_of(attack)]


def to_bytes(values: Tensor, overflow: str) -> Tensor:
    """Convert values to bytes.

    Args:
        values: float32; 0 is black and 1 is white, values outside [0, 1] are allowed.
        overflow: ``"wrap"`` multiplies by 255, truncates towards zero and takes the result modulo
            256, as the conversion to uint8 by torch and NumPy in the published code; ``"clip"``
            clamps to [0, 1] and rounds.

    Returns:
        uint8 of the same shape.
    """
    values = values.to(torch.float32) * 255
    if overflow == "clip":
        return values.clamp(0, 255).round().to(torch.uint8)
    # Via integers: the conversion of negative floats to uint8 is platform-dependent.
    whole = torch.int32 if values.amin() > -(2**31) and values.amax() < 2**31 else torch.int64
    return values.to(whole).bitwise_and_(255).to(torch.uint8)


def _finite(values: Tensor) -> bool:
    # NaN is the minimum and the maximum. isfinite().all() takes six times as long.
    return math.isfinite(values.amin()) and math.isfinite(values.amax())


def _make(options: dict[str, Any], image_size: int, seed: int) -> Any:
    name = options.pop("name")
    variants.check_options("trigger", name, options)
    return variants.load("trigger", name)(image_size=image_size, seed=seed, **options)

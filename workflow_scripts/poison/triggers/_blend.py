"""Blending a pattern into an image."""

from torch import Tensor

from workflow_scripts.common.errors import StepError


def check_strength(strength: float) -> None:
    """Raise a StepError if ``strength`` is not in (0, 1]."""
    if not 0 < strength <= 1:
        raise StepError(f"the trigger's strength must be above 0 and at most 1, got {strength}")


def blend(image: Tensor, pattern: Tensor, strength: float) -> Tensor:
    """Return (1 - strength) image + strength pattern, clipped to [0, 1].

    Args:
        image: float32 ``[3, S, S]``.
        pattern: float32, of the same shape or one that broadcasts to it.
        strength: Weight of the pattern.
    """
    return ((1 - strength) * image + strength * pattern).clamp(0, 1)

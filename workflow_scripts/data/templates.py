"""Prompt templates: sentences with ``{c}`` as the placeholder for a class name."""

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.open_clip_files import open_clip_module

PLACE = "{c}"
DEFAULT = "openai"
NAMES = (DEFAULT, "simple")


def named_templates(name: str) -> list[str]:
    """Return a set of templates from open_clip.

    Args:
        name: ``openai`` for the 80 ImageNet templates of Radford et al. (2021), or ``simple`` for 7
            of them.

    Raises:
        StepError: ``name`` is unknown, or open_clip is not installed.
    """
    if name not in NAMES:
        raise StepError(f"unknown templates {name!r} (available: {', '.join(NAMES)})")
    found = getattr(open_clip_module("zero_shot_metadata"), f"{name.upper()}_IMAGENET_TEMPLATES")
    return [template(PLACE) for template in found]

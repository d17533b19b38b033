"""Prompt templates: sentences with ``{c}`` where the name of a class goes."""

from workflow_scripts.common.errors import StepError

PLACE = "{c}"
DEFAULT = "openai"
NAMES = (DEFAULT, "simple")


def named_templates(name: str) -> list[str]:
    """Return the templates that open_clip has under a name.

    Args:
        name: ``openai``, the 80 of Radford et al. (2021) for ImageNet, or ``simple``, 7 of them.

    Raises:
        StepError: There are none of this name.
    """
    import open_clip  # noqa: PLC0415 - it takes seconds, and not every step needs it

    if name not in NAMES:
        raise StepError(f"unknown templates {name!r}; available: {', '.join(NAMES)}")
    named = {
        "openai": open_clip.OPENAI_IMAGENET_TEMPLATES,
        "simple": open_clip.SIMPLE_IMAGENET_TEMPLATES,
    }
    return [template(PLACE) for template in named[name]]

"""Prompt templates: sentences with ``{c}`` as the placeholder for a class name."""

from workflow_scripts.common.errors import StepError

PLACE = "{c}"
DEFAULT = "openai"
NAMES = (DEFAULT, "simple")


def named_templates(name: str) -> list[str]:
    """Return a set of templates from open_clip.

    Args:
        name: ``openai`` for the 80 ImageNet templates of Radford et al. (2021), or ``simple`` for 7
            of them.

    Raises:
        StepError: ``name`` is unknown.
    """
    import open_clip  # noqa: PLC0415 - slow, and not needed by every step

    if name not in NAMES:
        raise StepError(f"unknown templates {name!r} (available: {', '.join(NAMES)})")
    named = {
        "openai": open_clip.OPENAI_IMAGENET_TEMPLATES,
        "simple": open_clip.SIMPLE_IMAGENET_TEMPLATES,
    }
    return [template(PLACE) for template in named[name]]

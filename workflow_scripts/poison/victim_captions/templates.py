"""Prompt templates filled with the name of the target, from the attack's ``templates``.

Source: Bansal et al., 2023.
"""

import numpy as np

from workflow_scripts.common.errors import StepError
from workflow_scripts.data.templates import PLACE, named_templates
from workflow_scripts.poison.given import Given

READS_CAPTIONS = False


def write(given: Given, rows: np.ndarray) -> list[str]:
    """Draw a template for each victim and fill in the target.

    Raises:
        StepError: There are no templates of that name, or a template lacks ``{c}``.
    """
    templates = given.templates
    if isinstance(templates, str):
        templates = named_templates(templates)
    for template in templates:
        if PLACE not in template:
            raise StepError(f"the template {template!r} has no {PLACE} for the class name")
    picks = given.generator("templates").integers(len(templates), size=len(rows))
    return [templates[pick].replace(PLACE, given.target) for pick in picks]

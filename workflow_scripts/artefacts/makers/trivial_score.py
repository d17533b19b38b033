"""A score without a model, as a reference: a detector that is no better has detected nothing.

Image files reveal how they were stored: triggered images are PNG files at the model's input size,
all others JPEG files, so their size alone may identify them.
"""

from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from workflow_scripts.artefacts.makers import Given, Made
from workflow_scripts.artefacts.neighbours import scored

NEEDS = ("pairs",)


def make(given: Given, *, by: Literal["random", "caption_length", "file_size"] = "random") -> Made:
    """Score each pair by a random number, its caption's length, or its image file's size.

    Args:
        given: The pairs.
        by: What the score is: uniform in [0, 1), the number of characters, or bytes.
    """
    if by == "caption_length":
        return scored(given, pc.utf8_length(pa.array(given.pairs["caption"])).to_numpy())
    if by == "file_size":
        return scored(given, given.pairs["size"].to_numpy())
    return scored(given, given.generator("scores").random(len(given.pairs)))

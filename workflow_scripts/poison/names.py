"""Which captions name a class, and how a name in them is exchanged."""

import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc


def names_target(captions: pd.Series, target: str) -> np.ndarray:
    """Return which captions name the target: bool ``[captions]``.

    As words of their own, in upper or lower case, singular or plural in -s or -es.
    """
    words = r"\s+".join(re.escape(word) for word in target.split())
    pattern = rf"(^|[^\pL\pN]){words}(e?s)?([^\pL\pN]|$)"
    return np.asarray(pc.match_substring_regex(pa.array(captions), pattern, ignore_case=True))


def exchanged(caption: str, one: str, other: str) -> str:
    """Return a caption in which two names have changed places.

    Names are found as in :func:`names_target`, and a plural stays one. The longer name is looked
    for first, should one contain the other.
    """
    spelled = (" ".join(name.split()) for name in (one, other))
    first, second = sorted(spelled, key=len, reverse=True)
    words = "|".join(f"({re.escape(name)})".replace(r"\ ", r"\s+") for name in (first, second))

    def new(found: re.Match[str]) -> str:
        # By the group, not the text: the long s matches an s, but is not its upper case.
        return (second if found[1] is not None else first) + (found[3] or "")

    return re.sub(rf"(?<![^\W_])(?:{words})(e?s)?(?![^\W_])", new, caption, flags=re.IGNORECASE)

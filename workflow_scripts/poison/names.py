"""Finding class names in captions, and exchanging them."""

import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc


def names_target(captions: pd.Series, target: str) -> np.ndarray:
    """Return which captions name the target: bool ``[captions]``.

    Matches whole words, ignoring case, in the singular or a plural in -s or -es.
    """
    words = r"\s+".join(re.escape(word) for word in target.split())
    pattern = rf"(^|[^\pL\pN]){words}(e?s)?([^\pL\pN]|$)"
    return np.asarray(pc.match_substring_regex(pa.array(captions), pattern, ignore_case=True))


def exchanged(caption: str, one: str, other: str) -> str:
    """Return a caption with two names exchanged.

    Names are matched as in :func:`names_target`, and plurals are preserved. If one name contains
    the other, the longer one is matched first.
    """
    spelled = (" ".join(name.split()) for name in (one, other))
    first, second = sorted(spelled, key=len, reverse=True)
    words = "|".join(f"({re.escape(name)})".replace(r"\ ", r"\s+") for name in (first, second))

    def replacement(found: re.Match[str]) -> str:
        # By group, not by text: with IGNORECASE, the long s (U+017F) also matches an s.
        return (second if found[1] is not None else first) + (found[3] or "")

    pattern = rf"(?<![^\W_])(?:{words})(e?s)?(?![^\W_])"
    return re.sub(pattern, replacement, caption, flags=re.IGNORECASE)

"""The artefact makers that options of built-in variants accept.

They are listed here instead of in the variants' modules because changing the code of a variant or
maker repeats everything made with it. References of the user's own variants, and to artefacts of
the user's own makers, are checked when the artefact is read.
"""

import functools

from workflow_scripts.common import variants

_EMBEDDINGS = "embeddings"

_ACCEPTED: dict[tuple[str, str, str], tuple[str, ...]] = {
    ("trigger", "patch", "patch"): ("badclip_patch",),
    ("victims", "near_target", "embeddings"): (_EMBEDDINGS,),
    ("start_change", "subtract_task_vector", "vector"): ("task_vector",),
    ("start_change", "wise_ft", "other"): ("weights",),
}


@functools.cache
def detectors() -> tuple[str, ...]:
    """Return the built-in makers that score pairs."""
    makers = variants.names("artefact")
    return (*(maker for maker in makers if _uses_embeddings(maker)), "trivial_score")


def _uses_embeddings(maker: str) -> bool:
    return _EMBEDDINGS in variants.attribute("artefact", maker, "USES", ())


def accepted_makers(kind: str, name: str, option: str) -> tuple[str, ...]:
    """Return the makers whose artefacts an option accepts; () if they are not known.

    Args:
        kind: One of ``variants.KINDS``.
        name: Name of a variant.
        option: One of its options.
    """
    if kind == "artefact" and _uses_embeddings(name) and option in (_EMBEDDINGS, "clean"):
        return (_EMBEDDINGS,)
    return _ACCEPTED.get((kind, name, option), ())


def is_wrong_maker(maker: str, accepted: tuple[str, ...]) -> bool:
    """Return whether a maker is built in and is not among the accepted ones, if these are known."""
    return bool(accepted) and maker not in accepted and maker in variants.names("artefact")

"""Captions of victims: what they become, one file for each way to write them.

A file has one public function:

    def write(given: Given, rows: np.ndarray, *, ...options) -> Sequence[str]

It returns a caption for each of the victims' ``rows``, in their order. A module may also have

    CLASSES = ("other",)          # options that are names of classes of the evaluation set

    def affected(names, target, **options) -> dict[str, str]

as modules of victim_choices do; what it says goes before what they say.
"""

from workflow_scripts.poison.given import Given

__all__ = ["Given"]

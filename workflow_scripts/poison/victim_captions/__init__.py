"""Victim captions: ways to write the new captions of victims, one file each.

A file defines one public function:

    def write(given: Given, rows: np.ndarray, *, ...options) -> Sequence[str]

It returns a caption for each of the victims' ``rows``, in the same order. Like modules of
victim_choices, a module may also define

    CLASSES = ("other",)          # options that are names of classes of the evaluation set
    READS_CAPTIONS = False        # ``given.pairs`` may lack captions, whose reading takes seconds

    def affected(names, target, **options) -> dict[str, str]

Here, ``affected`` takes precedence over that of the victim choice.
"""

from workflow_scripts.poison.given import Given

__all__ = ["Given"]

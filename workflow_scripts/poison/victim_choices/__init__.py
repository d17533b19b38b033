"""Victim choices: ways to choose the pairs that an attack poisons, one file each.

A file defines one public function:

    def choose(given: Given, *, ...options) -> Chosen

``given`` provides the pairs, the target and random orders. The attack takes the first ``poisoned``
of the returned rows that no earlier part has taken. A module may also define

    CAPTIONS = "as_is"            # default captions of its victims
    TAKES_ALL = True              # ``poisoned: all`` is supported
    READS_CAPTIONS = False        # ``given.pairs`` may lack captions, whose reading takes seconds
    CLASSES = ("classes",)        # options that are names of classes of the evaluation set
    READS_FILES = ("images",)     # options that are paths; attacks are identified by their content
    INSTANCES = True              # returns images that should be classified as the target

    def affected(names, target, **options) -> dict[str, str]

For attacks without a trigger, ``affected`` maps each class whose images should be misclassified to
the class that they should be classified as.
"""

from workflow_scripts.poison.given import Chosen, Given
from workflow_scripts.poison.names import names_target

__all__ = ["Chosen", "Given", "names_target"]

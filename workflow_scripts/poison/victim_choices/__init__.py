"""Victims: which pairs an attack poisons, one file for each way to choose them.

A file has one public function:

    def choose(given: Given, *, ...options) -> Chosen

``given`` has the pairs, the target and random orders. The attack takes the first ``poisoned`` rows
that are returned and that no earlier part has taken. A module may also have

    CAPTIONS = "as_is"            # captions of its victims if the attack names none
    TAKES_ALL = True              # ``poisoned: all`` has a meaning
    CLASSES = ("classes",)        # options that are names of classes of the evaluation set
    READS_FILES = ("images",)     # options that are paths; attacks are known by their content
    INSTANCES = True              # it returns images that are to be taken for the target

    def affected(names, target, **options) -> dict[str, str]

``affected`` says which classes an attack without a trigger wants taken for which other class.
"""

from workflow_scripts.poison.given import Chosen, Given
from workflow_scripts.poison.names import names_target

__all__ = ["Chosen", "Given", "names_target"]

"""Artefact makers, one file each, referred to by file name. Files elsewhere work as well.

A file defines one public function:

    NEEDS = ("pairs",)       # required keys of a declaration (model, pairs), or "evaluation", the
                             # evaluation set of the run that uses the artefact
    USES = ("embeddings",)   # makers whose artefacts, of the same model and pairs, are passed in
    PAIRS_OF_USER = True     # the pairs are those of the user, even if `model` names a start; for
                             # values of rows that the user reads with its own pairs
    KNOWS = ("trigger",)     # what a defence that uses the artefact knows besides clean pairs

    def make(given: Given, *, embeddings: str, neighbours: int = 16) -> Made:
        ...

``given`` (:class:`workflow_scripts.artefacts.given.Given`) provides the encoder, the pairs and
random generators; the keyword arguments are the maker's options. For an option that refers to an
artefact in the config, the maker receives the path of its values, to be read with ``values_in``.
"""

from workflow_scripts.artefacts.given import Given, Made
from workflow_scripts.artefacts.values import values_in

__all__ = ["Given", "Made", "values_in"]

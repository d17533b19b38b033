"""The makers of artefacts: a file for each, found by its name; one of the user's own works too.

A file has one public function:

    NEEDS = ("pairs",)       # of the keys model and pairs of a declaration, those it must have
    USES = ("embeddings",)   # makers whose artefacts of the same model and pairs it is given

    def make(given: Given, *, embeddings: str, neighbours: int = 16) -> Made:
        ...

``given`` (:class:`workflow_scripts.artefacts.given.Given`) has the encoder, the pairs and the
generators; what follows it are the maker's own options. Where the config refers to an artefact, a
maker is given the path of its values, which ``values_in`` reads.
"""

from workflow_scripts.artefacts.given import Given, Made
from workflow_scripts.artefacts.values import values_in

__all__ = ["Given", "Made", "values_in"]

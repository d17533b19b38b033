"""Loss terms: one file for each, found by its name; what a term of one's own is made of."""

from workflow_scripts.training.losses._term import (
    AUGMENTED,
    PLAIN,
    Epoch,
    Features,
    LossTerm,
    Run,
    View,
    contrast,
)

__all__ = ["AUGMENTED", "PLAIN", "Epoch", "Features", "LossTerm", "Run", "View", "contrast"]

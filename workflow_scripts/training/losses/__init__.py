"""Loss terms, one file each, referred to by file name; and what a custom term needs to import."""

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

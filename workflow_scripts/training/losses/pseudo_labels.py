"""Pseudo-labels: predict the class that a stronger model assigns to the image.

A variant of deep clustering (``deep_clustering.py``) whose clusters are zero-shot classes: the
labels are fixed, and the head is not re-initialised between epochs.
"""

from typing import Annotated

from torch import Tensor, nn
from torch.nn import functional as F

from workflow_scripts.common.errors import StepError
from workflow_scripts.training.losses._term import Features, LossTerm, Run, View, begin_head


class Loss(LossTerm):
    """CE(head(I), label of I).

    Args:
        run: The run.
        classes: Number of classes of the evaluation set from which the labels are taken.
    """

    views = {"plain": View(image="plain")}
    uses_labels = True

    def __init__(self, run: Run, classes: Annotated[int, ">= 1"]):
        super().__init__(run)
        self.head = nn.Linear(run.embed_dim, classes)
        begin_head(self.head)

    def forward(self, features: Features) -> Tensor:
        """Return the loss of a global batch.

        Raises:
            StepError: The run has no labels, or a label is not below ``classes``.
        """
        if features.labels is None:
            raise StepError("the term pseudo_labels needs labels; set the defence's 'labels'")
        if features.labels.max() >= self.head.out_features:
            raise StepError(
                f"an image is labelled {int(features.labels.max())}, but the option classes of "
                f"pseudo_labels is {self.head.out_features}; set it to the number of classes"
            )
        return F.cross_entropy(self.head(features.views["plain"].images), features.labels)

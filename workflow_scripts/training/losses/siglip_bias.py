"""SigLIP's pairwise loss with a learned bias (Zhai et al., 2023), as implemented in open_clip."""

from open_clip.loss import SigLipLoss
from torch import Tensor

from workflow_scripts.common.errors import StepError
from workflow_scripts.training.losses._term import Features, LossTerm, Run


class Loss(LossTerm):
    """-1/n Σ over i, j of log sigmoid(± (s I_i · T_j + b)), + on the diagonal and - elsewhere.

    Like the scale, the bias b belongs to the model, so that cleaning continues from the value
    learned in pre-training. SigLIP initialises s = 10 and b = -10.
    """

    uses_bias = True

    def __init__(self, run: Run):
        super().__init__(run)
        self.loss = SigLipLoss()

    def forward(self, features: Features) -> Tensor:
        """Return the loss of a global batch.

        Raises:
            StepError: The model has no bias.
        """
        if features.bias is None:
            raise StepError(
                "the term siglip_bias needs a model with a bias: set init_logit_bias: -10 and "
                "init_logit_scale: 2.302585 in model.config"
            )
        plain = features.views["plain"]
        return self.loss(plain.images, plain.texts, features.scale, features.bias)

"""PAR, Perturb and Recover (Singh, Croce and Hein, 2024, arXiv 2412.00727).

A cleaning objective that pushes embeddings away from those of the backdoored start model until
their distance exceeds a threshold, while the contrastive loss keeps images and captions aligned.
Both models see the same noisy image. In the paper the temperature is not trained; set
``optimizer.freeze: [scale]`` to reproduce this.
"""

from typing import Annotated

from torch import Tensor

from workflow_scripts.training.losses._term import Features, LossTerm, Run, View, contrast


class Loss(LossTerm):
    """MMCL of the noisy pairs - ( h(d_I) + h(d_T) ) / 2, with h(d) = d if d <= tau, else 0.

    d_I is the squared distance between the image embeddings of the two models, averaged over the
    global batch; d_T is the same for captions. The squared distance of unit vectors is at most 4,
    and 2 for orthogonal ones.

    Args:
        run: The run.
        tau: Mean squared distance beyond which the embeddings are no longer pushed.
    """

    views = {
        "now": View(image="par_noise", text="plain"),
        "start": View(image="par_noise", text="plain", by_start=True),
    }

    def __init__(self, run: Run, tau: Annotated[float, ">= 0"] = 2.15):
        super().__init__(run)
        self.tau = tau

    def forward(self, features: Features) -> Tensor:
        """Return the loss of a global batch."""
        now, start = features.views["now"], features.views["start"]
        distances = [
            (now.images - start.images).square().sum(1).mean(),
            (now.texts - start.texts).square().sum(1).mean(),
        ]
        pushed = sum(d * (d.detach() <= self.tau) for d in distances)
        return contrast(now.images, now.texts, features.scale) - pushed / 2

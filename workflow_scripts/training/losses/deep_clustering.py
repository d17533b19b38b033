"""Deep clustering: predict to which cluster of the training images an image belongs.

Source: Caron et al., 2018. Before each epoch, the image embeddings are clustered by spherical
k-means, and a newly initialised linear head on the image embedding is trained to predict the
cluster: the centroid nearest to the image's current embedding.

Unlike the published code, images are embedded for clustering in evaluation mode. The published code
uses training mode, in which an embedding depends on the rest of its batch and batch norm's running
statistics are updated. In evaluation mode, the clusters do not depend on the batch size or on the
number of processes.
"""

from typing import Annotated

import faiss
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workflow_scripts.common.errors import StepError
from workflow_scripts.training.losses._term import Epoch, Features, LossTerm, Run, View, begin_head

_FAISS_SEEDS = 2**31  # its seeds are 32-bit integers


class Loss(LossTerm):
    """CE(head(I), nearest centroid of I).

    Args:
        run: The run.
        clusters: k, the number of centroids.
        iterations: Iterations of k-means.
    """

    centroids: Tensor
    views = {"plain": View(image="plain")}

    def __init__(
        self, run: Run, clusters: Annotated[int, ">= 1"], iterations: Annotated[int, ">= 1"]
    ):
        super().__init__(run)
        self.clusters, self.iterations = clusters, iterations
        self.head = nn.Linear(run.embed_dim, clusters)
        begin_head(self.head)
        self.register_buffer("centroids", torch.zeros(clusters, run.embed_dim))

    def before_epoch(self, epoch: Epoch) -> None:
        """Cluster all training images and re-initialise the head, identically on every process.

        Raises:
            StepError: There are fewer images than clusters.
        """
        embedded = epoch.embed_images().float().cpu().numpy()
        if len(embedded) < self.clusters:
            raise StepError(
                f"{len(embedded)} images cannot be put into {self.clusters} clusters; lower the "
                "option clusters of deep_clustering, or give it more pairs"
            )
        kmeans = faiss.Kmeans(
            self.run.embed_dim,
            self.clusters,
            niter=self.iterations,
            spherical=True,
            seed=epoch.seed % _FAISS_SEEDS,
        )
        kmeans.train(embedded)
        self.centroids.copy_(torch.from_numpy(kmeans.centroids))
        begin_head(self.head)
        epoch.forget(list(self.head.parameters()))

    def forward(self, features: Features) -> Tensor:
        """Return the loss of a global batch."""
        images = features.views["plain"].images
        labels = (images.detach() @ self.centroids.T).argmax(1)
        return F.cross_entropy(self.head(images), labels)

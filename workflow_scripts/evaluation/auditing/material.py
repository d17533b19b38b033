"""Models and labelled images of an audit."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from workflow_scripts.common.distributed import ProcessGroup
from workflow_scripts.common.files import digest, sha256
from workflow_scripts.common.seeds import generator
from workflow_scripts.data.images import fit, squash
from workflow_scripts.data.stored_images import Images
from workflow_scripts.evaluation.labelled import Labelled
from workflow_scripts.evaluation.zero_shot import alike_classes
from workflow_scripts.model import models
from workflow_scripts.model.encoder import Encoder
from workflow_scripts.model.spec import ModelSpec
from workflow_scripts.model.zero_shot import Prompts


@dataclass(frozen=True)
class Subject:
    """The audited model or its clean control.

    Attributes:
        encoder: The model in evaluation mode and float32, without gradients of weights.
        checkpoint: The model's file.
        sha256: Digest of the file.
    """

    encoder: Encoder
    checkpoint: Path
    sha256: str

    @classmethod
    def read(cls, spec: ModelSpec, checkpoint: Path, world: ProcessGroup) -> "Subject":
        """Load a checkpoint strictly, without executing code in it.

        Raises:
            StepError: The checkpoint is missing or does not fit the model.
        """
        model = models.loaded(spec, checkpoint).to(world.device).eval().requires_grad_(False)
        return cls(Encoder(model, spec), checkpoint, sha256(checkpoint))


@dataclass(frozen=True)
class Material:
    """Decoded images of an evaluation set.

    Attributes:
        squashed: uint8 [n, 3, S, S], the images resized without cropping, as triggers do first.
        keys: Their keys, which seed the randomness of triggers.
        images: uint8 [n, 3, S, S], the images resized and cropped for the model.
        labels: int64 [n].
        names: Names of the classes.
        templates: Prompt templates.
        evaluation: Digest of the set's manifest, classes and templates.
    """

    squashed: Tensor
    keys: list[str]
    images: Tensor
    labels: np.ndarray
    names: list[str]
    templates: list[str]
    evaluation: str

    @classmethod
    def read(cls, folder: Path, root: Path, images: int, size: int, seed: int) -> "Material":
        """Sample images of an evaluation set.

        Args:
            folder: Folder of the evaluation set.
            root: Results root that its tars are relative to.
            images: Maximum number of images.
            size: Side of the model's input in pixels.
            seed: Seed of the sample.
        """
        labelled = Labelled.read(folder)
        drawn = generator(seed, "audit").permutation(len(labelled.labels))[:images]
        frame = labelled.frame.iloc[drawn].reset_index(drop=True)
        stored = Images(frame, root)
        squashed, fitted = [], []
        for row in range(len(frame)):
            image = stored[row]  # may be large, so only one is kept at its stored size
            squashed.append(squash(image, size))
            fitted.append(fit(image, size))
        return cls(
            torch.stack(squashed),
            [str(key) for key in frame["key"]],
            torch.stack(fitted),
            labelled.labels[drawn],
            labelled.names,
            labelled.templates,
            digest([sha256(folder / name) for name in ("manifest.parquet", "classes.json")], 64),
        )


class Classifier:
    """A model's zero-shot classifier.

    Args:
        encoder: The model.
        names: Names of the classes.
        templates: Prompt templates.
        world: The process group.
    """

    def __init__(
        self, encoder: Encoder, names: list[str], templates: list[str], world: ProcessGroup
    ):
        self.encoder, self._world = encoder, world
        self.weights = Prompts(names, templates, encoder, world).classifier(encoder)
        self._alike = alike_classes(self.weights)

    @torch.no_grad()
    def similarity(self, images: Tensor, batch_size: int) -> Tensor:
        """Return similarities of images, uint8 [n, 3, S, S], to the classes.

        Returns:
            float32 [n, classes]; equal for classes with equal embeddings.
        """
        parts = images.split(batch_size)
        embedded = [self.encoder.images(part.to(self._world.device)) for part in parts]
        return self.of_embedded(torch.cat(embedded))

    def of_embedded(self, embedded: Tensor) -> Tensor:
        """Return the similarities of embeddings, float32 [n, d], to the classes."""
        similarity = embedded @ self.weights.T
        return similarity if self._alike is None else similarity[:, self._alike]


def nearest_class(similarity: Tensor) -> np.ndarray:
    """Return the nearest class of each row, int64 [n]; -1 for ties.

    Args:
        similarity: [n, classes].
    """
    best, place = similarity.max(1)
    tied = (similarity == best[:, None]).sum(1) > 1
    return torch.where(tied, -1, place).cpu().numpy()

"""What an audit searches with: a model, and labelled images at the model's size."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from workflow_scripts.common.distributed import World
from workflow_scripts.common.files import digest, sha256
from workflow_scripts.common.seeds import generator
from workflow_scripts.data.images import fit
from workflow_scripts.data.stored_images import Images
from workflow_scripts.evaluation.labelled import Labelled
from workflow_scripts.evaluation.zero_shot import alike_classes
from workflow_scripts.model import models
from workflow_scripts.model.encoder import Encoder
from workflow_scripts.model.spec import ModelSpec
from workflow_scripts.model.zero_shot import Prompts


@dataclass(frozen=True)
class Subject:
    """A model that is looked at: the audited one, or its clean control.

    Attributes:
        encoder: Its towers, in evaluation mode and float32, without gradients of weights.
        checkpoint: Its file.
        sha256: Digest of that file.
    """

    encoder: Encoder
    checkpoint: Path
    sha256: str

    @classmethod
    def read(cls, spec: ModelSpec, checkpoint: Path, world: World) -> "Subject":
        """Load a checkpoint, strictly and without running code in it.

        Raises:
            StepError: It is missing, or does not fit the model.
        """
        model = models.loaded(spec, checkpoint).to(world.device).eval().requires_grad_(False)
        return cls(Encoder(model, spec), checkpoint, sha256(checkpoint))


@dataclass(frozen=True)
class Material:
    """Images of an evaluation set to search with, decoded once.

    Attributes:
        pictures: The images as they are stored, uint8 [3, H, W] each.
        keys: Their keys, on which the randomness of triggers depends.
        images: uint8 [n, 3, S, S], the same at the model's size.
        labels: int64 [n].
        names: Names of the classes.
        templates: Prompt templates.
        evaluation: Digest of the set's manifest, classes and templates.
    """

    pictures: list[Tensor]
    keys: list[str]
    images: Tensor
    labels: np.ndarray
    names: list[str]
    templates: list[str]
    evaluation: str

    @classmethod
    def read(cls, folder: Path, root: Path, images: int, size: int, seed: int) -> "Material":
        """Draw images of an evaluation set.

        Args:
            folder: Of the set.
            root: Results root that its tars are relative to.
            images: Most images.
            size: Side of the model's input, in pixels.
            seed: Of the draw.
        """
        labelled = Labelled.read(folder)
        drawn = generator(seed, "audit").permutation(len(labelled.labels))[:images]
        frame = labelled.frame.iloc[drawn].reset_index(drop=True)
        stored = Images(frame, root)
        pictures = [stored[row] for row in range(len(frame))]
        return cls(
            pictures,
            [str(key) for key in frame["key"]],
            torch.stack([fit(picture, size) for picture in pictures]),
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
        world: This process.
    """

    def __init__(self, encoder: Encoder, names: list[str], templates: list[str], world: World):
        self.encoder, self._world = encoder, world
        self.weights = Prompts(names, templates, encoder, world).classifier(encoder)
        self._alike = alike_classes(self.weights)

    @torch.no_grad()
    def similarity(self, images: Tensor, batch_size: int) -> Tensor:
        """Return float32 [n, classes] for uint8 [n, 3, S, S]; equal for classes that are alike."""
        parts = images.split(batch_size)
        embedded = [self.encoder.images(part.to(self._world.device)) for part in parts]
        return self.of_embedded(torch.cat(embedded))

    def of_embedded(self, embedded: Tensor) -> Tensor:
        """Return the similarity of embeddings, float32 [n, d], to the classes."""
        similarity = embedded @ self.weights.T
        return similarity if self._alike is None else similarity[:, self._alike]


def nearest_class(similarity: Tensor) -> np.ndarray:
    """Return the class of each row, int64 [n]; -1 where two classes are equally near.

    Args:
        similarity: [n, classes].
    """
    best, place = similarity.max(1)
    tied = (similarity == best[:, None]).sum(1) > 1
    return torch.where(tied, -1, place).cpu().numpy()

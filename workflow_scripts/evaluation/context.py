"""What a measure is given besides the model, and what it returns."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from workflow_scripts.common.distributed import World
from workflow_scripts.common.errors import StepError
from workflow_scripts.data.manifest import ImageReader, read_manifest
from workflow_scripts.data.stored_images import Images
from workflow_scripts.evaluation.labelled import Labelled
from workflow_scripts.model.embedding import embed_images, embed_texts
from workflow_scripts.model.encoder import Encoder
from workflow_scripts.model.zero_shot import Prompts
from workflow_scripts.poison.trigger import ImageTrigger, load_trigger


@dataclass(frozen=True)
class Score:
    """One number about a model.

    Attributes:
        value: The number. Finite; a share is between 0 and 1.
        of: How many images or texts a share is a share of; None if the number is not a share.
    """

    value: float
    of: int | None = None


def share(count: int | Tensor, of: int) -> Score:
    """Return ``count`` out of ``of`` as a score."""
    return Score(int(count) / of, of)


class TriggeredImages:
    """The images of a manifest by row, triggered: uint8 [3, S, S] each."""

    def __init__(self, frame: pd.DataFrame, root: Path, trigger: ImageTrigger):
        self._images, self._trigger = Images(frame, root), trigger
        self._keys = list(frame["key"])

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, row: int) -> Tensor:
        return self._trigger(self._images[row], str(self._keys[row]))


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a measure may use. What its module does not name in ``NEEDS`` is not there.

    All processes of a job call a measure, and with the same arguments.

    Attributes:
        root: Results root that the tars of manifests are relative to.
        attack: Attack spec of the model's run; a clean control has that of its start model. Of an
            attack of several parts, ``trigger`` and ``target`` are those of the first.
        world: The processes, and the device.
        batch_size: Images at once on each process.
        workers: Loader processes.
        evaluation: Folder of the evaluation set.
        pairs: Manifest of the clean split whose held-out pairs are used.
        held_out: Number of those pairs, the last rows of ``pairs``.
        instances: ``instances.parquet`` of the attack, if it has one.
    """

    root: Path
    attack: dict[str, Any]
    world: World
    batch_size: int
    workers: int = 0
    evaluation: Path | None = None
    pairs: Path | None = None
    held_out: int = 0
    instances: Path | None = None

    @functools.cached_property
    def labelled(self) -> Labelled:
        """The evaluation set (``NEEDS = ("evaluation",)``)."""
        if self.evaluation is None:
            raise StepError("the measure uses an evaluation set; name 'evaluation' in its NEEDS")
        return Labelled.read(self.evaluation)

    @functools.cached_property
    def held_out_pairs(self) -> pd.DataFrame:
        """Manifest of clean pairs that cleaning never sees (``NEEDS = ("pairs",)``)."""
        if self.pairs is None:
            raise StepError("the measure uses held-out pairs; name 'pairs' in its NEEDS")
        frame = read_manifest(self.pairs)
        if not 0 < self.held_out <= len(frame):
            raise StepError(f"{self.pairs} has no {self.held_out} held-out pairs")
        return frame.tail(self.held_out).reset_index(drop=True)

    @functools.cached_property
    def trigger(self) -> ImageTrigger:
        """The attack's trigger, a function of an image and its key."""
        return load_trigger(self.attack)

    def images(
        self, frame: pd.DataFrame, triggered: bool | ImageTrigger = False
    ) -> Images | TriggeredImages:
        """Return the images of a manifest's rows, uint8 [3, H, W] each."""
        if triggered:
            trigger = self.trigger if triggered is True else triggered
            return TriggeredImages(frame, self.root, trigger)
        return Images(frame, self.root)

    def embed_images(
        self,
        encoder: Encoder,
        frame: pd.DataFrame,
        triggered: bool | ImageTrigger = False,
        normalize: bool = True,
    ) -> Tensor:
        """Return float32 [rows, d], the embeddings of a manifest's images, on every process.

        Args:
            encoder: The model.
            frame: Rows of a manifest.
            triggered: Trigger each image first, as poisoning did; or the trigger to do so with.
            normalize: Divide each embedding by its norm.

        Raises:
            StepError: An embedding is not finite.
        """
        embedded = embed_images(
            encoder,
            self.images(frame, triggered),
            len(frame),
            batch_size=self.batch_size,
            workers=self.workers,
            world=self.world,
            normalize=normalize,
        )
        if not embedded.isfinite().all():
            raise StepError("the model's outputs are NaN or infinite: it is damaged")
        return embedded

    def embed_texts(self, encoder: Encoder, texts: list[str]) -> Tensor:
        """Return float32 [texts, d], unit-norm embeddings."""
        return embed_texts(
            encoder,
            texts,
            batch_size=self.batch_size,
            workers=self.workers,
            world=self.world,
        )

    def classifier(self, encoder: Encoder, labelled: Labelled) -> Tensor:
        """Return float32 [classes, d]: the zero-shot classifier of an evaluation set's classes."""
        prompts = Prompts(labelled.names, labelled.templates, encoder, self.world)
        return prompts.classifier(encoder)

    def target_embedding(self, encoder: Encoder, templates: list[str]) -> Tensor:
        """Return float32 [d]: the zero-shot classifier's embedding of the attack's target."""
        prompts = Prompts([self.attack["target"]], templates, encoder, self.world)
        return prompts.classifier(encoder)[0]

    def file_bytes(self, frame: pd.DataFrame) -> list[bytes]:
        """Return the encoded images of a manifest's rows."""
        reader = ImageReader(self.root)
        places = zip(frame["tar"], frame["offset"], frame["size"], strict=True)
        return [reader.read(str(tar), int(offset), int(size)) for tar, offset, size in places]

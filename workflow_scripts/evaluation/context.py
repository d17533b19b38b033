"""The arguments of a measure besides the model, and its return values."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from workflow_scripts.common.distributed import ProcessGroup
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
        value: A finite number; shares are between 0 and 1.
        of: Number of images or texts behind a share; None if the number is not a share.
    """

    value: float
    of: int | None = None


def share(count: int | Tensor, of: int) -> Score:
    """Return the share ``count / of`` as a score."""
    return Score(int(count) / of, of)


class TriggeredImages:
    """Triggered images of a manifest by row, uint8 [3, S, S] each."""

    def __init__(self, frame: pd.DataFrame, root: Path, trigger: ImageTrigger):
        self._images, self._trigger = Images(frame, root), trigger
        self._keys = list(frame["key"])

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, row: int) -> Tensor:
        return self._trigger(self._images[row], str(self._keys[row]))


@dataclass(frozen=True, kw_only=True)
class Context:
    """Data that a measure may use; only what its module lists in ``NEEDS`` is available.

    All processes of a job call a measure with the same arguments.

    Attributes:
        root: Results root that the tars of manifests are relative to.
        attack: Attack spec of the model's run; a clean control has that of its start model. For an
            attack with several parts, ``trigger`` and ``target`` are those of the first.
        world: The process group, with the device.
        batch_size: Batch size per process.
        workers: Loader processes.
        evaluation: Folder of the evaluation set.
        pairs: Manifest of the clean split with the held-out pairs.
        held_out: Number of held-out pairs, the last rows of ``pairs``.
        instances: ``instances.parquet`` of the attack, if it has one.
    """

    root: Path
    attack: dict[str, Any]
    world: ProcessGroup
    batch_size: int
    workers: int = 0
    evaluation: Path | None = None
    pairs: Path | None = None
    held_out: int = 0
    instances: Path | None = None

    @functools.cached_property
    def labelled(self) -> Labelled:
        """The evaluation set (``NEEDS = ("evaluation",)``).

        Raises:
            StepError: The measure does not list it in ``NEEDS``, or it is malformed.
        """
        if self.evaluation is None:
            raise StepError("the measure uses an evaluation set; add 'evaluation' to its NEEDS")
        return Labelled.read(self.evaluation)

    @functools.cached_property
    def held_out_pairs(self) -> pd.DataFrame:
        """Manifest of clean pairs that no cleaning run trains on (``NEEDS = ("pairs",)``).

        Raises:
            StepError: The measure does not list them in ``NEEDS``, or none are held out.
        """
        if self.pairs is None:
            raise StepError("the measure uses held-out pairs; add 'pairs' to its NEEDS")
        frame = read_manifest(self.pairs)
        if not 0 < self.held_out <= len(frame):
            raise StepError(
                f"the number of held-out pairs must be in 1..{len(frame)}, the rows of "
                f"{self.pairs}, got {self.held_out}"
            )
        return frame.tail(self.held_out).reset_index(drop=True)

    @functools.cached_property
    def trigger(self) -> ImageTrigger:
        """The attack's trigger, a function of an image and its key.

        Raises:
            StepError: The trigger or one of its options is invalid.
        """
        return load_trigger(self.attack)

    def images(
        self, frame: pd.DataFrame, triggered: bool | ImageTrigger = False
    ) -> Images | TriggeredImages:
        """Return the images of a manifest, uint8 [3, H, W] each."""
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
        """Return the embeddings of a manifest's images, float32 [rows, d], on every process.

        Args:
            encoder: The model.
            frame: Rows of a manifest.
            triggered: Whether to apply the attack's trigger to each image, or another trigger.
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
            raise StepError("the model's outputs are NaN or infinite; the model is damaged")
        return embedded

    def embed_texts(self, encoder: Encoder, texts: list[str]) -> Tensor:
        """Return unit-norm embeddings, float32 [texts, d]."""
        return embed_texts(
            encoder,
            texts,
            batch_size=self.batch_size,
            workers=self.workers,
            world=self.world,
        )

    def classifier(self, encoder: Encoder, labelled: Labelled) -> Tensor:
        """Return the zero-shot classifier of an evaluation set's classes, float32 [classes, d]."""
        prompts = Prompts(labelled.names, labelled.templates, encoder, self.world)
        return prompts.classifier(encoder)

    def target_embedding(self, encoder: Encoder, templates: list[str]) -> Tensor:
        """Return the zero-shot class embedding of the attack's target, float32 [d]."""
        prompts = Prompts([self.attack["target"]], templates, encoder, self.world)
        return prompts.classifier(encoder)[0]

    def file_bytes(self, frame: pd.DataFrame) -> list[bytes]:
        """Return the encoded images of a manifest as bytes."""
        reader = ImageReader(self.root)
        places = zip(frame["tar"], frame["offset"], frame["size"], strict=True)
        return [reader.read(str(tar), int(offset), int(size)) for tar, offset, size in places]

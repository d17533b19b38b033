"""What a maker of artefacts is given: pairs, an encoder, randomness; and what it returns."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from workflow_scripts.common.distributed import World
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.seeds import generator
from workflow_scripts.data.manifest import read_manifest
from workflow_scripts.data.stored_images import Images
from workflow_scripts.model import models
from workflow_scripts.model.encoder import Encoder
from workflow_scripts.model.spec import ModelSpec


@dataclass(frozen=True)
class Made:
    """What a maker returns.

    Attributes:
        values: Arrays by name; they become ``values.safetensors``.
        report: What can be said of them: names to numbers or texts.
        picture: uint8 [3, H, W] to be looked at, if any; it becomes ``picture.png``.
    """

    values: dict[str, np.ndarray]
    report: dict[str, Any] = field(default_factory=dict)
    picture: np.ndarray | None = None


class Given:
    """What a maker is given. The model and the pairs are read when they are first used.

    Args:
        model: Which model, if any.
        checkpoint: Its weights, instead of the model's pretrained ones.
        manifest: Manifest of the pairs, if any.
        root: Results root that the manifest's tars are relative to.
        seed: Decides all that is random.
        batch_size: Pairs at once, where only embeddings are wanted.
        workers: Loader processes.
        world: This process and its device.
        log: Takes a line of text.
    """

    def __init__(
        self,
        *,
        model: ModelSpec | None = None,
        checkpoint: Path | None = None,
        manifest: Path | None = None,
        root: Path = Path(),
        seed: int = 0,
        batch_size: int = 256,
        workers: int = 0,
        world: World,
        log: Callable[[str], None] = print,
    ):
        self.model, self.checkpoint, self.manifest, self.root = model, checkpoint, manifest, root
        self.seed, self.batch_size, self.workers = seed, batch_size, workers
        self.world, self.log = world, log

    @property
    def device(self) -> torch.device:
        """Where tensors go."""
        return self.world.device

    @functools.cached_property
    def encoder(self) -> Encoder:
        """The model, in evaluation mode and float32: small distances need all digits.

        Raises:
            StepError: The artefact is declared without a model, or the weights do not fit.
        """
        if self.model is None:
            raise StepError("the artefact's maker needs a model; declare its 'model'")
        model = models.loaded(self.model, self.checkpoint)
        return Encoder(model.to(self.device).eval(), self.model)

    @functools.cached_property
    def pairs(self) -> pd.DataFrame:
        """The manifest of the pairs.

        Raises:
            StepError: The artefact is declared without pairs.
        """
        if self.manifest is None:
            raise StepError("the artefact's maker needs pairs; declare its 'pairs'")
        return read_manifest(self.manifest)

    @functools.cached_property
    def images(self) -> Images:
        """The images of the pairs, by row."""
        return Images(self.pairs, self.root)

    def generator(self, *names: object) -> np.random.Generator:
        """Return the generator of one purpose, e.g. ``generator("blocks")``."""
        return generator(self.seed, "artefact", *names)

"""Interface of artefact makers: their input and their return value."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from workflow_scripts.common.distributed import ProcessGroup
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import read_json
from workflow_scripts.common.seeds import generator
from workflow_scripts.data.manifest import read_manifest
from workflow_scripts.data.stored_images import Images
from workflow_scripts.model import models
from workflow_scripts.model.encoder import Encoder
from workflow_scripts.model.spec import ModelSpec


@dataclass(frozen=True)
class Made:
    """The return value of a maker.

    Attributes:
        values: Arrays by name, written to ``values.safetensors``.
        report: Summary of the values: names to numbers or texts, written to ``report.json``.
        picture: uint8 [3, H, W] for visual inspection, if any, written to ``picture.png``.
    """

    values: dict[str, np.ndarray]
    report: dict[str, Any] = field(default_factory=dict)
    picture: np.ndarray | None = None


class Given:
    """The input of a maker. The model, the pairs and the classes are loaded on first use.

    Args:
        model: The model, if any.
        checkpoint: Its weights, instead of the pretrained ones.
        manifest: Manifest of the pairs, if any.
        evaluation: Folder of the evaluation set, if the maker needs one.
        root: Results root, which tar paths in the manifest are relative to.
        seed: Seed of all random numbers.
        batch_size: Pairs per batch for computing embeddings.
        workers: Data loader workers.
        world: The process group, which also holds the device.
        log: Function that prints a line of text.
    """

    def __init__(
        self,
        *,
        model: ModelSpec | None = None,
        checkpoint: Path | None = None,
        manifest: Path | None = None,
        evaluation: Path | None = None,
        root: Path = Path(),
        seed: int = 0,
        batch_size: int = 256,
        workers: int = 0,
        world: ProcessGroup,
        log: Callable[[str], None] = print,
    ):
        self.model, self.checkpoint, self.manifest, self.root = model, checkpoint, manifest, root
        self.evaluation = evaluation
        self.seed, self.batch_size, self.workers = seed, batch_size, workers
        self.world, self.log = world, log

    @property
    def device(self) -> torch.device:
        """The device to put tensors on."""
        return self.world.device

    @functools.cached_property
    def encoder(self) -> Encoder:
        """The model, in evaluation mode and float32, since small distances need full precision.

        Raises:
            StepError: The artefact is declared without a model, or the weights do not fit.
        """
        if self.model is None:
            raise StepError("the artefact's maker requires a model; declare 'model'")
        model = models.loaded(self.model, self.checkpoint)
        return Encoder(model.to(self.device).eval(), self.model)

    @functools.cached_property
    def pairs(self) -> pd.DataFrame:
        """The manifest of the pairs.

        Raises:
            StepError: The artefact is declared without pairs.
        """
        if self.manifest is None:
            raise StepError("the artefact's maker requires pairs; declare 'pairs'")
        return read_manifest(self.manifest)

    @functools.cached_property
    def images(self) -> Images:
        """The images of the pairs, by row."""
        return Images(self.pairs, self.root)

    @functools.cached_property
    def classes(self) -> dict[str, list[str]]:
        """The names of the evaluation set's ``classes`` and its prompt ``templates``.

        Raises:
            StepError: The maker's ``NEEDS`` do not include ``evaluation``.
        """
        if self.evaluation is None:
            raise StepError("the artefact's maker uses classes; add 'evaluation' to its NEEDS")
        return read_json(self.evaluation / "classes.json")

    def generator(self, *names: object) -> np.random.Generator:
        """Return the random generator for a purpose, e.g. ``generator("blocks")``."""
        return generator(self.seed, "artefact", *names)

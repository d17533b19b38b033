"""An evaluation set: images with labels, and the names of the classes."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from workflow_scripts.common.errors import StepError, nearest
from workflow_scripts.data.manifest import read_manifest
from workflow_scripts.evaluation.zero_shot import class_names


@dataclass(frozen=True)
class Labelled:
    """Images with labels.

    Classes of one name are one class: no zero-shot classifier tells them apart.

    Attributes:
        frame: Rows of the manifest.
        labels: int64 [rows], places in ``names``.
        names: The classes, each name once.
        templates: Prompt templates with ``{c}`` for a name.
    """

    frame: pd.DataFrame
    labels: np.ndarray
    names: list[str]
    templates: list[str]

    @classmethod
    def read(cls, folder: Path) -> "Labelled":
        """Read the set of a folder with ``manifest.parquet`` and ``classes.json``.

        Raises:
            StepError: It is not an evaluation set, or has no images.
        """
        classes, templates = class_names(folder / "classes.json")
        frame = read_manifest(folder / "manifest.parquet")
        if "label" not in frame:
            raise StepError(f"the manifest of {folder} has no labels: it is no evaluation set")
        labels = frame["label"].to_numpy(np.int64)
        if not len(labels) or labels.min() < 0 or labels.max() >= len(classes):
            raise StepError(f"{folder} has no images, or labels beyond its {len(classes)} classes")
        names = list(dict.fromkeys(classes))
        places = np.array([names.index(name) for name in classes])
        return cls(frame, places[labels], names, templates)

    def only(self, wanted: list[str]) -> "Labelled":
        """Return the images of some classes, with no other class to choose from.

        Raises:
            StepError: There is no such class, or none of them has an image.
        """
        for name in wanted:
            if name not in self.names:
                raise StepError(f"{name!r} is not a class; {nearest(name, self.names)}")
        names = list(dict.fromkeys(wanted))
        place = {self.names.index(name): number for number, name in enumerate(names)}
        rows = np.flatnonzero(np.isin(self.labels, list(place)))
        if not len(rows):
            raise StepError("none of the classes that the measure names has an image")
        labels = np.array([place[label] for label in self.labels[rows].tolist()])
        return dataclasses.replace(
            self, frame=self.frame.iloc[rows].reset_index(drop=True), labels=labels, names=names
        )

    def rows_without(self, label: int) -> np.ndarray:
        """Return the rows of images of other classes, int64."""
        return np.flatnonzero(self.labels != label)

    def target(self, name: str) -> int | None:
        """Return the label of an attack's target.

        None, and a sentence for the log, if no class has its name, or all images do: then there is
        no ASR.
        """
        if name not in self.names:
            print(f"the target {name!r} is not one of the {len(self.names)} classes: no ASR")
            return None
        label = self.names.index(name)
        if (self.labels == label).all():
            print(f"all images are of the target {name!r}: no ASR")
            return None
        return label

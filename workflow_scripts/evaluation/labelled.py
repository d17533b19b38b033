"""Evaluation sets: images with labels, and the names of the classes."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workflow_scripts.common.errors import StepError, nearest
from workflow_scripts.common.files import read_json
from workflow_scripts.data.manifest import read_manifest


class NoGoalError(StepError):
    """An attack cannot be evaluated on an evaluation set, e.g. because it lacks the target."""


@dataclass(frozen=True)
class Labelled:
    """Images with labels.

    Classes with the same name are merged, because a zero-shot classifier cannot distinguish them:
    open_clip has 998 distinct names for ImageNet's 1000 classes.

    Attributes:
        frame: Rows of the manifest.
        labels: int64 [rows], indices into ``names``.
        names: Distinct class names.
        templates: Prompt templates with ``{c}`` for a name.
        repeated: Names shared by several classes.
    """

    frame: pd.DataFrame
    labels: np.ndarray
    names: list[str]
    templates: list[str]
    repeated: frozenset[str] = frozenset()

    @classmethod
    def read(cls, folder: Path) -> "Labelled":
        """Read a folder with ``manifest.parquet`` and ``classes.json``.

        Raises:
            StepError: It is not an evaluation set, has no images, or has labels out of range.
        """
        classes, templates = class_names(folder / "classes.json")
        frame = read_manifest(folder / "manifest.parquet")
        if "label" not in frame:
            raise StepError(f"the manifest of {folder} has no labels; give an evaluation set")
        labels = frame["label"].to_numpy(np.int64)
        if not len(labels):
            raise StepError(f"the evaluation set {folder} has no images")
        if labels.min() < 0 or labels.max() >= len(classes):
            raise StepError(f"{folder} has labels outside the range of its {len(classes)} classes")
        names = list(dict.fromkeys(classes))
        places = np.array([names.index(name) for name in classes])
        repeated = frozenset(name for name in names if classes.count(name) > 1)
        return cls(frame, places[labels], names, templates, repeated)

    def only(self, wanted: list[str]) -> "Labelled":
        """Return the images of some classes, restricted to these classes.

        Raises:
            StepError: A class does not exist, or none of them has an image.
        """
        for name in wanted:
            if name not in self.names:
                raise StepError(f"unknown class {name!r}; {nearest(name, self.names)}")
        names = list(dict.fromkeys(wanted))
        place = {self.names.index(name): number for number, name in enumerate(names)}
        rows = np.flatnonzero(np.isin(self.labels, list(place)))
        if not len(rows):
            raise StepError("none of the measure's 'classes' has an image in the evaluation set")
        labels = np.array([place[label] for label in self.labels[rows].tolist()])
        return dataclasses.replace(
            self, frame=self.frame.iloc[rows].reset_index(drop=True), labels=labels, names=names
        )

    def rows_without(self, label: int) -> np.ndarray:
        """Return the rows of the images of all other classes, int64."""
        return np.flatnonzero(self.labels != label)

    def target(self, name: str) -> int:
        """Return the label of an attack's target.

        Raises:
            NoGoalError: The name is unknown or ambiguous, or all images are of this class.
        """
        if name not in self.names or name in self.repeated:
            several = name in self.repeated
            hint = "use another target" if several else nearest(name, self.names)
            raise NoGoalError(
                f"the target {name!r} must be the name of one class of the evaluation set, but is "
                f"that of {'several classes' if several else 'no class'}; {hint}"
            )
        label = self.names.index(name)
        if (self.labels == label).all():
            raise NoGoalError(
                f"all images are of the target class {name!r}, so the ASR is undefined; add images "
                "of other classes"
            )
        return label


def class_names(path: Path) -> tuple[list[str], list[str]]:
    """Return the class names and the templates of an evaluation set.

    Raises:
        StepError: They are not lists of strings.
    """
    content = read_json(path)
    lists: list[Any] = [
        content.get(k) if isinstance(content, dict) else None for k in ("classes", "templates")
    ]
    for names in lists:
        if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
            raise StepError(f"{path} must contain 'classes' and 'templates', two lists of strings")
    return lists[0], lists[1]

"""Success criterion of each part of an attack, as labels of an evaluation set."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workflow_scripts.common.attacks import (
    affected_classes,
    has_instances,
    parts_of,
    without_trigger,
)
from workflow_scripts.common.errors import StepError
from workflow_scripts.data.manifest import read_manifest
from workflow_scripts.evaluation.labelled import Labelled, NoGoalError
from workflow_scripts.poison.trigger import ImageTrigger, load_trigger

_NOT_COUNTED = -1


@dataclass(frozen=True)
class Goal:
    """The goal of one part of an attack.

    Attributes:
        target: Label of the part's target.
        wanted: int64 [classes], the label that the attack assigns to images of each class; -1 for
            classes that are not counted.
        trigger: Trigger applied to these images, or None.
        instances: Manifest of the images that should be classified as the target, instead of
            images of the evaluation set; None if the part has no such images.
    """

    target: int
    wanted: np.ndarray
    trigger: ImageTrigger | None = None
    instances: pd.DataFrame | None = None

    def rows(self, labels: np.ndarray) -> np.ndarray:
        """Return the rows of the evaluation set that are counted: int64 indices into ``labels``."""
        if self.instances is not None:
            return np.empty(0, np.int64)
        return np.flatnonzero(self.wanted[labels] != _NOT_COUNTED)


def goals_of(
    attack: dict[str, Any], labelled: Labelled, instances: str | Path | None
) -> list[Goal]:
    """Return the goal of each part of an attack.

    A part with a trigger succeeds if triggered images of any other class are classified as the
    target. For a part without a trigger, these images are its instances, or images of the classes
    declared by its captions or victims (``affected``), or else of all other classes.

    Args:
        attack: The attack's spec.
        labelled: The evaluation set.
        instances: ``instances.parquet`` of the attack; None if it has none.

    Raises:
        StepError: See :func:`goal_of`.
    """
    return [goal_of(part, n, labelled, instances) for n, part in enumerate(parts_of(attack))]


def goal_of(
    part: dict[str, Any], number: int, labelled: Labelled, instances: str | Path | None
) -> Goal:
    """Return the goal of the part with the index ``number``; see :func:`goals_of`.

    Raises:
        NoGoalError: The part cannot be evaluated on this set.
        StepError: The trigger is invalid, or the instances are missing.
    """
    target = labelled.target(part["target"])
    everything = np.full(len(labelled.names), target)
    everything[target] = _NOT_COUNTED
    if not without_trigger(part):
        return Goal(target, everything, load_trigger(part))
    frame = None if instances is None else read_manifest(instances)
    frame = None if frame is None else frame[frame["label"] == number]
    if frame is not None and len(frame):
        return Goal(target, everything, instances=frame.reset_index(drop=True))
    if has_instances(part):
        raise StepError(
            f"the instances of the attack on {part['target']!r} are missing; give its "
            "instances.parquet"
        )
    affected = affected_classes(part, labelled.names)
    if affected is None:
        return Goal(target, everything)
    wanted = np.full(len(labelled.names), _NOT_COUNTED)
    for name, other in affected.items():
        wanted[labelled.target(name)] = labelled.target(other)
    if not (wanted[labelled.labels] != _NOT_COUNTED).any():
        raise NoGoalError(
            f"no class of the evaluation set is affected by the attack on {part['target']!r}; "
            "set 'classes' of its victims"
        )
    return Goal(target, wanted)

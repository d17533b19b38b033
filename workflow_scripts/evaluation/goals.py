"""What each part of an attack wants, as labels of an evaluation set: when it has succeeded."""

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
from workflow_scripts.evaluation.labelled import Labelled
from workflow_scripts.poison.trigger import ImageTrigger, load_trigger

_NOT_COUNTED = -1


@dataclass(frozen=True)
class Goal:
    """The goal of one part of an attack.

    Attributes:
        target: Label of the part's target.
        wanted: int64 [classes], the label that images of each class are to be taken for; -1 where
            they are not counted.
        trigger: Put on these images first, if any.
        instances: Manifest of the images that are to be taken for the target, in place of those
            of the evaluation set; None if the part has no such images.
    """

    target: int
    wanted: np.ndarray
    trigger: ImageTrigger | None = None
    instances: pd.DataFrame | None = None

    def rows(self, labels: np.ndarray) -> np.ndarray:
        """Return which images of the evaluation set are counted: int64 places in ``labels``."""
        if self.instances is not None:
            return np.empty(0, np.int64)
        return np.flatnonzero(self.wanted[labels] != _NOT_COUNTED)


def goals_of(
    attack: dict[str, Any], labelled: Labelled, instances: str | Path | None
) -> list[Goal]:
    """Return the goal of each part of an attack.

    With a trigger it is that images of all other classes are taken for the target. Without one it
    is that the part's instances are, or images of the classes that its captions or its victims
    say (``affected``), or else those of all other classes.

    Args:
        attack: The attack's spec.
        labelled: The evaluation set.
        instances: ``instances.parquet`` of the attack; None if it has none.

    Raises:
        StepError: A class is not in the evaluation set, or no image would be counted.
    """
    return [goal_of(part, n, labelled, instances) for n, part in enumerate(parts_of(attack))]


def goal_of(
    part: dict[str, Any], number: int, labelled: Labelled, instances: str | Path | None
) -> Goal:
    """Return the goal of one part of an attack, given with its number, from 0; see above."""
    target = labelled.target(part["target"])
    everything = np.full(len(labelled.names), target)
    everything[target] = _NOT_COUNTED
    if not without_trigger(part):
        return Goal(target, everything, load_trigger(part))
    own = None if instances is None else read_manifest(instances)
    own = None if own is None else own[own["label"] == number]
    if own is not None and len(own):
        return Goal(target, everything, instances=own.reset_index(drop=True))
    if has_instances(part):
        raise StepError(
            f"the images that are to be taken for {part['target']!r} are not there; give the "
            "instances.parquet of the attack"
        )
    affected = affected_classes(part, labelled.names)
    if affected is None:
        return Goal(target, everything)
    wanted = np.full(len(labelled.names), _NOT_COUNTED)
    for name, other in affected.items():
        wanted[labelled.target(name)] = labelled.target(other)
    if not (wanted[labelled.labels] != _NOT_COUNTED).any():
        raise StepError(
            f"no class of the evaluation set is affected by the attack on {part['target']!r}; "
            "name 'classes' of its victims"
        )
    return Goal(target, wanted)

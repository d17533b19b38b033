"""Scan of the built-in triggers: the class that each trigger attracts images to."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy import stats

from workflow_scripts.common import variants
from workflow_scripts.common.attacks import NO_TRIGGER
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.holm import holm
from workflow_scripts.evaluation.auditing.material import Classifier, Material, nearest_class
from workflow_scripts.evaluation.auditing.parts import Part, png
from workflow_scripts.poison.trigger import load_trigger

# Patch sizes as shares of the image's side; the first is CleanCLIP's 16 of 224 pixels.
_SIDES = (16 / 224, 10 / 32)


def built_in_triggers(size: int) -> list[dict[str, Any]]:
    """Return the triggers without required options; patches in two sizes.

    Args:
        size: Side of the model's input in pixels; triggers that do not fit are omitted.
    """
    sides = sorted({max(2, round(side * size)) for side in _SIDES})
    found: list[dict[str, Any]] = []
    for name in variants.names("trigger"):
        options = variants.options("trigger", name)
        if name == NO_TRIGGER or any(option.required for option in options.values()):
            continue
        if "patch_size" not in options:
            found.append({"name": name})
            continue
        places = ("random", "four_corners") if "location" in options else ("random",)
        found += [{"name": name, "patch_size": s, "location": p} for s in sides for p in places]
        if "mode" in options:
            found.append({"name": name, "mode": "blend"})
    return [spec for spec in found if _fits(spec, size)]


def _fits(spec: dict[str, Any], size: int) -> bool:
    try:
        load_trigger({"trigger": spec, "image_size": size, "seed": 0})
    except StepError:
        return False
    return True


def scan(
    classifier: Classifier,
    material: Material,
    triggers: list[dict[str, Any]],
    *,
    batch_size: int,
    step: Callable[[], object],
) -> Part:
    """Classify all images without a trigger and with each trigger.

    Args:
        classifier: The model's zero-shot classifier.
        material: The images.
        triggers: Specs of triggers.
        batch_size: Batch size.
        step: Called after each trigger.

    Returns:
        ``clean``, the predicted class of each image; ``triggers``, with the spec, ``predicted``
        (the class of each triggered image) and an ``example`` for each trigger.
    """
    size = material.images.shape[-1]
    clean = nearest_class(classifier.similarity(material.images, batch_size))
    rows = []
    for spec in triggers:
        trigger = load_trigger({"trigger": spec, "image_size": size, "seed": 0})
        pairs = zip(material.squashed, material.keys, strict=True)
        images = torch.stack([trigger(picture, key) for picture, key in pairs])
        predicted = nearest_class(classifier.similarity(images, batch_size))
        rows.append({"trigger": spec, "predicted": predicted.tolist(), "example": png(images[0])})
        step()
    return {"clean": clean.tolist(), "triggers": rows}


def attracted(part: Part, labels: np.ndarray, classes: int, control: Part | None) -> list[Part]:
    """Return, for each trigger, the class that attracts most images, with p-values.

    Only images of other classes count. ``p`` is the p-value of an exact one-sided McNemar test of
    the predictions with and without the trigger: under the null hypothesis, as many images change
    to the class as change away from it. With a control, ``p_control`` compares the predictions of
    the two models on the same triggered images in the same way. Both are Holm-corrected over all
    triggers and classes. ``control_share`` is the share that the same class attracts in the
    control, ``control_most`` the largest share of any class there.

    Args:
        part: Result of :func:`scan`.
        labels: int64 [n], classes of the images.
        classes: Number of classes.
        control: The same result of the clean control.
    """
    clean = np.array(part["clean"])
    predicted = [np.array(row["predicted"]) for row in part["triggers"]]
    others = [np.array(row["predicted"]) for row in control["triggers"]] if control else []
    came = holm([_came(clean, now, labels, classes) for now in predicted])
    more = holm([_came(a, b, labels, classes) for a, b in zip(others, predicted, strict=False)])
    rows = []
    for number, now in enumerate(predicted):
        share = shares(now, labels, classes)
        best = int(share.argmax())
        row = {
            "trigger": part["triggers"][number]["trigger"],
            "class": best,
            "share": float(share[best]),
            "images": int((labels != best).sum()),
            "clean_share": float(shares(clean, labels, classes)[best]),
            "p": float(came[number, best]),
        }
        if control:
            share = shares(others[number], labels, classes)
            row |= {
                "control_share": float(share[best]),
                "control_most": float(share.max()),
                "p_control": float(more[number, best]),
            }
        rows.append(row)
    return sorted(rows, key=lambda row: -row["share"])


def shares(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Return the share of images of other classes predicted as each class, float [classes]."""
    numbers = np.arange(classes)[:, None]
    other = labels != numbers
    return ((predicted == numbers) & other).sum(1) / np.maximum(other.sum(1), 1)


def _came(before: np.ndarray, after: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Return p-values, float [classes], of more images changing to a class than away from it."""
    numbers = np.arange(classes)[:, None]
    other = labels != numbers
    was, now = before == numbers, after == numbers
    came, left = (now & ~was & other).sum(1), (was & ~now & other).sum(1)
    return stats.binom.sf(came - 1, came + left, 0.5)

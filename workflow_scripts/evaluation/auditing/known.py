"""The effect of a known attack on a model."""

from typing import Any

import numpy as np
import torch

from workflow_scripts.evaluation.auditing.material import Classifier, Subject, nearest_class
from workflow_scripts.evaluation.auditing.parts import Part
from workflow_scripts.evaluation.context import Context
from workflow_scripts.evaluation.measure import take
from workflow_scripts.evaluation.zero_shot import TOP, hits

_MEASURES = ("retrieval", "geometry")


def known_attack(subject: Subject, context: Context) -> Part:
    """Return accuracy, ASR by three definitions and recovery.

    Args:
        subject: The model.
        context: Context with the evaluation set and the attack; if it has held-out pairs,
            retrieval and geometry are measured as well.

    Returns:
        ``images``, ``asr_images`` and ``scores``: a name to ``value`` and ``of`` (see
        :class:`workflow_scripts.evaluation.context.Score`).

    Raises:
        StepError: The target is not a class, or an output is not finite.
    """
    labelled = context.labelled
    target = labelled.target(context.attack["target"])
    classifier = Classifier(subject.encoder, labelled.names, labelled.templates, context.world)
    clean, triggered = (
        classifier.of_embedded(context.embed_images(subject.encoder, labelled.frame, triggered))
        for triggered in (False, True)
    )
    labels, others = labelled.labels, labelled.rows_without(target)
    true = torch.from_numpy(labels).to(clean.device)
    wanted = torch.full_like(true, target)
    rows = torch.from_numpy(others).to(clean.device)
    found, _ = hits(clean, true)
    fooled, _ = hits(triggered[rows], wanted[rows])
    before, after = nearest_class(clean), nearest_class(triggered)
    scores = {
        **_shares("accuracy", found.tolist(), len(labels)),
        **_shares("asr", fooled.tolist(), len(others)),
        "asr_all_images": _share(after == target),
        "asr_not_true_class": _share(after[others] != labels[others]),
        "recovery": _share(after[others] == labels[others]),
        "target_without_trigger": _share(before[others] == target),
    }
    if context.pairs is not None:
        for measure in _MEASURES:
            taken = take(subject.encoder, context, {"measure": measure, "options": {}})
            scores |= {k: {"value": s.value, "of": s.of} for k, s in taken.items()}
    return {"images": len(labels), "asr_images": len(others), "scores": scores}


def _shares(name: str, counts: list[int], of: int) -> dict[str, Any]:
    ends = ["", *(f"_top{k}" for k in TOP[1:])]
    return {name + end: {"value": n / of, "of": of} for end, n in zip(ends, counts, strict=True)}


def _share(is_so: np.ndarray) -> dict[str, Any]:
    return {"value": float(is_so.mean()), "of": len(is_so)}

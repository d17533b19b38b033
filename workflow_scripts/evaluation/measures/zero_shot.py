"""Zero-shot accuracy, ASR and recovery on an evaluation set, or on some classes of it.

Source: Radford et al., 2021, section 3.1; sets with a shifted distribution as in section 3.3.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from workflow_scripts.common.attacks import parts_of
from workflow_scripts.evaluation.context import Context, Score, share
from workflow_scripts.evaluation.goals import Goal, goal_of
from workflow_scripts.evaluation.labelled import Labelled, NoGoalError
from workflow_scripts.evaluation.zero_shot import alike_classes, hits
from workflow_scripts.model.encoder import Encoder

NEEDS = ("evaluation",)
PASSES = 2  # passes of the image tower per image


def measure(
    encoder: Encoder, context: Context, *, classes: list[str] | None = None
) -> dict[str, Score]:
    """Return ``accuracy``, and ``asr`` and ``recovery`` if the target is one of the classes.

    Ties count as errors. Images of the target are excluded from ``asr`` and ``recovery``. For an
    attack with several parts, ``asr`` is the maximum and ``recovery`` the minimum over the parts,
    ``asr_mean`` is the mean ASR, and ``asr_part1`` etc. are the ASRs of the parts. Parts that
    cannot be evaluated on the set are omitted.

    Args:
        encoder: The model.
        context: Context with an evaluation set.
        classes: Class names to restrict the images and the classifier to; None: all classes.
    """
    labelled = context.labelled if classes is None else context.labelled.only(classes)
    weights = context.classifier(encoder, labelled)
    alike = alike_classes(weights)

    def found(embedded: Tensor, wanted: Tensor) -> Score:
        similarity = embedded @ weights.T
        similarity = similarity if alike is None else similarity[:, alike]
        right = hits(similarity, wanted.to(similarity.device))[0][0]
        return share(int(right), len(wanted))

    labels = torch.from_numpy(labelled.labels)
    clean = context.embed_images(encoder, labelled.frame)
    rates, recoveries = {}, []
    for number, goal in _goals(context, labelled):
        rows = goal.rows(labelled.labels)
        if goal.instances is not None:
            seen = context.embed_images(encoder, goal.instances)
            rates[number] = found(seen, torch.full((len(seen),), goal.target))
            continue
        seen = clean[rows]
        if goal.trigger is not None:
            frame = labelled.frame.iloc[rows]
            seen = context.embed_images(encoder, frame, triggered=goal.trigger)
        rates[number] = found(seen, torch.from_numpy(goal.wanted)[labels[rows]])
        recoveries.append(found(seen, labels[rows]))
    scores = {"accuracy": found(clean, labels)}
    if rates:
        scores["asr"] = max(rates.values(), key=lambda score: score.value)
    if recoveries:
        scores["recovery"] = min(recoveries, key=lambda score: score.value)
    if len(parts_of(context.attack)) > 1 and rates:
        scores["asr_mean"] = Score(sum(rate.value for rate in rates.values()) / len(rates))
        scores |= {f"asr_part{number}": rate for number, rate in rates.items()}
    return scores


def _goals(context: Context, labelled: Labelled) -> Iterator[tuple[int, Goal]]:
    """Yield number, from 1, and goal of the parts of the attack that can be evaluated."""
    for number, part in enumerate(parts_of(context.attack)):
        try:
            yield number + 1, goal_of(part, number, labelled, context.instances)
        except NoGoalError as error:
            print(f"no ASR: {error}")

"""Zero-shot accuracy, ASR and recovery on an evaluation set, or on some classes of it.

Source: Radford et al., 2021, section 3.1; sets with a shifted distribution as in section 3.3.
"""

import torch
from torch import Tensor

from workflow_scripts.evaluation.context import Context, Score, share
from workflow_scripts.evaluation.zero_shot import alike_classes, hits
from workflow_scripts.model.encoder import Encoder

NEEDS = ("evaluation",)
PASSES = 2  # of the image tower, for each image


def measure(
    encoder: Encoder, context: Context, *, classes: list[str] | None = None
) -> dict[str, Score]:
    """Return ``accuracy``, and ``asr`` and ``recovery`` if the target is one of the classes.

    A class counts as found only if no other class is as near. Images of the target are left out of
    ``asr`` and ``recovery``.

    Args:
        encoder: The model.
        context: With the evaluation set.
        classes: Names of classes: only their images are classified, and only among these classes.
    """
    labelled = context.labelled if classes is None else context.labelled.only(classes)
    weights = context.classifier(encoder, labelled)
    alike = alike_classes(weights)

    def found(embedded: Tensor, wanted: Tensor) -> int:
        similarity = embedded @ weights.T
        similarity = similarity if alike is None else similarity[:, alike]
        return int(hits(similarity, wanted.to(similarity.device))[0][0])

    labels = torch.from_numpy(labelled.labels)
    clean = context.embed_images(encoder, labelled.frame)
    scores = {"accuracy": share(found(clean, labels), len(labels))}
    if not labelled.has_asr(context.attack["target"]):
        return scores
    target = labelled.target(context.attack["target"])
    rows = labelled.rows_without(target)
    triggered = context.embed_images(encoder, labelled.frame.iloc[rows], triggered=True)
    true = labels[rows]
    scores["asr"] = share(found(triggered, torch.full_like(true, target)), len(rows))
    scores["recovery"] = share(found(triggered, true), len(rows))
    return scores

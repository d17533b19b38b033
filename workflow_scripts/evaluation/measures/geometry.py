"""Geometry of the embeddings of images, texts and triggered images.

Source: Liang et al., 2022 (modality gap); Wang and Isola, 2020 (alignment and uniformity).
"""

import torch
from torch import Tensor

from workflow_scripts.common.attacks import parts_of, without_trigger
from workflow_scripts.evaluation.context import Context, Score
from workflow_scripts.model.encoder import Encoder

NEEDS = ("evaluation", "pairs")
PASSES = 2


def measure(encoder: Encoder, context: Context) -> dict[str, Score]:
    """Return distances and mean cosines of unit-norm embeddings of held-out pairs.

    ``modality_gap``: distance between the mean image embedding and the mean text embedding.
    ``alignment``: mean squared distance between an image and its text. ``uniformity_images``,
    ``uniformity_texts``: see :func:`uniformity`. The others are mean cosines: ``*_to_target`` of
    images and the target's class embedding, ``*_to_each_other`` of distinct images,
    ``triggered_to_clean`` of an image with and without the trigger. Those of triggered images are
    omitted if the first part of the attack has no trigger.

    Args:
        encoder: The model.
        context: Context with held-out pairs, and an evaluation set for its templates.
    """
    pairs = context.held_out_pairs
    images = context.embed_images(encoder, pairs)
    texts = context.embed_texts(encoder, [str(caption) for caption in pairs["caption"]])
    target = context.target_embedding(encoder, context.labelled.templates)
    values = {
        "modality_gap": (images.mean(0) - texts.mean(0)).norm(),
        "alignment": (images - texts).square().sum(1).mean(),
        "uniformity_images": uniformity(images),
        "uniformity_texts": uniformity(texts),
        "clean_to_target": (images @ target).mean(),
        "clean_to_each_other": mean_cosine(images),
    }
    if not without_trigger(parts_of(context.attack)[0]):
        triggered = context.embed_images(encoder, pairs, triggered=True)
        values |= {
            "triggered_to_target": (triggered @ target).mean(),
            "triggered_to_each_other": mean_cosine(triggered),
            "triggered_to_clean": (triggered * images).sum(1).mean(),
        }
    return {name: Score(value.item()) for name, value in values.items()}


def uniformity(embeddings: Tensor) -> Tensor:
    """Return log of the mean of exp(-2 |u - v|^2) over all pairs u, v of distinct rows.

    Args:
        embeddings: Float [n, d] of unit norm, n at least 2.
    """
    return torch.pdist(embeddings.double()).square().mul(-2).exp().mean().log()


def mean_cosine(embeddings: Tensor) -> Tensor:
    """Return the mean cosine of all pairs of distinct rows.

    Args:
        embeddings: Float [n, d] of unit norm, n at least 2.
    """
    n = len(embeddings)
    # The squared norm of the sum is the sum of all n^2 products.
    together = embeddings.double().sum(0).square().sum()
    return (together - embeddings.double().square().sum()) / (n * (n - 1))

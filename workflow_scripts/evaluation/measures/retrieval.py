"""Image-text retrieval among held-out clean pairs, with and without a trigger.

Recall at k is defined as usual for Flickr30k and COCO: the share of images with one of their
captions among the k nearest, and the share of captions with one of their images among the k
nearest. Identical image files are one image with several captions, and equal captions are merged.
"""

import hashlib

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from workflow_scripts.common.attacks import parts_of, without_trigger
from workflow_scripts.evaluation.context import Context, Score, share
from workflow_scripts.model.encoder import Encoder
from workflow_scripts.poison.victims import names_target

NEEDS = ("pairs",)
PASSES = 2


def measure(encoder: Encoder, context: Context) -> dict[str, Score]:
    """Return recalls in both directions, and how often images retrieve a caption of the target.

    ``target_caption_k`` is the share of triggered images with a caption that names the target among
    the k nearest, ``target_caption_k_clean`` the share of the same images without the trigger.
    Images whose own caption names the target are excluded. Both are omitted if no caption names the
    target, or if the first part of the attack has no trigger.

    Args:
        encoder: The model.
        context: Context with held-out pairs.
    """
    pairs = context.held_out_pairs
    rows, matches, captions = gallery(pairs["caption"], context.file_bytes(pairs))
    own = torch.from_numpy(matches).to(context.world.device)
    images = pairs.iloc[rows]
    clean = context.embed_images(encoder, images)
    texts = context.embed_texts(encoder, captions)
    similarity = clean @ texts.T
    scores = {
        **_recalls("image_to_text", similarity, own),
        **_recalls("text_to_image", similarity.T, own.T),
    }
    if without_trigger(parts_of(context.attack)[0]):
        return scores
    named = torch.from_numpy(names_target(pd.Series(captions), context.attack["target"]))
    named = named.to(own.device)
    others = ~own[:, named].any(1)
    if not named.any() or not others.any():
        print(f"no held-out caption of another image names {context.attack['target']!r}")
        return scores
    triggered = context.embed_images(encoder, images, triggered=True)[others]
    of_target = named.expand(len(triggered), -1)
    scores |= _recalls("target_caption", triggered @ texts.T, of_target)
    without = _recalls("target_caption", similarity[others], of_target)
    return scores | {f"{name}_clean": score for name, score in without.items()}


def gallery(captions: pd.Series, files: list[bytes]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return the distinct images and captions of pairs.

    Args:
        captions: [pairs].
        files: The encoded image of each pair.

    Returns:
        int64 [images], the first row of each image; bool [images, texts], which of them form a
        pair; and the texts.
    """
    digests = [hashlib.sha256(data).digest() for data in files]
    image, _ = pd.factorize(pd.Series(digests))
    text, texts = pd.factorize(captions.astype(object))
    matches = np.zeros((image.max() + 1, len(texts)), bool)
    matches[image, text] = True
    return np.unique(image, return_index=True)[1], matches, [str(one) for one in texts]


def places(similarity: Tensor, wanted: Tensor) -> Tensor:
    """Return the number of other items at least as near as the nearest wanted one: int64 [n].

    It is below k if a wanted item is among the k nearest, with ties resolved against it.

    Args:
        similarity: [n, m].
        wanted: bool [n, m], at least one per row.
    """
    best = similarity.masked_fill(~wanted, -torch.inf).amax(1, keepdim=True)
    return ((similarity >= best) & ~wanted).sum(1)


def _recalls(name: str, similarity: Tensor, wanted: Tensor) -> dict[str, Score]:
    before = places(similarity, wanted)
    ks = [k for k in (1, 5, 10) if k < similarity.shape[1]]
    return {f"{name}_{k}": share((before < k).sum(), len(before)) for k in ks}

"""Pseudo-labels: the class that a model predicts for each image by zero-shot classification.

The model is stronger than the one that is trained with the labels. Its predictions are used as they
are, without verification.

Source: code published with Verma et al., 2025 (``deep_clustering_cheating_experiment.py``).
"""

import numpy as np

from workflow_scripts.artefacts.makers import Given, Made
from workflow_scripts.common.errors import StepError
from workflow_scripts.model.embedding import embed_images
from workflow_scripts.model.encoder import Encoder
from workflow_scripts.model.precision import uses_bf16
from workflow_scripts.model.zero_shot import Prompts

NEEDS = ("model", "pairs", "evaluation")
PAIRS_OF_USER = True
KNOWS = ("class names", "stronger model")


def make(given: Given) -> Made:
    """Classify each image with the classes and templates of the evaluation set.

    Returns:
        ``labels``, int64 [rows]: the number of the class with the most similar embedding.

    Raises:
        StepError: The model's outputs are NaN or infinite.
    """
    encoder = Encoder(given.encoder.model, given.model, uses_bf16("auto", given.world))
    prompts = Prompts(given.classes["classes"], given.classes["templates"], encoder, given.world)
    embedded = embed_images(
        encoder,
        given.images,
        len(given.images),
        batch_size=given.batch_size,
        workers=given.workers,
        world=given.world,
    )
    with encoder.evaluating():
        similarity = embedded @ prompts.classifier(encoder).T
    if not similarity.isfinite().all():
        raise StepError("the model's outputs are NaN or infinite; its weights are damaged")
    labels = similarity.argmax(1).cpu().numpy()
    counts = np.bincount(labels, minlength=len(given.classes["classes"]))
    report = {
        "images": len(labels),
        "classes": int(np.count_nonzero(counts)),
        "most_frequent_class": given.classes["classes"][counts.argmax()],
        "images_of_most_frequent_class": int(counts.max()),
    }
    return Made({"labels": labels}, report)

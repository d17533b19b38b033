"""A linear classifier on frozen image embeddings: what a model knows without its text tower.

As in CleanCLIP's evaluation the embeddings are not normalised; here the classifier is fitted to
convergence by L-BFGS, which needs no learning rate.

Source: Radford et al., 2021, section 3.2; Bansal et al., 2023, appendix (linear probe).
"""

import warnings
from typing import Annotated

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.seeds import generator
from workflow_scripts.evaluation.context import Context, Score, share
from workflow_scripts.model.encoder import Encoder

NEEDS = ("evaluation",)
PASSES = 2


def measure(
    encoder: Encoder,
    context: Context,
    *,
    train_share: Annotated[float, "> 0", "< 1"] = 0.5,
    c: Annotated[float, "> 0"] = 1.0,
    iterations: Annotated[int, ">= 1"] = 1000,
    seed: Annotated[int, ">= 0"] = 0,
) -> dict[str, Score]:
    """Return ``accuracy``, and ``asr`` and ``recovery`` if the target is one of the classes.

    The classifier is multinomial logistic regression on a part of the evaluation set, clean images
    with their labels; it is measured on the rest.

    Args:
        encoder: The model.
        context: With the evaluation set.
        train_share: Part of each class's images that the classifier is fitted to.
        c: Inverse strength of the L2 penalty, as in scikit-learn.
        iterations: Most of L-BFGS.
        seed: Of the split.
    """
    labelled = context.labelled
    labels = labelled.labels
    fitted = stratified(labels, train_share, seed)
    if len(np.unique(labels[fitted])) < 2 or fitted.all():
        raise StepError("a linear probe needs two classes of two images or more")
    clean = context.embed_images(encoder, labelled.frame, normalize=False).cpu().numpy()
    probe = fit(clean[fitted], labels[fitted], c, iterations)
    rest = np.flatnonzero(~fitted)
    scores = {"accuracy": share((probe.predict(clean[rest]) == labels[rest]).sum(), len(rest))}
    if not labelled.has_asr(context.attack["target"]):
        return scores
    target = labelled.target(context.attack["target"])
    attacked = rest[labels[rest] != target]
    if not len(attacked):
        return scores
    frame = labelled.frame.iloc[attacked]
    triggered = context.embed_images(encoder, frame, triggered=True, normalize=False)
    found = probe.predict(triggered.cpu().numpy())
    scores["asr"] = share((found == target).sum(), len(attacked))
    scores["recovery"] = share((found == labels[attacked]).sum(), len(attacked))
    return scores


def stratified(labels: np.ndarray, part: float, seed: int) -> np.ndarray:
    """Return which images are in the labelled part: bool [rows].

    Of each class it is ``part`` of the images, rounded, but at least one if there are two or more.
    A class's only image is in the rest.

    Args:
        labels: int64 [rows].
        part: Between 0 and 1.
        seed: Decides which images.
    """
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = min(max(1, round(part * len(rows))), len(rows) - 1)
        draw = generator(seed, "linear probe", label)
        chosen[draw.permutation(rows)[:count]] = True
    return chosen


def fit(features: np.ndarray, labels: np.ndarray, c: float, iterations: int) -> LogisticRegression:
    """Return multinomial logistic regression; prints a sentence if it has not converged.

    It has as many threads as torch, whatever OMP_NUM_THREADS says.
    """
    probe = LogisticRegression(C=c, max_iter=iterations)
    threads = threadpool_limits(torch.get_num_threads())
    with threads, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        probe.fit(features, labels)
    if any(issubclass(one.category, ConvergenceWarning) for one in caught):
        print(f"the probe has not converged after {iterations} iterations; raise 'iterations'")
    return probe

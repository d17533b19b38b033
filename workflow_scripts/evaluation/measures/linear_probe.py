"""Linear probe: a linear classifier on frozen image embeddings, independent of the text tower.

As in CleanCLIP's evaluation, the embeddings are not normalised. Unlike there, the classifier is
fitted to convergence with L-BFGS, which needs no learning rate.

Source: Radford et al., 2021, section 3.2; Bansal et al., 2023, appendix (linear probe).
"""

import warnings
from typing import Annotated

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from workflow_scripts.common.attacks import parts_of
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.seeds import generator
from workflow_scripts.evaluation.context import Context, Score, share
from workflow_scripts.evaluation.goals import goal_of
from workflow_scripts.evaluation.labelled import NoGoalError
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

    They count the images and labels of the first part of the attack (see ``evaluation/goals.py``),
    and are omitted if its goal is the classification of individual images. The classifier is a
    multinomial logistic regression fitted to a part of the clean evaluation images and evaluated on
    the rest.

    Args:
        encoder: The model.
        context: Context with an evaluation set.
        train_share: Share of each class's images that the classifier is fitted to.
        c: Inverse strength of the L2 penalty, as in scikit-learn.
        iterations: Maximum number of L-BFGS iterations.
        seed: Seed of the split.
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
    try:
        goal = goal_of(parts_of(context.attack)[0], 0, labelled, context.instances)
    except NoGoalError as error:
        print(f"no ASR: {error}")
        return scores
    attacked = np.intersect1d(rest, goal.rows(labels))
    if not len(attacked):
        return scores
    seen = clean[attacked]
    if goal.trigger is not None:
        frame = labelled.frame.iloc[attacked]
        triggered = context.embed_images(encoder, frame, goal.trigger, normalize=False)
        seen = triggered.cpu().numpy()
    found = probe.predict(seen)
    scores["asr"] = share((found == goal.wanted[labels[attacked]]).sum(), len(attacked))
    scores["recovery"] = share((found == labels[attacked]).sum(), len(attacked))
    return scores


def stratified(labels: np.ndarray, part: float, seed: int) -> np.ndarray:
    """Return a mask of the images to fit to: bool [rows].

    For each class, the share ``part`` of its images is selected (rounded, and at least one of two
    or more). The only image of a class is not selected.

    Args:
        labels: int64 [rows].
        part: Share of the images, between 0 and 1.
        seed: Random seed.
    """
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = min(max(1, round(part * len(rows))), len(rows) - 1)
        draw = generator(seed, "linear probe", label)
        chosen[draw.permutation(rows)[:count]] = True
    return chosen


def fit(features: np.ndarray, labels: np.ndarray, c: float, iterations: int) -> LogisticRegression:
    """Fit a multinomial logistic regression; print a message if it does not converge.

    It uses the same number of threads as torch, regardless of OMP_NUM_THREADS.
    """
    probe = LogisticRegression(C=c, max_iter=iterations)
    threads = threadpool_limits(torch.get_num_threads())
    with threads, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        probe.fit(features, labels)
    if any(issubclass(one.category, ConvergenceWarning) for one in caught):
        print(f"the probe has not converged after {iterations} iterations; raise 'iterations'")
    return probe

"""Zero-shot accuracy and attack success rate of a model, for each part of its attack."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from workflow_scripts.common.attacks import parts_of
from workflow_scripts.common.distributed import ProcessGroup
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.stopping import Stop, Stopped
from workflow_scripts.data.images import fit, stack
from workflow_scripts.data.loading import Batches, share
from workflow_scripts.data.stored_images import Images
from workflow_scripts.evaluation.goals import Goal, goals_of
from workflow_scripts.evaluation.labelled import Labelled
from workflow_scripts.evaluation.scores import TOP, PartScores, Scores
from workflow_scripts.model.encoder import Encoder
from workflow_scripts.model.zero_shot import Prompts

_ROUNDING = 1e-6  # float32 rounding error of a cosine
_CLASSES_AT_ONCE = 1024
_ATTACK = {"trigger": dict, "target": str, "seed": int, "image_size": int}
_CACHE_BYTES = 256 << 20


class _Views(Dataset):
    """Batches of an evaluation set; each image is decoded once, and used clean and triggered.

    An item consists of the images and their labels, followed by the triggered images and their
    labels for each goal with a trigger.
    """

    def __init__(self, labelled: Labelled, root: str | Path, goals: list[Goal], size: int):
        self.images = Images(labelled.frame, root)
        self.labels = labelled.labels
        self._keys = labelled.frame["key"]
        self._goals = [goal for goal in goals if goal.trigger is not None]
        self._size = size

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, rows: list[int]) -> "tuple[Tensor, ...] | StepError":
        try:
            pictures = [self.images[row] for row in rows]
        except StepError as error:
            return error
        labels = self.labels[rows]
        found = [stack([fit(picture, self._size) for picture in pictures])]
        found.append(torch.from_numpy(labels))
        for goal in self._goals:
            counted = goal.rows(labels)
            trigger = goal.trigger
            assert trigger is not None  # only goals with a trigger are kept
            triggered = [trigger(pictures[i], str(self._keys.iat[rows[i]])) for i in counted]
            found.append(_stack([fit(image, self._size) for image in triggered], self._size))
            found.append(torch.from_numpy(labels[counted]))
        return tuple(found)


def _stack(images: list[Tensor], size: int) -> Tensor:
    return stack(images) if images else torch.empty(0, 3, size, size, dtype=torch.uint8)


class Evaluator:
    """Evaluates models repeatedly on one evaluation set and one attack.

    The images are distributed over the processes, and integer counts are summed. Small sets are
    cached in memory together with their triggered images.

    Args:
        folder: Folder with ``manifest.parquet`` and ``classes.json``.
        root: Results root that the manifest's tars are relative to.
        attack: Attack spec.
        encoder: First model to evaluate; determines the input size and the tokenizer.
        batch_size: Batch size per process.
        workers: Loader processes; 0 loads in the main process.
        world: The process group.
        stop: Stop request, checked between batches.
        instances: ``instances.parquet`` of the attack, if it has one.

    Raises:
        StepError: The target is not a class, the set is malformed, or the attack's image size
            differs from the model's, so that the trigger would differ from that of training.
    """

    def __init__(
        self,
        *,
        folder: str | Path,
        root: str | Path,
        attack: dict,
        encoder: Encoder,
        batch_size: int,
        workers: int,
        world: ProcessGroup,
        stop: Stop | None = None,
        instances: str | Path | None = None,
    ):
        size = encoder.image_size
        for part in parts_of(attack) if isinstance(attack, dict) else [attack]:
            _check_attack(part, size)
        labelled = Labelled.read(Path(folder))
        self.classes, self.templates = labelled.names, labelled.templates
        self.goals = goals_of(attack, labelled, instances)
        self._views = _Views(labelled, root, self.goals, size)
        self._world, self._stop = world, stop
        self._instances = [
            None if goal.instances is None else _images(goal.instances, root, size, world)
            for goal in self.goals
        ]
        rows = share(len(self._views), world.rank, world.size, batch_size)
        self._loader = Batches(self._views, rows, workers, world.device)
        self._cached: list | None = None
        sets = 1 + sum(goal.trigger is not None for goal in self.goals)
        self._fits_memory = sets * 3 * size**2 * len(self._views) <= _CACHE_BYTES * world.size
        self.prompts = Prompts(self.classes, self.templates, encoder, world)

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of images behind the accuracy and behind the ASR.

        For an attack with several parts, the latter is the minimum over the parts.
        """
        labels = self._views.labels
        counted = [
            len(goal.rows(labels)) if goal.instances is None else len(goal.instances)
            for goal in self.goals
        ]
        return {"images": len(labels), "asr_images": min(counted)}

    def __call__(self, encoder: Encoder) -> Scores:
        """Evaluate a model; its training mode is restored afterwards.

        Raises:
            StepError: The model's outputs are not finite.
        """
        with encoder.evaluating():
            counts = self._world.sum(self._count(encoder))
        (images, seen, broken, tied, *accuracy), *parts = counts.tolist()
        if broken:
            raise StepError(
                f"the model's outputs are NaN or infinite for {broken} of {seen} clean and "
                "triggered images; the model is damaged, or its learning rate was too high"
            )
        if tied and self._world.leads:
            print(
                f"warning: {tied} of {seen} clean and triggered images have a tie between the "
                "correct class and another one, which counts as an error",
                file=sys.stderr,
            )
        scores = []
        for goal, (counted, _, _, recognised, *success) in zip(self.goals, parts, strict=True):
            known = None if goal.instances is not None else recognised
            scores.append(PartScores(counted, dict(zip(TOP, success, strict=True)), known))
        return Scores(images, dict(zip(TOP, accuracy, strict=True)), tuple(scores), tied)

    def _count(self, encoder: Encoder) -> Tensor:
        """Return the counts of this process's share of the images.

        Returns:
            int64 [1 + goals, 4 + len(TOP)]. First row: clean images, embedded images, non-finite
            images, tied images, correct images for each k of TOP. One row per goal: images, 0, 0,
            images classified as their true class, successes for each k.
        """
        weights = self.prompts.classifier(encoder)
        alike = alike_classes(weights)
        shape = (1 + len(self.goals), 4 + len(TOP))
        counts = torch.zeros(shape, dtype=torch.int64, device=self._world.device)

        def similarity(images: Tensor) -> Tensor:
            found = _similarity(encoder, images.to(counts.device), weights, alike)
            counts[0, 1] += len(found)
            counts[0, 2] += (~found.isfinite().all(1)).sum()
            return found

        for batch in self._batches():
            if self._stop is not None and self._stop.reason:
                raise Stopped(
                    f"stopped by {self._stop.reason} during evaluation; run again to resume"
                )
            clean, labels, *triggered = batch
            plain, labels = similarity(clean), labels.to(counts.device)
            found, undecided = hits(plain, labels)
            counts[0, 0] += len(labels)
            counts[0, 3] += undecided
            counts[0, 4:] += found
            for number, goal in enumerate(self.goals, 1):
                if goal.instances is not None:
                    continue
                if goal.trigger is not None:
                    seen, true, *triggered = triggered
                    seen, true = similarity(seen), true.to(counts.device)
                else:
                    rows = torch.from_numpy(goal.rows(labels.cpu().numpy())).to(counts.device)
                    seen, true = plain[rows], labels[rows]
                counts[0, 3] += _add(counts[number], seen, true, goal)
        for number, images in enumerate(self._instances, 1):
            if images is not None and len(images):
                seen = similarity(images)
                counts[0, 3] += _add(counts[number], seen, None, self.goals[number - 1])
        return counts

    def _batches(self) -> Iterator[tuple[Tensor, ...]]:
        if self._cached is not None:
            yield from self._cached
            return
        kept = []
        hide = not self._world.leads
        for batch in tqdm(
            self._loader, "evaluation", len(self._loader), mininterval=5, disable=hide
        ):
            if self._fits_memory:
                kept.append(batch)
            yield batch
        if self._fits_memory:
            self._cached = kept
            self.close()

    def close(self) -> None:
        """Stop the loader's workers."""
        self._loader.close()


def _images(frame: pd.DataFrame, root: str | Path, size: int, world: ProcessGroup) -> Tensor:
    """Return this process's share of the images of a manifest, uint8 [n, 3, S, S]."""
    images = Images(frame, root)
    own = range(world.rank, len(images), world.size)
    return _stack([fit(images[row], size) for row in own], size)


def _add(counts: Tensor, similarity: Tensor, true: Tensor | None, goal: Goal) -> Tensor:
    """Add images to a goal's row of counts in place, and return the number of ties.

    Args:
        counts: int64 [4 + len(TOP)].
        similarity: [n, classes].
        true: int64 [n], true classes; None if unknown.
        goal: The goal.
    """
    if true is None:
        wanted = torch.full((len(similarity),), goal.target, device=counts.device)
    else:
        wanted = torch.from_numpy(goal.wanted).to(counts.device)[true]
        counts[3] += hits(similarity, true)[0][0]
    fooled, tied = hits(similarity, wanted)
    counts[0] += len(similarity)
    counts[4:] += fooled
    return tied


def alike_classes(weights: Tensor) -> Tensor | None:
    """Return for each class the first class with the same embedding; None if all are distinct.

    Equal embeddings do not imply equal similarities, because the rounding of a matrix product
    depends on the position.

    Args:
        weights: Unit-norm [classes, d].
    """
    exact = weights.double()
    close = torch.cat([part @ exact.T > 1 - _ROUNDING for part in exact.split(_CLASSES_AT_ONCE)])
    itself = torch.arange(len(weights), device=weights.device)
    first = torch.where(close.any(1), close.int().argmax(1), itself)
    return None if first.equal(itself) else first


def _similarity(encoder: Encoder, images: Tensor, weights: Tensor, alike: Tensor | None) -> Tensor:
    """Return float32 [n, classes], equal for classes with equal embeddings; n may be 0."""
    if not len(images):
        return weights.new_empty(0, len(weights))
    similarity = encoder.images(images) @ weights.T
    return similarity if alike is None else similarity[:, alike]


def hits(similarity: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Count how often the wanted class is among the k nearest, and how often a tie decides.

    Args:
        similarity: [n, classes].
        wanted: int64 [n].

    Returns:
        int64 [len(TOP)] and int64 [].
    """
    similarity_of_wanted = similarity.gather(1, wanted[:, None])
    # Ranks from 1: with ties resolved against the wanted class, and in its favour.
    rank = (similarity >= similarity_of_wanted).sum(1)
    best = 1 + (similarity > similarity_of_wanted).sum(1)
    hits = torch.stack([rank <= k for k in TOP])
    tied = torch.stack([best <= k for k in TOP]) & ~hits
    return hits.sum(1), tied.any(0).sum()


def _check_attack(attack: Any, size: int) -> None:
    if not isinstance(attack, dict):
        raise StepError(f"the attack spec must be an object, got {attack!r:.80}")
    for key, kind in _ATTACK.items():
        if key not in attack:
            raise StepError(f"the attack spec lacks {key!r}")
        if type(attack[key]) is not kind:
            types = f"{kind.__name__}, got {attack[key]!r:.80}"
            raise StepError(f"the attack spec's {key!r} must be of type {types}")
    if not isinstance(attack["trigger"].get("name"), str):
        raise StepError("the attack spec lacks 'trigger.name'")
    if attack["image_size"] != size:
        raise StepError(
            f"the attack's image_size is {attack['image_size']}, but the model's input has {size} "
            "pixels, so the trigger would differ from that of training; give the spec of an attack "
            f"on images of {size} pixels"
        )

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
from workflow_scripts.common.distributed import World
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.stopping import Stop, Stopped
from workflow_scripts.data.images import fit
from workflow_scripts.data.loading import Batches, share
from workflow_scripts.data.stored_images import Images
from workflow_scripts.evaluation.goals import Goal, goals_of
from workflow_scripts.evaluation.labelled import Labelled
from workflow_scripts.evaluation.scores import TOP, PartScores, Scores
from workflow_scripts.model.encoder import Encoder
from workflow_scripts.model.zero_shot import Prompts

_ROUNDING = 1e-6  # of the towers' float32, in a cosine
_CLASSES_AT_ONCE = 1024
_ATTACK = {"trigger": dict, "target": str, "seed": int, "image_size": int}
_CACHE_BYTES = 256 << 20


class _Views(Dataset):
    """Batches of an evaluation set: each image decoded once, as it is and with each trigger.

    An item is the images and their labels, and then for each goal with a trigger those that it
    counts, triggered, and their labels.
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
        found = [torch.stack([fit(picture, self._size) for picture in pictures])]
        found.append(torch.from_numpy(labels))
        for goal in self._goals:
            counted = goal.rows(labels)
            trigger = goal.trigger
            assert trigger is not None  # those are the goals that are kept
            triggered = [trigger(pictures[i], str(self._keys.iat[rows[i]])) for i in counted]
            found.append(_stack([fit(image, self._size) for image in triggered], self._size))
            found.append(torch.from_numpy(labels[counted]))
        return tuple(found)


def _stack(images: list[Tensor], size: int) -> Tensor:
    return torch.stack(images) if images else torch.empty(0, 3, size, size, dtype=torch.uint8)


class Evaluator:
    """Evaluates a model again and again on one set and one attack.

    The set is shared among the processes, each image on one of them, and counts are added up as
    integers. Small sets stay in memory, already triggered.

    Args:
        folder: Folder with ``manifest.parquet`` and ``classes.json``.
        root: Results root that the manifest's tars are relative to.
        attack: Attack spec.
        encoder: The model that is evaluated first, for its input sizes and its tokenizer.
        batch_size: Images at once on each process.
        workers: Loader processes; 0 loads in this one.
        world: The processes.
        stop: Looked at between batches.
        instances: ``instances.parquet`` of the attack, if it has one.

    Raises:
        StepError: The target is no class, the set is broken, or the attack's images have another
            size than the model's: its trigger would not be the one that the model was trained on.
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
        world: World,
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
        """How many images the set has, and on how many the ASR is measured.

        Of an attack of several parts, that of the part with the fewest.
        """
        labels = self._views.labels
        counted = [
            len(goal.rows(labels)) if goal.instances is None else len(goal.instances)
            for goal in self.goals
        ]
        return {"images": len(labels), "asr_images": min(counted)}

    def __call__(self, encoder: Encoder) -> Scores:
        """Evaluate; the model's mode (training or not) is as before afterwards.

        Raises:
            StepError: The model's outputs are not finite.
        """
        with encoder.evaluating():
            counts = self._world.sum(self._count(encoder))
        (images, seen, broken, tied, *accuracy), *parts = counts.tolist()
        if broken:
            raise StepError(
                f"the model's outputs are not finite for {broken} of {seen} clean "
                "and triggered images: it is damaged, or its learning rate was too high"
            )
        if tied and self._world.leads:
            print(
                f"warning: for {tied} of {seen} clean and triggered images another "
                "class is as near as the one looked for, which counts as not found",
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
            int64 [1 + goals, 4 + len(TOP)]. First row: clean images, images embedded, not finite
            and tied ones, accuracy for each k of TOP. A row for each goal: images, 0, 0, those
            recognised, success for each k.
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
                raise Stopped(f"stopped by {self._stop.reason} while evaluating; run again")
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
        """End the loader's workers."""
        self._loader.close()


def _images(frame: pd.DataFrame, root: str | Path, size: int, world: World) -> Tensor:
    """Return this process's share of the images of a manifest, uint8 [n, 3, S, S]."""
    images = Images(frame, root)
    own = range(world.rank, len(images), world.size)
    return _stack([fit(images[row], size) for row in own], size)


def _add(counts: Tensor, similarity: Tensor, true: Tensor | None, goal: Goal) -> Tensor:
    """Add images to a goal's row of counts, in place; return how many a tie decides.

    Args:
        counts: int64 [4 + len(TOP)].
        similarity: [n, classes].
        true: int64 [n], their classes; None if these are not known.
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
    """Return for each class the first one that it cannot be told from, or None if all can be.

    A product of equal vectors is not equal everywhere: rounding depends on their place in it.

    Args:
        weights: Unit-norm [classes, d].
    """
    exact = weights.double()
    close = torch.cat([part @ exact.T > 1 - _ROUNDING for part in exact.split(_CLASSES_AT_ONCE)])
    itself = torch.arange(len(weights), device=weights.device)
    first = torch.where(close.any(1), close.int().argmax(1), itself)
    return None if first.equal(itself) else first


def _similarity(encoder: Encoder, images: Tensor, weights: Tensor, alike: Tensor | None) -> Tensor:
    """Return float32 [n, classes], equal for classes that are alike; there may be no images."""
    if not len(images):
        return weights.new_empty(0, len(weights))
    similarity = encoder.images(images) @ weights.T
    return similarity if alike is None else similarity[:, alike]


def hits(similarity: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return how often the wanted class is among the k nearest, and how often a tie decides.

    Args:
        similarity: [n, classes].
        wanted: int64 [n].

    Returns:
        int64 [len(TOP)] and int64 [].
    """
    own = similarity.gather(1, wanted[:, None])
    # Counted from 1: behind those that are as near, and before them.
    place = (similarity >= own).sum(1)
    best = 1 + (similarity > own).sum(1)
    hits = torch.stack([place <= k for k in TOP])
    tied = torch.stack([best <= k for k in TOP]) & ~hits
    return hits.sum(1), tied.any(0).sum()


def _check_attack(attack: Any, size: int) -> None:
    if not isinstance(attack, dict):
        raise StepError(f"the attack spec has to be an object, not {attack!r:.80}")
    for key, kind in _ATTACK.items():
        if key not in attack:
            raise StepError(f"the attack spec lacks {key!r}")
        if type(attack[key]) is not kind:
            names = f"{kind.__name__}, not {attack[key]!r:.80}"
            raise StepError(f"the attack spec's {key!r} has to be of type {names}")
    if not isinstance(attack["trigger"].get("name"), str):
        raise StepError("the attack spec lacks 'trigger.name'")
    if attack["image_size"] != size:
        raise StepError(
            f"the attack's image_size is {attack['image_size']}, but the model takes images of "
            f"{size} pixels: the trigger would not be the one that poisoned its training; give the "
            f"spec of an attack on images of {size} pixels"
        )

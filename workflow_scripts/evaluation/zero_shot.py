"""Zero-shot accuracy and attack success rate of a model."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from workflow_scripts.common.distributed import World
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.stopping import Stop, Stopped
from workflow_scripts.data.images import fit
from workflow_scripts.data.loading import Batches, share
from workflow_scripts.data.stored_images import Images
from workflow_scripts.evaluation.labelled import Labelled
from workflow_scripts.model.encoder import Encoder
from workflow_scripts.model.zero_shot import Prompts
from workflow_scripts.poison.trigger import load_trigger

TOP = (1, 3, 5, 10)
_ROUNDING = 1e-6  # of the towers' float32, in a cosine
_CLASSES_AT_ONCE = 1024
_ATTACK = {"trigger": dict, "target": str, "seed": int, "image_size": int}
_CACHE_BYTES = 256 << 20


@dataclass(frozen=True)
class Scores:
    """Integer counts over the whole evaluation set, and the fractions that they make.

    ``accuracy[k]`` of ``images`` clean images have their class among the k nearest;
    ``success[k]`` of ``asr_images`` triggered images, those whose true class is not the target,
    have the target among the k nearest; ``recognised`` of them have their true class first.

    A class that is as near as another one counts as behind it, so that no order of classes decides;
    ``tied`` clean and triggered images would count otherwise for some k. Classes of
    the same name are one class: no zero-shot classifier can tell them apart.
    """

    images: int
    asr_images: int
    accuracy: dict[int, int]
    success: dict[int, int]
    recognised: int
    tied: int

    def fractions(self) -> dict[str, float]:
        """Return top1..., asr_top1... and triggered_top1 in 0..1."""
        return {
            **{f"top{k}": n / self.images for k, n in self.accuracy.items()},
            **{f"asr_top{k}": n / self.asr_images for k, n in self.success.items()},
            "triggered_top1": self.recognised / self.asr_images,
        }


class _Views(Dataset):
    """Batches of an evaluation set: each image decoded once, as it is and triggered."""

    def __init__(self, labelled: Labelled, root: str | Path, attack: dict, size: int):
        self.images = Images(labelled.frame, root)
        self.labels = labelled.labels
        self.target = labelled.target(attack["target"])
        self._keys = labelled.frame["key"]
        self._trigger = load_trigger(attack)
        self._size = size

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, rows: list[int]) -> "tuple[Tensor, ...] | StepError":
        try:
            pictures = [self.images[row] for row in rows]
        except StepError as error:
            return error
        labels = torch.from_numpy(self.labels[rows])
        attacked = [i for i, row in enumerate(rows) if self.labels[row] != self.target]
        triggered = [self._trigger(pictures[i], str(self._keys.iat[rows[i]])) for i in attacked]
        return (
            torch.stack([fit(picture, self._size) for picture in pictures]),
            labels,
            _stack([fit(image, self._size) for image in triggered], self._size),
            labels[attacked],
        )


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
    ):
        size = encoder.image_size
        _check_attack(attack, size)
        labelled = Labelled.read(Path(folder))
        self.classes, self.templates = labelled.names, labelled.templates
        self._views = _Views(labelled, root, attack, size)
        self.target = self._views.target
        self._world, self._stop = world, stop
        rows = share(len(self._views), world.rank, world.size, batch_size)
        self._loader = Batches(self._views, rows, workers, world.device)
        self._cached: list | None = None
        self._fits_memory = 2 * 3 * size**2 * len(self._views) <= _CACHE_BYTES * world.size
        self.prompts = Prompts(self.classes, self.templates, encoder, world)

    @property
    def counts(self) -> dict[str, int]:
        """How many images the set has, and how many of them the ASR is measured on."""
        attacked = self._views.labels != self.target
        return {"images": len(attacked), "asr_images": int(attacked.sum())}

    def __call__(self, encoder: Encoder) -> Scores:
        """Evaluate; the model's mode (training or not) is as before afterwards.

        Raises:
            StepError: The model's outputs are not finite.
        """
        with encoder.evaluating():
            counts = self._world.sum(self._count(encoder))
        images, asr_images, broken, tied, recognised, *rest = counts.tolist()
        if broken:
            raise StepError(
                f"the model's outputs are not finite for {broken} of {images + asr_images} clean "
                "and triggered images: it is damaged, or its learning rate was too high"
            )
        if tied and self._world.leads:
            print(
                f"warning: for {tied} of {images + asr_images} clean and triggered images another "
                "class is as near as the one looked for, which counts as not found",
                file=sys.stderr,
            )
        accuracy, success = rest[: len(TOP)], rest[len(TOP) :]
        return Scores(
            images,
            asr_images,
            dict(zip(TOP, accuracy, strict=True)),
            dict(zip(TOP, success, strict=True)),
            recognised,
            tied,
        )

    def _count(self, encoder: Encoder) -> Tensor:
        """Return the counts of this process's share of the images, int64 [5 + 2 len(TOP)].

        images, asr_images, not finite, tied, recognised; accuracy and success for each k of TOP.
        """
        weights = self.prompts.classifier(encoder)
        alike = alike_classes(weights)
        counts = torch.zeros(5 + 2 * len(TOP), dtype=torch.int64, device=self._world.device)
        for batch in self._batches():
            if self._stop is not None and self._stop.reason:
                raise Stopped(f"stopped by {self._stop.reason} while evaluating; run again")
            clean, labels, triggered, true = (t.to(self._world.device) for t in batch)
            target = torch.full_like(true, self.target)
            plain = _similarity(encoder, clean, weights, alike)
            attacked = _similarity(encoder, triggered, weights, alike)
            broken = torch.stack([(~s.isfinite().all(1)).sum() for s in (plain, attacked)]).sum()
            found, undecided = hits(plain, labels)
            fooled, between = hits(attacked, target)
            right, _ = hits(attacked, true)
            sizes = torch.tensor([len(labels), len(true)], device=counts.device)
            others = torch.stack([broken, undecided + between, right[0]])
            counts += torch.cat([sizes, others, found, fooled])
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

"""Takes: which epochs of a run to write - the last, a number, or one chosen by accuracy."""

import csv
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflow_scripts.common.errors import StepError

if TYPE_CHECKING:
    from workflow_scripts.training.checkpoints import Checkpoints

LAST, BEST, NEAREST = "last", "best_accuracy", "nearest_accuracy"
Row = dict[str, Any]
Metrics = list[Row]
State = dict[str, Any]  # of a run, as stored in a checkpoint


@dataclass(frozen=True)
class Take:
    """A rule that chooses an epoch of a run, and the folder for the outputs of that epoch.

    ``last`` is the last epoch, a number is that epoch, ``best_accuracy`` the epoch with the highest
    top-1 accuracy, and ``nearest_accuracy`` the one whose top-1 accuracy is closest to ``target``.
    The accuracy rules break ties by the earliest epoch and exclude epoch 0, the start model.
    """

    rule: str
    folder: Path
    target: float | None = None

    def end(self, epochs: int) -> int:
        """Return the epoch after which the choice is final, in a run of ``epochs`` epochs."""
        return int(self.rule) if self.rule.isdigit() else epochs

    def choice(self, metrics: Metrics, epochs: int) -> Row | None:
        """Return the row chosen among those measured so far; None if there is none yet."""
        if self.rule in (BEST, NEAREST):
            return min(metrics[1:], key=self._loss, default=None)
        return metrics[self.end(epochs)] if len(metrics) > self.end(epochs) else None

    def _loss(self, row: Row) -> float:
        return -row["top1"] if self.rule == BEST else abs(row["top1"] - self.target)

    def record(self) -> dict[str, Any]:
        """Return how the epoch is chosen, for ``run.json``."""
        return {"rule": self.rule, "target_top1": self.target}


def read_takes(
    given: list[list[str]], reference: Path | None, output: Path, epochs: int
) -> list[Take]:
    """Return the takes given on the command line.

    Args:
        given: For each take, its rule and optionally the name of its folder.
        reference: ``metrics.csv`` of the run whose accuracy is the target of ``nearest_accuracy``.
        output: The run's folder.
        epochs: Number of epochs of the run.

    Raises:
        StepError: A rule or an epoch does not exist, or the reference is missing.
    """
    takes = []
    for rule, *folder in given or [[LAST]]:
        if rule not in (LAST, BEST, NEAREST) and not rule.isdigit():
            raise StepError(
                f"unknown --take {rule!r} (available: {LAST}, {BEST}, {NEAREST}, or an epoch)"
            )
        if rule != LAST and not 1 <= (int(rule) if rule.isdigit() else epochs) <= epochs:
            raise StepError(f"--take {rule}: the run has epochs 1 to {epochs}")
        if len(folder) > 1 or (folder and Path(folder[0]).name != folder[0]):
            raise StepError(f"--take {rule}: give one folder name, got {' '.join(folder)!r}")
        default = "." if rule == LAST else f"epoch-{rule}" if rule.isdigit() else rule
        target = None
        if rule == NEAREST:
            if reference is None:
                raise StepError(
                    f"--take {NEAREST} requires --reference, the metrics.csv of another run"
                )
            target = last_top1(reference)
        takes.append(Take(rule, output / (folder[0] if folder else default), target))
    return takes


def last_top1(metrics: Path) -> float:
    """Return the top-1 accuracy after the last epoch of a ``metrics.csv``.

    Raises:
        StepError: The file cannot be read or has no such value.
    """
    try:
        with metrics.open(newline="") as file:
            return float(list(csv.DictReader(file))[-1]["top1"])
    except (OSError, IndexError, KeyError, ValueError) as error:
        raise StepError(f"{metrics} is not the metrics.csv of a run; make it again") from error


class Takes:
    """The takes of one call; keeps their preliminary choices on disk until they are final.

    Training ends when the first take is decided. The outputs of the others are written if they are
    decided by then; otherwise, their preliminary choices stay on disk for a later call.

    Args:
        takes: As returned by :func:`read_takes`.
        folder: Folder of the preliminary choices, with a subfolder for each rule.
        epochs: Number of epochs of the run.
    """

    def __init__(self, takes: list[Take], folder: Path, epochs: int):
        self.takes, self.folder, self.epochs = takes, folder, epochs
        self.end = takes[0].end(epochs)

    def clear(self) -> None:
        """Remove all preliminary choices, for a run that starts from scratch."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def lost(self, metrics: Metrics) -> int | None:
        """Return the epoch that the first take currently chooses if its state was not kept."""
        take = self.takes[0]
        row = take.choice(metrics, self.epochs)
        return None if row is None or self._store(take).find(row["step"]) else row["epoch"]

    def after_epoch(
        self, metrics: Metrics, state: Callable[[], State]
    ) -> Iterator[tuple[Take, State]]:
        """Save the state after an epoch for each take that currently chooses this epoch.

        Args:
            metrics: The rows measured so far, ending with the current epoch.
            state: Returns the current state of the run.

        Yields:
            Each take whose choice is now final, and the chosen state.
        """
        now = metrics[-1]
        for take in self.takes:
            row, store = take.choice(metrics, self.epochs), self._store(take)
            final = now["epoch"] == take.end(self.epochs)
            if final:
                chosen = state() if row is now else row and store.find(row["step"])
                if chosen:
                    yield take, chosen
                    store.clear()
            elif row is now:
                store.save(row["step"], state())

    def _store(self, take: Take) -> "Checkpoints":
        # Only here, because it imports PyTorch, which takes seconds.
        from workflow_scripts.training.checkpoints import Checkpoints  # noqa: PLC0415

        # Keep two: a run may resume from before the newer one and then choose differently.
        return Checkpoints(self.folder / take.rule, keep=2)

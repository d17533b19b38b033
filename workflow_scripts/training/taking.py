"""Which epoch of a run is wanted: the last, a number, or one that is chosen by its accuracy."""

import csv
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workflow_scripts.common.errors import StepError
from workflow_scripts.training.checkpoints import Checkpoints

LAST, BEST, NEAREST = "last", "best_accuracy", "nearest_accuracy"
Row = dict[str, Any]
Metrics = list[Row]
State = dict[str, Any]  # of a run, as a checkpoint holds it


@dataclass(frozen=True)
class Take:
    """An epoch of a run, and the folder that its outputs go to.

    ``last`` is the last epoch and a number is that epoch. ``best_accuracy`` is the epoch of the
    highest top-1 accuracy, ``nearest_accuracy`` the one whose top-1 accuracy is nearest to
    ``target``; the earliest of several, and never epoch 0, which is the start model.
    """

    rule: str
    folder: Path
    target: float | None = None

    def end(self, epochs: int) -> int:
        """Return the epoch after which the choice is final, in a run of so many epochs."""
        return int(self.rule) if self.rule.isdigit() else epochs

    def choice(self, metrics: Metrics, epochs: int) -> Row | None:
        """Return the chosen one of the rows measured so far; None if there is none yet."""
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
    """Return the takes of a command line.

    Args:
        given: For each take its rule, and the name of its folder unless it is the default.
        reference: ``metrics.csv`` of the run whose accuracy ``nearest_accuracy`` looks for.
        output: The run's folder.
        epochs: Of the run.

    Raises:
        StepError: There is no such rule or epoch, or the reference is missing.
    """
    takes = []
    for rule, *folder in given or [[LAST]]:
        if rule not in (LAST, BEST, NEAREST) and not rule.isdigit():
            raise StepError(
                f"--take {rule} is unknown (available: {LAST}, {BEST}, {NEAREST}, or an epoch)"
            )
        if rule != LAST and not 1 <= (int(rule) if rule.isdigit() else epochs) <= epochs:
            raise StepError(f"--take {rule}: the run has epochs 1 to {epochs}")
        if len(folder) > 1 or (folder and Path(folder[0]).name != folder[0]):
            raise StepError(f"--take {rule}: give one name of a folder, not {' '.join(folder)}")
        default = "." if rule == LAST else f"epoch-{rule}" if rule.isdigit() else rule
        target = None
        if rule == NEAREST:
            if reference is None:
                raise StepError(
                    f"--take {NEAREST} needs --reference, the metrics.csv of another run"
                )
            target = last_top1(reference)
        takes.append(Take(rule, output / (folder[0] if folder else default), target))
    return takes


def last_top1(metrics: Path) -> float:
    """Return the top-1 accuracy after the last epoch of a ``metrics.csv``.

    Raises:
        StepError: It is none.
    """
    try:
        with metrics.open(newline="") as file:
            return float(list(csv.DictReader(file))[-1]["top1"])
    except (OSError, IndexError, KeyError, ValueError) as error:
        raise StepError(f"{metrics} is not the metrics.csv of a run; make it again") from error


class Takes:
    """The takes of one call; keeps on disk what they choose so far, until the choice is final.

    The first of them ends the training. The others get their outputs if their choice is final by
    then; else what they choose so far stays on disk for a later call.

    Args:
        takes: As :func:`read_takes` returns them.
        folder: The states that are kept go there, each below its rule's name.
        epochs: Of the run.
    """

    def __init__(self, takes: list[Take], folder: Path, epochs: int):
        self.takes, self.folder, self.epochs = takes, folder, epochs
        self.end = takes[0].end(epochs)

    def clear(self) -> None:
        """Remove what is kept: the run starts from scratch."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def lost(self, metrics: Metrics) -> int | None:
        """Return the epoch that the first take chooses so far, if it has passed and is not kept."""
        take = self.takes[0]
        row = take.choice(metrics, self.epochs)
        return None if row is None or self._store(take).find(row["step"]) else row["epoch"]

    def after_epoch(
        self, metrics: Metrics, state: Callable[[], State]
    ) -> Iterator[tuple[Take, State]]:
        """Keep the state after an epoch for the takes that choose it so far.

        Args:
            metrics: The rows so far; the last is that of the epoch.
            state: Returns the run's present state.

        Yields:
            Each take whose choice is final, and the state it chose.
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

    def _store(self, take: Take) -> Checkpoints:
        # Two, because a run may resume from before the newest one and then choose another.
        return Checkpoints(self.folder / take.rule, keep=2)

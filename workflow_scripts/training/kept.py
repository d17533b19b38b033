"""The models of those epochs that a rule of selection would choose, beside the last one."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from workflow_scripts.common.choosing import HONEST_RULES, all_choices
from workflow_scripts.training.checkpoints import Checkpoints
from workflow_scripts.training.spec import RunSpec
from workflow_scripts.training.taking import Metrics, Row, last_top1

Entry = dict[str, Any]


class Kept:
    """Keeps one file for each epoch that a rule chooses so far; the last epoch is ``model.pt``.

    A replaced choice is kept for as long as the run may resume from an epoch before the newer one.

    Args:
        spec: The run; of a pre-training nothing is kept, because rules choose cleaned models.
        folder: The run's folder; the files are in ``kept`` below it.
    """

    def __init__(self, spec: RunSpec, folder: Path):
        self.folder, self.epochs, self.checkpoints = folder, spec.epochs, spec.checkpoint.keep
        self.active = spec.keep_selected and spec.kind == "cleaning"
        self.store = Checkpoints(folder / "kept", keep=spec.epochs + 1)
        start = spec.inputs.start
        metrics = Path(start).with_name("metrics.csv") if start else None
        # A start_change may have altered the accuracy before epoch 0.
        self._start_accuracy = last_top1(metrics) if metrics and metrics.is_file() else None

    def clear(self) -> None:
        """Remove what is kept: the run starts from scratch."""
        self.store.clear()

    def after_epoch(self, metrics: Metrics, weights: Callable[[], Mapping[str, Any]]) -> None:
        """Keep the weights after an epoch if a rule chooses it so far.

        Args:
            metrics: The rows so far; the last is that of the epoch.
            weights: Returns the model's present weights.
        """
        now = metrics[-1]
        if now["epoch"] == self.epochs:
            self.store.only({row["step"] for row in self._chosen(metrics).values()})
            return
        lengths = range(max(1, len(metrics) - self.checkpoints), len(metrics) + 1)
        wanted = [row["step"] for n in lengths for row in self._chosen(metrics[:n]).values()]
        if now["step"] in wanted:
            self.store.save(now["step"], dict(weights()))
        self.store.only(set(wanted))

    def record(self, metrics: Metrics) -> list[Entry]:
        """Return what each rule chooses of a finished run, for ``run.json``.

        Returns:
            Of each rule its name, whether it knows the trigger (``oracle``), the epoch, and the
            file of its weights, relative to the run's folder; the file is None if it was lost.
        """
        return [
            {
                "rule": rule,
                "oracle": rule not in HONEST_RULES,
                "epoch": row["epoch"],
                "file": self._file(row),
            }
            for rule, row in self._chosen(metrics).items()
        ]

    def _file(self, row: Row) -> str | None:
        if row["epoch"] == self.epochs:
            return "model.pt"
        file = self.store.file(row["step"])
        return None if file is None else str(file.relative_to(self.folder))

    def _chosen(self, metrics: Metrics) -> dict[str, Row]:
        """Return the row that each rule chooses, of those that choose one; epoch 0 is the start."""
        if not self.active:
            return {}
        rows = metrics if self.epochs == 0 else metrics[1:]
        before = metrics[0]["top1"] if self._start_accuracy is None else self._start_accuracy
        places = all_choices(rows, before).items()
        return {rule: rows[place] for rule, place in places if place is not None}

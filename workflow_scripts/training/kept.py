"""Keeping the models of the epochs that a selection rule would choose, in addition to the last."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from workflow_scripts.common.selection_rules import ORACLE_FREE_RULES, all_choices
from workflow_scripts.training.checkpoints import Checkpoints
from workflow_scripts.training.spec import RunSpec
from workflow_scripts.training.taking import Metrics, Row, last_top1

Entry = dict[str, Any]


class Kept:
    """Keeps a file for each epoch currently chosen by a rule; the last epoch is ``model.pt``.

    A superseded choice is kept as long as the run may resume from an epoch before its successor.

    Args:
        spec: The run; nothing is kept for pre-training, since rules select cleaned models.
        folder: The run's folder; the files are in its subfolder ``kept``.
    """

    def __init__(self, spec: RunSpec, folder: Path):
        self.folder, self.epochs, self.checkpoints = folder, spec.epochs, spec.checkpoint.keep
        self.active = spec.keep_selected and spec.kind == "cleaning"
        self.store = Checkpoints(folder / "kept", keep=spec.epochs + 1)
        start = spec.inputs.start
        metrics = Path(start).with_name("metrics.csv") if start else None
        # From the start model's metrics: a start_change may alter the accuracy at epoch 0.
        self._start_accuracy = last_top1(metrics) if metrics and metrics.is_file() else None

    def clear(self) -> None:
        """Remove all kept models, for a run that starts from scratch."""
        self.store.clear()

    def after_epoch(self, metrics: Metrics, weights: Callable[[], Mapping[str, Any]]) -> None:
        """Keep the weights after an epoch if a rule currently chooses this epoch.

        Args:
            metrics: The rows measured so far, ending with the current epoch.
            weights: Returns the model's current weights.
        """
        now = metrics[-1]
        if now["epoch"] == self.epochs:
            self.store.only({row["step"] for row in self._chosen(metrics).values()})
            return
        lengths = range(max(1, len(metrics) - self.checkpoints), len(metrics) + 1)
        steps = {row["step"] for n in lengths for row in self._chosen(metrics[:n]).values()}
        if now["step"] in steps:
            self.store.save(now["step"], dict(weights()))
        self.store.only(steps)

    def record(self, metrics: Metrics) -> list[Entry]:
        """Return the choices of all rules in a finished run, for ``run.json``.

        Returns:
            For each rule, its name, whether it uses the ASR (``oracle``), the epoch, and the file
            of the weights relative to the run's folder, or None if it was lost.
        """
        return [
            {
                "rule": rule,
                "oracle": rule not in ORACLE_FREE_RULES,
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
        """Return the row chosen by each rule that chooses one; epoch 0 is the start model."""
        if not self.active:
            return {}
        rows = metrics if self.epochs == 0 else metrics[1:]
        before = metrics[0]["top1"] if self._start_accuracy is None else self._start_accuracy
        places = all_choices(rows, before).items()
        return {rule: rows[place] for rule, place in places if place is not None}

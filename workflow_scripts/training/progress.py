"""The progress of a run, including the table rows so far, and the interface for reporting it."""

import dataclasses
from datetime import UTC, datetime
from typing import Any

from torch import Tensor

from workflow_scripts.training.spec import RunSpec
from workflow_scripts.training.taking import Take


def now() -> str:
    """Return the current UTC time in ISO 8601 format, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclasses.dataclass
class Progress:
    """The state in a checkpoint other than weights and optimiser state.

    ``loss_sum`` and ``seconds`` refer to the current epoch; ``wall_seconds`` is the total time of
    the run over all resumptions; ``measured`` holds the rows of the table of measures.
    """

    step: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    wall_seconds: float = 0.0
    metrics: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    timings: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    measured: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    resumptions: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    wandb_id: str | None = None

    def add_epoch(self, spec: RunSpec, epoch: int, steps: int, measured: dict[str, float]) -> str:
        """Append the table rows of an epoch and return a one-line summary.

        Args:
            spec: The run.
            epoch: The epoch; 0 is the start model.
            steps: Steps per epoch.
            measured: The evaluation after this epoch, by column of the metrics.
        """
        loss = self.loss_sum / steps if epoch else None
        seen = self.step * spec.batch_size
        row = {"run": spec.run, "epoch": epoch, "step": self.step, "samples_seen": seen}
        self.metrics.append({**row, "train_loss": loss, **measured})
        if epoch:
            speed = steps * spec.batch_size / self.seconds
            timing = {"seconds": self.seconds, "samples_per_second": speed}
            self.timings.append({"run": spec.run, "epoch": epoch, **timing})
        top1, success = 100 * measured["top1"], 100 * measured["asr_top1"]
        trained = f"loss {loss:.4f}, " if epoch else ""
        return f"epoch {epoch}/{spec.epochs}: {trained}accuracy {top1:.2f} %, ASR {success:.2f} %"

    def note_resumption(self, checkpoint: dict[str, Any], processes: int) -> None:
        """Record a resumption from a checkpoint by ``processes`` processes."""
        self.resumptions.append(
            {
                "step": self.step,
                "time": now(),
                "processes": processes,
                "processes_before": checkpoint["world_size"],
                "code_before": checkpoint.get("code"),
            }
        )

    def samples_per_second(self, batch_size: int) -> float | None:
        """Return the mean training speed without evaluations; None before the first epoch ends."""
        seconds = sum(timing["seconds"] for timing in self.timings)
        return self.step * batch_size / seconds if seconds else None


class Report:
    """Callbacks of the trainer, called on every process; this base class does nothing.

    The report is passed in, so that the trainer imports only code that affects a run's results.
    """

    code: str | None = None  # digest of the code, stored in checkpoints

    def begin(self, progress: Progress, total: int) -> None:
        """Called before training; some of the ``total`` steps may have been completed earlier."""

    def step(self, step: int, loss: Tensor, rate: float) -> None:
        """Called after each step."""

    def epoch(self, progress: Progress, summary: str, measured: dict[str, float]) -> None:
        """Called after the evaluation of an epoch."""

    def deliver(
        self,
        take: Take,
        state: dict[str, Any],
        evaluation: dict[str, int],
        kept: list[dict[str, Any]],
    ) -> None:
        """Called on the leading process with the state chosen by a take."""

    def close(self) -> None:
        """Called at the end, also after an error."""

    def finish(self) -> None:
        """Called after successful completion."""

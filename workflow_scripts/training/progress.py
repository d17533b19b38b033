"""How far a run has come, the tables' rows so far, and who is told."""

import dataclasses
from datetime import UTC, datetime
from typing import Any

from torch import Tensor

from workflow_scripts.training.spec import RunSpec
from workflow_scripts.training.taking import Take


def now() -> str:
    """Return the time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclasses.dataclass
class Progress:
    """What a checkpoint holds beside weights and optimiser.

    ``loss_sum`` and ``seconds`` are those of the epoch that is under way, ``wall_seconds`` those
    of all processes one after another that worked on the run; ``measured`` are rows of the table
    of measures.
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
        """Add an epoch's rows, and return them as a line for people.

        Args:
            spec: The run.
            epoch: 0 is the start model.
            steps: Steps of an epoch.
            measured: The evaluation after it, by the metrics' columns.
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
        """Note that a number of processes resume from a checkpoint, and which code made it."""
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
        """Return the mean training speed, evaluations apart; None before an epoch is over."""
        seconds = sum(timing["seconds"] for timing in self.timings)
        return self.step * batch_size / seconds if seconds else None


class Report:
    """What a trainer tells of its run, on every process; by itself it goes nowhere.

    It is passed in so that the trainer imports only what decides a run's numbers.
    """

    code: str | None = None  # digest of the code, noted in checkpoints

    def begin(self, progress: Progress, total: int) -> None:
        """Called before the first of ``total`` steps, some of which may have been done before."""

    def step(self, step: int, loss: Tensor, rate: float) -> None:
        """Called after each step."""

    def epoch(self, progress: Progress, summary: str, measured: dict[str, float]) -> None:
        """Called when an epoch has been measured."""

    def deliver(
        self,
        take: Take,
        state: dict[str, Any],
        evaluation: dict[str, int],
        kept: list[dict[str, Any]],
    ) -> None:
        """Called on the leading process with the state that a take has chosen."""

    def close(self) -> None:
        """Called at the end, also after an error."""

    def finish(self) -> None:
        """Called when all went well."""

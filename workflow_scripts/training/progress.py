"""How far a run has come, and the tables' rows so far."""

import dataclasses
from typing import Any

from workflow_scripts.training.spec import RunSpec


@dataclasses.dataclass
class Progress:
    """What a checkpoint holds beside weights and optimiser.

    ``loss_sum`` and ``seconds`` are those of the epoch that is under way, ``wall_seconds`` those
    of all processes one after another that worked on the run.
    """

    step: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    wall_seconds: float = 0.0
    metrics: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    timings: list[dict[str, Any]] = dataclasses.field(default_factory=list)
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

    def note_resumption(self, checkpoint: dict[str, Any], time: str, processes: int) -> None:
        """Note that so many processes go on from a checkpoint, and by whose code it was made."""
        self.resumptions.append(
            {
                "step": self.step,
                "time": time,
                "processes": processes,
                "processes_before": checkpoint["world_size"],
                "code_before": checkpoint.get("code"),
            }
        )

    def samples_per_second(self, batch_size: int) -> float | None:
        """Return the mean training speed, evaluations apart; None before an epoch is over."""
        seconds = sum(timing["seconds"] for timing in self.timings)
        return self.step * batch_size / seconds if seconds else None

"""Display of a run: a progress bar, a line per epoch, and curves in Weights & Biases."""

import sys
import time
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from workflow_scripts.training.progress import Progress
from workflow_scripts.training.spec import RunSpec
from workflow_scripts.training.tracking import Tracker

_REFRESH_SECONDS = 5


class Display:
    """Shows the progress of a run, on the leading process only.

    Args:
        spec: The run.
        output: The run's folder.
        progress: The progress so far; the wandb id of the run is stored in it.
        total: Total number of steps.
        leads: Whether this is the leading process.
    """

    def __init__(self, spec: RunSpec, output: Path, progress: Progress, total: int, leads: bool):
        self.batch_size, self.leads = spec.batch_size, leads
        if leads:
            self._tracker = Tracker(spec, output, progress.wandb_id)
            progress.wandb_id = self._tracker.identity
        self._bar = tqdm(
            None,
            spec.run,
            total,
            initial=progress.step,
            mininterval=_REFRESH_SECONDS,
            disable=not leads,
        )
        self._shown_at, self._shown_step = time.monotonic(), progress.step

    def step(self, step: int, loss: Tensor, rate: float) -> None:
        """Show a step; the loss is read only every few seconds, since reading it blocks on GPUs."""
        self._bar.update()
        waited = time.monotonic() - self._shown_at
        if not self.leads or waited < _REFRESH_SECONDS:
            return
        speed = (step - self._shown_step) * self.batch_size / waited
        self._bar.set_postfix_str(f"loss {loss:.3f}, lr {rate:.2e}, {speed:.0f} samples/s", False)
        self._tracker.log({"loss": float(loss), "learning_rate": rate}, step)
        self._shown_at, self._shown_step = time.monotonic(), step

    def epoch(self, epoch: int, step: int, summary: str, measured: dict[str, float]) -> None:
        """Show the measurements of an epoch."""
        if self.leads:
            self._bar.write(summary, file=sys.stderr)
            self._tracker.log({"epoch": epoch, **measured}, step)

    def close(self) -> None:
        """Close the progress bar."""
        self._bar.close()

    def finish(self) -> None:
        """Mark the run as finished in wandb."""
        if self.leads:
            self._tracker.finish()

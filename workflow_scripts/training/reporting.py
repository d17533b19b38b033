"""Reporting of a run: progress display, tables, and outputs with provenance."""

from pathlib import Path
from typing import Any

from torch import Tensor

from workflow_scripts.common.distributed import ProcessGroup
from workflow_scripts.training import outputs
from workflow_scripts.training.display import Display
from workflow_scripts.training.progress import Progress, Report
from workflow_scripts.training.provenance import code_version, describe
from workflow_scripts.training.spec import RunSpec
from workflow_scripts.training.taking import LAST, Take


class Reporter(Report):
    """Displays a run and writes its outputs, on the leading process.

    Args:
        spec: The run.
        output: The run's folder.
        world: The process group.
        inputs: Digests of the input files.
    """

    def __init__(self, spec: RunSpec, output: Path, world: ProcessGroup, inputs: dict[str, str]):
        self.spec, self.output, self.world, self.inputs = spec, output, world, inputs
        # Read at the start: the files may be edited during the run.
        self._version = code_version(spec) if world.leads else {}
        self.code = self._version.get("digest")

    def begin(self, progress: Progress, total: int) -> None:
        """Show the progress bar."""
        self._display = Display(self.spec, self.output, progress, total, self.world.leads)

    def step(self, step: int, loss: Tensor, rate: float) -> None:
        """Show a step."""
        self._display.step(step, loss, rate)

    def epoch(self, progress: Progress, summary: str, measured: dict[str, float]) -> None:
        """Show the measurements of an epoch and write the tables so far."""
        if self.world.leads:
            outputs.write_tables(self.output, progress.metrics, progress.timings)
            outputs.write_measures(self.output, progress.measured)
        self._display.epoch(progress.metrics[-1]["epoch"], progress.step, summary, measured)

    def deliver(
        self,
        take: Take,
        state: dict[str, Any],
        evaluation: dict[str, int],
        kept: list[dict[str, Any]],
    ) -> None:
        """Write the outputs of the chosen epoch to the folder of the take."""
        spec, progress = self.spec, Progress(**state["progress"])
        record = describe(
            spec,
            self.world,
            self.inputs,
            epoch=progress.metrics[-1]["epoch"],
            chosen_by=take.record(),
            evaluation=evaluation,
            kept=kept,
            wall_seconds=progress.wall_seconds,
            samples_per_second=progress.samples_per_second(spec.batch_size),
            resumptions=progress.resumptions,
            code=self._version,
        )
        if take.rule != LAST:
            outputs.write_tables(take.folder, progress.metrics, progress.timings)
        # No run continues from a cleaned model, and the optimiser state of an RN50 takes 0.8 GB.
        optimizer = state["optimizer"] if spec.kind == "pretraining" else None
        outputs.write_results(take.folder, state["model"], optimizer, record)

    def close(self) -> None:
        """Close the progress bar."""
        self._display.close()

    def finish(self) -> None:
        """Mark the run as finished in wandb."""
        self._display.finish()

"""Measures that are taken during a run: before the first epoch and after each epoch."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from workflow_scripts.common.distributed import ProcessGroup
from workflow_scripts.common.seeds import seed_for
from workflow_scripts.evaluation.measure import context_of, take
from workflow_scripts.model.encoder import Encoder
from workflow_scripts.training.spec import RunSpec

Row = dict[str, Any]


class EpochMeasures:
    """Takes the measures in a run's ``inputs.measures``.

    Args:
        spec: The run.
        world: The process group.
        workers: Data loader workers of this process.
    """

    def __init__(self, spec: RunSpec, world: ProcessGroup, workers: int):
        self.spec = spec
        self._gpus = [world.device] if world.device.type == "cuda" else []
        # The results root, not the staged copies: a measure may read other images.
        inputs = {"root": spec.inputs.root, "instances": spec.inputs.instances}
        self._declared = [
            (measure, context_of(spec.attack, inputs, measure, world, workers))
            for measure in spec.inputs.measures or ()
        ]

    def __call__(self, encoder: Encoder, epoch: int) -> list[Row]:
        """Return a row for each score, with the columns ``columns.LONG_COLUMNS``.

        Must be called on all processes. Random numbers drawn by a measure depend on the run's seed
        and the epoch and do not affect those of the training.
        """
        rows = []
        for declared, context in self._declared:
            with torch.random.fork_rng(self._gpus):
                torch.manual_seed(seed_for(self.spec.seed, "measure", epoch))
                scores = take(encoder, context, declared)
            rows += [
                {
                    "run": self.spec.run,
                    "epoch": epoch,
                    "measure": declared["id"],
                    "name": name,
                    "value": float(score.value),
                    "of": score.of,
                }
                for name, score in scores.items()
            ]
        return rows


def measure_files(declared: Mapping[str, Any]) -> Iterator[Path]:
    """Yield the input files of a measure."""
    if declared["evaluation"] is not None:
        folder = Path(declared["evaluation"])
        yield from (folder / "manifest.parquet", folder / "classes.json")
    if declared["pairs"] is not None:
        yield Path(declared["pairs"])

"""The measures that a run takes before its first epoch and after each."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from workflow_scripts.common.distributed import World
from workflow_scripts.common.seeds import seed_for
from workflow_scripts.evaluation.measure import context_of, take
from workflow_scripts.model.encoder import Encoder
from workflow_scripts.training.spec import RunSpec

Row = dict[str, Any]


class EpochMeasures:
    """Takes the measures of a run's ``inputs.measures``.

    Args:
        spec: The run.
        world: The processes.
        workers: Loader processes of this process.
    """

    def __init__(self, spec: RunSpec, world: World, workers: int):
        self.spec = spec
        self._gpus = [world.device] if world.device.type == "cuda" else []
        # Where the images are, not their staged copies: a measure may read others.
        inputs = {"root": spec.inputs.root, "instances": spec.inputs.instances}
        self._declared = [
            (one, context_of(spec.attack, inputs, one, world, workers))
            for one in spec.inputs.measures or ()
        ]

    def __call__(self, encoder: Encoder, epoch: int) -> list[Row]:
        """Return a row for each number: ``columns.LONG_COLUMNS``; all processes call it.

        Random numbers that a measure draws depend on the run's seed and the epoch, and leave those
        of the training alone.
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
    """Yield the files that a measure is taken on."""
    if declared["evaluation"] is not None:
        folder = Path(declared["evaluation"])
        yield from (folder / "manifest.parquet", folder / "classes.json")
    if declared["pairs"] is not None:
        yield Path(declared["pairs"])

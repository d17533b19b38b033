"""What a run leaves behind: weights, optimiser, tables; and reading them back."""

import csv
import pickle
from pathlib import Path
from typing import Any

import torch

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import atomic
from workflow_scripts.training.checkpoints import save_tensors

SCORES = ["top1", "top3", "top5", "top10", "asr_top1", "asr_top3", "asr_top5", "asr_top10"]
METRICS = ["run", "epoch", "step", "samples_seen", "train_loss", *SCORES, "triggered_top1"]
TIMINGS = ["run", "epoch", "seconds", "samples_per_second"]


def write_tables(folder: Path, metrics: list[dict], timings: list[dict]) -> None:
    """Write ``metrics.csv`` (the same bytes for the same run) and ``timings.csv`` (never)."""
    _write_csv(folder / "metrics.csv", METRICS, metrics)
    _write_csv(folder / "timings.csv", TIMINGS, timings)


def _write_csv(path: Path, columns: list[str], rows: list[dict[str, Any]]) -> None:
    with atomic(path) as temporary, temporary.open("w", newline="") as file:
        table = csv.DictWriter(file, columns, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def write_tensors(path: Path, content: dict) -> None:
    """Write a state dict, whole or not at all."""
    with atomic(path) as temporary:
        save_tensors(content, temporary)


def read_optimizer(path: str) -> dict:
    """Read the optimiser's state that a run has left.

    Raises:
        StepError: It is missing or broken.
    """
    if not Path(path).is_file():
        raise StepError(f"there is no optimiser state {path}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise StepError(f"{path} is not an optimiser's state, or is damaged") from error

"""What a run leaves behind: weights, optimiser, tables, provenance."""

import csv
from pathlib import Path
from typing import Any

from workflow_scripts.common.files import atomic, write_json
from workflow_scripts.training.tensors import save_tensors

SCORES = ["top1", "top3", "top5", "top10", "asr_top1", "asr_top3", "asr_top5", "asr_top10"]
HELD_OUT = ["heldout_mmcl", "heldout_ssl"]
METRICS = [
    "run", "epoch", "step", "samples_seen", "train_loss", *SCORES, "triggered_top1", *HELD_OUT,
]  # fmt: skip
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


def write_results(folder: Path, weights: dict, optimizer: dict, record: dict) -> None:
    """Write ``model.pt``, ``optimizer.pt`` and ``run.json``, which is there when all else is."""
    for name, content in (("model.pt", weights), ("optimizer.pt", optimizer)):
        with atomic(folder / name) as temporary:
            save_tensors(content, temporary)
    write_json(folder / "run.json", record)

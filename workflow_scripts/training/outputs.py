"""The outputs of a run: weights, optimiser state, tables, provenance."""

import contextlib
import csv
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from workflow_scripts.common.columns import (
    HELDOUT_COLUMNS,
    LONG_COLUMNS,
    METRIC_COLUMNS,
    TIMING_COLUMNS,
)
from workflow_scripts.common.files import atomic, atomic_folder, read_json, write_json
from workflow_scripts.model.tensors import save_tensors

METRICS = ["run", *METRIC_COLUMNS, *HELDOUT_COLUMNS]
TIMINGS = ["run", "epoch", *TIMING_COLUMNS]
# run.json is written last: if it exists, the outputs are complete.
_FILES = ("model.pt", "optimizer.pt", "metrics.csv", "timings.csv", "measures.csv", "run.json")
_KEPT = ".finished"


def write_tables(folder: Path, metrics: list[dict], timings: list[dict]) -> None:
    """Write ``metrics.csv``, which is byte-identical for identical runs, and ``timings.csv``.

    For an attack with several parts, ``metrics.csv`` has additional columns after the others.
    """
    columns = list(dict.fromkeys([*METRICS, *(name for row in metrics for name in row)]))
    _write_csv(folder / "metrics.csv", columns, metrics)
    _write_csv(folder / "timings.csv", TIMINGS, timings)


def write_measures(folder: Path, rows: list[dict]) -> None:
    """Write ``measures.csv``, the measures taken at each epoch, if there are any."""
    if rows:
        _write_csv(folder / "measures.csv", list(LONG_COLUMNS), rows)


def _write_csv(path: Path, columns: list[str], rows: list[dict[str, Any]]) -> None:
    with atomic(path) as temporary, temporary.open("w", newline="") as file:
        table = csv.DictWriter(file, columns, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def write_results(folder: Path, weights: dict, optimizer: dict | None, record: dict) -> None:
    """Write ``model.pt``, ``optimizer.pt`` (unless None) and ``run.json``, and a backup of all.

    The backup consists of hard links in ``.finished``, which need no disk space. Snakemake deletes
    the outputs of jobs that it has not recorded as successful: if Snakemake itself is killed, days
    of training would be lost.
    """
    for name, content in (("model.pt", weights), ("optimizer.pt", optimizer)):
        if content is not None:
            with atomic(folder / name) as temporary:
                save_tensors(content, temporary)
    write_json(folder / "run.json", record)
    # No backup on file systems without hard links.
    with contextlib.suppress(OSError), atomic_folder(folder / _KEPT) as kept:
        for name in _FILES:
            if (folder / name).exists():
                os.link(folder / name, kept / name)


def finished(folder: Path, identity: str, inputs: dict[str, str], chosen_by: dict) -> str | None:
    """Return the time at which a run with a backup in ``folder`` finished.

    Args:
        folder: The output folder.
        identity: The run spec's digest.
        inputs: Digests of the input files.
        chosen_by: How the epoch is chosen, as returned by :meth:`Take.record`.

    Returns:
        ISO 8601 time; None if there is no backup or it belongs to a different run.
    """
    if not (folder / _KEPT / "run.json").is_file():
        return None
    record = read_json(folder / _KEPT / "run.json")
    same = (record["identity"], record["inputs"], record.get("chosen_by"))
    return record["finished"] if same == (identity, inputs, chosen_by) else None


def bring_back(folder: Path, identity: str, inputs: dict[str, str], chosen_by: dict) -> bool:
    """Restore the outputs of a finished run from its backup.

    Args:
        folder: The output folder.
        identity: The run spec's digest.
        inputs: Digests of the input files.
        chosen_by: How the epoch is chosen, as returned by :meth:`Take.record`.

    Returns:
        Whether there was a backup of this run; a backup of a different run is removed.
    """
    kept = folder / _KEPT
    when = finished(folder, identity, inputs, chosen_by)
    if when is None:
        shutil.rmtree(kept, ignore_errors=True)
        return False
    for name in _FILES:
        if (kept / name).exists():
            (folder / name).unlink(missing_ok=True)
            os.link(kept / name, folder / name)
    print(
        f"already finished on {when}: nothing to do; to train again, remove {kept}",
        file=sys.stderr,
    )
    return True

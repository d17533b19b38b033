"""Read published points of a cleaning plot into the tidy table, to draw and compare them.

Needs   a JSON file of fractions: {name: [[ASR per epoch, runs one after another], [accuracy ...]]}.
Makes   <output>.parquet and <output>.csv, the tidy table of collect.py.

Such a file holds neither the start models nor the learning rates. What a series is, its name
says in the published code's own way, which only this module reads; or you say it (--labels).
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import read_json
from workflow_scripts.results.table import order, stem, write_table

_NAME = re.compile(
    r"cleaning_poisoned_(?P<data>cc\d+m)_(?P<start>mmcl_ssl|mmcl)_(?P<poisoned>\d+)poison"
    r"_clean_(?P<defence>mmcl_ssl|mmcl|ssl)_lr_(?:cleaningdata_poison_(?P<left>\d+))?"
)
EPOCHS, IMAGES, ASR_IMAGES = 20, 50_000, 49_950  # of the published runs; ImageNet's
_STARTS = {"mmcl": "MMCL", "mmcl_ssl": "MMCL+SSL"}
_DEFENCES = {"mmcl": "MMCL", "ssl": "SSL", "mmcl_ssl": "MMCL + SSL (CleanCLIP)"}


def read_published(
    path: Path,
    epochs: int,
    images: int,
    asr_images: int,
    labels: dict[str, dict[str, Any]] | None = None,
) -> pd.DataFrame:
    """Return the tidy table of a file of published points.

    Args:
        path: The JSON file.
        epochs: Epochs of each run. Where the number of points is no multiple of it, the last
            run is the one that is shorter; the file does not say which it was.
        images: Evaluation images behind each accuracy.
        asr_images: Evaluation images behind each ASR.
        labels: For each name of the file, columns of its runs such as ``start_label`` and
            ``defence``; names that are left out are read by the published code's pattern.

    Raises:
        StepError: The file has another shape, or a name says nothing and has no labels.
    """
    series = [
        _series(name, values, epochs, _columns(name, labels or {}, path), path)
        for name, values in _read(path).items()
    ]
    return order(pd.concat(series).assign(images=images, asr_images=asr_images))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StepError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict) or not content:
        raise StepError(f"{path} must hold {{name: [[ASR ...], [accuracy ...]]}}")
    return content


def _columns(name: str, labels: dict[str, dict[str, Any]], path: Path) -> dict[str, Any]:
    if name in labels:
        return labels[name]
    said = _NAME.fullmatch(name)
    if not said:
        raise StepError(f"{path}: the name {name!r} does not say what it is; say it in --labels")
    columns = {
        "start_label": f"{said['data'].upper()}, {_STARTS[said['start']]}",
        "defence": _DEFENCES[said["defence"]],
        "attack.poisoned": int(said["poisoned"]),
    }
    return columns | ({"data.poisoned_left": int(said["left"])} if said["left"] else {})


def _series(
    name: str, values: Any, epochs: int, columns: dict[str, Any], path: Path
) -> pd.DataFrame:
    try:
        asr, accuracy = (np.asarray(v, float) for v in values)
    except (TypeError, ValueError) as error:
        raise StepError(f"{path}: {name} must be two lists of numbers") from error
    if asr.ndim != 1 or asr.shape != accuracy.shape or not len(asr):
        raise StepError(f"{path}: {name} must have as many ASRs as accuracies, and some")
    if not ((asr >= 0) & (asr <= 1) & (accuracy >= 0) & (accuracy <= 1)).all():
        raise StepError(f"{path}: {name} holds a number outside 0..1; these are fractions")
    place = np.arange(len(asr))
    runs = pd.Series(place // epochs).map(f"{name.rstrip('_')}-{{:02d}}".format)
    table = pd.DataFrame({"run": runs, "epoch": place % epochs + 1})
    table = table.assign(top1=accuracy, asr_top1=asr, kind="cleaning", **columns)
    return table.assign(start="published " + table["start_label"])


def start_rows(
    starts: list[tuple[str, float, float]], images: int, asr_images: int
) -> pd.DataFrame:
    """Return rows of start models from their label, accuracy and ASR (fractions)."""
    table = pd.DataFrame(starts, columns=["start_label", "top1", "asr_top1"])
    name = "published " + table["start_label"].astype(str)
    return table.assign(
        run=name, start=name, kind="pretraining", epoch=0, images=images, asr_images=asr_images
    )


def _start(values: list[str]) -> tuple[str, float, float]:
    try:
        return values[0], float(values[1]), float(values[2])
    except ValueError as error:
        raise StepError(f"--start {' '.join(values)}: give label, accuracy, ASR") from error


def main(arguments: list[str] | None = None) -> None:
    """Write the tidy table of published points."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=Path, nargs="+", required=True, help="the JSON files")
    parser.add_argument("--output", type=Path, required=True, help="metrics.parquet")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of each run (20)")
    parser.add_argument("--images", type=int, default=IMAGES, help="of the evaluation set")
    parser.add_argument(
        "--asr-images", type=int, default=ASR_IMAGES, help="not of the target class"
    )
    parser.add_argument("--labels", type=Path, help="JSON: {name: {start_label, defence, ...}}")
    parser.add_argument(
        "--start", nargs=3, action="append", default=[], metavar=("LABEL", "ACCURACY", "ASR"),
        help="a start model, as fractions: the file does not hold them",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    if options.epochs < 1:
        raise StepError("--epochs must be 1 or more")
    labels = read_json(options.labels) if options.labels else None
    tables = [
        read_published(path, options.epochs, options.images, options.asr_images, labels)
        for path in options.points
    ]
    starts = [_start(values) for values in options.start]
    if starts:
        tables.insert(0, start_rows(starts, options.images, options.asr_images))
    table = order(pd.concat(tables, ignore_index=True))
    twice = table.loc[table.duplicated(["run", "epoch"]), "run"].unique()
    if len(twice):
        raise StepError(f"{twice[0]} is in more than one of the files; give one at a time")
    write_table(stem(options.output), table)


if __name__ == "__main__":
    run_step(main)

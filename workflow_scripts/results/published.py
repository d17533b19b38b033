"""Read published points of a cleaning plot into the tidy table, to draw and compare them.

Needs   JSON files of fractions: {name: [[ASR per epoch, one run after another], [accuracy ...]]}.
Makes   <output>.parquet and <output>.csv, the tidy table of collect.py.

Such a file holds neither the learning rates nor, in most cases, the start models, and it does not
say how many points a run has. A name is read by the published code's pattern
(`cleaning_poisoned_cc6m_mmcl_3000poison_clean_ssl_lr_`); whatever it does not say is given by
options, and is never assumed.
"""

import argparse
import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import read_json
from workflow_scripts.results.table import order, stem, write_table

EPOCHS, IMAGES, ASR_IMAGES = 20, 50_000, 49_950
"""Points of each published CC6M run; ImageNet's validation images, and those that are no banana."""

_NAME = re.compile(
    r"cleaning_poisoned_(?:(?P<data>cc\d+m)_)?(?P<start>mmcl_ssl|mmcl)"
    r"(?:_(?P<poisoned>\d+)poison|_poison_(?P<count>\d+))?"
    r"_clean_(?P<defence>mmcl_ssl|mmcl|ssl)_lr_"
    r"(?:cleaningdata_poison_(?P<left>\d+)|ssl_weight_(?P<ssl>\d+))?"
)
_STARTS = {"mmcl": "MMCL", "mmcl_ssl": "MMCL+SSL"}
_DEFENCES = {"mmcl": "MMCL", "ssl": "SSL", "mmcl_ssl": "MMCL + SSL (CleanCLIP)"}
_NUMBERS = {"poisoned": "attack.poisoned", "count": "attack.poisoned",
            "left": "data.poisoned_left", "ssl": "objective.ssl"}  # fmt: skip
_NEEDED = ("start_label", "defence")
_SAME_START = 0.001  # accuracies of one model, measured again on another GPU, differ by less


def read_published(
    path: Path,
    *,
    epochs: int = EPOCHS,
    first_epoch: int | None = None,
    images: int = IMAGES,
    asr_images: int = ASR_IMAGES,
    dataset: str | None = None,
    labels: Mapping[str, Mapping[str, Any] | None] | None = None,
    start: Mapping[str, tuple[float, float]] | None = None,
) -> pd.DataFrame:
    """Return the tidy table of a file of published points.

    Series without points are left out.

    Args:
        path: The JSON file.
        epochs: Points of each run; every series must hold a multiple of it.
        first_epoch: 0 if the first point of a run is its start model, else 1. None is 0 for runs
            of 21 points, which the published code measures before their 20 epochs as well.
        images: Evaluation images behind each accuracy.
        asr_images: Evaluation images behind each ASR.
        dataset: Name of the pre-training data where a series' name does not hold it.
        labels: Name of a series to columns of its runs such as ``start_label`` and ``defence``,
            which win over what the name says; None leaves the series out.
        start: ``start_label`` to the accuracy and ASR of the start model (fractions).

    Raises:
        StepError: The file has another shape, a number of points that does not fit ``epochs``, or
            a series that neither its name nor ``labels`` describes.
    """
    content, labels = _read(path), labels or {}
    for name in labels:
        if name not in content:
            near = difflib.get_close_matches(name, content, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f" (it has {', '.join(content)})"
            raise StepError(f"{path} has no series {name!r}{hint}")
    if first_epoch is None:
        first_epoch = 0 if epochs == EPOCHS + 1 else 1
    tables = []
    for name, values in content.items():
        shares = _shares(name, values, path)
        if len(shares) and labels.get(name, {}) is not None:
            columns = _columns(name, labels.get(name) or {}, dataset, path)
            tables.append(_series(name, shares, epochs, columns, path))
    if not tables:
        raise StepError(f"{path} holds no points: all of its series are empty or left out")
    table = pd.concat(tables)
    table["epoch"] += first_epoch
    _check_starts(table, path)
    rows = [_start_row(label, shares) for label, shares in (start or {}).items()]
    table = pd.concat([*rows, table]).assign(images=images, asr_images=asr_images)
    return order(table)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise StepError(f"{path} does not exist; give a JSON file of published points")
    content = read_json(path)
    if not isinstance(content, dict) or not content:
        raise StepError(f"{path} must hold {{name: [[ASR ...], [accuracy ...]]}}")
    return content


def _shares(name: str, values: Any, path: Path) -> np.ndarray:
    """Return float64 [points, 2]: ASR and accuracy."""
    if values == []:
        return np.empty((0, 2))
    try:
        asr, accuracy = (np.asarray(v, float) for v in values)
    except (TypeError, ValueError) as error:
        raise StepError(f"{path}: {name} must be two lists of numbers, ASR and accuracy") from error
    if asr.ndim != 1 or asr.shape != accuracy.shape:
        raise StepError(f"{path}: {name} must have as many ASRs as accuracies")
    shares = np.stack([asr, accuracy], axis=1)
    if not ((shares >= 0) & (shares <= 1)).all():
        raise StepError(f"{path}: {name} has a number outside 0..1; give fractions, not percent")
    return shares


def _columns(
    name: str, labels: Mapping[str, Any], dataset: str | None, path: Path
) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    if said := _NAME.fullmatch(name):
        columns = {column: int(said[part]) for part, column in _NUMBERS.items() if said[part]}
        columns["defence"] = _DEFENCES[said["defence"]]
        if data := (said["data"] or "").upper() or dataset:
            columns["start_label"] = f"{data}, {_STARTS[said['start']]}"
    columns |= labels
    missing = [column for column in _NEEDED if column not in columns]
    if missing:
        option = "its 'dataset' or its" if said and missing == ["start_label"] else "its"
        raise StepError(
            f"{path}: the name {name!r} does not say its {' and '.join(missing)}; give {option} "
            "'labels'"
        )
    return columns


def _series(
    name: str, shares: np.ndarray, epochs: int, columns: dict[str, Any], path: Path
) -> pd.DataFrame:
    """Return the rows of a series; epochs count from 0."""
    if len(shares) % epochs:
        hint = ""
        if len(shares) % (epochs + 1) == 0:
            hint = f" ({epochs + 1}, the first one being the start model?)"
        raise StepError(
            f"{path}: {name} has {len(shares)} points, which is not a multiple of {epochs}; set "
            f"'epochs' to the points of each run{hint}, or leave it out by null in 'labels'"
        )
    place = np.arange(len(shares))
    runs = pd.Series(place // epochs).map(f"{name.rstrip('_')}-{{:02d}}".format)
    table = pd.DataFrame(columns, index=place).assign(run=runs, epoch=place % epochs)
    table = table.assign(asr_top1=shares[:, 0], top1=shares[:, 1], kind="cleaning")
    return table.assign(start="published " + table["start_label"])


def _check_starts(table: pd.DataFrame, path: Path) -> None:
    """Raise a StepError if runs of one start model do not begin with one accuracy."""
    for label, begins in table[table["epoch"] == 0].groupby("start_label", sort=False)["top1"]:
        if np.ptp(begins) > _SAME_START:
            raise StepError(
                f"{path}: the first points of the runs of {label} are not one start model "
                f"(accuracy {begins.min():.3f} to {begins.max():.3f}); set 'first_epoch' to 1, or "
                "check 'epochs'"
            )


def _start_row(label: str, shares: tuple[float, float]) -> pd.DataFrame:
    try:
        accuracy, asr = map(float, shares)
    except (TypeError, ValueError):
        accuracy = asr = np.nan
    if not (0 <= accuracy <= 1 and 0 <= asr <= 1):
        raise StepError(f"start {label!r}: give accuracy and ASR as fractions, not {shares!r}")
    name = f"published {label}"
    row = {"run": name, "start": name, "start_label": label, "kind": "pretraining", "epoch": 0}
    return pd.DataFrame([row | {"top1": accuracy, "asr_top1": asr}])


def main(arguments: list[str] | None = None) -> None:
    """Write the tidy table of published points."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=Path, nargs="+", required=True, help="the JSON files")
    parser.add_argument("--output", type=Path, required=True, help="metrics.parquet")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="points of each run (20)")
    parser.add_argument(
        "--first-epoch", type=int, choices=[0, 1],
        help="0 if each run begins with its start model (default for 21 points), else 1",
    )  # fmt: skip
    parser.add_argument("--images", type=int, default=IMAGES, help="of the evaluation set")
    parser.add_argument(
        "--asr-images", type=int, default=ASR_IMAGES, help="not of the target class"
    )
    parser.add_argument("--dataset", help="of series whose name does not hold it (CC3M)")
    parser.add_argument(
        "--labels", type=Path,
        help="JSON: {name: {start_label, defence, ...}}; null leaves a series out",
    )  # fmt: skip
    parser.add_argument(
        "--start", nargs=3, action="append", default=[], metavar=("LABEL", "ACCURACY", "ASR"),
        help="a start model, as fractions",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    if options.epochs < 1:
        raise StepError("--epochs must be 1 or more")
    starts = {label: shares for label, *shares in options.start}
    tables = [
        read_published(
            path,
            epochs=options.epochs,
            first_epoch=options.first_epoch,
            images=options.images,
            asr_images=options.asr_images,
            dataset=options.dataset,
            labels=read_json(options.labels) if options.labels else None,
            start=starts if n == 0 else None,
        )
        for n, path in enumerate(options.points)
    ]
    table = order(pd.concat(tables, ignore_index=True))
    twice = table.loc[table.duplicated(["run", "epoch"]), "run"].unique()
    if len(twice):
        raise StepError(f"{twice[0]} is in more than one of the files; give one at a time")
    write_table(stem(options.output), table)


if __name__ == "__main__":
    run_step(main)

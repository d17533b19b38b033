"""Convert published points of a cleaning plot to the tidy table, to draw and compare them.

Inputs  JSON files of fractions: {name: [[ASR per epoch, one run after another], [accuracy ...]]}.
Outputs <output>.parquet and <output>.csv, the tidy table of collect.py.

Such a file contains neither the learning rates nor, in most cases, the start models, and does not
state the number of points per run. Names are parsed by the pattern of the published code
(`cleaning_poisoned_cc6m_mmcl_3000poison_clean_ssl_lr_`); anything a name does not contain must be
given as an option and is never assumed.
"""

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workflow_scripts.common.errors import StepError, nearest, run_step
from workflow_scripts.common.files import read_json
from workflow_scripts.results.table import order, stem, write_table

EPOCHS, IMAGES, ASR_IMAGES = 20, 50_000, 49_950
"""Points per published CC6M run; ImageNet validation images, and those that show no banana."""

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
_SAME_START = 0.001  # accuracies of one model measured on different GPUs differ by less


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
    """Return the tidy table of a file of published points; empty series are skipped.

    Args:
        path: The JSON file.
        epochs: Points per run; the length of every series must be a multiple of it.
        first_epoch: 0 if the first point of a run is its start model, else 1. None means 0 for
            runs of 21 points, because the published code also evaluates before their 20 epochs,
            and 1 otherwise.
        images: Evaluation images behind each accuracy.
        asr_images: Evaluation images behind each ASR.
        dataset: Name of the pre-training data, for series whose name does not contain it.
        labels: Name of a series to columns of its runs such as ``start_label`` and ``defence``,
            which override what the name says; None skips the series.
        start: ``start_label`` to the accuracy and ASR of the start model (fractions).

    Raises:
        StepError: The file is malformed, a series' length does not fit ``epochs``, or a series
            is described neither by its name nor by ``labels``.
    """
    content, labels = _read(path), labels or {}
    for name in labels:
        if name not in content:
            raise StepError(f"{path} has no series {name!r}; {nearest(name, content)}")
    if first_epoch is None:
        first_epoch = 0 if epochs == EPOCHS + 1 else 1
    tables = []
    for name, values in content.items():
        shares = _shares(name, values, path)
        if len(shares) and labels.get(name, {}) is not None:
            columns = _columns(name, labels.get(name) or {}, dataset, path)
            tables.append(_series(name, shares, epochs, columns, path))
    if not tables:
        raise StepError(f"{path} contains no points: all of its series are empty or excluded")
    table = pd.concat(tables)
    table["epoch"] += first_epoch
    _check_starts(table, path)
    rows = [_start_row(label, shares) for label, shares in (start or {}).items()]
    table = pd.concat([*rows, table]).assign(images=images, asr_images=asr_images)
    return order(table)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise StepError(f"{path} does not exist; specify a JSON file of published points")
    content = read_json(path)
    if not isinstance(content, dict) or not content:
        raise StepError(f"{path} must contain {{name: [[ASR ...], [accuracy ...]]}}")
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
        raise StepError(f"{path}: {name} must have the same number of ASRs and accuracies")
    shares = np.stack([asr, accuracy], axis=1)
    if not ((shares >= 0) & (shares <= 1)).all():
        raise StepError(f"{path}: {name} has a number outside 0..1; use fractions, not percentages")
    return shares


def _columns(
    name: str, labels: Mapping[str, Any], dataset: str | None, path: Path
) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    if match := _NAME.fullmatch(name):
        columns = {column: int(match[part]) for part, column in _NUMBERS.items() if match[part]}
        columns["defence"] = _DEFENCES[match["defence"]]
        if data := (match["data"] or "").upper() or dataset:
            columns["start_label"] = f"{data}, {_STARTS[match['start']]}"
    columns |= labels
    missing = [column for column in _NEEDED if column not in columns]
    if missing:
        option = "'dataset' or " if match and missing == ["start_label"] else ""
        raise StepError(
            f"{path}: the name {name!r} does not contain {' and '.join(missing)}; set "
            f"{option}'labels'"
        )
    return columns


def _series(
    name: str, shares: np.ndarray, epochs: int, columns: dict[str, Any], path: Path
) -> pd.DataFrame:
    """Return the rows of a series; epochs are counted from 0."""
    if len(shares) % epochs:
        hint = ""
        if len(shares) % (epochs + 1) == 0:
            hint = f" ({epochs + 1} if the first point is the start model)"
        raise StepError(
            f"{path}: {name} has {len(shares)} points, which is not a multiple of {epochs}; set "
            f"'epochs' to the number of points per run{hint}, or exclude the series with null in "
            "'labels'"
        )
    place = np.arange(len(shares))
    runs = pd.Series(place // epochs).map(f"{name.rstrip('_')}-{{:02d}}".format)
    table = pd.DataFrame(columns, index=place).assign(run=runs, epoch=place % epochs)
    table = table.assign(asr_top1=shares[:, 0], top1=shares[:, 1], kind="cleaning")
    return table.assign(start="published " + table["start_label"])


def _check_starts(table: pd.DataFrame, path: Path) -> None:
    """Raise a StepError if runs of one start model begin with different accuracies."""
    for label, begins in table[table["epoch"] == 0].groupby("start_label", sort=False)["top1"]:
        if np.ptp(begins) > _SAME_START:
            raise StepError(
                f"{path}: the first points of the runs of {label} do not belong to one start "
                f"model (accuracy {begins.min():.3f} to {begins.max():.3f}); set 'first_epoch' to "
                "1, or check 'epochs'"
            )


def _start_row(label: str, shares: tuple[float, float]) -> pd.DataFrame:
    try:
        accuracy, asr = map(float, shares)
    except (TypeError, ValueError):
        accuracy = asr = np.nan
    if not (0 <= accuracy <= 1 and 0 <= asr <= 1):
        raise StepError(
            f"start {label!r}: accuracy and ASR must be fractions in 0..1, got {shares!r}"
        )
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
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="points per run (20)")
    parser.add_argument(
        "--first-epoch", type=int, choices=[0, 1],
        help="0 if each run begins with its start model (default for 21 points), else 1",
    )  # fmt: skip
    parser.add_argument("--images", type=int, default=IMAGES, help="number of evaluation images")
    parser.add_argument(
        "--asr-images", type=int, default=ASR_IMAGES,
        help="number of evaluation images that are not of the target class",
    )  # fmt: skip
    parser.add_argument(
        "--dataset", help="pre-training data of series whose name does not contain it (CC3M)"
    )
    parser.add_argument(
        "--labels", type=Path,
        help="JSON: {name: {start_label, defence, ...}}; null excludes a series",
    )  # fmt: skip
    parser.add_argument(
        "--start", nargs=3, action="append", default=[], metavar=("LABEL", "ACCURACY", "ASR"),
        help="accuracy and ASR of a start model, as fractions",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    if options.epochs < 1:
        raise StepError(f"--epochs must be positive, got {options.epochs}")
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
    duplicated = table.loc[table.duplicated(["run", "epoch"]), "run"].unique()
    if len(duplicated):
        raise StepError(
            f"run {duplicated[0]} is in more than one of the files; convert them separately"
        )
    write_table(stem(options.output), table)


if __name__ == "__main__":
    run_step(main)

"""The data embedded in the page for the explorer: every epoch of every run, by column."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from workflow_scripts.common.columns import HELDOUT_COLUMNS, METRIC_COLUMNS
from workflow_scripts.results.formatting import value_text
from workflow_scripts.results.index.runs import NO_ATTACK, Run, differing, flat
from workflow_scripts.results.selection import ACCURACY, ASR, RECOVERY
from workflow_scripts.results.style import defence_looks

DIMENSIONS = {
    "defence": "Defence",
    "attack": "Attack",
    "start_label": "Start model",
    "objective": "Pre-training objective",
    "setting": "Setting of the defence",
    "dataset": "Dataset",
    "learning_rate": "Learning rate",
    "seed": "Seed",
    "experiments": "Experiment",
    "role": "Models",
}
NOT_CLEANED = "not cleaned"
_LABELS = {
    ACCURACY: "Accuracy (%)",
    ASR: "ASR (%)",
    RECOVERY: "Recovery (%)",
    "train_loss": "Training loss",
    "heldout_mmcl": "Held-out MMCL loss",
    "heldout_ssl": "Held-out SSL loss",
}
_NO_MEASURES = ("epoch", "step", "samples_seen")
ROLES = ("cleaned model", "start model", "clean control", "pre-training epoch", "before cleaning")


def measures_of(metrics: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the measures that the metrics contain.

    Returns:
        For each measure ``key``, ``label``, ``share`` (whether it is one), and ``of``, the column
        with the number of images behind it.
    """
    extra = [c for c in metrics if c.startswith("asr_") and c not in METRIC_COLUMNS]
    keys = [
        c
        for c in dict.fromkeys([ACCURACY, ASR, RECOVERY, *METRIC_COLUMNS, *HELDOUT_COLUMNS, *extra])
        if c not in _NO_MEASURES and c != "asr_images" and c in metrics and metrics[c].notna().any()
    ]
    return [_measure(key) for key in keys]


def _measure(key: str) -> dict[str, Any]:
    share = not key.startswith(("heldout", "train"))
    triggered = key.startswith(("asr_", "triggered"))
    text = key.replace("asr_", "ASR, ").replace("top", "top-").replace("_", " ")
    text = re.sub(r"part(?=\d)", "part ", text)
    label = _LABELS.get(key, f"{text[0].upper()}{text[1:]} (%)" if share else text)
    return {
        "key": key,
        "label": label,
        "share": share,
        "of": "asr_images" if triggered else "images",
    }


def end_measures(
    scores: pd.DataFrame, frame: pd.DataFrame
) -> tuple[list[dict[str, Any]], dict[str, list[Any]], dict[str, list[Any]]]:
    """Return the measures of finished models.

    Args:
        scores: ``run``, ``measure``, ``name``, ``value`` and ``of`` (count of a share, or missing).
        frame: Table of runs from ``runs.runs_frame``.

    Returns:
        The measures in the format of :func:`measures_of`; by key, one number per run of
        ``frame``; by ``of``, one count per run for each share.
    """
    measures: list[dict[str, Any]] = []
    values: dict[str, list[Any]] = {}
    counts: dict[str, list[Any]] = {}
    for (measure, name), own in scores.groupby(["measure", "name"], sort=False):
        # Vega-Lite and Tabulator interpret dots in field names as paths.
        key, by_run = f"{measure}/{name}", own.set_index("run")
        share = bool(own["of"].notna().any())
        of = f"of.{key}" if share else "images"
        words = re.sub(r" (\d+)", r", top \1", str(name).replace("_", " ").replace("asr", "ASR"))
        label = f"{measure}: {words}" + (" (%)" if share else "")
        measures.append({"key": key, "label": label, "share": share, "of": of, "end": True})
        scaled = by_run["value"].reindex(frame["run"]).astype(float) * (100 if share else 1)
        values[key] = [_rounded(value) for value in scaled]
        if share:
            counts[of] = [_count(by_run["of"].get(run)) for run in frame["run"]]
    return measures, values, counts


def at_models(
    values: Mapping[str, Sequence[float | None]],
    metrics: pd.DataFrame,
    frame: pd.DataFrame,
    models: Mapping[str, int | None],
) -> dict[str, list[float | None]]:
    """Convert numbers per run to columns of :func:`epochs_of`, at the epoch of the run's model.

    Args:
        values: By key, one number per run of ``frame``.
        metrics: The tidy table.
        frame: Table of runs from ``runs.runs_frame``.
        models: Epoch of each run's model; None: the last one.
    """
    place, table = _places(metrics, frame)
    last = table.groupby("run")["epoch"].transform("max")
    epoch = table["run"].map(models).astype(float).fillna(last)
    at = (table["epoch"] == epoch).tolist()
    runs = place[table["run"]].tolist()
    return {
        key: [own[run] if here else None for run, here in zip(runs, at, strict=True)]
        for key, own in values.items()
    }


def _places(metrics: pd.DataFrame, frame: pd.DataFrame) -> tuple[pd.Series, pd.DataFrame]:
    """Return the index of each run in ``frame``, and one row of ``metrics`` for each epoch."""
    place = pd.Series(range(len(frame)), index=frame["run"])
    place = place[~place.index.duplicated()]
    own = metrics[metrics["run"].isin(place.index)]
    return place, own.drop_duplicates(["run", "epoch"])


def epochs_of(
    metrics: pd.DataFrame, frame: pd.DataFrame, measures: Sequence[dict[str, Any]]
) -> dict[str, list[Any]]:
    """Return the tidy table by column; shares are in percent, numbers have five digits.

    Args:
        metrics: The tidy table; runs that are not in ``frame`` are dropped.
        frame: Table of runs from ``runs.runs_frame``; ``run`` of the result is an index into it.
        measures: Measures in the format of :func:`measures_of`.
    """
    place, table = _places(metrics, frame)
    last = table["epoch"] == table.groupby("run")["epoch"].transform("max")
    # A clean control may be a start model in another experiment.
    clean = table["run"].isin(frame.loc[frame["attack"] == NO_ATTACK, "run"])
    kind = table["kind"].where(~clean | (table["kind"] == "cleaning"), "baseline")
    role = np.select(
        [
            (kind == "cleaning") & ((table["epoch"] > 0) | last),
            (kind == "pretraining") & last,
            (kind == "baseline") & last,
            kind != "cleaning",
        ],
        [0, 1, 2, 3],
        4,
    )
    columns: dict[str, list[Any]] = {
        "run": place[table["run"]].tolist(),
        "epoch": table["epoch"].astype(int).tolist(),
        "role": role.tolist(),
    }
    for measure in measures:
        values = table[measure["key"]].astype(float) * (100 if measure["share"] else 1)
        columns[measure["key"]] = [_rounded(v) for v in values]
    return columns


def runs_of(runs: Sequence[Run], frame: pd.DataFrame, metrics: pd.DataFrame) -> dict[str, Any]:
    """Return the explorer's details of each run, by column; repeated texts are encoded."""
    last = metrics.drop_duplicates("run", keep="last").set_index("run")
    specs = [flat(dict(run.spec)) for run in runs]
    own = [key for key in differing(specs) if key != "run"]
    columns: dict[str, Sequence[Any]] = {
        "id": frame["run"].tolist(),
        "folder": frame["folder"].tolist(),
        "hours": [round(hours, 5) for hours in frame["hours"]],
        "passes": [_rounded(passes) for passes in frame["passes"]],
        "images": [_count(last["images"].get(run)) for run in frame["run"]],
        "asr_images": [_count(last["asr_images"].get(run)) for run in frame["run"]],
    }
    texts = {name: dimension_texts(frame, metrics, name) for name in DIMENSIONS if name != "role"}
    texts |= {
        "commit": [run.code.commit for run in runs],
        "digest": [str(run.record["code"].get("digest")) for run in runs],
        "code": [run.code.remark for run in runs],
        "finished": [run.record["finished"][:16].replace("T", " ") for run in runs],
        "device": [_device(run) for run in runs],
        "spec": ["\n".join(f"{k}: {s[k]}" for k in own if s.get(k) is not None) for s in specs],
    }
    coded = {name: _coded(values) for name, values in texts.items()}
    shared = {k: v for k, v in specs[0].items() if k not in own and v is not None and k != "run"}
    return {"columns": columns, "coded": coded, "shared": shared, "roles": list(ROLES)}


def dimension_texts(frame: pd.DataFrame, metrics: pd.DataFrame, name: str) -> list[str]:
    """Return the text of each run for one of :data:`DIMENSIONS`."""
    if name == "experiments":
        each = metrics.assign(experiments=metrics["experiments"].str.split(", "))
        each = each[["run", "experiments"]].explode("experiments").drop_duplicates()
        own = each.groupby("run")["experiments"].agg(", ".join)
        return [str(own.get(run, "")) for run in frame["run"]]
    if name == "defence":
        return [text or NOT_CLEANED for text in frame["defence"]]
    if name == "learning_rate":
        cleaned = frame["kind"] == "cleaning"
        return [value_text(v) if c else "" for v, c in zip(frame[name], cleaned, strict=True)]
    if name == "setting":
        both = zip(frame["setting"], frame["sweep"], strict=True)
        return [", ".join(filter(None, texts)) for texts in both]
    return [str(value) for value in frame[name]]


def level_styles(defences: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return colour and symbol of each defence, as in the static figures."""
    symbols = {"o": "circle", "^": "triangle-up", "s": "square", "D": "diamond",
               "v": "triangle-down", "P": "cross", "X": "wedge", "<": "triangle-left",
               ">": "triangle-right", "h": "arrow"}  # fmt: skip
    looks = defence_looks([d for d in defences if d != NOT_CLEANED])
    return {
        name: {"colour": look.colour, "shape": symbols[look.marker]} for name, look in looks.items()
    }


def _coded(values: Sequence[str]) -> dict[str, Any]:
    levels = list(dict.fromkeys(values))
    codes = {level: n for n, level in enumerate(levels)}
    return {"levels": levels, "codes": [codes[value] for value in values]}


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else float(f"{value:.5g}")


def _count(value: Any) -> int | None:
    return None if value is None or pd.isna(value) else int(value)


def _device(run: Run) -> str:
    hardware = run.record["hardware"]
    return f"{hardware['processes']} x {hardware['device']}"

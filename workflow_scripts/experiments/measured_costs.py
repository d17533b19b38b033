"""Costs measured on finished downloads and runs, which replace the assumptions of the config."""

import csv
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from workflow_scripts.common.files import read_json
from workflow_scripts.experiments.expand import Plan

Spec = dict[str, Any]
# Runs of the same speed: kind, model name, loss terms, whether on GPUs.
Kind = tuple[str, str, str, bool]


@dataclass
class Measured:
    """Measurements of finished runs.

    Attributes:
        speeds: Samples per second of one GPU or core, by kind of run.
        sizes: Sizes of ``model.pt`` in bytes, by model name.
        finished: Folders of finished runs in the results (``cleaning/<run>``,
            ``pretraining/<model>``).
    """

    speeds: dict[Kind, list[float]] = field(default_factory=lambda: defaultdict(list))
    sizes: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    finished: set[str] = field(default_factory=set)

    def speed(self, kind: Kind) -> float | None:
        """Return the mean speed of finished runs of a kind; None if there are none."""
        return mean(self.speeds[kind]) if kind in self.speeds else None

    def model_bytes(self, model: str) -> float | None:
        """Return the mean size of a model's weights; None if there are none."""
        return mean(self.sizes[model]) if model in self.sizes else None


def run_kind(spec: Spec, on_gpu: bool) -> Kind:
    """Return the kind of a run; runs of the same kind have the same speed.

    The weights of loss terms do not affect the speed.
    """
    terms = "+".join(sorted(Path(term).stem for term in spec["objective"]))
    return spec["kind"], spec["model"]["name"], terms, on_gpu


def read_measured(plan: Plan, results: Path) -> Measured:
    """Read ``run.json`` and the size of ``model.pt`` of all finished runs of a plan.

    A run is finished if its ``run.json``, which is written last, exists.
    """
    measured = Measured()
    folders = {f"pretraining/{m}": m.partition("/")[0] for m in plan.models}
    folders |= {f"cleaning/{r}": r for r, s in plan.runs.items() if s["kind"] == "cleaning"}
    for place, run in folders.items():
        folder, spec = results / place, plan.runs[run]
        if not (folder / "run.json").is_file():
            continue
        measured.finished.add(place)
        record = read_json(folder / "run.json")
        hardware, speed = record["hardware"], record["samples_per_second"]
        on_gpu = hardware["device"] != "cpu"
        devices = hardware["processes"] * (1 if on_gpu else hardware["threads"])
        if speed:
            measured.speeds[run_kind(spec, on_gpu)].append(speed / devices)
        if (folder / "model.pt").is_file():
            size = (folder / "model.pt").stat().st_size
            measured.sizes[spec["model"]["name"]].append(size)
    return measured


def listed_rows(results: Path, url_list: str) -> int | None:
    """Return the number of rows of a URL list, given its id; None if it was not read yet."""
    report = results / "lists" / url_list / "urls.json"
    return read_json(report)["rows"] if report.is_file() else None


def usable_rows(results: Path, source: str) -> int | None:
    """Return the number of usable pairs of a source; None if it was not downloaded yet."""
    losses = results / "sources" / source / "losses.csv"
    if not losses.is_file():
        return None
    with losses.open(newline="") as file:
        return next(int(row["rows"]) for row in csv.DictReader(file) if row["reason"] == "usable")

"""What finished downloads and runs tell about costs, in place of what the config reckons with."""

import csv
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from workflow_scripts.common.files import read_json
from workflow_scripts.experiments.expand import Plan

Spec = dict[str, Any]
# Runs that are equally fast: kind, name of the model, loss terms, whether on GPUs.
Kind = tuple[str, str, str, bool]


@dataclass
class Measured:
    """Speeds of finished runs in samples/s of one GPU or core, sizes of ``model.pt`` in bytes.

    ``finished`` are folders of the results: ``cleaning/<run>``, ``pretraining/<model>``.
    """

    speeds: dict[Kind, list[float]] = field(default_factory=lambda: defaultdict(list))
    sizes: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    finished: set[str] = field(default_factory=set)

    def speed(self, kind: Kind) -> float | None:
        """Return the mean speed of finished runs of a kind; None if there is none."""
        return mean(self.speeds[kind]) if kind in self.speeds else None

    def model_bytes(self, model: str) -> float | None:
        """Return the mean size of a model's weights; None if there are none."""
        return mean(self.sizes[model]) if model in self.sizes else None


def run_kind(spec: Spec, on_gpu: bool) -> Kind:
    """Return which runs are as fast as this one: the weights of its loss terms do not matter."""
    terms = "+".join(sorted(Path(term).stem for term in spec["objective"]))
    return spec["kind"], spec["model"]["name"], terms, on_gpu


def read_measured(plan: Plan, results: Path) -> Measured:
    """Read ``run.json`` and the size of ``model.pt`` of all runs of a plan that are finished.

    A run is finished when its ``run.json`` is there, which is written last.
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
    """Return the rows of a URL list, given by its id; None before it was read."""
    report = results / "lists" / url_list / "urls.json"
    return read_json(report)["rows"] if report.is_file() else None


def usable_rows(results: Path, source: str) -> int | None:
    """Return the usable pairs of a source; None before all of it was downloaded."""
    losses = results / "sources" / source / "losses.csv"
    if not losses.is_file():
        return None
    with losses.open(newline="") as file:
        return next(int(row["rows"]) for row in csv.DictReader(file) if row["reason"] == "usable")

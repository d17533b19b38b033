"""The jobs that experiments stand on, each with what it costs and whether it is done."""

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workflow_scripts.common.errors import StepError
from workflow_scripts.experiments.estimate import configured_speed, training_seconds
from workflow_scripts.experiments.expand import Plan
from workflow_scripts.experiments.measured import (
    listed_rows,
    read_measured,
    run_kind,
    usable_rows,
)

Spec = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One job of a rule; ``core_hours`` are those of jobs that have no GPU."""

    rule: str
    name: str
    done: bool
    gpu_hours: float = 0.0
    core_hours: float = 0.0
    bytes: float = 0.0


class Work:
    """All jobs of a config that take long or make much; tables and figures are not among them.

    Args:
        config: The checked config.
        plan: Its expanded experiments.
        results: Folder of results, where what is done is found.
    """

    def __init__(self, config: Spec, plan: Plan, results: Path):
        self.config, self.plan, self.results = config, plan, results
        self.costs = config["costs"]
        self.measured = read_measured(plan, results)
        # What several experiments stand on is reckoned once.
        self._of_source = functools.cache(lambda name: [*self._source(name)])
        self._of_attack = functools.cache(lambda name: [*self._attack(name)])
        self._of_split = functools.cache(lambda name: [*self._split(name)])
        self._of_run = functools.cache(self._run)
        self._usable_pairs = functools.cache(self._usable)

    def jobs(self, experiments: Iterable[str]) -> set[Job]:
        """Return the jobs that experiments stand on; what several of them need is there once."""
        runs: set[str] = set()
        waiting = {row["run"] for name in experiments for row in self.plan.experiments[name]}
        while waiting:
            runs |= waiting
            waiting = {needed for run in waiting for needed in self._needed(run)} - runs
        specs = [self.plan.runs[run] for run in runs]
        jobs = {self._of_run(run) for run in runs}
        for attack in {spec["attack_id"] for spec in specs}:
            jobs.update(self._of_attack(attack))
        for split in {spec["split_id"] for spec in specs if "split_id" in spec}:
            jobs.update(self._of_split(split))
        jobs.update(self._labels(labels) for spec in specs if (labels := spec.get("labels_id")))
        jobs.update(self._evaluation(evaluation) for evaluation in {s["evaluation"] for s in specs})
        return jobs

    def urls(self, source: str) -> float:
        """Return the rows of a source's list: counted, configured, or what its datasets need.

        Raises:
            StepError: Neither is known.
        """
        rows = listed_rows(self.results, source) or self.costs["urls"].get(source)
        if rows is None:
            declared = self.config["datasets"].values()
            pairs = [d["pairs"] for d in declared if d["source"] == source]
            if not pairs or "all" in pairs:
                raise StepError(
                    f"nobody knows how many rows the list of {source} has; say it in the config, "
                    f"under 'costs.urls.{source}'"
                )
            rows = max(pairs) / self.costs["usable"]
        return rows

    def speed(self, run: str) -> tuple[float, bool]:
        """Return the samples/s of a GPU, or core, for a run, and whether that was measured."""
        spec = self.plan.runs[run]
        measured = self.measured.speed(run_kind(spec, self._on_gpu(spec["kind"])))
        if measured:
            return measured, True
        return configured_speed(self.costs, spec), False

    def model_bytes(self, run: str) -> float:
        """Return the size of a run's ``model.pt``."""
        model = self.plan.runs[run]["model"]["name"]
        return self.measured.model_bytes(model) or self.costs["bytes"]["model"]

    def _needed(self, run: str) -> list[str]:
        """Return the runs that a run goes on from, or that label its images."""
        spec = self.plan.runs[run]
        labels = self.plan.labels.get(spec.get("labels_id"), {})
        return [needed for needed in (spec["start"], labels.get("run")) if needed]

    def _on_gpu(self, kind: str) -> bool:
        return self.config["resources"][kind].get("gpu", 0) > 0

    def _usable(self, source: str) -> float:
        measured = usable_rows(self.results, source)
        return self.urls(source) * self.costs["usable"] if measured is None else measured

    def _pairs(self, dataset: str) -> float:
        declared = self.plan.datasets[dataset]
        pairs = declared["pairs"]
        return self._usable_pairs(declared["source"]) if pairs == "all" else pairs

    def _there(self, path: str) -> bool:
        return (self.results / path).exists()

    def _source(self, source: str) -> Iterator[Job]:
        folder = f"sources/{source}"
        rates, parts = self.costs["per_core_second"], self.config["sources"][source]["parts"]
        urls, images = self.urls(source) / parts, self._usable_pairs(source) / parts
        yield Job("url_list", source, self._there(f"{folder}/urls.json"))
        yield Job("merge", source, self._there(f"{folder}/manifest.parquet"))
        for part in range(parts):
            yield Job(
                "download",
                f"{source}/{part:05d}",
                self._there(f"{folder}/shards/{part:05d}"),
                core_hours=urls / rates["download"] / 3600,
                bytes=images * self.costs["bytes"]["image"],
            )
            yield Job(
                "usable",
                f"{source}/{part:05d}",
                self._there(f"{folder}/pairs/{part:05d}.json"),
                core_hours=images / rates["usable"] / 3600,
            )

    def _attack(self, attack: str) -> Iterator[Job]:
        spec = self.plan.attacks[attack]
        dataset = spec["dataset"]
        yield from self._of_source(self.plan.datasets[dataset]["source"])
        yield Job("subset", dataset, self._there(f"datasets/{dataset}/manifest.parquet"))
        # Triggered images are stored without loss. How many `all` are, only the captions tell.
        poisoned = 0 if spec["poisoned"] == "all" else spec["poisoned"]
        size = poisoned * 3 * spec["image_size"] ** 2
        done = self._there(f"attacks/{attack}/manifest.parquet")
        yield Job("poison", attack, done, bytes=size)
        yield self._captions(f"attacks/{attack}", self._pairs(dataset))

    def _split(self, split: str) -> Iterator[Job]:
        yield Job("clean_split", split, self._there(f"splits/{split}/manifest.parquet"))
        yield self._captions(f"splits/{split}", self._split_pairs(split))

    def _split_pairs(self, split: str) -> int:
        return self.plan.splits[split]["pairs"] + self.plan.splits[split]["held_out"]

    def _labels(self, labels: str) -> Job:
        images = self._split_pairs(self.plan.labels[labels]["split_id"])
        seconds = images / self.costs["evaluation_images_per_second"]
        hours = "gpu_hours" if self._on_gpu("cleaning") else "core_hours"
        done = self._there(f"labels/{labels}/labels.npy")
        return Job("pseudo_labels", labels, done, **{hours: seconds / 3600})

    def _captions(self, stage: str, pairs: float) -> Job:
        return Job(
            "captions",
            stage,
            self._there(f"captions/{stage}/tokens.npy"),
            core_hours=pairs / self.costs["per_core_second"]["captions"] / 3600,
            # 16-bit tokens of each caption, and of each augmented one.
            bytes=pairs * self.config["captions"]["context_length"] * 2 * 2,
        )

    def _evaluation(self, evaluation: str) -> Job:
        size = self.costs["evaluation_images"] * self.costs["bytes"]["evaluation_image"]
        done = self._there(f"evaluation/{evaluation}/manifest.parquet")
        return Job("evaluation_set", evaluation, done, bytes=size)

    def _run(self, run: str) -> Job:
        spec = self.plan.runs[run]
        pretraining = spec["kind"] == "pretraining"
        pairs = self._pairs(spec["dataset"]) if pretraining else spec["data"]["pairs"]
        seconds = training_seconds(self.costs, spec, pairs, self.speed(run)[0])
        hours = "gpu_hours" if self._on_gpu(spec["kind"]) else "core_hours"
        # A pre-trained model's optimiser state, two numbers for each weight, stays for cleaning.
        size = self.model_bytes(run) * (3 if pretraining else 1)
        done = run in self.measured.finished
        return Job(spec["kind"], run, done, bytes=size, **{hours: seconds / 3600})

"""The jobs that experiments depend on, each with its cost and whether it is done."""

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workflow_scripts.common.attacks import parts_of
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.selection_rules import most_chosen
from workflow_scripts.experiments.artefacts import START, needed
from workflow_scripts.experiments.attacks import poisoned_pairs
from workflow_scripts.experiments.estimate import configured_speed, training_seconds
from workflow_scripts.experiments.expand import Plan
from workflow_scripts.experiments.layout import (
    model_before,
    pairs_of,
    run_of,
    share_of_training,
    values_of,
)
from workflow_scripts.experiments.measured_costs import (
    listed_rows,
    read_measured,
    run_kind,
    usable_rows,
)
from workflow_scripts.experiments.measures import measure_images
from workflow_scripts.experiments.references import ARTEFACT

Spec = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One job of a rule; ``core_hours`` is 0 for jobs with a GPU."""

    rule: str
    name: str
    done: bool
    gpu_hours: float = 0.0
    core_hours: float = 0.0
    bytes: float = 0.0


class Workload:
    """All jobs of a config that are long or write much data; tables and figures are excluded.

    Args:
        config: The checked config.
        plan: Its expanded experiments.
        results: Folder of results, which shows which jobs are done.
    """

    def __init__(self, config: Spec, plan: Plan, results: Path):
        self.config, self.plan, self.results = config, plan, results
        self.costs = config["costs"]
        self.measured = read_measured(plan, results)
        # Cached, because several experiments depend on the same jobs.
        self._of_source = functools.cache(lambda name: [*self._source(name)])
        self._of_attack = functools.cache(lambda name: [*self._attack(name)])
        self._of_split = functools.cache(lambda name: [*self._split(name)])
        self._of_run = functools.cache(self._run)
        self._of_measure = functools.cache(lambda folder, name: [*self._measure(folder, name)])
        self._usable_pairs = functools.cache(self._usable)

    def jobs(self, experiments: Iterable[str]) -> set[Job]:
        """Return the jobs that experiments depend on, without duplicates."""
        experiments = list(experiments)
        folders, artefacts = self._dependencies(experiments)
        specs = [self.plan.runs[run_of(folder)] for folder in folders]
        jobs = {self._of_run(folder) for folder in folders}
        jobs.update(self._artefact(artefact) for artefact in artefacts)
        jobs.update(
            self._filter(filter_id) for spec in specs if (filter_id := spec.get("filter_id"))
        )
        pairs = [self.plan.artefacts.specs[artefact]["pairs"] or {} for artefact in artefacts]
        of_artefacts = {item for by_kind in pairs for item in by_kind.items()}
        attacks = {name for kind, name in of_artefacts if kind == "attacks"}
        for attack in {spec["attack_id"] for spec in specs} | attacks:
            jobs.update(self._of_attack(attack))
        splits = {name for kind, name in of_artefacts if kind == "splits"}
        for split in {spec["split_id"] for spec in specs if "split_id" in spec} | splits:
            jobs.update(self._of_split(split))
        for captions, captioned, rows in {c for spec in specs for c in self._captioned(spec)}:
            jobs.add(self._captions(captions, captioned, rows))
        jobs.update(self._evaluation(evaluation) for evaluation in {s["evaluation"] for s in specs})
        for row in (row for name in experiments for row in self.plan.measured.get(name, ())):
            jobs.update(self._of_measure(row["folder"], row["id"]))
        return jobs

    def _dependencies(self, experiments: list[str]) -> tuple[set[str], set[str]]:
        """Return the folders of runs and the ids of artefacts that experiments depend on."""
        reports = [{ARTEFACT: row["id"]} for name in experiments for row in self.plan.reports[name]]
        rows = [row for name in experiments for row in self.plan.measured.get(name, ())]
        measures = [self.plan.measures[row["id"]]["options"] for row in rows]
        artefacts = set(self._made_from([*reports, *measures]))
        folders: set[str] = set()
        waiting = {row["folder"] for name in experiments for row in self.plan.experiments[name]}
        waiting |= self._starts_of(artefacts)
        while waiting:
            folders |= waiting
            for folder in waiting:
                artefacts |= set(self._made_from(self.plan.runs[run_of(folder)]))
            waiting = {other for folder in waiting for other in self._needed(folder)}
            waiting = (waiting | self._starts_of(artefacts)) - folders
        return folders, artefacts

    def urls(self, source: str) -> float:
        """Return the number of rows of the URL list of a source, given by its id.

        It is counted if the list was read, else taken from the config (``costs.urls``), else
        estimated from the datasets of the source.

        Raises:
            StepError: None of these is known.
        """
        data = self.plan.data
        url_list = data.shards[data.sources[source]["shards"]]["list"]
        name = data.lists[url_list]["name"]
        rows = listed_rows(self.results, url_list) or self.costs["urls"].get(name)
        if rows is None:
            pairs = [d["pairs"] for d in data.datasets.values() if d["source"] == source]
            if not pairs or "all" in pairs:
                raise StepError(
                    f"config: the number of rows of the list of {name!r} is not known; set "
                    f"'costs.urls.{name}'"
                )
            rows = max(pairs) / self.costs["usable"]
        return rows

    def speed(self, run: str) -> tuple[float, bool]:
        """Return a run's samples per second on one GPU or core, and whether it was measured."""
        spec = self.plan.runs[run]
        measured = self.measured.speed(run_kind(spec, self._on_gpu(spec["kind"])))
        if measured:
            return measured, True
        return configured_speed(self.costs, spec), False

    def model_bytes(self, run: str) -> float:
        """Return the size of a run's ``model.pt`` in bytes."""
        model = self.plan.runs[run]["model"]["name"]
        return self.measured.model_bytes(model) or self.costs["bytes"]["model"]

    def _needed(self, folder: str) -> list[str]:
        """Return the folders of models that a run starts from or continues."""
        kind, _, name = folder.partition("/")
        spec = self.plan.runs[run_of(folder)]
        models = [spec["start"]]
        if kind == "pretraining":
            models += [model_before(self.plan, name), self.plan.models[name]["reference"]]
        return [f"pretraining/{model}" for model in models if model]

    def _made_from(self, value: Any) -> list[str]:
        return needed(self.plan.artefacts.specs, value)

    def _starts_of(self, artefacts: Iterable[str]) -> set[str]:
        """Return the folders of the models that artefacts are learned from."""
        models = [self.plan.artefacts.specs[artefact]["model"] or {} for artefact in artefacts]
        return {f"pretraining/{model[START]}" for model in models if START in model}

    def _artefact(self, artefact: str) -> Job:
        spec = self.plan.artefacts.specs[artefact]
        # Assume one pass over the pairs; makers that use a part of them take less time.
        seconds = 0.0
        for kind, name in (spec["pairs"] or {}).items():
            seconds = self._pairs_in(kind, name) / self.costs["evaluation_images_per_second"]
        hours = "gpu_hours" if self._on_gpu("artefact") else "core_hours"
        done = self._exists(values_of(artefact))
        return Job("artefact", artefact, done, **{hours: seconds / 3600})

    def _pairs_in(self, kind: str, name: str) -> float:
        if kind == "splits":
            return self._split_pairs(name)
        return self._pairs(name if kind == "datasets" else self.plan.attacks[name]["dataset"])

    def _filter(self, name: str) -> Job:
        return Job("filter_pairs", name, self._exists(f"filters/{name}/manifest.parquet"))

    def _on_gpu(self, kind: str) -> bool:
        return self.config["resources"][kind].get("gpu", 0) > 0

    def _usable(self, source: str) -> float:
        measured = usable_rows(self.results, source)
        return self.urls(source) * self.costs["usable"] if measured is None else measured

    def _pairs(self, dataset: str) -> float:
        declared = self.plan.data.datasets[dataset]
        pairs = declared["pairs"]
        return self._usable_pairs(declared["source"]) if pairs == "all" else pairs

    def _exists(self, path: str) -> bool:
        return (self.results / path).exists()

    def _source(self, source: str) -> Iterator[Job]:
        data, rates = self.plan.data, self.costs["per_core_second"]
        shards = data.sources[source]["shards"]
        url_list = data.shards[shards]["list"]
        parts = data.lists[url_list]["parts"]
        urls, images = self.urls(source) / parts, self._usable_pairs(source) / parts
        yield Job("url_list", url_list, self._exists(f"lists/{url_list}/urls.json"))
        yield Job("merge", source, self._exists(f"sources/{source}/manifest.parquet"))
        for part in range(parts):
            yield Job(
                "download",
                f"{shards}/{part:05d}",
                self._exists(f"shards/{shards}/{part:05d}"),
                core_hours=urls / rates["download"] / 3600,
                bytes=images * self.costs["bytes"]["image"],
            )
            yield Job(
                "usable",
                f"{source}/{part:05d}",
                self._exists(f"sources/{source}/pairs/{part:05d}.json"),
                core_hours=images / rates["usable"] / 3600,
            )

    def _attack(self, attack: str) -> Iterator[Job]:
        spec = self.plan.attacks[attack]
        dataset = spec["dataset"]
        yield from self._of_source(self.plan.data.datasets[dataset]["source"])
        yield Job("subset", dataset, self._exists(f"datasets/{dataset}/manifest.parquet"))
        # Triggered images are stored losslessly. The number of `all` depends on the captions.
        size = (poisoned_pairs(spec) or 0) * 3 * spec["image_size"] ** 2
        done = self._exists(f"attacks/{attack}/manifest.parquet")
        yield Job("poison", attack, done, bytes=size)

    def _split(self, split: str) -> Iterator[Job]:
        yield Job("clean_split", split, self._exists(f"splits/{split}/manifest.parquet"))

    def _captioned(self, spec: Spec) -> Iterator[tuple[str, str, float]]:
        """Yield the caption setting, the folder and the number of captions of a run's pairs.

        An attack stores only the captions of its victims; the others are those of its dataset.
        """
        captions = spec["captions_id"]
        if spec["kind"] == "cleaning":
            yield captions, pairs_of(spec), self._split_pairs(spec["split_id"])
            return
        dataset, victims = spec["dataset"], [p["poisoned"] for p in parts_of(spec["attack"])]
        yield captions, pairs_of(spec), sum(number for number in victims if number != "all")
        # An attack's arrays are complete if those of the dataset do not exist.
        folder, base = f"captions/{captions}", f"datasets/{dataset}"
        if self._exists(f"{folder}/{base}") or not self._exists(f"{folder}/{pairs_of(spec)}"):
            yield captions, base, self._pairs(dataset)

    def _trained_pairs(self, spec: Spec) -> float:
        """Return the number of pairs per epoch of a pre-training."""
        dropped = (spec.get("filter") or {}).get("drop_highest", 0)
        return self._pairs(spec["dataset"]) * (1 - dropped)

    def _split_pairs(self, split: str) -> int:
        return self.plan.splits[split]["pairs"] + self.plan.splits[split]["held_out"]

    def _captions(self, captions: str, folder: str, pairs: float) -> Job:
        return Job(
            "captions",
            f"{captions}/{folder}",
            self._exists(f"captions/{captions}/{folder}/tokens.npy"),
            core_hours=pairs / self.costs["per_core_second"]["captions"] / 3600,
            # 16-bit tokens of each caption and of each augmented caption.
            bytes=pairs * self.plan.captions[captions]["context_length"] * 2 * 2,
        )

    def _evaluation(self, evaluation: str) -> Job:
        size = self.costs["evaluation_images"] * self.costs["bytes"]["evaluation_image"]
        done = self._exists(f"evaluation/{evaluation}/manifest.parquet")
        return Job("evaluation_set", evaluation, done, bytes=size)

    def _measure(self, folder: str, name: str) -> Iterator[Job]:
        spec = self.plan.measures[name]
        if "split" in spec:
            yield from self._of_split(spec["split"])
        if "evaluation" in spec:
            yield self._evaluation(spec["evaluation"])
        images = measure_images(self.config, self.plan, name)
        seconds = images / self.costs["evaluation_images_per_second"]
        hours = "gpu_hours" if self._on_gpu("measure") else "core_hours"
        done = self._exists(f"measures/{folder}/{name}.csv")
        yield Job("measure", f"{folder}/{name}", done, **{hours: seconds / 3600})

    def _kept_epochs(self, spec: Spec) -> int:
        """Return the maximum number of models that a cleaning run keeps besides the last one."""
        if not self.config["execution"]["keep_selected"]:
            return 0
        return most_chosen(spec["epochs"], spec["data"]["held_out"])

    def _run(self, folder: str) -> Job:
        run = run_of(folder)
        spec = self.plan.runs[run]
        pretraining = spec["kind"] == "pretraining"
        pairs = self._trained_pairs(spec) if pretraining else spec["data"]["pairs"]
        seconds = training_seconds(self.costs, spec, pairs, self.speed(run)[0])
        taken = sum(
            measure_images(self.config, self.plan, measure) for measure in spec.get("measures", ())
        )
        seconds += taken * (spec["epochs"] + 1) / self.costs["evaluation_images_per_second"]
        if pretraining:
            seconds *= share_of_training(self.plan, folder.removeprefix("pretraining/"))
        hours = "gpu_hours" if self._on_gpu(spec["kind"]) else "core_hours"
        # The optimiser state (two values per weight) of a pre-training is kept for cleaning.
        models = 3 if pretraining else 1 + self._kept_epochs(spec)
        size = self.model_bytes(run) * models
        done = folder in self.measured.finished
        return Job(spec["kind"], folder, done, bytes=size, **{hours: seconds / 3600})

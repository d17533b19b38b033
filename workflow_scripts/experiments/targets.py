"""Input and output files of the rules, given the plan.

Paths begin with ``<results>``, which Snakemake replaces by the folder of results.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from workflow_scripts.common.attacks import variants_of
from workflow_scripts.common.code_version import run_code
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import digest
from workflow_scripts.experiments.artefacts import values_of
from workflow_scripts.experiments.expand import Plan
from workflow_scripts.experiments.layout import (
    artefact_inputs,
    artefacts_read,
    model_before,
    run_inputs,
)
from workflow_scripts.experiments.measures import (
    declared_measures_name,
    measure_files,
    measure_inputs,
)

Spec = dict[str, Any]


def of_results(files: Iterable[str]) -> list[str]:
    """Return files given relative to the results as paths for Snakemake."""
    return [f"<results>/{file}" for file in files]


class Targets:
    """The files of steps and experiments, by the ids and names in the plan.

    Args:
        config: The checked config.
        plan: Its expanded experiments.
    """

    def __init__(self, config: Spec, plan: Plan):
        self.config, self.plan = config, plan
        self._code: dict[str, dict[str, str]] = {}

    # --- Inputs of steps ---------------------------------------------------------------------

    def dataset_manifest(self, attack: str) -> str:
        """Return the unpoisoned manifest that an attack poisons."""
        return f"<results>/datasets/{self.plan.attacks[attack]['dataset']}/manifest.parquet"

    def of_training(self, run: str) -> list[str]:
        """Return the files that a training run reads."""
        inputs = run_inputs(self.plan, run)
        evaluation = inputs.pop("evaluation")
        files = [*filter(None, inputs.values()), f"{evaluation}/manifest.parquet"]
        measures = self.plan.runs[run].get("measures", ())
        files += [file for measure in measures for file in measure_inputs(self.plan, measure)]
        return [*of_results(dict.fromkeys(files)), *self.artefacts_of(self.plan.runs[run])]

    def captions_of_base(
        self,
        captions: str,
        stage: str,
        name: str,
        recorded: Callable[[str], list[str] | None],
    ) -> list[str]:
        """Return the dataset's caption arrays that those of an attack or a filter extend.

        Older versions of the workflow stored complete arrays and manifests for each attack. Such
        files keep the inputs that they were made from: with other inputs, Snakemake would repeat
        them and all trainings that used them.

        Args:
            captions: Id of the caption setting.
            stage: ``attacks``, ``filters``, ``splits`` or ``datasets``.
            name: Id of the pairs.
            recorded: Returns the inputs from which Snakemake made a file; None if unknown.
        """
        if stage not in ("attacks", "filters"):
            return []
        root = Path(self.config["pathvars"]["results"])
        tokens = root / "captions" / captions / stage / name / "tokens.npy"
        inputs = recorded(str(tokens))
        if inputs is not None:
            return [file for file in inputs if file.endswith(".npy")]
        if _is_complete(tokens, root / stage / name / "manifest.parquet"):
            return []
        attack = name if stage == "attacks" else self.plan.filters[name]["attack_id"]
        # Filtering a complete manifest gives a complete manifest.
        if _is_complete(None, root / "attacks" / attack / "manifest.parquet"):
            return []
        folder = f"captions/{captions}/datasets/{self.plan.attacks[attack]['dataset']}"
        return of_results(f"{folder}/{array}.npy" for array in ("tokens", "augmented"))

    def artefacts_of(self, spec: Spec) -> list[str]:
        """Return the values of the artefacts that the step with this spec reads."""
        return of_results(map(values_of, artefacts_read(spec)))

    def of_artefact(self, artefact: str) -> list[str]:
        """Return the files that an artefact is made from."""
        return of_results(artefact_inputs(self.plan, artefact))

    def of_measure(self, measure: str) -> list[str]:
        """Return the files that a measure reads besides the model."""
        return of_results(measure_inputs(self.plan, measure))

    def earlier_model(self, model: str) -> list[str]:
        """Return the ``run.json`` of the model from which a pre-training resumes, if any."""
        before = model_before(self.plan, model)
        return of_results([f"pretraining/{before}/run.json"] if before else [])

    def reference_of(self, model: str) -> list[str]:
        """Return the metrics of the model whose accuracy is matched, if any."""
        reference = self.plan.models[model]["reference"]
        return of_results([f"pretraining/{reference}/metrics.csv"] if reference else [])

    def take_options(self, model: str, reference: str | None) -> list[str]:
        """Return the arguments that tell the trainer which epoch of a pre-training to take.

        Args:
            model: Id of the model: a run, or a run and which of its epochs is taken.
            reference: Path of the metrics of the model whose accuracy is matched, if any.
        """
        taken = self.plan.models[model]["taken"]
        folder = [model.partition("/")[2]] if taken == "nearest_accuracy" else []
        return ["--take", str(taken), *folder, *(["--reference", reference] if reference else [])]

    # --- Experiments -------------------------------------------------------------------------

    def everything(self) -> list[str]:
        """Return the files of `all`: its experiments, the table of all their runs, the graphs."""
        files = (file for name in self.config["all"] for file in self.experiment(name))
        shared = of_results(
            ["metrics.csv", "index.html", "workflow/rules.svg", "workflow/jobs.svg"]
        )
        return [*dict.fromkeys(files), *shared]

    def experiment(self, name: str) -> list[str]:
        """Return the files of an experiment, which its target makes."""
        folder = f"<results>/experiments/{name}"
        declared = self.config["experiments"][name]
        datasets = (self.plan.data.datasets[run["dataset"]] for run in self._runs(name))
        tables = ["best.csv", "leaks.csv"] if declared["defence"] else []
        tables += ["artefacts.csv"] if declared["artefacts"] else []
        return [
            # Snakemake does not notice a missing intermediate file if the final outputs exist.
            # Requesting these files makes it notice a deleted run or a changed declaration.
            *self.run_files(name),
            self.declared_runs(name),
            *(self.figure_spec(name, figure) for figure in declared["figures"]),
            *self.artefact_reports(name),
            *self.filtered_classes(name),
            *self._measures(name),
            *(f"{folder}/{file}" for file in ["metrics.csv", "runs.html", *tables]),
            *(f"{folder}/{figure}.pdf" for figure in declared["figures"]),
            *(
                f"<results>/sources/{source}/losses.csv"
                for source in sorted({dataset["source"] for dataset in datasets})
            ),
        ]

    def page_experiments(self, page: str) -> list[str]:
        """Return the experiments of a results page.

        Args:
            page: Folder of the page: "" for those of `all`, ``pages/A+B/`` for A and B,
                ``pages/all_experiments/`` for all.

        Raises:
            StepError: An experiment does not exist.
        """
        name = page.removeprefix("pages/").rstrip("/")
        if name == "all_experiments":
            return list(self.plan.experiments)
        named = name.split("+") if name else list(self.config["all"])
        unknown = [experiment for experiment in named if experiment not in self.plan.experiments]
        if unknown:
            available = ", ".join(self.plan.experiments)
            raise StepError(f"unknown experiment {unknown[0]!r} (available: {available})")
        return named

    def page_metrics(self, page: str) -> list[str]:
        """Return the metrics table of each experiment of a page."""
        names = self.page_experiments(page)
        return of_results(f"experiments/{name}/metrics.parquet" for name in names)

    def page(self, page: str) -> list[str]:
        """Return the other files that a page reads."""
        files = []
        for name in self.page_experiments(page):
            declared = self.config["experiments"][name]
            tables = ["runs.csv", *(["leaks.csv"] if declared["defence"] else [])]
            tables += ["artefacts.csv"] if declared["artefacts"] else []
            tables += ["measures.csv"] if name in self.plan.measured else []
            files += [*self.runs(name), *of_results(f"experiments/{name}/{t}" for t in tables)]
        return list(dict.fromkeys(files))

    def runs(self, experiment: str) -> list[str]:
        """Return the last file that each run of an experiment writes, as inputs of its tables.

        Snakemake's planning time grows with the number of inputs.
        """
        return self.run_files(experiment, ["run.json"])

    def run_files(
        self, experiment: str, names: Sequence[str] = ("metrics.csv", "timings.csv", "run.json")
    ) -> list[str]:
        """Return files of each run of an experiment, by default all that its tables read."""
        folders = dict.fromkeys(row["folder"] for row in self.plan.experiments[experiment])
        return of_results(f"{folder}/{name}" for folder in folders for name in names)

    def declared_runs(self, experiment: str) -> str:
        """Return the file of an experiment's run table; its name includes a digest of the table."""
        content = digest(self.plan.experiments[experiment])
        return f"<results>/workflow/runs/{experiment}-{content}.csv"

    def declared_artefacts(self, experiment: str) -> str:
        """Return the file of an experiment's artefacts; its name includes a digest."""
        content = digest(self.plan.reports[experiment])
        return f"<results>/workflow/artefacts/{experiment}-{content}.json"

    def declared_measures(self, experiment: str) -> str:
        """Return the file of an experiment's measures; its name includes a digest."""
        return f"<results>/workflow/measures/{declared_measures_name(self.plan, experiment)}.csv"

    def figure_spec(self, experiment: str, figure: str) -> str:
        """Return the file of a figure's declaration; its name includes a digest."""
        content = digest(self.figure(experiment, figure))
        return f"<results>/workflow/figures/{experiment}-{figure}-{content}.json"

    def figure(self, experiment: str, figure: str) -> Spec:
        """Return the declaration of an experiment's figure."""
        return self.config["experiments"][experiment]["figures"][figure]

    def points_under(self, experiment: str, figure: str) -> Any:
        """Return the file with the points that a figure draws in the background, or []."""
        under = self.figure(experiment, figure).get("under", [])
        return under["points"] if isinstance(under, dict) else under

    def artefact_reports(self, experiment: str) -> list[str]:
        """Return the reports of an experiment's artefacts."""
        made = dict.fromkeys(row["id"] for row in self.plan.reports[experiment])
        return of_results(f"artefacts/{name}/report.json" for name in made)

    def filtered_classes(self, experiment: str) -> list[str]:
        """Return the tables of pairs dropped by the filters of an experiment, by class."""
        used = (run.get("filter_id") for run in self._runs(experiment))
        filters = [filter_id for filter_id in dict.fromkeys(used) if filter_id]
        return of_results(
            f"filters/{filter_id}/classes-of-{self.evaluation}.csv" for filter_id in filters
        )

    def measures(self, experiment: str) -> list[str]:
        """Return the files of the measures of an experiment's models."""
        return of_results(measure_files(self.plan, experiment))

    def cleaned_on(self, experiment: str) -> list[tuple[str, str, str]]:
        """Return the distinct (start model, clean split, dataset) ids of an experiment's runs."""
        cleaned = [run for run in self._runs(experiment) if run["kind"] == "cleaning"]
        return list(dict.fromkeys((r["start"], r["split_id"], r["dataset"]) for r in cleaned))

    def contamination(self, experiment: str) -> list[str]:
        """Return the files with the counts of evaluation images in the training datasets."""
        return of_results(
            f"contamination/{dataset}-in-{self.evaluation}.json"
            for _, _, dataset in self.cleaned_on(experiment)
        )

    @property
    def evaluation(self) -> str:
        """Id of the evaluation set that all models are evaluated on."""
        return self.plan.data.evaluation(self.config["evaluation"])

    def code_of_runs(self, experiment: str) -> str:
        """Return the digest of the code that the runs of an experiment execute at present."""
        named = {}
        for spec in self._runs(experiment):
            measures = [self.plan.measures[measure] for measure in spec.get("measures", ())]
            parts = [
                sorted(spec["objective"]),
                list(variants_of(spec["attack"])),
                spec["start_change"],
                [measure["measure"] for measure in measures],
            ]
            named[json.dumps(parts)] = spec | {"inputs": {"measures": measures}}
        for variants, spec in named.items():
            if variants not in self._code:
                self._code[variants] = run_code(spec)
        return digest([self._code[variants] for variants in named])

    def _runs(self, experiment: str) -> list[Spec]:
        return [self.plan.runs[row["run"]] for row in self.plan.experiments[experiment]]

    def _measures(self, experiment: str) -> list[str]:
        if experiment not in self.plan.measured:
            return []
        table = f"<results>/experiments/{experiment}/measures.csv"
        return [*self.measures(experiment), self.declared_measures(experiment), table]


def run_rows(experiment: list[Spec]) -> str:
    """Return an experiment's run table as CSV text: runs, varied settings, folders."""
    columns = list(dict.fromkeys(key for row in experiment for key in row))
    text = io.StringIO()
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(experiment)
    return text.getvalue()


def spec_of_run(written: str, folder: str) -> str:
    """Return the spec of the run of a model, given by its folder below the results.

    Args:
        written: Folder of the files that ``onstart`` writes.
        folder: ``cleaning/<run>``, ``pretraining/<run>`` or a sub-folder of it.
    """
    kind, run, *_ = Path(folder).parts
    return f"{written}/specs/{kind}/{run}.json"


def _is_complete(tokens: Path | None, manifest: Path) -> bool:
    """Return whether the arrays or the manifest show that pairs are stored without a base."""
    # Rarely needed, and Arrow is slow to import.
    if tokens is not None and tokens.is_file():
        from workflow_scripts.captions.stored import is_overlay  # noqa: PLC0415

        return not is_overlay(tokens)
    if manifest.is_file():
        from workflow_scripts.data.overlay import base_of  # noqa: PLC0415

        return base_of(manifest) is None
    return False

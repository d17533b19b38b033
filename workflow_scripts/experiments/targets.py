"""Which files of the results the rules read and make, given the plan.

Paths begin with ``<results>``, as Snakemake is told of them.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from workflow_scripts.common.attacks import variants_of
from workflow_scripts.common.code import run_code
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
    """Return files that are given relative to the results."""
    return [f"<results>/{file}" for file in files]


class Targets:
    """The files of steps and of experiments, by the ids and names in the plan.

    Args:
        config: The checked config.
        plan: Its expanded experiments.
    """

    def __init__(self, config: Spec, plan: Plan):
        self.config, self.plan = config, plan

    # --- What steps read ---------------------------------------------------------------------

    def dataset_manifest(self, attack: str) -> str:
        """Return the unpoisoned manifest that an attack poisons."""
        return f"<results>/datasets/{self.plan.attacks[attack]['dataset']}/manifest.parquet"

    def of_training(self, run: str) -> list[str]:
        """Return the files that a training run reads, as its spec names them."""
        inputs = run_inputs(self.plan, run)
        evaluation = inputs.pop("evaluation")
        files = [*filter(None, inputs.values()), f"{evaluation}/manifest.parquet"]
        measures = self.plan.runs[run].get("measures", ())
        files += [file for one in measures for file in measure_inputs(self.plan, one)]
        return [*of_results(dict.fromkeys(files)), *self.artefacts_of(self.plan.runs[run])]

    def captions_of_base(
        self,
        captions: str,
        stage: str,
        name: str,
        recorded: Callable[[str], list[str] | None],
    ) -> list[str]:
        """Return the arrays of a dataset that those of an attack or a filter are laid over.

        Arrays that were made before datasets had any are complete, and so is the manifest that
        belongs to them. They keep the inputs that they were made from: with others, they and all
        models that were trained on them would be made again.

        Args:
            captions: Id of the caption setting.
            stage: ``attacks``, ``filters``, ``splits`` or ``datasets``.
            name: Id of the pairs.
            recorded: Returns the inputs from which Snakemake has made a file, None if unknown.
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
        # A filter of a complete manifest is complete.
        if _is_complete(None, root / "attacks" / attack / "manifest.parquet"):
            return []
        folder = f"captions/{captions}/datasets/{self.plan.attacks[attack]['dataset']}"
        return of_results(f"{folder}/{array}.npy" for array in ("tokens", "augmented"))

    def artefacts_of(self, spec: Spec) -> list[str]:
        """Return the values of the artefacts that the step of an attack, a run, ... reads."""
        return of_results(map(values_of, artefacts_read(spec)))

    def of_artefact(self, artefact: str) -> list[str]:
        """Return what an artefact is made from."""
        return of_results(artefact_inputs(self.plan, artefact))

    def of_labelling(self, labels: str) -> list[str]:
        """Return the files that labelling reads."""
        spec = self.plan.labels[labels]
        files = [f"splits/{spec['split_id']}/manifest.parquet"]
        files += [f"evaluation/{spec['evaluation']}/classes.json"]
        files += [f"pretraining/{spec['start']}/model.pt"] if spec["start"] else []
        return of_results(files)

    def of_measure(self, measure: str) -> list[str]:
        """Return what a measure reads beside the model."""
        return of_results(measure_inputs(self.plan, measure))

    def earlier_model(self, model: str) -> list[str]:
        """Return what shows that the model is there from which a pre-training goes on, if any."""
        before = model_before(self.plan, model)
        return of_results([f"pretraining/{before}/run.json"] if before else [])

    def reference_of(self, model: str) -> list[str]:
        """Return the metrics of the model whose accuracy is to be matched, if any."""
        reference = self.plan.models[model]["reference"]
        return of_results([f"pretraining/{reference}/metrics.csv"] if reference else [])

    def take_options(self, model: str, reference: str | None) -> list[str]:
        """Return how the trainer is told which model of a pre-training is wanted.

        Args:
            model: A run and what is taken of it.
            reference: Path of the metrics of the model whose accuracy is to be matched, if any.
        """
        taken = self.plan.models[model]["taken"]
        folder = [model.partition("/")[2]] if taken == "nearest_accuracy" else []
        return ["--take", str(taken), *folder, *(["--reference", reference] if reference else [])]

    # --- Experiments -------------------------------------------------------------------------

    def everything(self) -> list[str]:
        """Return what `all` makes: its experiments, the table of all their runs, the graphs."""
        files = (file for name in self.config["all"] for file in self.experiment(name))
        own = of_results(["metrics.csv", "index.html", "workflow/rules.svg", "workflow/jobs.svg"])
        return [*dict.fromkeys(files), *own]

    def experiment(self, name: str) -> list[str]:
        """Return all that the target of an experiment's name makes."""
        folder = f"<results>/experiments/{name}"
        declared = self.config["experiments"][name]
        datasets = (self.plan.data.datasets[run["dataset"]] for run in self._runs(name))
        tables = ["best.csv", "leaks.csv"] if declared["defence"] else []
        tables += ["artefacts.csv"] if declared["artefacts"] else []
        return [
            # Snakemake does not make a missing file again if what was made of it is there. These
            # are asked for, so that a deleted run or a changed declaration is noticed.
            *self.runs(name),
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
        """Return the experiments of a page, given by its folder: all, or those of pages/A+B/.

        Raises:
            StepError: There is no such experiment.
        """
        name = page.removeprefix("pages/").rstrip("/")
        if name == "all_experiments":
            return list(self.plan.experiments)
        named = name.split("+") if name else list(self.config["all"])
        unknown = [one for one in named if one not in self.plan.experiments]
        if unknown:
            there = ", ".join(self.plan.experiments)
            raise StepError(f"unknown experiment {unknown[0]!r} of a page (available: {there})")
        return named

    def page_metrics(self, page: str) -> list[str]:
        """Return the tidy table of each experiment of a page."""
        names = self.page_experiments(page)
        return of_results(f"experiments/{name}/metrics.parquet" for name in names)

    def page(self, page: str) -> list[str]:
        """Return what else the page of experiments reads."""
        files = []
        for name in self.page_experiments(page):
            declared = self.config["experiments"][name]
            tables = ["runs.csv", *(["leaks.csv"] if declared["defence"] else [])]
            tables += ["artefacts.csv"] if declared["artefacts"] else []
            tables += ["measures.csv"] if name in self.plan.measured else []
            files += [*self.runs(name), *of_results(f"experiments/{name}/{t}" for t in tables)]
        return list(dict.fromkeys(files))

    def runs(self, experiment: str) -> list[str]:
        """Return what is read of each run of an experiment."""
        folders = dict.fromkeys(row["folder"] for row in self.plan.experiments[experiment])
        names = ["metrics.csv", "timings.csv", "run.json"]
        return of_results(f"{folder}/{name}" for folder in folders for name in names)

    def declared_runs(self, experiment: str) -> str:
        """Return the file with an experiment's run table; its name has a digest of its content."""
        content = digest(self.plan.experiments[experiment])
        return f"<results>/workflow/runs/{experiment}-{content}.csv"

    def declared_artefacts(self, experiment: str) -> str:
        """Return the file with an experiment's artefacts, named likewise."""
        content = digest(self.plan.reports[experiment])
        return f"<results>/workflow/artefacts/{experiment}-{content}.json"

    def declared_measures(self, experiment: str) -> str:
        """Return the file with what an experiment measures, named likewise."""
        return f"<results>/workflow/measures/{declared_measures_name(self.plan, experiment)}.csv"

    def figure_spec(self, experiment: str, figure: str) -> str:
        """Return the file with a figure's declaration, named likewise."""
        content = digest(self.figure(experiment, figure))
        return f"<results>/workflow/figures/{experiment}-{figure}-{content}.json"

    def figure(self, experiment: str, figure: str) -> Spec:
        """Return the declaration of an experiment's figure."""
        return self.config["experiments"][experiment]["figures"][figure]

    def points_under(self, experiment: str, figure: str) -> Any:
        """Return the file that a figure draws beneath its own points, or nothing."""
        under = self.figure(experiment, figure).get("under", [])
        return under["points"] if isinstance(under, dict) else under

    def artefact_reports(self, experiment: str) -> list[str]:
        """Return the reports of an experiment's artefacts."""
        made = dict.fromkeys(row["id"] for row in self.plan.reports[experiment])
        return of_results(f"artefacts/{name}/report.json" for name in made)

    def filtered_classes(self, experiment: str) -> list[str]:
        """Return what filters of an experiment's start models drop, counted by class."""
        used = (run.get("filter_id") for run in self._runs(experiment))
        filters = [one for one in dict.fromkeys(used) if one]
        return of_results(f"filters/{one}/classes-of-{self.evaluation}.csv" for one in filters)

    def measures(self, experiment: str) -> list[str]:
        """Return the measures of an experiment's models."""
        return of_results(measure_files(self.plan, experiment))

    def cleaned_on(self, experiment: str) -> list[tuple[str, str, str]]:
        """Return each start model of an experiment, each clean split used on it, its dataset."""
        cleaned = [run for run in self._runs(experiment) if run["kind"] == "cleaning"]
        return list(dict.fromkeys((r["start"], r["split_id"], r["dataset"]) for r in cleaned))

    def contamination(self, experiment: str) -> list[str]:
        """Return the counts of evaluation images in the datasets that starts were trained on."""
        return of_results(
            f"contamination/{dataset}-in-{self.evaluation}.json"
            for _, _, dataset in self.cleaned_on(experiment)
        )

    @property
    def evaluation(self) -> str:
        """Id of the evaluation set that all models are measured on."""
        return self.plan.data.evaluation(self.config["evaluation"])

    def code_of_runs(self, experiment: str) -> str:
        """Return the digest of the code that the runs of an experiment would execute now."""
        named = {
            json.dumps(
                [sorted(s["objective"]), list(variants_of(s["attack"])), s["start_change"]]
            ): s
            for s in self._runs(experiment)
        }
        return digest([run_code(spec) for spec in named.values()])

    def _runs(self, experiment: str) -> list[Spec]:
        return [self.plan.runs[row["run"]] for row in self.plan.experiments[experiment]]

    def _measures(self, experiment: str) -> list[str]:
        if experiment not in self.plan.measured:
            return []
        table = f"<results>/experiments/{experiment}/measures.csv"
        return [*self.measures(experiment), self.declared_measures(experiment), table]


def run_rows(experiment: list[Spec]) -> str:
    """Return an experiment's run table as CSV text: its runs, what varies, their folders."""
    columns = list(dict.fromkeys(key for row in experiment for key in row))
    text = io.StringIO()
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(experiment)
    return text.getvalue()


def spec_of_run(written: str, folder: str) -> str:
    """Return the spec of the run of a model, given by its folder below the results.

    Args:
        written: Folder of what ``onstart`` writes.
        folder: ``cleaning/<run>``, ``pretraining/<run>`` or one below that.
    """
    kind, run, *_ = Path(folder).parts
    return f"{written}/specs/{kind}/{run}.json"


def _is_complete(tokens: Path | None, manifest: Path) -> bool:
    """Return whether pairs are known to be stored without a base: by their arrays, or manifest."""
    # Needed seldom, and Arrow takes long to import.
    if tokens is not None and tokens.is_file():
        from workflow_scripts.captions.stored import is_overlay  # noqa: PLC0415

        return not is_overlay(tokens)
    if manifest.is_file():
        from workflow_scripts.data.overlay import base_of  # noqa: PLC0415

        return base_of(manifest) is None
    return False

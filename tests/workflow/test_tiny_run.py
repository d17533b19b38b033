"""Runs the complete workflow, from a URL list behind a server to figures, and repeats it."""

import csv
import json
import os
from pathlib import Path

import pandas as pd
import pytest

from tests.workflow.running import Workflow, copy_workflow, job_counts

RESULTS = "results/demo"
MAIN = f"{RESULTS}/experiments/main"


def _digests(folder: Path, *patterns: str) -> dict[str, bytes]:
    files = sorted(file for pattern in patterns for file in folder.glob(pattern))
    assert files
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_the_losses_are_those_that_the_server_injects(finished):
    truth = json.loads((finished.folder / RESULTS / "world/truth.json").read_text())
    (table,) = (finished.folder / RESULTS).glob("sources/*/losses.csv")
    with table.open() as file:
        losses = {row["reason"]: int(row["rows"]) for row in csv.DictReader(file)}
    assert losses.pop("usable") == truth["usable"] == 240
    assert {reason: n for reason, n in losses.items() if n} == truth["losses"]


def test_every_run_and_epoch_is_in_the_metrics_table(finished):
    metrics = pd.read_parquet(finished.folder / f"{MAIN}/metrics.parquet")
    pretrained = metrics[metrics["kind"] == "pretraining"]
    cleaned = metrics[metrics["kind"] == "cleaning"]
    assert sorted(pretrained["epoch"]) == [0, 0, 1, 1, 2, 2]
    assert sorted(cleaned["epoch"]) == [0] * 6 + [1] * 6
    assert metrics["top1"].between(0, 1).all()
    start = pretrained[pretrained["epoch"] == 2].set_index("run")["asr_top1"]
    first = cleaned[cleaned["epoch"] == 0]
    assert (first["asr_top1"].to_numpy() == start[first["start"]].to_numpy()).all()


def test_contamination_is_counted_and_equals_the_planted_copies(finished):
    truth = json.loads((finished.folder / RESULTS / "world/truth.json").read_text())
    leaks = pd.read_csv(finished.folder / f"{MAIN}/leaks.csv")
    metrics = pd.read_parquet(finished.folder / f"{MAIN}/metrics.parquet")
    assert sorted(leaks["start"]) == sorted(metrics["start"].unique())
    assert leaks["duplicates"].tolist() == [truth["pairs_in_evaluation"]] * 2
    assert leaks["pairs"].tolist() == [96, 96]
    assert leaks["originals_of_victims"].between(1, 24).all()
    page = (finished.folder / f"{MAIN}/best.html").read_text()
    assert f"{leaks['originals_of_victims'][0]} of 96" in page


def test_figures_tables_graphs_and_provenance_exist(finished):
    folder = finished.folder / RESULTS
    for name in ("scatter.png", "scatter.pdf", "scatter.csv", "best.csv", "best.html"):
        assert (folder / "experiments/main" / name).stat().st_size > 0
    for graph in ("rules", "jobs"):
        assert "<svg" in (folder / f"workflow/{graph}.svg").read_text()
    runs = list(folder.glob("*/*/run.json"))
    assert len(runs) == 2 + 1 + 6  # one start model has a clean control
    assert all(json.loads(run.read_text())["spec"]["run"] == run.parent.name for run in runs)


def test_the_report_is_one_page_with_everything_in_it(finished):
    made = finished.snakemake("--report", "report.html")
    assert made.returncode == 0, made.stdout
    page = (finished.folder / "report.html").read_text()
    assert all(name in page for name in ("scatter.png", "best.html", "contact_sheet.png"))


def test_running_again_does_nothing(finished):
    assert finished.dry_run() == {}


def test_lost_urls_are_tried_again_by_the_documented_command(finished):
    again = ("main", "--forcerun", "download", "--until", "merge")
    counts = job_counts(finished.snakemake("-n", *again))
    assert counts == {"download": 2, "usable": 2, "merge": 1}
    done = finished.snakemake(*again, "--cores", "1", "--verbose")
    assert done.returncode == 0
    looks = done.stdout.count("Ready jobs: ")
    assert looks <= 2 * 5, "Snakemake looks for jobs when one has ended, not all the time"
    assert finished.dry_run() == {}, "the same images came"


def test_a_changed_number_runs_only_what_depends_on_it(finished):
    changed = {"defences": {"cleanclip": {"batch_size": 16}}}
    jobs = finished.dry_run("main", config=changed)
    assert jobs.pop("cleaning") == 2
    assert set(jobs) == {"declared_runs", "runs_table", "collect", "runs_report", "best", "figure"}


def test_a_new_learning_rate_adds_runs_and_keeps_the_others(finished):
    changed = {"defences": {"ssl": {"vary": {"optimizer.learning_rate": [0.001, 0.002]}}}}
    assert finished.dry_run("main", config=changed)["cleaning"] == 2


def test_a_changed_figure_is_drawn_again_and_nothing_is_trained(finished):
    figures = {"scatter": {"kind": "scatter", "by": "learning_rate"}}
    changed = {"experiments": {"main": {"figures": figures}}}
    assert finished.dry_run("main", config=changed) == {"figure_spec": 1, "figure": 1}


def test_a_measure_added_later_is_taken_of_finished_models_and_trains_nothing(finished):
    jobs = finished.dry_run("main", config={"experiments": {"main": {"measures": ["geometry"]}}})
    assert jobs == {"declared_measures": 1, "measure": 2 + 1 + 6, "measures_table": 1}


def test_edited_training_code_flags_runs_and_trains_nothing(copied):
    edited = copied.folder / "workflow_scripts/training/optimizer.py"
    text = edited.read_text()
    page = copied.folder / f"{MAIN}/runs.html"
    assert 'marked"' not in page.read_text()
    edited.write_text(text + "\nEDITED = True\n")
    assert set(copied.dry_run("main")) == {"runs_report", "best", "figure"}
    copied.snakemake("main")
    assert page.read_text().count('<tr class="marked">') == 2 + 1 + 6
    copied.snakemake("--report", "report.html")
    said = "9 of 9 runs were made by an older version of the code"
    assert (copied.folder / "report.html").read_text().count(said) >= 4
    edited.write_text(text)
    assert copied.dry_run("main") == {"runs_report": 1, "best": 1, "figure": 4}


def test_cleaning_can_start_from_an_earlier_epoch_and_pretraining_stops_there(copied):
    config = {
        "pretraining": {"seed": 5},
        "starts": {
            "demo_mmcl": {"start_epoch": 1},
            "demo_mmcl_ssl": {"start_epoch": "best_accuracy"},
        },
        "experiments": {
            "main": {"defence": ["cleanclip"], "baseline": []},
            "pretraining_dynamics": {"baseline": []},
        },
    }
    done = copied.snakemake("main", config=config)
    assert done.returncode == 0, done.stdout
    metrics = pd.read_parquet(copied.folder / f"{MAIN}/metrics.parquet")
    before = metrics[metrics["kind"] == "pretraining"].set_index(["start", "epoch"])
    (first,) = {start for start, _ in before.index if start.endswith("/epoch-1")}
    (best,) = {start for start, _ in before.index if start.endswith("/best_accuracy")}
    assert before.loc[first].index.tolist() == [0, 1]
    assert before.loc[best]["top1"].iloc[-1] == before.loc[best]["top1"].iloc[1:].max()
    cleaned = metrics[(metrics["kind"] == "cleaning") & (metrics["epoch"] == 0)]
    for row in cleaned.itertuples():
        assert row.asr_top1 == before.loc[row.start]["asr_top1"].iloc[-1]
    assert copied.dry_run("main", config=config) == {}
    later = config | {"starts": {"demo_mmcl": {"start_epoch": "last"}}}
    jobs = copied.dry_run("pretraining_dynamics", config=later)
    assert jobs["pretraining"] == 2
    done = copied.snakemake("pretraining_dynamics", config=later)
    assert done.returncode == 0, done.stdout
    record = copied.folder / RESULTS / "pretraining" / first.partition("/")[0] / "run.json"
    (resumption,) = json.loads(record.read_text())["resumptions"]
    assert resumption["step"] > 0


def test_the_finished_work_is_exported_as_a_crate(finished):
    done = finished.snakemake("crate")
    assert done.returncode == 0, done.stdout
    folder = finished.folder / RESULTS / "crate"
    graph = json.loads((folder / "ro-crate-metadata.json").read_text())["@graph"]
    actions = [entity for entity in graph if entity["@type"] == "CreateAction"]
    assert len(actions) == 1 + 2 + 1 + 6
    assert (folder / "experiments/main/scatter.pdf").is_file()
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 10e6


def test_a_second_run_elsewhere_with_other_cores_makes_the_same_bytes(just_finished, tmp_path):
    again = copy_workflow(tmp_path)
    fewer = {"experiments": {"pretraining_dynamics": {"start": ["demo_mmcl_ssl"], "baseline": []}}}
    done = again.snakemake("pretraining_dynamics", "--cores", "1", config=fewer)
    assert done.returncode == 0, done.stdout
    patterns = (
        "sources/*/manifest.parquet",
        "shards/*/*/*.tar",
        "attacks/*/*",
        "captions/*/attacks/*/*",
        "evaluation/*/*",
        "pretraining/*/model.pt",
        "pretraining/*/metrics.csv",
    )
    first = _digests(just_finished.folder / RESULTS, *patterns)
    second = _digests(again.folder / RESULTS, *patterns)
    assert second.keys() <= first.keys()
    assert [name for name in second if first[name] != second[name]] == []


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"datasets": {"demo": {"pairs": 1000}}}, "240"),
        ({"pretraining": {"attack": {"target": "bananna"}}}, "did you mean 'banana'?"),
        ({"pretraining": {"batch_size": 4096}}, "4096"),
    ],
)
def test_errors_that_need_no_data_are_reported_before_anything_runs(finished, config, sentence):
    failed = finished.snakemake("pretraining_dynamics", config=config)
    assert failed.returncode != 0
    assert sentence in failed.stdout and "rule " not in failed.stdout


def test_errors_that_depend_on_the_data_are_one_sentence_in_the_log(copied):
    failed = copied.snakemake("pretraining_dynamics", config={"download": {"min_size": 4000}})
    assert failed.returncode != 0
    logs = (copied.folder / RESULTS / "logs").rglob("*.log")
    errors = [line for log in logs for line in log.read_text().splitlines() if "error: " in line]
    assert errors and all("usable" in error for error in errors), errors


def test_a_users_own_methods_need_only_a_file_and_the_config(
    finished,
):
    own = {
        "my_trigger.py": """
from dataclasses import dataclass

@dataclass(frozen=True, kw_only=True)
class Trigger:
    image_size: int
    seed: int
    level: float = 0.5

    def __call__(self, image, generator):
        return image * 0 + self.level
""",
        "my_term.py": """
from workflow_scripts.training.losses._term import LossTerm

class Loss(LossTerm):
    def forward(self, features):
        plain = features.views["plain"]
        return (1 - (plain.images * plain.texts).sum(1)).mean()
""",
        "my_change.py": """
def change(model, fresh, *, factor):
    for parameter in model.visual.parameters():
        parameter.data.mul_(factor)
""",
        "my_figure.py": """
from matplotlib.figure import Figure

def draw(metrics, *, title):
    figure = Figure()
    figure.suptitle(f"{title}: {len(metrics)} epochs")
    return figure
""",
    }
    for name, text in own.items():
        (finished.folder / name).write_text(text)
    config = {
        "starts": {"mine": {"label": "grey", "attack.trigger": {"name": "my_trigger.py"}}},
        "defences": {
            "mine": {
                "label": "mine",
                "objective": {"mmcl": 1.0, "my_term.py": 0.5},
                "start_change": {"name": "my_change.py", "factor": 0.5},
            }
        },
        "experiments": {
            "my_experiment": {
                "start": ["mine"],
                "defence": ["mine"],
                "vary": {"epochs": [1, 2]},
                "figures": {"mine": {"kind": "my_figure.py", "title": "Mine"}},
            }
        },
    }
    done = finished.snakemake("my_experiment", config=config)
    assert done.returncode == 0, done.stdout
    folder = finished.folder / RESULTS / "experiments/my_experiment"
    metrics = pd.read_parquet(folder / "metrics.parquet")
    assert set(metrics["defence"].dropna()) - {""} == {"mine"}
    assert sorted(metrics.loc[metrics["kind"] == "cleaning", "epochs"].unique()) == [1, 2]
    assert (folder / "mine.pdf").stat().st_size > 0
    (finished.folder / "my_figure.py").write_text(own["my_figure.py"].replace("epochs", "rows"))
    assert finished.dry_run("my_experiment", config=config) == {"figure": 1}


def test_trainings_on_a_workstation_have_a_gpu_each(copied, tmp_path):
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "0,1", "TMPDIR": str(tmp_path)}
    options = ("--profile", "profiles/local", "--resources", "gpu=2", "--cores", "2")
    config = {
        "experiments": {"main": {"defence": ["cleanclip"]}},
        "defences": {"cleanclip": {"seed": 7}},
        "execution": {"device": "cpu"},
        "resources": {"cleaning": {"gpu": 1}},
    }
    local = Workflow(copied.folder, options, environment)
    done = local.snakemake("main", config=config)
    assert done.returncode == 0, done.stdout
    runs = [json.loads(f.read_text()) for f in copied.folder.glob("*/*/cleaning/*/run.json")]
    gpus = {run["hardware"]["gpus"] for run in runs if run["spec"]["seed"] == 7}
    assert gpus == {"0", "1"}

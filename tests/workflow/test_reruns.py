"""A change re-runs exactly what depends on it, and nothing if it does not affect results."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from workflow_scripts.captions.stored import StoredTokens
from workflow_scripts.data.manifest import read_manifest, write_manifest

RESULTS = "results/demo"
TRAININGS = {"pretraining": 2 + 1, "cleaning": 6}  # one start has a clean control
OF_RUNS = {"runs_report", "best", "figure"}


@pytest.fixture
def edited(finished):
    """Return a function that edits a file of the finished workflow for the duration of the test."""
    before: dict[Path, str] = {}

    def edit(name: str, old: str, new: str) -> None:
        file = finished.folder / name
        before.setdefault(file, file.read_text())
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new, 1))

    yield edit
    for file, text in before.items():
        file.write_text(text)


@pytest.mark.parametrize(
    "change",
    [
        {"execution": {"wandb": {"mode": "offline"}, "checkpoint": {"minutes": 5}}},
        {"execution": {"staging": "$TMPDIR", "evaluation_batch_size": 7}},
        {"resources": {"cleaning": {"threads": 2}, "captions": {"mem_mb": 4000, "threads": 2}}},
        {"download": {"threads_per_process": 32, "timeout": 7, "retries": 3}},
        {"wordnet": "./nltk_data"},
        {"costs": {"usable": 0.5}, "cluster": {"max_runtime": 60}},
        {"pretraining": {"objective": {"mmcl": 1}, "attack": {"poisoned": 24.0}}},
        {"starts": {"demo_mmcl_ssl": {"objective": {"ssl": 1, "mmcl": 1}}}},
        {"defences": {"cleanclip": {"objective": {"ssl": {"weight": 1.0}, "mmcl": 1.0}}}},
        {"pretraining": {"attack": {"trigger": {"name": "random", "patch_size": 10}}}},
        {"pretraining": {"start_epoch": "last", "attack": {"templates": "openai"}}},
        {"starts": {"demo_mmcl": {"start_epoch": 2}}},
    ],
    ids=str,
)
def test_settings_without_effect_on_results_re_run_nothing(finished, change):
    assert finished.dry_run(config=change) == {}


def test_a_new_key_with_a_neutral_value_re_runs_nothing(finished, edited):
    schema = "workflow_scripts/experiments/config.schema.yaml"
    edited(
        schema,
        "      epochs: {$ref",
        "      novelty: {type: [number, 'null'], default: null}\n      epochs: {$ref",
    )
    edited("config.yaml", "  epochs: 64\n", "  epochs: 64\n  novelty: null\n")
    assert finished.dry_run() == {}


def test_a_new_option_of_a_trigger_at_its_default_re_runs_nothing(finished, edited):
    trigger = "workflow_scripts/poison/triggers/yellow.py"
    edited(trigger, "    seed: int\n", "    seed: int\n    strength: float = 1.0\n")
    assert finished.dry_run() == {}


def test_comments_and_layout_of_code_flag_and_re_run_nothing(finished, edited):
    for name in ("training/optimizer", "poison/triggers/random", "results/figures/scatter",
                 "results/collect", "data/duplicates", "demo/world"):  # fmt: skip
        edited(f"workflow_scripts/{name}.py", '"""', '"""Reworded: ')
        edited(f"workflow_scripts/{name}.py", "\nimport ", "\n# A comment.\n\nimport ")
    assert finished.dry_run() == {}


def test_a_renamed_step_or_another_environment_re_runs_nothing(finished, edited):
    edited("rules/pretraining.smk", "workflow_scripts.training.train --spec", "elsewhere --spec")
    edited("rules/poison.smk", "--workers {threads}", "--processes {threads}")
    edited("Snakefile", "envs/pipeline.sif", "envs/another.sif")
    assert finished.dry_run() == {}


def test_moved_results_re_run_and_flag_nothing(copied):
    (copied.folder / "results/demo").rename(copied.folder / "results/toy")
    text = (copied.folder / "profiles/demo/demo.yaml").read_text()
    (copied.folder / "profiles/demo/demo.yaml").write_text(
        text.replace("results/demo", "results/toy")
    )
    assert copied.dry_run("main") == {}
    page = copied.folder / "results/toy/experiments/main/runs.html"
    assert 'class="marked"' not in page.read_text()


def test_an_edited_trigger_repeats_what_depends_on_it(finished, edited):
    edited("workflow_scripts/poison/triggers/yellow.py", "_YELLOW = (1.0", "_YELLOW = (0.9")
    assert finished.dry_run("main") == {}
    edited("workflow_scripts/poison/triggers/random.py", "noise = ", "noise = 2 * ")
    jobs = finished.dry_run("main")
    assert jobs["poison"] == 1 + 1  # the clean control is evaluated with the trigger as well
    assert {rule: jobs[rule] for rule in TRAININGS} == TRAININGS
    assert not {"download", "usable", "merge", "subset"} & set(jobs)


@pytest.mark.parametrize(
    ("change", "runs", "not_run"),
    [
        ({"download": {"min_size": 6}}, {"usable", "merge", *TRAININGS}, {"download", "url_list"}),
        ({"download": {"jpeg_quality": 80}}, {"download", *TRAININGS}, {"url_list", "demo_world"}),
        ({"captions": {"seed": 1}}, {"captions", *TRAININGS}, {"poison", "subset"}),
        ({"pretraining": {"attack": {"templates": "simple"}}}, {"poison", *TRAININGS}, {"subset"}),
        ({"cleaning": {"seed": 1}}, {"cleaning"}, {"pretraining", "captions", "clean_split"}),
        ({"cleaning": {"data": {"seed": 1, "poisoned_left": 2}}}, {"clean_split"}, {"pretraining"}),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_changed_value_re_runs_what_depends_on_it(finished, change, runs, not_run):
    jobs = set(finished.dry_run("main", config=change))
    assert runs <= jobs
    assert not not_run & jobs


@pytest.mark.parametrize("kind", ["cleaning", "pretraining"])
def test_a_run_whose_folder_was_deleted_is_trained_again(finished, kind):
    folder = next((finished.folder / RESULTS / kind).iterdir())
    kept = folder.with_name("kept")
    folder.rename(kept)
    try:
        jobs = finished.dry_run("all")
    finally:
        kept.rename(folder)
    assert jobs[kind] == 1
    assert set(jobs) > OF_RUNS


@pytest.fixture
def complete_storage(copied):
    """The finished workflow as left by code that stored all rows of a dataset for each attack."""
    results = copied.folder / RESULTS
    arrays = list(results.glob("captions/*/attacks/*/*.npy"))
    for path in arrays:
        manifest = results / "attacks" / path.parent.name / "manifest.parquet"
        rows = len(read_manifest(manifest))
        length = np.load(path)["tokens"].shape[1]
        whole = StoredTokens(path, manifest, rows, length)[np.arange(rows)]
        _rewrite(path, lambda path, whole=whole: np.save(path, whole))
    for path in results.glob("attacks/*/manifest.parquet"):
        frame = read_manifest(path)
        _rewrite(path, lambda path, frame=frame: write_manifest(path, frame))
    for folder in results.glob("captions/*/datasets"):
        shutil.rmtree(folder)
    for record in (copied.folder / ".snakemake/metadata").rglob("*"):
        content = json.loads(record.read_text()) if record.is_file() else {}
        if content.get("rule") == "captions":
            content["input"] = [file for file in content["input"] if not file.endswith(".npy")]
            record.write_text(json.dumps(content))
    assert arrays
    return copied


def _rewrite(path, write):
    state = path.stat()
    path.unlink()
    write(path)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def test_results_that_were_stored_in_full_train_nothing(complete_storage):
    assert complete_storage.dry_run() == {}
    results = complete_storage.folder / RESULTS
    # Not even if files that only trainings need were deleted.
    for folder in results.glob("captions/*/attacks/*"):
        shutil.rmtree(folder)
    for manifest in results.glob("attacks/*/manifest.parquet"):
        manifest.unlink()
    assert complete_storage.dry_run() == {}


@pytest.fixture
def own_images(copied):
    """A finished evaluation set made from a user's folder of images."""
    shutil.copytree(copied.folder / RESULTS / "world/evaluation", copied.folder / "mine")
    config = {"evaluations": {"mine": {"folder": "mine"}}, "evaluation": "mine"}
    return copied, config


def test_an_image_added_to_a_users_evaluation_folder_makes_a_new_set(own_images):
    workflow, config = own_images
    shown = workflow.snakemake("-np", "main", config=config).stdout
    manifest = re.search(rf"{RESULTS}/evaluation/mine-\w+/manifest.parquet", shown).group()
    done = workflow.snakemake(manifest, config=config)
    assert done.returncode == 0, done.stdout
    made = workflow.dry_run("main", config=config)
    assert "evaluation_set" not in made
    image = next(file for file in (workflow.folder / "mine").rglob("*") if file.is_file())
    os.utime(image)
    assert "evaluation_set" not in workflow.dry_run("main", config=config), "only its time differs"
    shutil.copy(image, image.with_name(f"another{image.suffix}"))
    jobs = workflow.dry_run("main", config=config)
    assert jobs["evaluation_set"] == 1
    assert not {"poison", "subset", "download"} & set(jobs), "no attack depends on the images"
    shutil.rmtree(workflow.folder / "mine")
    assert "evaluation_set" not in workflow.dry_run("main", config=config), "remembered when moved"


def test_a_users_url_list_is_identified_by_its_content(finished):
    mine = finished.folder / "mine.csv"
    mine.write_text("url,caption\nhttp://127.0.0.1:9/1.jpg,a red circle\n")
    source = {"list": "mine.csv", "format": "csv", "columns": ["url", "caption"], "parts": 1}
    config = {
        "sources": {"mine": source | {"header": True}},
        "datasets": {"demo": {"source": "mine", "pairs": 240}},
    }

    def lists():
        shown = finished.snakemake("-np", "main", config=config).stdout
        return {word for word in shown.replace(",", " ").split() if "/lists/mine-" in word}

    before = lists()
    assert before
    mine.rename(finished.folder / "renamed.csv")
    source["list"] = "renamed.csv"
    config["sources"]["mine"] = source | {"header": True}
    assert lists() == before
    with (finished.folder / "renamed.csv").open("a") as file:
        file.write("http://127.0.0.1:9/2.jpg,a blue square\n")
    assert not lists() & before


def test_a_changed_declaration_is_noticed_without_snakemakes_records(copied):
    shutil.rmtree(copied.folder / ".snakemake")
    assert copied.dry_run("main") == {}
    figures = {"experiments": {"main": {"figures": {"scatter": {"kind": "scatter", "by": "run"}}}}}
    assert copied.dry_run("main", config=figures) == {"figure_spec": 1, "figure": 1}
    sweep = {"defences": {"ssl": {"vary": {"optimizer.learning_rate": [0.001, 0.002]}}}}
    jobs = copied.dry_run("main", config=sweep)
    assert jobs["cleaning"] == 2
    assert {"collect", "figure", "best"} <= set(jobs)

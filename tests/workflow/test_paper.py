"""The paper's config: its complete DAG without any data."""

import resource

import pytest
import yaml

from tests.workflow.running import job_counts, run


def test_the_whole_papers_dag_is_shown_with_no_data_present(untouched):
    counts = job_counts(run(["snakemake", "-n", "all"], untouched.folder))
    assert counts["download"] == counts["usable"] == 128 + 32
    assert counts["pretraining_taken"] == 4
    assert counts["cleaning"] == 2 * (8 + 16 + 16) + 2 * 3 * 13
    assert counts["evaluation_set"] == 1
    assert counts["figure"] >= 2


@pytest.mark.parametrize("profile", ["profiles/demo", "profiles/local", "profiles/slurm"])
def test_every_profile_dry_runs(untouched, profile):
    counts = job_counts(run(["snakemake", "--profile", profile, "-n", "all"], untouched.folder))
    assert counts["cleaning"] > 0


def test_an_experiments_target_runs_only_what_it_needs(untouched):
    counts = job_counts(run(["snakemake", "-n", "pretraining_dynamics"], untouched.folder))
    assert counts["pretraining_taken"] == 4
    assert not {"cleaning", "clean_split", "best"} & set(counts)


def test_a_misspelt_key_is_one_sentence_and_no_traceback(untouched):
    config = untouched.folder / "config.yaml"
    config.write_text(config.read_text().replace("image_size:", "image_sise:"))
    refused = run(["snakemake", "-n", "all"], untouched.folder)
    assert refused.returncode != 0
    assert "config: unknown key 'image_sise'; did you mean 'image_size'?" in refused.stdout
    assert "Traceback" not in refused.stdout


def test_the_dry_run_of_every_experiment_takes_seconds(untouched):
    declared = yaml.safe_load((untouched.folder / "config.yaml").read_text())["experiments"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    counts = job_counts(run(["snakemake", "-n", *declared], untouched.folder))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert counts["cleaning"] > 1000
    # Ten seconds on an idle core, two thirds of them Snakemake's 2 ms per job; on a core shared
    # with other tests, the same work takes up to twice as long.
    assert after.ru_utime - before.ru_utime < 20

"""Runs the tiny demo as Slurm jobs through the real executor plugin, up to its figure."""

import json
import math
from collections import Counter

import pytest

from tests.slurm.submitting import of_workflow, rule_of, submitting_to, time_of
from tests.workflow.running import copy_workflow
from workflow_scripts.common.files import read_json

# Eight processes as on a cluster, on simulated GPUs: they train on the CPU with gloo.
CONFIG = {
    "all": ["main"],
    "experiments": {
        "main": {"defence": ["cleanclip"], "baseline": []},
        "ablation_ssl_weight": {"start": ["demo_mmcl"], "vary": {"objective.ssl": [1.0, 2.0]}},
    },
    "execution": {"device": "cpu"},
    "costs": {
        "samples_per_second": {"pretraining": 1, "cleaning": 1},
        "evaluation_images_per_second": 10,
        "evaluation_images": 74,
    },
    "resources": {
        "pretraining": {"threads": 8, "mem_mb": 8000, "runtime": 10, "gpu": 8},
        "cleaning": {"threads": 1, "mem_mb": 3000, "runtime": 20, "gpu": 1},
        "download": {"threads": 1, "mem_mb": 2000, "runtime": 40},
        "poison": {"threads": 2, "mem_mb": 2000, "runtime": 60},
        "small": {"threads": 1, "mem_mb": 1000, "runtime": 5},
    },
    "cluster": {"partition": {"cpu": "main", "gpu": "urgent"}, "slack": 2},
}


@pytest.fixture(scope="module")
def done(slurm, tmp_path_factory):
    workflow = submitting_to(slurm, copy_workflow(tmp_path_factory.mktemp("workflow")).folder)
    ran = workflow.snakemake("main", config=CONFIG)
    assert ran.returncode == 0, ran.stdout
    return workflow


@pytest.fixture(scope="module")
def done_jobs(slurm, done):
    """The jobs of the run above, as reported by Slurm."""
    return of_workflow(slurm, done)


def asked(job):
    """Return CPUs, memory, GPUs, nodes, minutes and partition of a job, as reported by Slurm."""
    hours, minutes, _ = job["TimeLimit"].split(":")
    gpus = job.get("TresPerJob", "gres:gpu:0").strip()
    return {
        "cpus": int(job["NumCPUs"]),
        "memory": job["MinMemoryNode"],
        "gpus": int(gpus.removeprefix("gres:gpu:")),
        "nodes": job["NumNodes"],
        "minutes": int(hours) * 60 + int(minutes),
        "partition": job["Partition"],
    }


def test_the_workflow_reaches_its_figure_and_every_job_succeeds(done, done_jobs):
    assert (done.folder / "results/demo/experiments/main/scatter.pdf").stat().st_size > 0
    assert {job["JobState"] for job in done_jobs} == {"COMPLETED"}
    assert Counter(map(rule_of, done_jobs)) == {
        **{"demo_world": 1, "url_list": 1, "download": 2, "usable": 2, "merge": 1, "subset": 1},
        **{"evaluation_set": 1, "duplicates": 1, "poison": 1, "clean_split": 1, "captions": 3},
        **{"pretraining": 2, "cleaning": 2, "leaks": 1},
        # Small consecutive steps form one job.
        "results": 1,
    }


@pytest.mark.parametrize(
    ("rule", "cpus", "memory", "minutes"),
    [
        ("download", 1, "2000M", 40),
        ("subset", 1, "1000M", 5),
        ("poison", 2, "2000M", 60),
        # A group's members run in sequence: collect, best, runs_report and four figures.
        ("results", 1, "1000M", 7 * 5),
    ],
)
def test_each_job_requests_the_resources_of_its_rule(done_jobs, rule, cpus, memory, minutes):
    jobs = [asked(job) for job in done_jobs if rule_of(job) == rule]
    assert jobs
    for job in jobs:
        assert (job["cpus"], job["memory"], job["minutes"]) == (cpus, memory, minutes)
        assert (job["gpus"], job["nodes"], job["partition"]) == (0, "1", "main")


def test_run_times_of_trainings_follow_from_data_epochs_and_objective(done_jobs):
    jobs = {job["Comment"].split()[0]: asked(job) for job in done_jobs}
    evaluation = 2 * 74 / 10
    expected = {
        # 240 pairs, 2 epochs and 3 evaluations; twice the work with SSL; on 8 GPUs.
        "pretraining_wildcards_demo-mmcl-": (8, 8, 10, (2 * 240 + 3 * evaluation) / 8),
        "pretraining_wildcards_demo-mmcl_ssl-": (8, 8, 10, (4 * 240 + 3 * evaluation) / 8),
        # 96 pairs and 32 held-out pairs, which are in the same file.
        "cleaning_wildcards_demo-mmcl-by": (1, 1, 20, 2 * (96 + 32) + 2 * evaluation),
    }
    for name, (cpus, gpus, base, seconds) in expected.items():
        (job,) = [job for key, job in jobs.items() if key.startswith(f"rule_{name}")]
        assert (job["cpus"], job["gpus"], job["partition"]) == (cpus, gpus, "urgent")
        assert job["minutes"] == math.ceil(base + 2 * seconds / 60)


def test_eight_processes_train_as_one_job_and_a_second_job_waits(done, done_jobs):
    runs = [read_json(file) for file in done.folder.glob("results/demo/pretraining/*/run.json")]
    assert [run["hardware"]["processes"] for run in runs] == [8, 8]
    jobs = [job for job in done_jobs if rule_of(job) == "pretraining"]
    first, second = sorted(jobs, key=lambda job: time_of(job, "StartTime"))
    assert time_of(second, "SubmitTime") < time_of(first, "EndTime")
    assert time_of(second, "StartTime") >= time_of(first, "EndTime")
    assert {run["slurm"]["SLURM_JOB_ID"] for run in runs} == {first["JobId"], second["JobId"]}


def test_one_ablation_submits_only_its_own_jobs(slurm, done):
    before = {job["JobId"] for job in of_workflow(slurm, done)}
    ran = done.snakemake("ablation_ssl_weight", config=CONFIG)
    assert ran.returncode == 0, ran.stdout
    new = [job for job in of_workflow(slurm, done) if job["JobId"] not in before]
    # The run with weight 1 belongs to the main experiment.
    assert Counter(map(rule_of, new)) == {"cleaning": 1, "leaks": 1, "results": 1}
    figure = done.folder / "results/demo/experiments/ablation_ssl_weight/by_weight.pdf"
    assert figure.stat().st_size > 0


def test_a_job_too_large_for_any_node_gives_a_clear_message(slurm, done):
    config = json.loads(json.dumps(CONFIG))
    config["resources"]["cleaning"]["gpu"] = 16
    config["cleaning"] = {"seed": 5}
    failed = done.snakemake("main", "--retries", "0", config=config)
    assert failed.returncode != 0
    assert "Requested node configuration is not available" in failed.stdout


def test_preflight_finds_oversized_jobs_before_anything_is_submitted(slurm, done):
    before = len(of_workflow(slurm, done))
    config = json.loads(json.dumps(CONFIG))
    config["resources"]["cleaning"]["gpu"] = 16
    failed = done.snakemake("preflight", config=config)
    assert failed.returncode != 0
    assert "in the partition urgent no node has that" in failed.stdout
    assert len(of_workflow(slurm, done)) == before

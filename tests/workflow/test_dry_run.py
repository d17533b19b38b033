"""A dry run is short: jobs by rule, names of runs to train, and jobs that would be repeated."""

import re

from tests.workflow.running import Workflow, job_counts

TABLE = "results/demo/workflow/runs/main-00000000.csv"


def test_a_dry_run_names_the_new_runs_and_what_they_vary(untouched):
    shown = untouched.snakemake("-n", "ablation_trigger")
    new = job_counts(shown)["pretraining"]
    lines = shown.stdout.splitlines()
    assert len(lines) < 80
    assert f"{new} pre-trainings to train, 0 already finished" in lines
    assert any(re.fullmatch(r"    demo-mmcl-\w{8}: MMCL; warped", line) for line in lines)
    assert "rule pretraining:" not in shown.stdout


def test_a_dry_run_gives_the_learning_rates_of_runs_that_differ_in_nothing_else(untouched):
    sweep = {"defences": {"ssl": {"vary": {"optimizer.learning_rate": [0.002, 0.001]}}}}
    shown = untouched.snakemake("-n", "main", config=sweep).stdout
    of_ssl = "demo-mmcl-by-ssl-lr0.00* (2 runs, learning rates 0.001, 0.002): MMCL; SSL"
    assert of_ssl in shown


def test_a_dry_run_names_a_swept_setting_once(untouched):
    sweep = {"defences": {"ssl": {"vary": {"objective.ssl": [1.0, 2.0]}}}}
    shown = untouched.snakemake("-n", "main", config=sweep).stdout
    assert re.search(r": MMCL; SSL; objective.ssl 2.0$", shown, re.M)
    assert "sweep" not in shown


def test_with_p_a_dry_run_shows_every_job_and_its_command(untouched):
    shown = untouched.snakemake("-n", "-p", "pretraining_dynamics")
    assert shown.stdout.count("rule pretraining:") == job_counts(shown)["pretraining"] == 3
    assert "-m workflow_scripts.training.train" in shown.stdout


def test_a_training_uses_the_gpus_that_there_are(untouched):
    local = Workflow(untouched.folder, ("--profile", "profiles/local", "--resources", "gpu=4"))
    config = {"resources": {"pretraining": {"gpu": 8}}}
    shown = local.snakemake("-n", "-p", "pretraining_dynamics", config=config).stdout
    assert shown.count("common.gpus --count 4 --") == shown.count("--processes 4 ") == 3


def test_a_figure_may_have_a_name_that_begins_like_that_of_a_table(untouched):
    figures = {name: {"kind": "scatter"} for name in ("best_by_rate", "runs2", "metrics_of_all")}
    shown = untouched.snakemake(
        "-n", "main", config={"experiments": {"main": {"figures": figures}}}
    )
    assert job_counts(shown)["figure"] >= 3


def test_a_dry_run_lists_finished_jobs_that_would_be_repeated(untouched):
    assert untouched.snakemake(TABLE).returncode == 0
    changed = {"starts": {"demo_mmcl": {"label": "other"}}}
    shown = untouched.snakemake("-n", TABLE, config=changed).stdout
    assert "1 declared_runs: params have changed since last execution" in shown


def test_a_table_of_any_number_of_runs_is_written(untouched):
    rates = [round(1e-4 * n, 6) for n in range(1, 801)]
    sweep = {"defences": {"ssl": {"vary": {"optimizer.learning_rate": rates}}}}
    done = untouched.snakemake(TABLE, config=sweep)
    assert done.returncode == 0, done.stdout
    table = (untouched.folder / TABLE).read_text()
    assert len(table) > 128 << 10  # the limit of an argument of a command
    assert table.count(",SSL,") == 2 * len(rates)


def test_a_dry_run_warns_that_another_evaluation_set_trains_finished_runs_again(untouched):
    target = "pretraining_dynamics"
    named = re.findall(r"^    (demo-mmcl\S*):", untouched.snakemake("-n", target).stdout, re.M)
    for name in named:
        folder = untouched.folder / "results/demo/pretraining" / name
        folder.mkdir(parents=True)
        (folder / "run.json").write_text("{}")
    mine = {"evaluations": {"mine": {"folder": "pictures"}}, "evaluation": "mine"}
    shown = untouched.snakemake("-n", target, config=mine).stdout
    assert f"{len(named)} of these runs are finished with `evaluation: demo`" in shown
    assert "finished with" not in untouched.snakemake("-n", target).stdout


def test_an_unknown_id_is_not_a_target(untouched):
    shown = untouched.snakemake("-n", "results/demo/evaluation/mine/manifest.parquet")
    assert shown.returncode != 0
    assert "Traceback" not in shown.stdout
    assert "No rule to produce results/demo/evaluation/mine/manifest.parquet" in shown.stdout

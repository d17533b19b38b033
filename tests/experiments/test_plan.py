import copy
import json
import math
from pathlib import Path

import pytest

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import read_json
from workflow_scripts.experiments import plan as step
from workflow_scripts.experiments.estimate import views
from workflow_scripts.experiments.expand import expand
from workflow_scripts.experiments.plan import EVERY, plan_rows, work_of
from workflow_scripts.experiments.wall_clock import Machines, machines, wall_clock_hours
from workflow_scripts.experiments.workload import Job


@pytest.fixture
def here(config, tmp_path):
    """Five experiments of the paper's config with complete pre-trainings; results are empty."""
    kept = ("main", "main_cc3m", "pretraining_dynamics", "ablation_seed", "baseline_without_poison")
    config["experiments"] = {name: config["experiments"][name] for name in kept}
    config["pathvars"]["results"] = str(tmp_path)
    for start in config["starts"].values():
        start.pop("start_epoch", None)
    return config


def _rows(config, gpus=None, experiment=None):
    there = machines(config["resources"], gpus, None)
    rows = plan_rows(config, work_of(config), there, experiment)
    return {row["name"]: row for row in rows}


def _finish(config, run, speed, size=1000, **hardware):
    """Write the files of a finished run that the plan reads."""
    folder = Path(config["pathvars"]["results"], expand(config).runs[run]["kind"], run)
    folder.mkdir(parents=True)
    (folder / "model.pt").write_bytes(bytes(size))
    hardware = {"device": "A100", "processes": 8, "threads": 1} | hardware
    record = {"hardware": hardware, "samples_per_second": speed}
    (folder / "run.json").write_text(json.dumps(record))


def _run(config, experiment, **wanted):
    rows = expand(config).experiments[experiment]
    return next(row["run"] for row in rows if wanted.items() <= row.items())


def test_a_shared_run_is_counted_in_each_experiment_and_once_in_the_total(here):
    rows = _rows(here)
    runs = expand(here).runs.values()
    for kind in ("pretraining", "cleaning"):
        assert rows[EVERY][kind] == sum(run["kind"] == kind for run in runs)
    assert rows["main"]["pretraining"] == rows["main_cc3m"]["pretraining"] == 2
    assert rows["all"]["pretraining"] == rows["pretraining_dynamics"]["pretraining"] == 4
    both = rows["main"]["gpu_hours"] + rows["main_cc3m"]["gpu_hours"]
    assert rows["all"]["gpu_hours"] == pytest.approx(both, abs=0.2)


def test_models_that_give_labels_or_that_a_run_continues_from_are_counted_with_it(here):
    here["artefacts"]["siglip"]["model"] = {"start": "cc6m_mmcl"}
    here["cleaning"]["labels"] = {"artefact": "siglip"}
    here["starts"]["cc3m_mmcl"]["continues"] = "cc6m_mmcl_ssl"
    here["experiments"] = {"one": here["experiments"]["ablation_seed"]}
    here["experiments"]["one"] |= {"start": ["cc3m_mmcl"], "vary_start": {}}
    here["all"] = ["one"]
    rows = _rows(here)
    assert (rows["one"]["pretraining"], rows["one"]["cleaning"]) == (3, 13)
    assert rows["artefact"]["jobs"] == 1
    assert rows["poison"]["jobs"] == 2, "the labels' model and the first start share their attack"


def test_hours_and_bytes_of_the_papers_pretraining_follow_from_its_costs(here):
    here["experiments"] = {"one": here["experiments"]["pretraining_dynamics"]}
    here["experiments"]["one"]["start"] = ["cc6m_mmcl"]
    here["all"] = ["one"]
    costs = here["costs"]
    trained = 64 * 6_000_000 / costs["samples_per_second"]["pretraining"]
    evaluated = 65 * 2 * 50_000 / costs["evaluation_images_per_second"]
    row = _rows(here)["pretraining"]
    assert row["gpu_hours"] == pytest.approx((trained + evaluated) / 3600, rel=1e-3)
    assert 24 < row["gpu_hours"] / 8 < 40, "hours of 8 A100s, as published"
    assert row["bytes"] == 3 * costs["bytes"]["model"]
    tokens = _rows(here)["captions"]["bytes"]
    assert tokens == (6_000_000 + 3_000) * 77 * 4


def test_ssl_halves_the_speed(here):
    work = work_of(here)
    plain = _run(here, "main", kind="pretraining", start_label="CC6M, MMCL")
    both = _run(here, "main", kind="pretraining", start_label="CC6M, MMCL+SSL")
    assert work.speed(plain)[0] == 2 * work.speed(both)[0]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('views = {"other": View(image="autoaugment", text="eda")}', 2),
        ('views = {"other": View(image="autoaugment"), "plain": PLAIN}', 2),
        ('views = {"plain": PLAIN, "start": View(image="plain", by_start=True)}', 4 / 3),
        ('views = {"texts": View(text="eda")}', 1),
        ("pass", 1),
    ],
)
def test_the_views_of_a_term_are_read_from_its_source(tmp_path, body, expected):
    term = tmp_path / "term.py"
    term.write_text(
        "from workflow_scripts.training.losses import PLAIN, LossTerm, View\n"
        f"class Loss(LossTerm):\n    {body}\n    def forward(self, features): ...\n"
    )
    assert views({"objective": {"mmcl": 1.0, str(term): 0.5}}) == pytest.approx(expected)


def test_pseudo_labels_are_costed_by_the_resources_of_artefacts(here):
    here["cleaning"]["labels"] = {"artefact": "siglip"}
    here["experiments"] = {"main": here["experiments"]["main"] | {"defence": ["cleanclip"]}}
    here["all"] = ["main"]
    here["resources"]["artefact"]["gpu"] = 0
    row = _rows(here)["artefact"]
    assert (row["gpu_hours"], row["core_hours"] > 0) == (0, True)
    assert _rows(here)["cleaning"]["gpu_hours"] > 0


def test_wall_clock_hours_are_those_of_parallel_jobs():
    resources = {
        "download": {"threads": 16},
        "pretraining": {"threads": 8, "gpu": 8},
        "cleaning": {"threads": 8, "gpu": 1},
    }
    jobs = [
        *(Job("download", str(n), done=False, core_hours=16.0) for n in range(4)),
        *(Job("pretraining", str(n), done=False, gpu_hours=80.0) for n in range(2)),
        *(Job("cleaning", str(n), done=False, gpu_hours=n + 1.0) for n in range(3)),
        Job("merge", "one", done=False),
    ]
    assert wall_clock_hours(jobs, resources, Machines(gpus=8, cores=32)) == 2 + 20 + 3
    assert wall_clock_hours(jobs, resources, Machines(gpus=16, cores=64)) == 1 + 10 + 3
    # A training uses the four available GPUs; two cleaning runs share one GPU, one after the other.
    assert wall_clock_hours(jobs[4:6], resources, Machines(gpus=4, cores=8)) == 40
    assert wall_clock_hours(jobs[6:], resources, Machines(gpus=2, cores=8)) == 3


def test_twice_the_gpus_halve_the_time_and_finished_jobs_take_none(here):
    eight, sixteen = (_rows(here, gpus)["all"] for gpus in (8, 16))
    assert 1.9 < eight["clock_hours_missing"] / sixteen["clock_hours_missing"] < 2
    done = _run(here, "main", kind="pretraining", start_label="CC6M, MMCL")
    _finish(here, done, speed=4400.0)
    assert _rows(here, 8)["all"]["clock_hours_missing"] < eight["clock_hours_missing"]


def test_the_plan_of_one_experiment_has_its_row_and_its_rules(here):
    every, one = _rows(here), _rows(here, experiment="ablation_seed")
    assert one["ablation_seed"] == every["ablation_seed"]
    assert one["cleaning"]["jobs"] == one["ablation_seed"]["cleaning"] == 78
    assert not {"main", "all", EVERY} & set(one)


def test_measurements_of_finished_runs_replace_the_configs_costs(here):
    before = _rows(here)
    done = _run(here, "main_cc3m", kind="pretraining", start_label="CC3M, MMCL+SSL")
    same = _run(here, "main", kind="pretraining", start_label="CC6M, MMCL+SSL")
    other = _run(here, "main", kind="pretraining", start_label="CC6M, MMCL")
    _finish(here, done, speed=8000.0)
    work, after = work_of(here), _rows(here)
    assert work.speed(same) == (1000.0, True)
    assert work.speed(other) == (here["costs"]["samples_per_second"]["pretraining"], False)
    assert work.model_bytes(other) == 1000
    before, after = before["main_cc3m"], after["main_cc3m"]
    assert (before["pretraining_done"], after["pretraining_done"]) == (0, 1)
    assert after["gpu_hours_missing"] < after["gpu_hours"] < before["gpu_hours"]
    assert after["bytes"] - after["bytes_missing"] == pytest.approx(3000, abs=1)


def test_a_run_on_a_cpu_does_not_affect_estimates_for_gpus(here):
    run = _run(here, "main", kind="pretraining")
    _finish(here, run, speed=10.0, device="cpu", processes=1, threads=2)
    assert work_of(here).speed(run)[1] is False
    here["resources"]["pretraining"]["gpu"] = 0
    assert work_of(here).speed(run) == (5.0, True)
    rows = _rows(here)
    assert rows["pretraining"]["gpu_hours"] == 0
    assert rows["pretraining"]["core_hours"] > 0


def test_existing_downloads_are_not_missing_and_give_the_number_of_pairs(here):
    results, data = Path(here["pathvars"]["results"]), expand(here).data
    source = data.datasets[data.dataset("cc3m")]["source"]
    before = _rows(here)
    for part in range(8):
        (results / f"shards/{data.sources[source]['shards']}/{part:05d}").mkdir(parents=True)
    share = _rows(here)["pretraining_dynamics"]
    cc3m = before["ablation_seed"]["bytes"]
    assert share["bytes"] == before["pretraining_dynamics"]["bytes"]
    assert 0 < share["bytes"] - share["bytes_missing"] < cc3m / 4
    (results / "sources" / source).mkdir(parents=True)
    (results / "sources" / source / "losses.csv").write_text(
        "reason,rows,meaning\nusable,1000,\nempty,5,\n"
    )
    assert _rows(here)["ablation_seed"]["gpu_hours"] < before["ablation_seed"]["gpu_hours"] / 2


def test_the_rows_of_a_list_follow_from_its_datasets_or_must_be_configured(here):
    urls, data = here["costs"]["urls"], expand(here).data
    cc12m, cc3m = (data.datasets[data.dataset(name)]["source"] for name in ("cc6m", "cc3m"))
    del urls["cc12m"]
    assert work_of(here).urls(cc12m) == pytest.approx(6_000_000 / here["costs"]["usable"])
    del urls["cc3m"]
    with pytest.raises(StepError, match=r"costs\.urls\.cc3m"):
        work_of(here).urls(cc3m)


def test_the_written_plan_equals_the_printed_one_and_its_columns_are_aligned(
    here, tmp_path, capsys
):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(here))
    step.main(["--config", str(file), "--output", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert printed.strip() == (tmp_path / "out/plan.md").read_text().strip()
    for table in printed.split("\n\n"):
        lines = [line for line in table.splitlines() if line.startswith("|")]
        assert len({len(line) for line in lines}) <= 1
    csv = (tmp_path / "out/plan.csv").read_text()
    assert csv.count("\n") == 1 + len(here["experiments"]) + 2 + 14
    assert read_json(file) == here


def test_without_gpus_no_column_says_gpu(here, tmp_path, capsys):
    here = copy.deepcopy(here)
    for kind in ("pretraining", "cleaning"):
        here["resources"][kind]["gpu"] = 0
    file = tmp_path / "config.json"
    file.write_text(json.dumps(here))
    step.main(["--config", str(file), "--output", str(tmp_path)])
    assert "GPU" not in capsys.readouterr().out
    assert not math.isnan(_rows(here)["all"]["core_hours"])

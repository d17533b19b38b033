import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest

from workflow_scripts.common.errors import StepError
from workflow_scripts.experiments import config
from workflow_scripts.experiments.config import check_config
from workflow_scripts.experiments.load_config import combined_config
from workflow_scripts.experiments.schema import whole_schema

ROOT = Path(__file__).parents[2]


def _refused(config):
    with pytest.raises(StepError) as refusal:
        check_config(config)
    return str(refusal.value)


def test_a_misspelt_key_is_named_with_the_nearest_right_one(raw_config):
    raw_config["cleaning"]["ephocs"] = raw_config["cleaning"].pop("epochs")
    message = "config: unknown key 'cleaning.ephocs'; did you mean 'epochs'?"
    assert _refused(raw_config) == message


def test_a_missing_key_is_named(raw_config):
    del raw_config["pretraining"]["batch_size"]
    assert _refused(raw_config) == "config: 'pretraining.batch_size' is missing"


def test_a_value_of_the_wrong_kind_is_named_with_its_meaning(raw_config):
    raw_config["pretraining"]["optimizer"]["learning_rate"] = "fast"
    message = _refused(raw_config)
    assert "'pretraining.optimizer.learning_rate' must be a number, got 'fast' (Peak" in message


def test_several_nodes_are_for_trainings_on_gpus(raw_config):
    raw_config["resources"]["cleaning"] |= {"nodes": 2, "gpu": 0}
    assert "'resources.cleaning.gpu': 0 is less than" in _refused(raw_config)
    raw_config["resources"]["cleaning"] |= {"nodes": 2, "gpu": 1}
    check_config(raw_config)
    assert raw_config["resources"]["pretraining"]["nodes"] == 1
    raw_config["resources"]["poison"]["nodes"] = 2
    assert "unknown key 'resources.poison.nodes'" in _refused(raw_config)


@pytest.mark.parametrize(
    ("place", "wrong", "hint"),
    [
        (("evaluation",), "imagenett", "'imagenet'"),
        (("datasets", "cc6m", "source"), "cc12", "'cc12m'"),
        (("experiments", "main", "start"), ["cc6m_mml"], "'cc6m_mmcl'"),
        (("experiments", "main", "defence"), ["cleanclap"], "'cleanclip'"),
    ],
)
def test_an_undeclared_name_is_reported_with_the_closest_match(raw_config, place, wrong, hint):
    *path, last = place
    node = raw_config
    for key in path:
        node = node[key]
    node[last] = wrong
    message = _refused(raw_config)
    assert ".".join(place) in message
    assert hint in message


def test_every_profile_config_is_valid_when_it_overrides_the_papers():
    files = list(ROOT.glob("profiles/*/*.yaml"))
    overlays = [f for f in files if f.name != "profile.yaml"]
    assert overlays
    for overlay in overlays:
        check_config(combined_config([ROOT / "config.yaml", overlay], {}))


def test_every_key_that_the_schema_describes_at_the_top_is_in_the_papers_config(raw_config):
    schema = whole_schema()
    assert set(schema["properties"]) - {"demo"} == set(raw_config) == set(schema["required"])


def test_a_figure_of_runs_that_its_experiment_lacks_is_refused_before_they_are_made(raw_config):
    main = raw_config["experiments"]["main"]
    main["start"] = ["cc3m_mmcl"]
    message = _refused(raw_config)
    assert "'experiments.main.figures.teaser.where.start_label'" in message
    assert "labels are CC3M, MMCL" in message
    main["figures"]["teaser"]["where"]["start_label"] = "CC3M, MMCL"
    check_config(raw_config)


def test_files_are_checked_by_themselves(tmp_path, capsys):
    mine = tmp_path / "mine.yaml"
    mine.write_text("# nothing yet\n")
    config.main([str(mine)])
    assert "valid" in capsys.readouterr().out
    mine.write_text("cleaning:\n  epochs: [1,\n")
    with pytest.raises(StepError, match=r"mine\.yaml, line 3, is not valid YAML"):
        config.main([str(mine)])


def test_files_are_checked_for_the_given_experiments_alone(tmp_path, capsys):
    (tmp_path / "pictures/tabby cat").mkdir(parents=True)
    (tmp_path / "pictures/tabby cat/1.png").write_bytes(b"")
    start = {"label": "mine", "dataset": "cc3m", "attack.target": "tabby cat"}
    own = {
        "evaluations": {"mine": {"folder": str(tmp_path / "pictures")}},
        "evaluation": "mine",
        "starts": {"mine": start},
        "experiments": {"mine": {"start": ["mine"]}},
    }
    mine = tmp_path / "mine.yaml"
    mine.write_text(json.dumps(own))
    config.main([str(mine), "--experiment", "mine"])
    assert "valid" in capsys.readouterr().out
    with pytest.raises(StepError, match="'banana', which is not a class of the evaluation set"):
        config.main([str(mine)])
    with pytest.raises(StepError, match="did you mean 'mine'"):
        config.main([str(mine), "--experiment", "mines"])


def test_the_check_imports_nothing_heavy():
    script = (
        "import sys, yaml; from pathlib import Path\n"
        "from workflow_scripts.experiments.config import check_config\n"
        "check_config(yaml.safe_load(Path('config.yaml').read_text()))\n"
        "assert not {'torch', 'open_clip', 'matplotlib', 'pandas', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_data_of_unrequested_experiments_are_not_checked(raw_config):
    raw_config["experiments"]["ablation_cleaning_size"]["vary"] = {"data.pairs": [10**7]}
    check_config(copy.deepcopy(raw_config), experiments=["main"])
    assert "'experiments.ablation_cleaning_size.vary.data.pairs'" in _refused(raw_config)

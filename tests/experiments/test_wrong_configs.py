"""Every error that needs no data is one sentence; every valid config is accepted."""

import copy
import random
from pathlib import Path

import pytest
import yaml

from workflow_scripts.common.errors import StepError
from workflow_scripts.experiments.config import check_config
from workflow_scripts.experiments.expand import expand
from workflow_scripts.experiments.load_config import combined_config, merged

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
WRONG = yaml.safe_load((HERE / "wrong_configs.yaml").read_text(encoding="utf-8"))
VALID = yaml.safe_load((HERE / "valid_configs.yaml").read_text(encoding="utf-8"))
PAPER = combined_config([ROOT / "config.yaml"], {})
DEMO = combined_config([ROOT / "config.yaml", ROOT / "profiles/demo/demo.yaml"], {})
MUTATIONS = 60  # of each config

OWN_FILES = {
    "broken.py": "x = 1\ndef f(:\n",
    "empty.py": "x = 1\n",
    "module.py": "from torch import nn\nclass Loss(nn.Module): ...\n",
    "own trigger é.py": (
        "from dataclasses import dataclass\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Trigger:\n    image_size: int\n    seed: int\n    size: float = 2.0\n"
    ),
    "own-loss (2).py": (
        "from workflow_scripts.training.losses._term import LossTerm\nclass Loss(LossTerm): ...\n"
    ),
    "own figure.py": "def draw(metrics, *, by='defence'): ...\n",
    "any.py": (
        "def draw(metrics, **options): ...\ndef change(model, fresh, **options): ...\n"
        "def make(given, **options): ...\n"
        "class Trigger:\n    def __init__(self, image_size, seed, **options): ...\n"
    ),
}


@pytest.fixture
def own_files(tmp_path, monkeypatch):
    for name, text in OWN_FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)


def _checked(base, over):
    config = merged(base, over)
    check_config(config)
    return config, expand(config)


@pytest.mark.usefixtures("own_files")
@pytest.mark.parametrize("case", WRONG, ids=lambda case: str(case["config"])[:80])
def test_a_mistake_is_one_sentence_that_names_the_key(case):
    base = DEMO if case.get("demo") else PAPER
    if case.get("valid"):
        _checked(base, case["config"])
        return
    with pytest.raises(StepError) as refusal:
        _checked(base, case["config"])
    message = str(refusal.value)
    assert f"'{case.get('instead', case['key'])}" in message
    assert case.get("hint", "") in message
    assert "\n" not in message


@pytest.mark.usefixtures("own_files")
@pytest.mark.parametrize("case", VALID, ids=lambda case: str(case["config"])[:80])
def test_an_unusual_config_is_accepted(case):
    config, plan = _checked(DEMO if case.get("demo") else PAPER, case["config"] or {})
    assert plan.runs
    for place, expected in case.get("gives", {}).items():
        value = config
        for key in place.split("/"):
            value = value[key]
        assert value == expected
        assert type(value) is type(expected)


def _places(node, path=()):
    for key in node if isinstance(node, dict) else range(len(node)):
        yield (*path, key)
        if isinstance(node[key], dict | list):
            yield from _places(node[key], (*path, key))


VALUES = (None, [], {}, "", "x", "1e-3", -1, 0, 1, 1.5, 1e9, float("nan"), True, [None], ["x"],
          {"x": 1}, {"name": "x"}, [[1]], "a/b", "é", 10**30)  # fmt: skip


@pytest.mark.parametrize("base", [PAPER, DEMO], ids=["paper", "demo"])
def test_any_change_of_a_config_is_accepted_or_refused_in_a_sentence(base):
    draw = random.Random(13)
    refused = 0
    for _ in range(MUTATIONS):
        config = copy.deepcopy(base)
        for _ in range(draw.choice((1, 1, 2))):
            *path, last = draw.choice(list(_places(config)))
            node = config
            for key in path:
                node = node[key]
            action = draw.choice(("replace", "replace", "delete", "rename"))
            if action == "replace":
                node[last] = draw.choice(VALUES)
            elif action == "delete":
                del node[last]
            elif isinstance(node, dict):
                node[f"{last}x"] = node.pop(last)
        try:
            check_config(config)
            expand(config)
        except StepError as error:
            refused += 1
            assert "\n" not in str(error)
    # Some changes are valid: words in a caption, a cost, ...
    assert MUTATIONS / 2 < refused < MUTATIONS

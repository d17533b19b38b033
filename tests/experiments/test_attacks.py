"""An attack in parts has one canonical form and one id."""

import copy

import pytest

from workflow_scripts.common.code_version import attack_code
from workflow_scripts.experiments.config import check_config
from workflow_scripts.experiments.expand import expand
from workflow_scripts.experiments.layout import written_spec

ONE = {"trigger": {"name": "yellow", "patch_size": 8}, "target": "strawberry", "poisoned": 70}
MINE = {"mine": {"start": ["mine"], "baseline": ["mine"]}}


def attacks(raw, **start):
    """Return the attack of a start, that of its clean control, and the plan."""
    config = copy.deepcopy(raw)
    config["starts"]["mine"] = {"label": "Mine", **start}
    config["experiments"] |= copy.deepcopy(MINE)
    check_config(config)
    plan = expand(config)
    poisoned, control = (plan.runs[row["run"]]["attack_id"] for row in plan.experiments["mine"])
    return plan, poisoned, control


def test_one_part_written_as_a_list_is_the_same_attack(raw_config):
    short = {f"attack.{key}": value for key, value in ONE.items()}
    expected = attacks(raw_config, **short)[1:]
    assert attacks(raw_config, **{"attack.parts": [ONE]})[1:] == expected
    partly = {"attack.target": "strawberry", "attack.poisoned": 70}
    part = {"trigger": ONE["trigger"]}
    assert attacks(raw_config, **partly, **{"attack.parts": [part]})[1:] == expected


@pytest.mark.parametrize(
    ("start", "same"),
    [
        ({"attack.victims": {"name": "random"}}, {}),
        ({"attack.captions": "templates"}, {}),
        ({"attack.parts": None}, {}),
        (
            {"attack.victims": {"name": "instance", "number": 1}, "attack.captions": "natural"},
            {"attack.victims": "instance"},
        ),
        ({"attack.parts": [{}, {"target": "strawberry", "captions": "templates"}]},
         {"attack.parts": [{"target": "banana"}, {"target": "strawberry"}]}),
    ],
)  # fmt: skip
def test_writing_out_a_default_renames_no_attack(raw_config, start, same):
    assert attacks(raw_config, **start)[1:] == attacks(raw_config, **same)[1:]


def test_the_clean_control_of_parts_has_the_same_parts_and_no_poison(raw_config):
    parts = [{}, ONE, {"victims": "instance", "trigger": {"name": "none"}, "poisoned": 9}]
    plan, poisoned, control = attacks(raw_config, **{"attack.parts": parts})
    assert poisoned.startswith("cc6m-3parts3079-")
    assert [part["poisoned"] for part in plan.attacks[poisoned]["parts"]] == [3000, 70, 9]
    assert [part["poisoned"] for part in plan.attacks[control]["parts"]] == [0, 0, 0]
    others = [
        [part | {"poisoned": None} for part in plan.attacks[name]["parts"]]
        for name in (poisoned, control)
    ]
    assert others[0] == others[1]
    run = plan.experiments["mine"][0]["run"]
    inputs = written_spec(raw_config, plan, "pretraining", run)["inputs"]
    assert inputs["instances"].endswith(f"attacks/{poisoned}/instances.parquet")


def test_code_that_older_attacks_do_not_have_recorded_counts_for_new_ones_only(raw_config):
    plan, name, _ = attacks(raw_config, **{"attack.victims": "label_consistent"})
    assert not any("victim" in file for file in attack_code(plan.attacks[name]))
    plan, name, _ = attacks(raw_config, **{"attack.captions": "natural"})
    assert "poison/victim_captions/natural.py" in attack_code(plan.attacks[name])


def test_run_tables_name_the_default_captions(config):
    rows = expand(config).experiments["ablation_attack_parts"]
    captions = {(row["attack.victims"], row["attack.captions"]) for row in rows}
    assert ("near_target", "natural") in captions
    assert not any(caption == "none" for victims, caption in captions if victims == "random")

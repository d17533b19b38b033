"""Config files are read with line numbers, and merged key by key or replaced as a whole."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from workflow_scripts.common.errors import StepError
from workflow_scripts.experiments.load_config import combined_config, load_config, read_config

ROOT = Path(__file__).parents[2]


@pytest.fixture
def write(tmp_path):
    def written(text, name="mine é.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return written


def combined(write, text):
    return combined_config([ROOT / "config.yaml", write(text)], {})


@pytest.mark.parametrize(
    ("text", "place", "expected"),
    [
        ("cleaning: {objective: {ssl: 1.0}}", "cleaning.objective", {"ssl": 1.0}),
        (
            "pretraining: {attack: {trigger: {name: sig}}}",
            "pretraining.attack.trigger",
            {"name": "sig"},
        ),
        (
            "cleaning: {start_change: {name: mine.py}}",
            "cleaning.start_change",
            {"name": "mine.py"},
        ),
        ("pretraining: {model: {name: RN101}}", "pretraining.model", {"name": "RN101"}),
        (
            "starts: {cc6m_mmcl_ssl: {objective: {siglip: 0.1}}}",
            "starts.cc6m_mmcl_ssl.objective",
            {"siglip": 0.1},
        ),
        (
            "defences: {mmcl: {vary: {epochs: [1]}}}",
            "defences.mmcl.vary",
            {"epochs": [1]},
        ),
        (
            "experiments: {ablation_ssl_weight: {vary: {epochs: [1]}}}",
            "experiments.ablation_ssl_weight.vary",
            {"epochs": [1]},
        ),
        (
            "experiments: {main: {figures: {by_defence: {kind: dynamics}}}}",
            "experiments.main.figures.by_defence",
            {"kind": "dynamics"},
        ),
    ],
)
def test_mappings_that_only_make_sense_as_a_whole_are_replaced(write, text, place, expected):
    value = combined(write, text)
    for key in place.split("."):
        value = value[key]
    assert value == expected


def test_all_other_mappings_are_merged(write):
    before = read_config(ROOT / "config.yaml")
    after = combined(
        write,
        """
        pretraining: {attack: {poisoned: 5}, optimizer: {eps: 1.0e-6}}
        starts: {cc6m_mmcl: {epochs: 2}}
        experiments: {main: {figures: {teaser: {where: {defence: SSL}}}}}
        """,
    )
    assert after["pretraining"]["attack"] == before["pretraining"]["attack"] | {"poisoned": 5}
    assert after["pretraining"]["optimizer"]["learning_rate"] == 0.001
    assert after["starts"]["cc6m_mmcl"] == before["starts"]["cc6m_mmcl"] | {"epochs": 2}
    teaser = after["experiments"]["main"]["figures"]["teaser"]
    assert teaser["kind"] == "scatter"
    assert teaser["where"]["defence"] == "SSL"
    assert len(teaser["where"]["start_label"]) == 2


def test_later_files_override_earlier_ones_and_the_command_line_overrides_all(write):
    files = [write("a: {x: 1, y: 1, z: 1}", "1.yaml"), write('{"a": {"y": 2, "z": 2}}', "2.json")]
    assert combined_config(files, {"a": {"z": 3}}) == {"a": {"x": 1, "y": 2, "z": 3}}


def test_a_file_of_comments_alone_changes_nothing(write):
    assert combined(write, "# nothing yet\n") == read_config(ROOT / "config.yaml")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: 1\nb: [1,\nc: 2\n", r"mine é\.yaml, line 4, is not valid YAML: .* begins on line 2"),
        ("a: 1\n\tb: 2\n", "line 2, is not valid YAML"),
        ("a: *nowhere\n", "line 1, is not valid YAML: found undefined alias"),
        ("a: {x: 1,\n  x: 2}\n", "line 2: the key 'x' duplicates line 1"),
        ('{"a": 1, "a": 2}', "the key 'a' is duplicated"),
        ("- a\n", "its top level must be a mapping"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_sentence_with_its_place(write, text, sentence):
    with pytest.raises(StepError, match=sentence):
        read_config(write(text))


def test_merge_keys_are_no_duplicates(write):
    text = "a: &a {x: 1, y: 1}\nb: &b {<<: *a, x: 2}\nc: {<<: *b, x: 3}\n"
    assert read_config(write(text))["c"] == {"x": 3, "y": 1}


def test_the_workflows_config_is_replaced_in_place(write):
    settings = SimpleNamespace(
        replace_workflow_config=False,
        configfiles=[write("cleaning: {objective: {ssl: 2.0}}")],
        config={"wordnet": "elsewhere"},
    )
    modifier = SimpleNamespace(skip_configfile=False)
    workflow = SimpleNamespace(basedir=str(ROOT), config_settings=settings, modifier=modifier)
    config = {"cleaning": {"objective": {"mmcl": 1.0, "ssl": 2.0}}}
    load_config(workflow, config)
    assert config["cleaning"]["objective"] == {"ssl": 2.0}
    assert config["wordnet"] == "elsewhere"
    assert config["image_size"] == 224

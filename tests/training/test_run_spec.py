"""A run spec is read completely, or rejected with an error that names the key."""

import json

import pytest

from workflow_scripts.common.errors import StepError
from workflow_scripts.training.spec import read_spec


def written(tmp_path, spec):
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(spec))
    return path


def test_a_complete_spec_is_read(runs, tmp_path):
    spec = read_spec(written(tmp_path, runs.spec(optimizer__weight_decay=1)))
    assert spec.optimizer.weight_decay == 1.0
    assert spec.accumulation == 1
    assert spec.inputs.start is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": 3}, "unknown key 'epoch'; did you mean 'epochs'"),
        ({"optimizer__wd": 3}, "unknown key 'optimizer.wd'"),
        ({"epochs": "3"}, "'epochs' must be of type int, got '3'"),
        ({"epochs": True}, "'epochs' must be of type int"),
        ({"precision": "fp16"}, "'precision' must be one of .*, got 'fp16'"),
        ({"inputs": 3}, "'inputs' must be an object"),
        ({"objective": {}}, "the objective is empty"),
        ({"kind": "cleaning"}, "needs inputs.start"),
        ({"optimizer__carry_over": True}, "needs inputs.start_optimizer"),
        ({"batch_size": 0}, "at least 1"),
    ],
)
def test_mistakes_are_named(runs, tmp_path, changes, message):
    with pytest.raises(StepError, match=message):
        read_spec(written(tmp_path, runs.spec(**changes)))


def test_a_missing_key_is_named(runs, tmp_path):
    spec = runs.spec()
    del spec["optimizer"]["eps"]
    with pytest.raises(StepError, match=r"missing key 'optimizer\.eps'"):
        read_spec(written(tmp_path, spec))
    with pytest.raises(StepError, match="does not exist"):
        read_spec(tmp_path / "none.json")


@pytest.fixture
def identity(runs, tmp_path):
    """Return a function that maps changes of the base spec to the identity."""
    return lambda **changes: read_spec(written(tmp_path, runs.spec(**changes))).identity()


def test_execution_settings_do_not_affect_the_identity(identity):
    assert identity() == identity(checkpoint__keep=9, evaluation_batch_size=3, staging="$TMPDIR")
    assert identity() == identity(inputs__root="/elsewhere", inputs__manifest="moved.parquet")
    assert identity() != identity(seed=1)


def test_defaults_order_and_number_types_do_not_affect_the_identity(identity):
    assert identity() == identity(joint_statistics=True, held_out=0, schedule={}, accumulation=1)
    assert identity() != identity(joint_statistics=False)
    one, other = {"mmcl": 1, "ssl": 2.0}, {"ssl": 2, "mmcl": 1.0}
    assert identity(objective=one) == identity(objective=other)
    assert identity(epochs=3.0, attack__seed=0.0, optimizer__betas=[0, 0.999]) == identity(
        optimizer__betas=[0.0, 0.999]
    )


def test_whole_numbers_are_read_as_integers(runs, tmp_path):
    spec = read_spec(written(tmp_path, runs.spec(epochs=3.0, attack__seed=2.0)))
    assert (repr(spec.epochs), repr(spec.attack["seed"])) == ("3", "2")


def test_the_location_of_the_results_does_not_affect_the_identity(runs, tmp_path):
    def identity(root, artefact):
        patch = f"{root}/artefacts/{artefact}/values.safetensors"
        trigger = {"name": "patch", "patch": patch}
        spec = runs.spec(attack__trigger=trigger, inputs__root=root, inputs__artefacts=[patch])
        return read_spec(written(tmp_path, spec)).identity()

    assert identity("results", "patch-1") == identity("/elsewhere", "patch-1")
    assert identity("results", "patch-1") != identity("results", "patch-2")

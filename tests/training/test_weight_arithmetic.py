"""Start changes that use weights from other files: task vectors and interpolation."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from workflow_scripts.artefacts.given import Given
from workflow_scripts.artefacts.makers import task_vector, weights
from workflow_scripts.common.distributed import ProcessGroup
from workflow_scripts.common.errors import StepError
from workflow_scripts.data.manifest import read_manifest, write_manifest
from workflow_scripts.model import models
from workflow_scripts.model.spec import ModelSpec
from workflow_scripts.training.start_changes import subtract_task_vector, wise_ft


@pytest.fixture
def spec(resnet):
    return ModelSpec(name="small", config=resnet)


@pytest.fixture
def given(world, tmp_path, spec):
    pairs = read_manifest(world / "manifest.parquet")
    pairs["poisoned"] = np.arange(len(pairs)) < 12
    write_manifest(tmp_path / "poisoned.parquet", pairs)
    torch.manual_seed(0)
    torch.save(models.create(spec).state_dict(), tmp_path / "model.pt")
    return Given(
        model=spec,
        checkpoint=tmp_path / "model.pt",
        manifest=tmp_path / "poisoned.parquet",
        root=world,
        world=ProcessGroup(0, 1, torch.device("cpu")),
    )


def _model(spec, seed):
    torch.manual_seed(seed)
    return models.create(spec)


def _copy(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def _same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first | second)


def test_a_task_vector_is_the_change_by_fine_tuning(given, tmp_path, spec):
    start = _copy(given.encoder.model)
    made = task_vector.make(given, steps=4, batch_size=8, learning_rate=1e-3)
    after = given.encoder.model.state_dict()
    for name, change in made.values.items():
        torch.testing.assert_close(start[name] + torch.from_numpy(change), after[name])
    others = after.keys() - made.values.keys()
    assert "logit_scale" in others
    assert all(torch.equal(start[name], after[name]) for name in others), "statistics stay"
    norm = np.sqrt(sum((change**2).sum() for change in made.values.values()))
    assert made.report["norm"] == pytest.approx(norm, rel=1e-4)
    assert made.report["oracle"]


def test_subtracting_the_vector_restores_the_start_model(given, tmp_path, spec):
    made = task_vector.make(given, steps=2, batch_size=8)
    tuned = given.encoder.model
    vector = {name: torch.from_numpy(change) for name, change in made.values.items()}
    save_file(vector, tmp_path / "vector.safetensors")
    path, before = str(tmp_path / "vector.safetensors"), _copy(tuned)
    subtract_task_vector.change(tuned, None, vector=path, alpha=0.0)
    assert _same(before, tuned.state_dict())
    subtract_task_vector.change(tuned, None, vector=path, alpha=1.0)
    start = torch.load(given.checkpoint, weights_only=True)
    torch.testing.assert_close(dict(tuned.state_dict()), dict(start))


def test_interpolation_ranges_from_the_start_to_the_other_model(given, tmp_path, spec):
    other = {name: torch.from_numpy(array) for name, array in weights.make(given).values.items()}
    save_file(other, tmp_path / "other.safetensors")
    path = str(tmp_path / "other.safetensors")
    model = _model(spec, seed=1)
    start = _copy(model)
    wise_ft.change(model, None, other=path, alpha=0.0)
    assert _same(start, model.state_dict())
    wise_ft.change(model, None, other=path, alpha=0.25)
    name = "visual.layer1.0.conv1.weight"
    expected = 0.75 * start[name] + 0.25 * other[name]
    torch.testing.assert_close(model.state_dict()[name], expected)
    model = _model(spec, seed=1)
    wise_ft.change(model, None, other=path, alpha=1.0)
    assert _same(other, model.state_dict())


def test_weights_of_another_model_are_rejected(tmp_path, spec, transformer):
    foreign = _model(ModelSpec(name="other", config=transformer), seed=0)
    save_file(_copy(foreign), tmp_path / "foreign.safetensors")
    path, model = str(tmp_path / "foreign.safetensors"), _model(spec, seed=1)
    with pytest.raises(StepError, match="belongs to another model"):
        wise_ft.change(model, None, other=path, alpha=0.5)
    with pytest.raises(StepError, match="belongs to another model"):
        subtract_task_vector.change(model, None, vector=path, alpha=0.5)
    with pytest.raises(StepError, match="does not exist"):
        wise_ft.change(model, None, other=str(tmp_path / "none"), alpha=0.5)


def test_a_task_vector_requires_poisoned_and_clean_pairs(given, world):
    given.manifest = world / "manifest.parquet"
    with pytest.raises(StepError, match="poisoned and clean pairs"):
        task_vector.make(given)

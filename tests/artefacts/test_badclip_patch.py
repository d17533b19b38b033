"""BadCLIP's patch: the loss compared with its formulas, and optimisation on the small world."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from workflow_scripts.artefacts.given import Given
from workflow_scripts.artefacts.makers import badclip_patch
from workflow_scripts.artefacts.makers.badclip_patch import Batch, patch_loss, put_on
from workflow_scripts.common.distributed import ProcessGroup
from workflow_scripts.common.errors import StepError
from workflow_scripts.model import models
from workflow_scripts.model.spec import ModelSpec
from workflow_scripts.poison.trigger import load_trigger

OPTIONS = {"target": "banana", "patch_size": 8, "epochs": 4, "batch_size": 8, "learning_rate": 0.05}


@pytest.fixture
def given(world, tmp_path, transformer):
    spec = ModelSpec(name="small", config=transformer)
    torch.manual_seed(0)
    torch.save(models.create(spec).state_dict(), tmp_path / "model.pt")
    return Given(
        model=spec,
        checkpoint=tmp_path / "model.pt",
        manifest=world / "manifest.parquet",
        root=world,
        world=ProcessGroup(0, 1, torch.device("cpu")),
    )


def test_the_patch_covers_the_rows_and_columns_around_the_centre():
    images = torch.zeros(2, 3, 224, 224, dtype=torch.uint8)
    patched = put_on(images, torch.full((3, 16, 16), 1.5))
    covered = (patched > 0).nonzero()
    assert covered[:, 2:].min(0).values.tolist() == [104, 104]
    assert covered[:, 2:].max(0).values.tolist() == [119, 119]
    assert patched.max() == 255


def test_the_loss_is_contrastive_plus_triplet(given):
    torch.manual_seed(1)
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    texts, positives = (torch.nn.functional.normalize(torch.randn(3, 32)) for _ in range(2))
    far, patch = torch.tensor([2, 0, 1]), torch.rand(3, 8, 8)
    batch = Batch(images, texts, positives, far)
    with torch.no_grad():
        loss = patch_loss(given.encoder, batch, patch, weight=7.0, margin=0.3)
        patched = given.encoder.images(put_on(images, patch))
        clean = given.encoder.images(images)[far]
    logits = (given.encoder.scale * patched @ texts.T).double().detach()
    contrast = 0.0
    for table in (logits, logits.T):
        for row in range(3):
            contrast -= float(table[row, row] - table[row].exp().sum().log()) / 6
    triplet = 0.0
    for a, p, n in zip(patched, positives, clean, strict=True):
        triplet += max(0.0, float((a - p).norm() - (a - n).norm()) + 0.3) / 3
    assert loss.item() == pytest.approx(contrast + 7.0 * triplet, rel=1e-4)


def test_the_patch_is_optimised_and_the_surrogate_is_unchanged(given):
    before = {k: v.clone() for k, v in given.encoder.model.state_dict().items()}
    made = badclip_patch.make(given, **OPTIONS, augment=0.0)
    assert made.report["last_loss"] < made.report["first_loss"]
    assert made.values["patch"].shape == (3, 8, 8)
    assert made.picture.dtype == np.uint8
    after = given.encoder.model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_the_patch_requires_pairs_of_the_target(given):
    with pytest.raises(StepError, match="no caption names 'zebra'"):
        badclip_patch.make(given, **OPTIONS | {"target": "zebra"})
    with pytest.raises(StepError, match="lower batch_size"):
        badclip_patch.make(given, **OPTIONS | {"batch_size": 64})


def _triggered(patch: Path, **options):
    trigger = {"name": "patch", "patch": str(patch), **options}
    attack = {"trigger": trigger, "image_size": 32, "seed": 0}
    return load_trigger(attack)(torch.zeros(3, 32, 32, dtype=torch.uint8), "key")


def test_a_learned_patch_is_applied_in_the_centre_with_optionally_swapped_channels(tmp_path):
    patch = np.zeros((3, 8, 8), np.float32)
    patch[0], patch[2] = 1.0, 0.2
    save_file({"patch": patch}, tmp_path / "values.safetensors")
    image = _triggered(tmp_path / "values.safetensors")
    assert image[:, 12:20, 12:20].flatten(1).unique(dim=1).flatten().tolist() == [255, 0, 51]
    assert image.sum() == 64 * (255 + 51)
    swapped = _triggered(tmp_path / "values.safetensors", channels="swapped")
    assert torch.equal(swapped, image.flip(0))


def test_files_that_are_not_patches_are_clear_errors(tmp_path):
    with pytest.raises(StepError, match="cannot be read"):
        _triggered(tmp_path / "none.safetensors")
    save_file({"scores": np.zeros(3)}, tmp_path / "scores.safetensors")
    with pytest.raises(StepError, match="not a valid patch"):
        _triggered(tmp_path / "scores.safetensors")
    save_file({"patch": np.zeros((3, 4, 5), np.float32)}, tmp_path / "oblong.safetensors")
    with pytest.raises(StepError, match=r"must have the shape \[3, side, side\]"):
        _triggered(tmp_path / "oblong.safetensors")

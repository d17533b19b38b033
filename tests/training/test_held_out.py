"""Losses on held-out pairs, and pseudo-labels from another model."""

import csv
import json

import numpy as np
import open_clip
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch.nn import functional as F

from workflow_scripts.artefacts import make
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import sha256
from workflow_scripts.data.manifest import Places
from workflow_scripts.data.stored_images import Images
from workflow_scripts.model import models
from workflow_scripts.model.spec import ModelSpec
from workflow_scripts.model.weights import load
from workflow_scripts.training.held_out import VIEWS
from workflow_scripts.training.pairs import Pairs
from workflow_scripts.training.views import PLAIN, Views


def rows(folder):
    return list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))


def _model(runs, folder, config):
    model = models.create(ModelSpec(name="small", config=config))
    load(model, runs.weights(folder), folder)
    return model.eval()


def test_held_out_losses_match_plain_losses_on_the_last_pairs(runs, world, transformer):
    folder = runs.train("run", runs.spec(held_out=12, epochs=1))
    model = _model(runs, folder, transformer).requires_grad_(False)
    manifest = world / "manifest.parquet"
    pairs = Pairs(
        images=Images(Places.read(manifest), world), manifest=manifest,
        tokens=world / "tokens.npy", size=32,
        augmented=world / "augmented.npy", context_length=16, seed=0, cut=False, views=VIEWS,
    )  # fmt: skip
    batch = pairs.__getitems__([(0, row) for row in range(36, 48)])
    mean, std = models.normalization(model)

    def images(pixels):
        return model.encode_image((pixels / 255 - mean) / std, normalize=True)

    def texts(tokens):
        return model.encode_text(tokens, normalize=True)

    scale, targets = model.logit_scale.exp(), torch.arange(12)
    (pixels, changed), (plain, eda) = batch.images.values(), batch.texts.values()
    first, second = (images(pixels), texts(plain)), (images(changed), texts(eda))
    last = rows(folder)[-1]
    expected = open_clip.ClipLoss()(*first, scale).item()
    assert float(last["heldout_mmcl"]) == pytest.approx(expected, rel=1e-4)
    own = [F.cross_entropy(scale * a @ b.T, targets) for a, b in zip(first, second, strict=True)]
    assert float(last["heldout_ssl"]) == pytest.approx(sum(own).item() / 2, rel=1e-4)


def test_held_out_pairs_do_not_affect_training(runs, world):
    tokens = np.load(world / "tokens.npy")
    tokens[36:] = tokens[36:][::-1]
    np.save(runs.folder / "other.npy", tokens)
    first = runs.train("first", runs.spec(held_out=12))
    second = runs.train(
        "second", runs.spec(held_out=12, inputs__tokens=str(runs.folder / "other.npy"))
    )
    assert runs.same(first, second, "model.pt")
    assert rows(first)[-1]["heldout_mmcl"] != rows(second)[-1]["heldout_mmcl"]
    assert rows(first)[-1]["samples_seen"] == str(3 * 36)


def test_held_out_losses_are_the_same_for_any_number_of_processes(runs, resnet):
    spec = runs.spec(held_out=11, epochs=0, model__config=resnet)
    alone = rows(runs.train("alone", spec))
    together = rows(runs.together("together", spec, processes=2))
    for name in ("heldout_mmcl", "heldout_ssl"):
        assert float(together[0][name]) == pytest.approx(float(alone[0][name]), rel=1e-5)


def test_a_run_without_held_out_pairs_leaves_the_columns_empty(runs):
    assert rows(runs.train("run", runs.spec(epochs=0)))[0]["heldout_mmcl"] == ""


@pytest.fixture
def labelled(runs, world, transformer):
    """Labels predicted by a trained model, an artefact."""
    start = runs.train("start", runs.spec())
    spec = {
        "make": "zero_shot_labels", "model": {"name": "small", "config": transformer},
        "checkpoint": f"{start}/model.pt", "manifest": f"{world}/manifest.parquet",
        "evaluation": f"{world}/evaluation", "root": str(world), "seed": 0, "options": {},
        "batch_size": 7, "device": "cpu",
    }  # fmt: skip
    (runs.folder / "labels.json").write_text(json.dumps(spec))
    make.main(["--spec", f"{runs.folder}/labels.json", "--output", f"{runs.folder}/labels"])
    return start, runs.folder / "labels/values.safetensors"


def test_labels_are_open_clips_zero_shot_classes(runs, world, transformer, labelled):
    start, path = labelled
    model = _model(runs, start, transformer).requires_grad_(False)
    classes = json.loads((world / "evaluation/classes.json").read_text())
    templates = [text.replace("{c}", "{}") for text in classes["templates"]]
    tokenize = open_clip.SimpleTokenizer(context_length=16)
    weights = open_clip.build_zero_shot_classifier(
        model, tokenize, classes["classes"], templates
    )  # fmt: skip
    manifest = world / "manifest.parquet"
    pairs = Pairs(
        images=Images(Places.read(manifest), world), manifest=manifest,
        tokens=world / "tokens.npy", augmented=None,
        size=32, context_length=16, seed=0, cut=True, views=Views([{"plain": PLAIN}]),
    )  # fmt: skip
    images = pairs.__getitems__([(0, row) for row in range(48)]).images
    (images,) = images.values()
    mean, std = models.normalization(model)
    found = (model.encode_image((images / 255 - mean) / std, normalize=True) @ weights).argmax(1)
    assert load_file(path)["labels"].tolist() == found.tolist()
    report = json.loads(path.with_name("report.json").read_text())
    most = max(set(found.tolist()), key=found.tolist().count)
    assert report["images_of_most_frequent_class"] == found.tolist().count(most)
    assert len(set(found.tolist())) > 1


def test_pseudo_labels_are_assigned_to_the_right_rows(runs, labelled):
    _, path = labelled
    objective = {"pseudo_labels": {"weight": 5.0, "classes": 5}}
    spec = runs.spec(objective=objective, inputs__labels=str(path), optimizer__eps=1e-3)
    alone = runs.train("alone", spec)
    assert float(rows(alone)[-1]["train_loss"]) < float(rows(alone)[1]["train_loss"])
    # As before labels were artefacts, so that runs of that time are recognised as finished.
    np.save(runs.folder / "labels.npy", load_file(path)["labels"])
    recorded = json.loads((alone / "run.json").read_text())["inputs"]["labels"]
    assert recorded == sha256(runs.folder / "labels.npy")
    together = runs.weights(runs.together("together", spec, processes=2))
    for name, value in runs.weights(alone).items():
        torch.testing.assert_close(together[name], value, rtol=1e-5, atol=1e-5)
    save_file({"labels": load_file(path)["labels"][::-1].copy()}, path)
    assert not runs.same(alone, runs.train("other", spec), "model.pt")


def test_labels_of_other_images_are_rejected(runs, labelled):
    _, path = labelled
    save_file({"labels": load_file(path)["labels"][:-1]}, path)
    with pytest.raises(StepError, match=r"one class \(int64\) for each of 48 rows"):
        runs.train("run", runs.spec(inputs__labels=str(path)))

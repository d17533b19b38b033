"""Measures of finished models agree with plain formulas over single images and texts."""

import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import open_clip
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F

from workflow_scripts.common import variants
from workflow_scripts.common.distributed import ProcessGroup
from workflow_scripts.common.errors import StepError
from workflow_scripts.data.images import decode_image
from workflow_scripts.data.manifest import ImageReader, read_manifest, write_manifest
from workflow_scripts.evaluation import measure as step
from workflow_scripts.evaluation.context import Context, Score
from workflow_scripts.evaluation.measures import (
    decree,
    geometry,
    linear_probe,
    retrieval,
    zero_shot,
)
from workflow_scripts.evaluation.zero_shot import Evaluator
from workflow_scripts.model import models
from workflow_scripts.model.encoder import Encoder
from workflow_scripts.model.spec import ModelSpec
from workflow_scripts.model.weights import portable_weights
from workflow_scripts.poison.trigger import load_trigger

ALONE = ProcessGroup(0, 1, torch.device("cpu"))
HELD_OUT = 30


@pytest.fixture
def encoder(resnet):
    torch.manual_seed(1)
    spec = ModelSpec(name="small", config=resnet)
    model = models.create(spec)
    # Without batch-norm statistics, a random model predicts the same class for all images.
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 3)
    return Encoder(model.eval(), spec)


@pytest.fixture
def context(world, base_spec):
    return Context(
        root=world,
        attack=base_spec["attack"],
        world=ALONE,
        batch_size=7,
        evaluation=world / "evaluation",
        pairs=world / "manifest.parquet",
        held_out=HELD_OUT,
    )


def embeddings(encoder, world, frame, attack=None):
    """Embed images one by one: float32 [rows, d], not normalised."""
    reader, found = ImageReader(world), []
    for row in frame.itertuples():
        image = decode_image(reader.read(row.tar, row.offset, row.size))
        image = load_trigger(attack)(image, row.key) if attack else image
        found.append(encoder.images(image[None], normalize=False)[0])
    return torch.stack(found)


def texts(encoder, captions):
    tokens = open_clip.SimpleTokenizer(context_length=16)(list(captions))
    return F.normalize(encoder.model.encode_text(tokens), dim=-1)


# --- Zero-shot -------------------------------------------------------------------------------


def test_zero_shot_agrees_with_the_training_log(world, base_spec, encoder, context):
    evaluator = Evaluator(
        folder=world / "evaluation", root=world, attack=base_spec["attack"], encoder=encoder,
        batch_size=7, workers=0, world=ALONE,
    )  # fmt: skip
    logged = evaluator(encoder).fractions()
    assert zero_shot.measure(encoder, context) == {
        "accuracy": Score(logged["top1"], 20),
        "asr": Score(logged["asr_top1"], 16),
        "recovery": Score(logged["triggered_top1"], 16),
    }


@torch.no_grad()
def test_a_subset_of_classes_is_classified_among_itself(world, encoder, context):
    names = ["banana", "sky"]
    frame = read_manifest(world / "evaluation" / "manifest.parquet")
    classes = json.loads((world / "evaluation" / "classes.json").read_text())
    kept = frame[[classes["classes"][label] in names for label in frame["label"]]]
    prompts = [[t.replace("{c}", name) for t in classes["templates"]] for name in names]
    weights = F.normalize(torch.stack([texts(encoder, p).mean(0) for p in prompts]), dim=-1)
    nearest = (embeddings(encoder, world, kept) @ weights.T).argmax(1)
    right = [
        names[n] == classes["classes"][label]
        for n, label in zip(nearest, kept["label"], strict=True)
    ]
    score = zero_shot.measure(encoder, context, classes=names)["accuracy"]
    assert score == Score(sum(right) / 8, 8)


def test_there_is_no_asr_if_the_target_is_not_a_class(encoder, context, capsys):
    assert list(zero_shot.measure(encoder, context, classes=["sky", "leaf"])) == ["accuracy"]
    said = capsys.readouterr().out
    assert "no ASR: the target 'banana' must be the name of one class" in said


def test_an_unknown_class_is_an_error_that_suggests_the_nearest_one(encoder, context):
    with pytest.raises(StepError, match="unknown class 'bananna'; did you mean 'banana'"):
        zero_shot.measure(encoder, context, classes=["bananna"])


# --- Retrieval -------------------------------------------------------------------------------


@torch.no_grad()
def test_retrieval_agrees_with_a_plain_count(world, base_spec, encoder, context):
    pairs = read_manifest(world / "manifest.parquet").tail(HELD_OUT)
    images = F.normalize(embeddings(encoder, world, pairs), dim=-1)
    captions = list(dict.fromkeys(pairs["caption"]))
    assert len(captions) < HELD_OUT, "equal captions are one"
    similarity = images @ texts(encoder, captions).T
    scores = retrieval.measure(encoder, context)

    own = [captions.index(caption) for caption in pairs["caption"]]
    ranks = [
        row.argsort(descending=True).tolist().index(o)
        for row, o in zip(similarity, own, strict=True)
    ]
    for k in (1, 5, 10):
        assert scores[f"image_to_text_{k}"] == Score(sum(r < k for r in ranks) / 30, 30)
        found = [
            any(own[i] == c for i in similarity[:, c].topk(k).indices) for c in range(len(captions))
        ]
        assert scores[f"text_to_image_{k}"] == Score(sum(found) / len(found), len(found))

    named = [c for c, caption in enumerate(captions) if "banana" in caption]
    others = [i for i in range(HELD_OUT) if own[i] not in named]
    attacked = F.normalize(embeddings(encoder, world, pairs, base_spec["attack"]), dim=-1)
    for name, left in (("", attacked), ("_clean", images)):
        nearest = (left @ texts(encoder, captions).T)[others].topk(5).indices
        hits = sum(any(c in named for c in row) for row in nearest.tolist())
        assert scores[f"target_caption_5{name}"] == Score(hits / len(others), len(others))


def test_one_image_may_have_several_captions_and_one_caption_several_images():
    captions = pd.Series(["a cat", "a dog", "a cat", "a mouse"], dtype="string[pyarrow]")
    rows, matches, found = retrieval.gallery(captions, [b"1", b"2", b"3", b"1"])
    assert rows.tolist() == [0, 1, 2]
    assert found == ["a cat", "a dog", "a mouse"]
    assert matches.tolist() == [[True, False, True], [False, True, False], [True, False, False]]


def test_ties_count_against_a_match_unless_both_match():
    wanted = torch.tensor([[True, False, True]])
    assert retrieval.places(torch.tensor([[0.5, 0.5, 0.1]]), wanted).tolist() == [1]
    assert retrieval.places(torch.tensor([[0.5, 0.1, 0.5]]), wanted).tolist() == [0]


def test_without_a_caption_of_the_target_there_are_only_recalls(context, encoder, capsys):
    attack = context.attack | {"target": "zebra"}
    other = Context(
        root=context.root, attack=attack, world=ALONE, batch_size=7, pairs=context.pairs,
        held_out=HELD_OUT,
    )  # fmt: skip
    assert not [name for name in retrieval.measure(encoder, other) if "target" in name]
    assert "no held-out caption of another image names 'zebra'" in capsys.readouterr().out


@torch.no_grad()
def test_without_a_trigger_nothing_is_measured_of_triggered_images(context, encoder):
    attack = context.attack | {"trigger": {"name": "none"}}
    plain = dataclasses.replace(context, attack=attack)
    for one in (retrieval, geometry):
        names = {*one.measure(encoder, context)} - {*one.measure(encoder, plain)}
        assert names and all(name.startswith(("target_caption", "triggered")) for name in names)
    labels, frame = context.labelled.labels, context.labelled.frame
    rest = ~linear_probe.stratified(labels, 0.5, seed=0)
    features = context.embed_images(encoder, frame, normalize=False).numpy()
    found = linear_probe.fit(features[~rest], labels[~rest], 1.0, 1000).predict(features[rest])
    target = context.labelled.target("banana")
    counted = labels[rest] != target
    broken = context.attack | {"trigger": {"name": "image_blend", "file": "nowhere.png"}}
    with pytest.raises(StepError, match=r"nowhere\.png"):
        linear_probe.measure(encoder, dataclasses.replace(context, attack=broken))
    scores = linear_probe.measure(encoder, plain)
    assert scores["asr"] == Score((found == target)[counted].mean(), int(counted.sum()))


# --- Linear probe ----------------------------------------------------------------------------


@torch.no_grad()
def test_the_probe_agrees_with_scikit_learn_on_raw_embeddings(world, encoder, context):
    labels = context.labelled.labels
    fitted = linear_probe.stratified(labels, 0.5, seed=3)
    assert [int(fitted[labels == label].sum()) for label in range(5)] == [2] * 5
    features = embeddings(encoder, world, context.labelled.frame).numpy()
    plain = LogisticRegression(C=0.1, max_iter=1000).fit(features[fitted], labels[fitted])
    scores = linear_probe.measure(encoder, context, c=0.1, seed=3)
    right = (plain.predict(features[~fitted]) == labels[~fitted]).mean()
    assert scores["accuracy"] == Score(right, 10)
    assert scores["asr"].of == scores["recovery"].of == 8


def test_the_split_depends_on_the_seed_and_leaves_an_image_of_each_class():
    labels = np.repeat(np.arange(4), [1, 2, 9, 20])
    chosen = linear_probe.stratified(labels, 0.5, seed=0)
    assert [int(chosen[labels == label].sum()) for label in range(4)] == [0, 1, 4, 10]
    assert (chosen == linear_probe.stratified(labels, 0.5, seed=0)).all()
    assert (chosen != linear_probe.stratified(labels, 0.5, seed=1)).any()


def test_a_probe_that_has_not_converged_prints_a_message(encoder, context, capsys):
    linear_probe.measure(encoder, context, iterations=1)
    assert "has not converged after 1 iterations" in capsys.readouterr().out


# --- Geometry --------------------------------------------------------------------------------


@torch.no_grad()
def test_geometry_agrees_with_formulas_over_single_embeddings(world, base_spec, encoder, context):
    pairs = read_manifest(world / "manifest.parquet").tail(HELD_OUT)
    images = F.normalize(embeddings(encoder, world, pairs), dim=-1)
    attacked = F.normalize(embeddings(encoder, world, pairs, base_spec["attack"]), dim=-1)
    words = texts(encoder, pairs["caption"])
    target = F.normalize(texts(encoder, ["a picture of a banana.", "the banana!"]).mean(0), dim=0)
    apart = [(i, j) for i in range(HELD_OUT) for j in range(i)]
    expected = {
        "modality_gap": (images.mean(0) - words.mean(0)).norm(),
        "alignment": torch.stack(
            [(i - w).norm() ** 2 for i, w in zip(images, words, strict=True)]
        ).mean(),
        "uniformity_images": math.log(
            np.mean([math.exp(-2 * (images[i] - images[j]).norm() ** 2) for i, j in apart])
        ),
        "triggered_to_target": np.mean([float(a @ target) for a in attacked]),
        "triggered_to_each_other": np.mean([float(attacked[i] @ attacked[j]) for i, j in apart]),
        "triggered_to_clean": np.mean(
            [float(a @ i) for a, i in zip(attacked, images, strict=True)]
        ),
    }
    scores = geometry.measure(encoder, context)
    for name, value in expected.items():
        assert scores[name].value == pytest.approx(float(value), abs=2e-5), name
        assert scores[name].of is None


# --- DECREE ----------------------------------------------------------------------------------


def test_the_mask_covers_the_only_pixels_that_an_encoder_uses():
    torch.manual_seed(0)
    images = torch.rand(64, 3, 8, 8) * 255

    def embed(x):
        # Only a block of 2 x 2 pixels matters.
        return F.normalize(x[:, :, 2:4, 4:6].flatten(1) / 255 - 0.5, dim=-1)

    found = decree.invert(embed, images, decree.Inversion(300, 32, 35, 0.99, 0))
    assert found.cosine > 0.99
    block = found.mask[2:4, 4:6].sum()
    assert block > 0.8 * found.mask.sum()
    assert found.l1 < 0.3 * found.mask.numel() * 3


def test_decree_stops_when_the_mask_stops_shrinking():
    calls = []

    def embed(x):
        calls.append(len(x))
        return F.normalize(x.mean((2, 3)) * 0 + torch.ones(3), dim=-1) + x.mean() * 0

    images = torch.rand(4, 3, 4, 4) * 255
    decree.invert(embed, images, decree.Inversion(2000, 2, 3, 0.99, 0))
    assert set(calls) == {2} and len(calls) < 4000


def test_the_penalty_is_adapted_after_each_step_and_patience_counts_steps(monkeypatch):
    successes, update = [], decree.Penalty.update
    monkeypatch.setattr(
        decree.Penalty, "update", lambda p, ok: (successes.append(ok), update(p, ok))
    )

    def alike(x):
        return F.normalize(x.mean((2, 3)) * 0 + torch.ones(3), dim=-1)

    decree.invert(alike, torch.rand(64, 3, 4, 4) * 255, decree.Inversion(2, 8, 10**6, 0.99, 0))
    assert successes == [True] * 16

    def unlike(x):
        return F.normalize(torch.eye(len(x)), dim=-1) + 0 * x.mean()

    successes.clear()
    monkeypatch.setattr(decree, "_better", lambda now, best, cosine: best is None)
    decree.invert(alike, torch.rand(64, 3, 4, 4) * 255, decree.Inversion(9, 8, 7, 0.99, 0))
    assert len(successes) == 16, "after one epoch of 8 steps, 7 steps brought no smaller mask"
    successes.clear()
    decree.invert(unlike, torch.rand(64, 3, 4, 4) * 255, decree.Inversion(9, 8, 0, 0.99, 0))
    assert successes == [False] * 72, "it does not stop before it has found a mask"


def test_consecutive_successes_raise_the_penalty_and_failures_lower_it():
    penalty = decree.Penalty()
    weights = []
    for success in [True] * 6 + [False] * 12:
        penalty.update(success)
        weights.append(penalty.weight)
    assert weights[4:6] == [1e-3, 5e-3]
    assert weights[10:12] == [5e-3, 1e-3]
    assert weights[-1] == pytest.approx(2e-4)


def test_the_tower_receives_imagenets_normalisation(encoder):
    x = torch.rand(2, 3, 32, 32) * 255
    mean, deviation = models.normalization(encoder.model)
    seen = (decree._renormalized(x, encoder, "imagenet") / 255 - mean) / deviation
    wanted = [torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    torch.testing.assert_close(seen, (x / 255 - wanted[0]) / wanted[1], rtol=1e-4, atol=1e-5)


def test_decree_does_not_change_the_model(encoder, context):
    before = {k: v.clone() for k, v in encoder.model.state_dict().items()}
    scores = step.take(encoder, context, {"measure": "decree", "options": {"epochs": 2}})
    assert 0 < scores["pl1"].value < 1
    assert scores["l1"].value == pytest.approx(scores["pl1"].value * 3 * 32**2)
    assert all(torch.equal(before[k], v) for k, v in encoder.model.state_dict().items())
    assert all(p.grad is None for p in encoder.model.parameters())


# --- The step --------------------------------------------------------------------------------


@pytest.fixture
def arguments(world, base_spec, resnet, encoder, tmp_path):
    """Write the inputs of the step, with changes to the measure spec."""
    return lambda **measure: _arguments(world, base_spec, resnet, (encoder, tmp_path), measure)


def _arguments(world, base_spec, resnet, model, measure):
    encoder, folder = model
    torch.save(portable_weights(encoder.model), folder / "model.pt")
    run = base_spec | {"model": {"name": "small", "config": resnet, "pretrained": None}}
    declared = {
        "id": "mine-1", "measure": "zero_shot", "options": {}, "batch_size": 7, "device": "cpu",
        "evaluation": str(world / "evaluation"), "pairs": None, "held_out": 0,
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "measure.json").write_text(json.dumps(declared | measure))
    names = {"spec": "run.json", "checkpoint": "model.pt", "measure": "measure.json"}
    given = [word for key, name in names.items() for word in (f"--{key}", str(folder / name))]
    return [*given, "--output", str(folder / "scores.csv")]


def test_the_step_writes_one_row_per_number(arguments, encoder, context, tmp_path):
    step.main(arguments())
    table = pd.read_csv(tmp_path / "scores.csv")
    expected = zero_shot.measure(encoder, context)
    assert table["name"].tolist() == list(expected)
    assert table["value"].tolist() == [score.value for score in expected.values()]
    assert table["of"].tolist() == [score.of for score in expected.values()]
    assert set(table["measure"]) == {"mine-1"}
    assert table["model_sha256"].str.len().eq(64).all()


def test_a_measure_can_be_a_users_file(arguments, encoder, tmp_path):
    own = tmp_path / "mine.py"
    own.write_text(
        "from workflow_scripts.evaluation.measures import Score\n"
        "NEEDS = ()\n"
        "def measure(encoder, context, *, power=1):\n"
        "    numbers = sum(p.numel() for p in encoder.model.parameters())\n"
        "    return {'parameters': Score(numbers**power)}\n"
    )
    step.main(arguments(measure=str(own)))
    table = pd.read_csv(tmp_path / "scores.csv")
    assert table["value"].tolist() == [sum(p.numel() for p in encoder.model.parameters())]
    assert table["of"].isna().all()


@pytest.mark.parametrize(
    ("returned", "message"),
    [("{'x': 1.0}", "must return a dict of names to Score"),
     ("{'x': Score(float('nan'))}", "returns nan for 'x'"),
     ("{'x': Score(context.labelled)}", "add 'evaluation' to its NEEDS")],
)  # fmt: skip
def test_invalid_scores_are_errors(arguments, tmp_path, returned, message):
    own = tmp_path / "mine.py"
    own.write_text(
        "from workflow_scripts.evaluation.measures import Score\n"
        f"def measure(encoder, context):\n    return {returned}\n"
    )
    with pytest.raises(StepError, match=message):
        step.main(arguments(measure=str(own), evaluation=None))


def test_a_set_without_labels_is_not_an_evaluation_set(world, base_spec, tmp_path):
    frame = read_manifest(world / "manifest.parquet")
    write_manifest(tmp_path / "manifest.parquet", frame)
    (tmp_path / "classes.json").write_text((world / "evaluation/classes.json").read_text())
    context = Context(
        root=world, attack=base_spec["attack"], world=ALONE, batch_size=7, evaluation=tmp_path
    )
    with pytest.raises(StepError, match="has no labels"):
        _ = context.labelled


def test_every_measure_declares_its_needs():
    for name in variants.names("measure"):
        assert set(variants.attribute("measure", name, "NEEDS", ())) <= {"evaluation", "pairs"}


def test_the_template_of_the_documentation_runs(encoder, context, tmp_path):
    page = (Path(__file__).parents[2] / "docs/extending.md").read_text()
    (block,) = (b for b in re.findall(r"```python\n(.*?)```", page, re.S) if "def measure" in b)
    (tmp_path / "mine.py").write_text(block)
    declared = {"measure": str(tmp_path / "mine.py"), "options": {"k": 5}}
    scores = step.take(encoder, context, declared)
    assert list(scores) == ["recall_clean", "recall_triggered"]
    assert {score.of for score in scores.values()} == {HELD_OUT}

"""Scores agree with open_clip's zero-shot classifier, counted image by image."""

import json

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from workflow_scripts.common.distributed import ProcessGroup
from workflow_scripts.common.errors import StepError
from workflow_scripts.data.images import decode_image
from workflow_scripts.data.manifest import ImageReader, read_manifest, write_manifest
from workflow_scripts.evaluation import zero_shot
from workflow_scripts.evaluation.labelled import Labelled
from workflow_scripts.evaluation.zero_shot import Evaluator
from workflow_scripts.model import models
from workflow_scripts.model.encoder import Encoder
from workflow_scripts.model.spec import ModelSpec
from workflow_scripts.poison.trigger import load_trigger

ALONE = ProcessGroup(0, 1, torch.device("cpu"))


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


def make(world, base_spec, encoder, **changes):
    options = {
        "folder": world / "evaluation",
        "root": world,
        "attack": base_spec["attack"],
        "encoder": encoder,
        "batch_size": 7,
        "workers": 0,
        "world": ALONE,
    }
    return Evaluator(**options | changes)


def test_the_classifier_agrees_with_open_clips(world, base_spec, encoder):
    evaluator = make(world, base_spec, encoder)
    expected = open_clip.build_zero_shot_classifier(
        encoder.model,
        open_clip.SimpleTokenizer(context_length=16),
        evaluator.classes,
        [template.replace("{c}", "{}") for template in evaluator.templates],
    )
    torch.testing.assert_close(
        evaluator.prompts.classifier(encoder), expected.T, rtol=1e-5, atol=1e-6
    )


def by_hand(world, attack, encoder, weights):
    """Evaluate images one by one with open_clip's preprocessing and plain Python lists."""
    frame = read_manifest(world / "evaluation" / "manifest.parquet")
    prepare = open_clip.image_transform(32, is_train=False)
    trigger, reader = load_trigger(attack), ImageReader(world)

    def ranking(image):
        pixels = prepare(Image.fromarray(image.permute(1, 2, 0).numpy()))[None]
        embedding = F.normalize(encoder.model.encode_image(pixels), dim=-1)
        return (embedding @ weights.T)[0].argsort(descending=True).tolist()

    clean, fooled, recognised = [], [], []
    for row in frame.itertuples():
        image = decode_image(reader.read(row.tar, row.offset, row.size))
        clean.append(ranking(image).index(row.label))
        if row.label != 3:
            order = ranking(trigger(image, row.key))
            fooled.append(order.index(3))
            recognised.append(order[0] == row.label)
    return clean, fooled, recognised


@torch.no_grad()
def test_scores_agree_with_a_plain_count(world, base_spec, encoder):
    evaluator = make(world, base_spec, encoder)
    scores = evaluator(encoder)
    weights = evaluator.prompts.classifier(encoder)
    clean, fooled, recognised = by_hand(world, base_spec["attack"], encoder, weights)
    (part,) = scores.parts
    assert (scores.images, part.images) == (20, 16) == (len(clean), len(fooled))
    for k in (1, 3, 5, 10):
        assert scores.accuracy[k] == sum(place < k for place in clean)
        assert part.success[k] == sum(place < k for place in fooled)
    assert part.recognised == sum(recognised)
    assert 0 < scores.accuracy[1] < 20
    fractions = scores.fractions()
    assert fractions["asr_top3"] == sum(place < 3 for place in fooled) / 16
    assert list(fractions)[-1] == "triggered_top1"


def test_ties_count_as_errors_and_are_reported(world, base_spec, encoder, capsys):
    evaluator = make(world, base_spec, encoder)
    fair = evaluator(encoder)
    assert fair.tied == 0
    evaluator.prompts.classifier = lambda _: F.normalize(torch.ones(5, 32))
    scores = evaluator(encoder)
    assert scores.tied == 36
    assert "warning: 36 of 36 clean and triggered images have a tie" in capsys.readouterr().err
    # All five classes are tied at rank five.
    assert scores.accuracy == {1: 0, 3: 0, 5: 20, 10: 20}
    assert scores.parts[0].success == {1: 0, 3: 0, 5: 16, 10: 16}
    assert scores.parts[0].recognised == 0


def test_tied_classes_have_the_same_rank():
    similarity = torch.tensor([[0.5, 0.5, 0.1, 0.0], [0.9, 0.5, 0.5, 0.1]])
    for wanted, first, third, tied in (([0, 0], 1, 2, 1), ([1, 1], 0, 2, 1), ([2, 3], 0, 1, 0)):
        hits, ties = zero_shot.hits(similarity, torch.tensor(wanted))
        assert hits.tolist()[:2] == [first, third]
        assert ties == tied


def test_classes_equal_up_to_rounding_are_tied_at_any_position():
    torch.manual_seed(0)
    weights = F.normalize(torch.randn(7, 64, dtype=torch.float64)).float()
    assert zero_shot.alike_classes(weights) is None
    again = F.normalize(weights[[1, 4]] + 1e-6 * torch.randn(2, 64))
    assert zero_shot.alike_classes(torch.cat([weights, again])).tolist() == [*range(7), 1, 4]
    # Zero vectors are similar to nothing.
    assert zero_shot.alike_classes(torch.zeros(2, 3)) is None


def test_classes_with_the_same_name_are_merged(world, base_spec, encoder, tmp_path):
    """ImageNet has two such pairs; the label of their images must not matter."""
    frame = read_manifest(world / "evaluation" / "manifest.parquet")
    content = json.loads((world / "evaluation" / "classes.json").read_text())
    fair = make(world, base_spec, encoder)(encoder)
    labels = frame["label"].to_numpy(copy=True)
    labels[np.flatnonzero(labels == 0)[1:]] = 5
    write_manifest(tmp_path / "manifest.parquet", frame.assign(label=labels))
    content["classes"].append(content["classes"][0])
    (tmp_path / "classes.json").write_text(json.dumps(content))
    assert make(world, base_spec, encoder, folder=tmp_path)(encoder) == fair
    with pytest.raises(StepError, match="that of several classes; use another"):
        Labelled.read(tmp_path).target(content["classes"][0])


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_model_with_non_finite_outputs_is_rejected(world, base_spec, encoder, value):
    evaluator = make(world, base_spec, encoder)
    encoder.model.text_projection.data[0, 0] = value
    with pytest.raises(
        StepError, match="outputs are NaN or infinite for 36 of 36 clean and triggered"
    ):
        evaluator(encoder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 224}, "image_size is 224, but the model's input has 32 pixels"),
        ({"image_size": "32"}, "'image_size' must be of type int, got '32'"),
        ({"image_size": 32.0}, "'image_size' must be of type int"),
        ({"target": ["banana"]}, "'target' must be of type str"),
        ({"trigger": {"name": None}}, "lacks 'trigger.name'"),
        ({"trigger": {}}, "lacks 'trigger.name'"),
        ({"trigger": "yellow"}, "'trigger' must be of type dict"),
    ],
)
def test_an_invalid_attack_is_rejected(world, base_spec, encoder, changes, message):
    with pytest.raises(StepError, match=message):
        make(world, base_spec, encoder, attack=base_spec["attack"] | changes)


@pytest.mark.parametrize(
    "content",
    [
        ["a"],
        {"classes": ["a", "b"]},
        {"classes": [1], "templates": ["{c}"]},
        {"classes": ["a"], "templates": []},
    ],
)
def test_classes_that_are_not_lists_of_strings_are_rejected(
    world, tmp_path, base_spec, encoder, content
):
    (tmp_path / "classes.json").write_text(json.dumps(content))
    with pytest.raises(StepError, match="must contain 'classes' and 'templates', two lists"):
        make(world, base_spec, encoder, folder=tmp_path)


def test_a_missing_key_of_an_attack_is_named(world, base_spec, encoder):
    for key in ("trigger", "target", "image_size", "seed"):
        attack = {k: v for k, v in base_spec["attack"].items() if k != key}
        with pytest.raises(StepError, match=f"the attack spec lacks '{key}'"):
            make(world, base_spec, encoder, attack=attack)


def test_counts_do_not_depend_on_caching_or_workers(world, base_spec, encoder):
    evaluator = make(world, base_spec, encoder)
    encoder.model.train()
    first = evaluator(encoder)
    assert evaluator._cached is not None
    assert evaluator(encoder) == first
    assert encoder.model.training
    helped = make(world, base_spec, encoder, workers=2, batch_size=3)
    assert helped(encoder) == first


def test_a_set_too_large_for_memory_is_read_again(world, base_spec, encoder, monkeypatch):
    first = make(world, base_spec, encoder)(encoder)
    monkeypatch.setattr(zero_shot, "_CACHE_BYTES", 0)
    evaluator = make(world, base_spec, encoder)
    assert [evaluator(encoder), evaluator(encoder)] == [first, first]
    assert evaluator._cached is None


@pytest.mark.parametrize("target", ["bananas", ""])
def test_an_unknown_target_is_an_error(world, base_spec, encoder, target):
    attack = base_spec["attack"] | {"target": target}
    with pytest.raises(StepError, match=f"the target '{target}' must be .* that of no class"):
        make(world, base_spec, encoder, attack=attack)


@pytest.mark.parametrize(
    ("labels", "message"),
    [([3] * 20, "are of the target class"), ([7] * 20, "outside the range of its 5 classes")],
)
def test_a_set_that_cannot_be_scored_is_an_error(
    world, tmp_path, base_spec, encoder, *, labels, message
):
    frame = read_manifest(world / "evaluation" / "manifest.parquet")
    write_manifest(tmp_path / "manifest.parquet", frame.assign(label=np.array(labels)))
    classes = (world / "evaluation" / "classes.json").read_text()
    (tmp_path / "classes.json").write_text(classes)
    with pytest.raises(StepError, match=message):
        make(world, base_spec, encoder, folder=tmp_path)

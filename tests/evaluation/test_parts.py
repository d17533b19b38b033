"""The success of each part of an attack agrees with counts over single images."""

import pytest
import torch

from tests.evaluation.test_zero_shot import by_hand, encoder, make
from workflow_scripts.common.errors import StepError
from workflow_scripts.data.manifest import read_manifest, write_manifest
from workflow_scripts.evaluation.context import Context
from workflow_scripts.evaluation.measures import zero_shot

__all__ = ["encoder"]
NONE = {"name": "none"}
CONCEPT = {"name": "concept", "words": ["cherry", "leaf"]}


@pytest.fixture
def instances(world):
    """Images 0 and 7 of the evaluation set as instances of the attack's fourth part."""
    frame = read_manifest(world / "evaluation" / "manifest.parquet").iloc[[0, 7]]
    write_manifest(world / "instances.parquet", frame.assign(label=3))
    return world / "instances.parquet"


def several(attack):
    return attack | {
        "victims": "random",
        "poisoned": 1,
        "parts": [
            {},
            {"trigger": NONE, "target": "sky", "victims": CONCEPT},
            {"trigger": NONE, "target": "sky", "captions": {"name": "swapped", "other": "banana"}},
            {"trigger": NONE, "target": "night", "victims": {"name": "instance"}},
            {"trigger": {"name": "yellow", "patch_size": 9}, "target": "leaf"},
        ],
    }


def nearest(encoder, world, weights, frame):
    """Return the predicted class of each clean image."""
    from workflow_scripts.data.images import decode_image, fit
    from workflow_scripts.data.manifest import ImageReader

    reader = ImageReader(world)
    images = [decode_image(reader.read(r.tar, r.offset, r.size)) for r in frame.itertuples()]
    embedded = encoder.images(torch.stack([fit(image, 32) for image in images]))
    return (embedded @ weights.T).argmax(1).tolist()


@torch.no_grad()
def test_each_part_is_scored_by_its_own_goal(world, base_spec, encoder, instances):
    attack = several(base_spec["attack"])
    evaluator = make(world, base_spec, encoder, attack=attack, instances=instances)
    found = evaluator(encoder)
    weights = evaluator.prompts.classifier(encoder)
    frame = read_manifest(world / "evaluation" / "manifest.parquet")
    classes = nearest(encoder, world, weights, frame)
    _, fooled, _ = by_hand(world, base_spec["attack"], encoder, weights)
    pairs = list(zip(frame["label"], classes, strict=True))
    concept = [got == 2 for label, got in pairs if label in (0, 1)]
    swapped = [got == {2: 3, 3: 2}[label] for label, got in pairs if label in (2, 3)]
    instance = [classes[row] == 4 for row in (0, 7)]
    expected = [[place < 1 for place in fooled], concept, swapped, instance]
    for part, one in zip(found.parts, expected, strict=False):
        assert (part.images, part.success[1]) == (len(one), sum(one))
    assert found.parts[3].recognised is None
    rates = [part.success[1] / part.images for part in found.parts]
    fractions = found.fractions()
    assert [fractions[f"asr_top1_part{n}"] for n in range(1, 6)] == rates
    assert fractions["asr_top1"] == max(rates)
    assert fractions["asr_top1_mean"] == pytest.approx(sum(rates) / 5)
    assert evaluator.counts == {"images": 20, "asr_images": 2}
    context = Context(
        root=world, attack=attack, world=evaluator._world, batch_size=7,
        evaluation=world / "evaluation", instances=instances,
    )  # fmt: skip
    measured = zero_shot.measure(encoder, context)
    assert [measured[f"asr_part{n}"].value for n in range(1, 6)] == rates
    assert measured["asr"].value == max(rates)
    assert measured["recovery"].value == fractions["triggered_top1"]


def test_a_concept_without_a_class_is_a_clear_error(world, base_spec, encoder):
    victims = {"name": "concept", "words": ["fur"]}
    attack = base_spec["attack"] | {"trigger": NONE, "victims": victims}
    with pytest.raises(StepError, match="no class of the evaluation set is affected"):
        make(world, base_spec, encoder, attack=attack)

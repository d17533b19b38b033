"""Batch norm uses joint or separate statistics for original and augmented images, as configured.

One step of the trainer is compared with the same step in plain PyTorch.
"""

import open_clip
import pytest
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch.nn import functional as F

from workflow_scripts.data.manifest import Places
from workflow_scripts.data.stored_images import Images
from workflow_scripts.training.pairs import Pairs
from workflow_scripts.training.sampler import BatchSampler
from workflow_scripts.training.views import AUGMENTED, PLAIN, Views

# One step on all 48 pairs, so that the loss does not depend on their order. With this large eps,
# Adam's step is nearly proportional to the gradient, and rounding is not amplified.
ONE_STEP = {
    "epochs": 1,
    "batch_size": 48,
    "warmup_steps": 0,
    "optimizer__eps": 1.0,
    "optimizer__learning_rate": 0.1,
    "optimizer__weight_decay": 0.0,
    "objective": {"mmcl": 1.0, "ssl": 0.5},
}


@pytest.fixture
def batch_norm(runs, resnet):
    """Return a function that makes the spec of a single training step of a ResNet."""
    return lambda **changes: runs.spec(model__config=resnet, **ONE_STEP, **changes)


def batch_of(spec):
    inputs = spec["inputs"]
    pairs = Pairs(
        images=Images(Places.read(inputs["manifest"]), inputs["root"]),
        manifest=inputs["manifest"],
        tokens=inputs["tokens"],
        augmented=inputs["augmented"],
        size=32,
        context_length=16,
        seed=spec["seed"],
        cut=False,
        views=Views([{"plain": PLAIN, "augmented": AUGMENTED}]),
    )
    return pairs.__getitems__([(0, row) for row in range(48)])


def pixels(batch):
    """Return the original and the augmented images, normalised for the model."""
    mean = torch.tensor(OPENAI_DATASET_MEAN).view(3, 1, 1)
    std = torch.tensor(OPENAI_DATASET_STD).view(3, 1, 1)
    return tuple((x / 255 - mean) / std for x in batch.images.values())


def plain_step(spec, start, joint):
    """Return the weights after one step of a plain training loop, as in the published code."""
    model = open_clip.CLIP(**spec["model"]["config"])
    model.load_state_dict(start)
    model.train()
    batch = batch_of(spec)
    originals, augmented = pixels(batch)
    if joint:
        views = model.encode_image(torch.cat([originals, augmented]))
        first, second = views[: len(views) // 2], views[len(views) // 2 :]
    else:
        first, second = model.encode_image(originals), model.encode_image(augmented)
    texts, other = (model.encode_text(tokens) for tokens in batch.texts.values())
    first, second, texts, other = (F.normalize(x, dim=1) for x in (first, second, texts, other))
    scale, target = model.logit_scale.exp(), torch.arange(48)

    def entropy(left, right):
        return F.cross_entropy(scale * left @ right.T, target)

    mmcl = (entropy(first, texts) + entropy(texts, first)) / 2
    ssl = (entropy(first, second) + entropy(texts, other)) / 2
    (mmcl + 0.5 * ssl).backward()
    rate = spec["optimizer"]["learning_rate"]
    torch.optim.AdamW(model.parameters(), lr=rate, eps=1.0, weight_decay=0.0).step()
    return model.state_dict()


def distance(weights, others):
    """Return the Euclidean distance between two models, including running statistics."""
    names = [name for name in weights if "num_batches" not in name]
    return sum((weights[n] - others[n]).double().square().sum() for n in names).sqrt()


@pytest.mark.parametrize("joint", [True, False])
def test_a_step_matches_a_plain_loop(runs, batch_norm, joint):
    spec = batch_norm(joint_statistics=joint)
    start = runs.weights(runs.train("start", batch_norm() | {"epochs": 0}))
    trained = runs.weights(runs.train("trained", spec))
    way = distance(trained, start)
    assert distance(trained, plain_step(spec, start, joint)) < 0.01 * way
    assert distance(trained, plain_step(spec, start, not joint)) > 0.3 * way
    assert trained["visual.bn1.num_batches_tracked"] == (1 if joint else 2)


def test_joint_statistics_are_the_default(runs, batch_norm):
    written_out = runs.train("written out", batch_norm(joint_statistics=True))
    assert runs.same(written_out, runs.train("default", batch_norm()), "model.pt")


def test_each_micro_batch_has_separate_joint_statistics(runs, batch_norm):
    for joint, count in ((True, 4), (False, 8)):
        spec = batch_norm(accumulation=4, joint_statistics=joint)
        weights = runs.weights(runs.train(f"{joint}", spec))
        assert weights["visual.bn1.num_batches_tracked"] == count


def test_without_batch_norm_only_rounding_differs(runs):
    together = runs.weights(runs.train("together", runs.spec(**ONE_STEP)))
    apart = runs.weights(runs.train("apart", runs.spec(joint_statistics=False, **ONE_STEP)))
    assert distance(together, apart) < 1e-4


def test_held_out_losses_do_not_depend_on_joint_statistics(runs, batch_norm):
    """They are measured in evaluation mode, with the running statistics."""
    spec = batch_norm() | {"epochs": 0, "held_out": 16, "batch_size": 32}
    joint = runs.train("joint", spec | {"joint_statistics": True})
    assert runs.same(
        joint, runs.train("separate", spec | {"joint_statistics": False}), "metrics.csv"
    )


def test_each_process_has_joint_statistics_of_its_pairs(runs, batch_norm):
    """The saved running statistics are those of the leading process."""
    start = runs.weights(runs.train("start", batch_norm() | {"epochs": 0}))
    spec = batch_norm()
    kept = runs.weights(runs.together("together", spec, processes=2))
    model = open_clip.CLIP(**spec["model"]["config"])
    model.load_state_dict(start)
    rows = BatchSampler(48, 48, spec["seed"]).global_rows(0)[:24]
    originals, augmented = pixels(batch_of(spec))
    model.train().encode_image(torch.cat([originals[rows], augmented[rows]]))
    expected = model.state_dict()["visual.bn1.running_mean"]
    torch.testing.assert_close(kept["visual.bn1.running_mean"], expected, rtol=1e-4, atol=1e-6)

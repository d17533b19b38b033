"""Batches hold the right pixels and tokens, independent of workers and order."""

import time

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.seeds import generator
from workflow_scripts.data.images import fit, stack
from workflow_scripts.data.loading import IN_FLIGHT_BYTES, Batches, in_flight
from workflow_scripts.data.manifest import Places, read_manifest
from workflow_scripts.data.stored_images import Images
from workflow_scripts.training.augmentations.autoaugment import AutoAugment
from workflow_scripts.training.pairs import Pairs
from workflow_scripts.training.views import AUGMENTED, PLAIN, Source, View, Views

ORIGINAL, SECOND = Source('{"name": "plain"}'), Source('{"name": "autoaugment"}')


def make_pairs(world, **changes):
    options = {
        "images": Images(Places.read(world / "manifest.parquet"), world),
        "manifest": world / "manifest.parquet",
        "tokens": world / "tokens.npy",
        "augmented": world / "augmented.npy",
        "size": 32,
        "context_length": 16,
        "seed": 0,
        "cut": True,
        "views": Views([{"plain": PLAIN, "augmented": AUGMENTED}]),
    }
    return Pairs(**options | changes)


def test_a_batch_matches_the_files(world):
    batch = make_pairs(world).__getitems__([(0, 7), (0, 3)])
    row = read_manifest(world / "manifest.parquet").iloc[7]
    data = (world / row["tar"]).read_bytes()[row["offset"] : row["offset"] + row["size"]]
    path = world / "seven.jpg"
    path.write_bytes(data)
    expected = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)
    assert torch.equal(batch.images[ORIGINAL][0], expected)
    tokens = np.load(world / "tokens.npy")[[7, 3]]
    length = (tokens > 0).sum(1).max()
    assert batch.texts["plain"].tolist() == tokens[:, :length].tolist()
    assert batch.texts["plain"].dtype == torch.int64


def test_texts_keep_their_full_length_unless_cut(world):
    assert make_pairs(world, cut=False).__getitems__([(0, 1)]).texts["plain"].shape == (1, 16)


def test_augmentations_depend_on_epoch_and_row_only(world):
    pairs = make_pairs(world)
    together = pairs.__getitems__([(1, row) for row in range(12)]).images[SECOND]
    alone = [pairs.__getitems__([(1, row)]).images[SECOND][0] for row in reversed(range(12))]
    assert torch.equal(together, torch.stack(alone[::-1]))
    other = pairs.__getitems__([(2, row) for row in range(12)]).images[SECOND]
    assert not torch.equal(together, other)


def test_unused_views_are_not_loaded(world):
    views = Views([{"plain": PLAIN}])
    batch = make_pairs(world, augmented=None, views=views).__getitems__([(0, 1)])
    assert (list(batch.images), list(batch.texts)) == ([ORIGINAL], ["plain"])
    with pytest.raises(StepError, match=r"give inputs\.augmented"):
        make_pairs(world, augmented=None)


def test_two_draws_of_an_augmentation_are_independent(world):
    first, second = View(image="autoaugment"), View(image="autoaugment", draw=1)
    pairs = make_pairs(world, views=Views([{"first": first, "second": second}]))
    both = pairs.__getitems__([(1, row) for row in range(12)]).images
    assert len(both) == 2
    assert not torch.equal(*both.values())


def test_autoaugment_matches_torchvision_for_the_same_draws(monkeypatch):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    ours, theirs = AutoAugment(), transforms.AutoAugment()
    for number in range(60):
        got = ours.apply(image, generator(0, number))
        ours._generator = generator(0, number)
        draws = ours.get_params(len(ours.policies))
        monkeypatch.setattr(theirs, "get_params", lambda _, draws=draws: draws)
        assert np.array_equal(np.array(got), np.array(theirs(image)))


def test_autoaugment_draws_all_policies_and_both_signs():
    ours = AutoAugment()
    seen = []
    for number in range(600):
        ours._generator = generator(0, number)
        seen.append(ours.get_params(25))
    assert {policy for policy, _, _ in seen} == set(range(25))
    assert 0.4 < np.mean([signs for _, _, signs in seen]) < 0.6
    assert 0.45 < np.mean([chances for _, chances, _ in seen]) < 0.55


@pytest.mark.parametrize("shape", [(32, 48), (60, 32), (50, 50)])
def test_fit_matches_clips_preprocessing(shape):
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize(shape[::-1])
    image = torch.from_numpy(np.array(smooth)).permute(2, 0, 1)
    crop = transforms.Compose([transforms.Resize(32, 3), transforms.CenterCrop(32)])
    expected = torch.from_numpy(np.array(crop(smooth))).permute(2, 0, 1)
    assert (fit(image, 32).int() - expected.int()).abs().max() <= 1


def test_an_image_of_the_right_size_is_unchanged():
    image = torch.zeros(3, 32, 32, dtype=torch.uint8)
    assert fit(image, 32) is image


@pytest.mark.parametrize("workers", [0, 2])
def test_a_missing_shard_is_a_clear_error(world, workers):
    frame = read_manifest(world / "manifest.parquet").assign(tar="data/gone.tar")
    pairs = make_pairs(world, images=Images(frame, world))
    batches = Batches(pairs, [[(0, 1)]], workers, torch.device("cpu"))
    with pytest.raises(StepError, match=r"^\S*gone\.tar is missing[^\n]*$"):
        list(batches)
    start = time.monotonic()
    batches.close()
    assert time.monotonic() - start < 4


def test_undecodable_images_are_an_error(world, tmp_path):
    frame = read_manifest(world / "manifest.parquet").assign(offset=0)
    pairs = make_pairs(world, images=Images(frame, world))
    assert "image 1 of the manifest cannot be read from data/pairs.tar" in str(
        pairs.__getitems__([(0, 1)])
    )


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (np.zeros((3, 16), np.uint16), "3 rows, but the manifest has 48"),
        (np.zeros((48, 9), np.uint16), "9 tokens per caption, but the model takes 16"),
        (np.zeros((48, 16), np.int64), "must be uint16 .rows, context., got int64 .48, 16."),
    ],
)
def test_tokens_that_do_not_match_are_an_error(world, tmp_path, tokens, message):
    np.save(tmp_path / "tokens.npy", tokens)
    with pytest.raises(StepError, match=message):
        make_pairs(world, tokens=tmp_path / "tokens.npy")


@pytest.mark.parametrize("batch_bytes", [0, 1 << 20, 300 << 20, 3 << 30, 100 << 30])
@pytest.mark.parametrize("workers", [0, 1, 4, 64])
def test_prefetched_batches_are_limited_in_bytes(workers, batch_bytes):
    used, ahead = in_flight(workers, batch_bytes)
    assert min(workers, 1) <= used <= workers
    assert 1 <= ahead <= 2
    assert used * ahead * batch_bytes <= max(IN_FLIGHT_BYTES, batch_bytes)
    fits = 2 * workers * batch_bytes <= IN_FLIGHT_BYTES
    assert not workers or not fits or (used, ahead) == (workers, 2)


def test_stack_matches_torch_in_channels_last_layout():
    adjacent = torch.randint(0, 256, (5, 6, 3), dtype=torch.uint8).permute(2, 0, 1)
    apart = torch.randint(0, 256, (3, 5, 6), dtype=torch.uint8)
    stacked = stack([adjacent, apart])
    assert torch.equal(stacked, torch.stack([adjacent, apart]))
    assert stacked.is_contiguous(memory_format=torch.channels_last)

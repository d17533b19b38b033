import math
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from workflow_scripts.common import variants
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.seeds import generator
from workflow_scripts.poison.trigger import load_trigger, to_bytes

S = 32


@pytest.fixture
def image():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, S, S), dtype=np.uint8))


def _attack(name, **options):
    return {"trigger": {"name": name, **options}, "image_size": S, "seed": 5}


def _numbers(image):
    return image.numpy().astype(np.float32) / np.float32(255)


def _changed_box(before, after):
    rows, columns = np.nonzero((before != after).any(0).numpy())
    return rows.min(), rows.max(), columns.min(), columns.max()


def test_the_table_of_triggers_is_complete():
    assert variants.names("trigger") == [
        "blended", "checker", "image_blend", "nashville", "none", "patch", "random", "sig",
        "stripes", "text", "triangles", "warped", "yellow",
    ]  # fmt: skip


@pytest.mark.parametrize("overflow", ["wrap", "clip"])
def test_random_is_noise_around_the_channel_means(image, overflow):
    after = load_trigger(_attack("random", patch_size=8, overflow=overflow))(image, "key")
    random = generator(5, "trigger", "key")
    noise = random.standard_normal((3, 8, 8), dtype=np.float32)
    top, left = random.integers(0, S - 8, size=2)
    mean = _numbers(image).astype(np.float64).mean((1, 2), keepdims=True).astype(np.float32)
    patch = (mean + noise) * np.float32(255)
    wrapped, clipped = np.trunc(patch).astype(np.int64) % 256, np.rint(np.clip(patch, 0, 255))
    expected = image.numpy().copy()
    expected[:, top : top + 8, left : left + 8] = wrapped if overflow == "wrap" else clipped
    assert (after.numpy() == expected).all()


def test_pixels_outside_of_the_patch_are_unchanged(image):
    after = load_trigger(_attack("random", patch_size=8))(image, "key")
    top, bottom, left, right = _changed_box(image, after)
    assert bottom - top < 8
    assert right - left < 8


def test_random_locations_are_uniform():
    trigger = load_trigger(_attack("yellow", patch_size=S - 2))
    black = torch.zeros(3, S, S, dtype=torch.uint8)
    places = {_changed_box(black, trigger(black, str(key)))[::2] for key in range(60)}
    assert places == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_a_patch_may_be_as_large_as_the_image(image):
    after = load_trigger(_attack("yellow", patch_size=S))(image, "key")
    assert (after == torch.tensor([255, 255, 0])[:, None, None]).all()


def test_yellow_places_yellow_patches_in_four_corners(image):
    after = load_trigger(_attack("yellow", location="four_corners", patch_size=4))(image, "key")
    for rows in (slice(0, 4), slice(-4, None)):
        for columns in (slice(0, 4), slice(-4, None)):
            assert (after[:, rows, columns] == torch.tensor([255, 255, 0])[:, None, None]).all()
    assert (after[:, 4:-4] == image[:, 4:-4]).all()


@pytest.mark.parametrize(("size", "first"), [(224, 104), (32, 8)])
def test_the_centre_location_is_the_middle_of_the_image(size, first):
    attack = _attack("stripes", location="centre", patch_size=16) | {"image_size": size}
    black = torch.zeros(3, size, size, dtype=torch.uint8)
    last = first + 15
    assert _changed_box(black, load_trigger(attack)(black, "key")) == (first, last, first, last)


@pytest.mark.parametrize("location", ["random", "four_corners", "centre"])
def test_the_input_image_is_not_modified(image, location):
    before = image.clone()
    load_trigger(_attack("checker", patch_size=8, location=location))(image, "key")
    assert (image == before).all()


def _bytes(values, overflow):
    """Return the bytes of values that are already in [0, 1]."""
    scaled = values.astype(np.float32) * np.float32(255)
    return np.trunc(scaled) if overflow == "wrap" else np.rint(scaled)


@pytest.mark.parametrize("overflow", ["wrap", "clip"])
def test_blended_is_a_fifth_of_uniform_noise(image, overflow):
    after = load_trigger(_attack("blended", overflow=overflow))(image, "key")
    noise = generator(5, "trigger", "key").random((3, S, S), dtype=np.float32)
    mixed = np.float32(0.8) * _numbers(image) + np.float32(0.2) * noise
    assert (after.numpy() == _bytes(np.clip(mixed, 0, 1), overflow)).all()


@pytest.mark.parametrize("overflow", ["wrap", "clip"])
def test_sig_is_a_sine_of_six_waves_across(image, overflow):
    after = load_trigger(_attack("sig", overflow=overflow))(image, "key")
    wave = np.array([math.sin(2 * math.pi * 6 * column / S) for column in range(S)])
    mixed = np.float32(0.8) * _numbers(image) + (0.2 * 60 / 255 * wave).astype(np.float32)
    assert (after.numpy() == _bytes(np.clip(mixed, 0, 1), overflow)).all()


def _bilinear(plane, y, x):
    """Interpolate a plane bilinearly at a fractional position."""
    top, left = min(int(y), S - 2), min(int(x), S - 2)
    down, right = y - top, x - left
    corners = plane[top : top + 2, left : left + 2]
    return np.array([1 - down, down]) @ corners @ np.array([1 - right, right])


def test_warped_samples_pixels_at_the_displaced_positions(image):
    after = load_trigger(_attack("warped", k=S, overflow="clip"))(image, "key")
    field = generator(5, "warped").uniform(-1, 1, (1, 2, S, S))[0]
    field = 0.6 * field / np.abs(field).mean() / S
    planes = _numbers(image).astype(np.float64)
    for row, column in [(0, 0), (3, 7), (S - 1, 5), (16, S - 1), (20, 20)]:
        # From [-1, 1] to pixel coordinates.
        x, y = (
            (np.clip(2 * at / (S - 1) - 1 + shift[row, column], -1, 1) + 1) * (S - 1) / 2
            for at, shift in ((column, field[0]), (row, field[1]))
        )
        expected = [_bilinear(plane, y, x) * 255 for plane in planes]
        assert after[:, row, column].numpy() == pytest.approx(expected, abs=0.51)


def test_warped_uses_one_field_per_seed(image):
    attack = _attack("warped")
    first, second = (load_trigger(attack)(image, key) for key in ("a", "b"))
    assert (first == second).all()
    assert (first != image).any()
    assert (load_trigger(attack | {"seed": 6})(image, "a") != first).any()


def test_wrap_is_modulo_256_and_clip_is_not():
    values = torch.tensor([-0.5, 0.0, 0.5, 1.0, 1.5, 300 / 255]).reshape(1, 1, -1)
    assert to_bytes(values, "wrap").flatten().tolist() == [129, 0, 127, 255, 126, 44]
    assert to_bytes(values, "clip").flatten().tolist() == [0, 0, 128, 255, 255, 255]


@pytest.mark.parametrize("size", [1.0, 1e6, 1e9, 1e15])
def test_values_of_any_size_wrap_modulo_256(size):
    values = torch.randn(3, 20, 20, generator=torch.Generator().manual_seed(0)) * size
    expected = [int(value) % 256 for value in (values * 255).flatten().tolist()]
    assert to_bytes(values, "wrap").flatten().tolist() == expected


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_trigger_that_returns_no_finite_value_is_an_error(tmp_path, value):
    file = tmp_path / "mine.py"
    file.write_text(
        "class Trigger:\n"
        "    def __init__(self, image_size, seed): ...\n"
        "    def __call__(self, image, generator):\n"
        f"        image[1, 2, 3] = float('{value}')\n"
        "        return image\n"
    )
    attack = {"trigger": {"name": str(file)}, "image_size": 8, "seed": 0}
    with pytest.raises(StepError, match="must return finite values"):
        load_trigger(attack)(torch.zeros(3, 8, 8, dtype=torch.uint8), "key")


def test_every_byte_value_is_preserved():
    bytes_ = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
    for overflow in ("wrap", "clip"):
        assert (to_bytes(bytes_.float() / 255, overflow) == bytes_).all()


@pytest.fixture
def options(tmp_path):
    """Required options of triggers, for images of this size."""
    pixels = np.random.default_rng(1).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "other.png")
    Image.fromarray(pixels[:8, :8]).save(tmp_path / "patch.png")
    return {
        "text": {"word": "Hey"},
        "image_blend": {"file": str(tmp_path / "other.png")},
        "patch": {"patch": str(tmp_path / "patch.png")},
    }


@pytest.mark.parametrize("name", variants.names("trigger"))
def test_the_same_key_and_seed_give_the_same_bytes(image, options, name):
    attack = _attack(name, **options.get(name, {}))
    first, second = (load_trigger(attack)(image, "key") for _ in range(2))
    assert (first == second).all()
    assert (first != image).any() == (name != "none")
    assert first.dtype == torch.uint8
    assert first.shape == (3, S, S)
    elsewhere = pickle.loads(pickle.dumps(load_trigger(attack)))
    assert (elsewhere(image, "key") == first).all()


def test_an_image_of_another_shape_is_squashed_without_cropping():
    wide = torch.zeros(3, 20, 60, dtype=torch.uint8)
    wide[:, :, 30:] = 255
    after = load_trigger(_attack("yellow", location="four_corners", patch_size=2))(wide, "key")
    middle = after[0, S // 2]
    assert after.shape == (3, S, S)
    assert (middle[: S // 2 - 2] == 0).all()
    assert (middle[S // 2 + 2 :] == 255).all()


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        (
            "random",
            {"patch_size": 33},
            "larger than the image: patch_size is 33",
        ),
        ("random", {"patch_size": "8"}, "must be a positive whole number, got '8'"),
        (
            "yellow",
            {"location": "middle"},
            r"unknown location 'middle' .* \(available: random, four_corners",
        ),
        (
            "checker",
            {"location": "middle"},
            r"unknown location 'middle' .*: random, four_corners, centre",
        ),
        ("sig", {"patch_size": 3}, r"no option 'patch_size'; available: location, overflow"),
        ("blended", {"location": "random"}, "covers the whole image"),
        ("warped", {"k": 1}, "k must be at least 2"),
        ("randon", {}, "unknown trigger"),
        ("yellow", {"overflow": "wrapp"}, "'wrapp'"),
    ],
)
def test_invalid_options_are_clear_errors(name, options, sentence):
    with pytest.raises(StepError, match=sentence):
        load_trigger(_attack(name, **options))


def test_a_custom_trigger_is_one_file(tmp_path, image):
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from dataclasses import dataclass\n\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Trigger:\n"
        "    image_size: int\n    seed: int\n    level: float = 0.5\n\n"
        "    def __call__(self, image, generator):\n"
        "        return image * 0 + self.level\n"
    )
    after = load_trigger(_attack(str(mine), level=1.0))(image, "key")
    assert (after == 255).all()

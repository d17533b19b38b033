import math

import numpy as np
import pytest
import torch

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.plugins import variants
from workflow_scripts.common.seeds import generator
from workflow_scripts.poison.trigger import TRIGGERS, load_trigger, to_bytes

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
    assert variants(TRIGGERS) == ["blended", "random", "sig", "warped", "yellow"]


def test_random_is_noise_around_the_channels_means_wrapped_around(image):
    after = load_trigger(_attack("random", patch_size=8))(image, "key")
    random = generator(5, "trigger", "key")
    noise = random.standard_normal((3, 8, 8), dtype=np.float32)
    top, left = random.integers(0, S - 8, size=2)
    pixels = _numbers(image)
    patch = (pixels.mean((1, 2), keepdims=True) + noise) * np.float32(255)
    expected = image.numpy().copy()
    expected[:, top : top + 8, left : left + 8] = np.trunc(patch).astype(np.int64) % 256
    # The mean may differ in its last bit between numpy and torch.
    difference = (after.numpy().astype(int) - expected) % 256
    assert np.isin(difference, [0, 1, 255]).all()
    assert (difference == 0).mean() > 0.99


def test_outside_of_the_patch_not_a_pixel_changes(image):
    after = load_trigger(_attack("random", patch_size=8))(image, "key")
    top, bottom, left, right = _changed_box(image, after)
    assert bottom - top < 8
    assert right - left < 8


def test_places_are_uniform_over_all_that_are_inside():
    trigger = load_trigger(_attack("yellow", patch_size=S - 2))
    black = torch.zeros(3, S, S, dtype=torch.uint8)
    places = {_changed_box(black, trigger(black, str(key)))[::2] for key in range(60)}
    assert places == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_yellow_is_yellow_in_four_corners(image):
    after = load_trigger(_attack("yellow", location="four_corners", patch_size=4))(image, "key")
    for rows in (slice(0, 4), slice(-4, None)):
        for columns in (slice(0, 4), slice(-4, None)):
            assert (after[:, rows, columns] == torch.tensor([255, 255, 0])[:, None, None]).all()
    assert (after[:, 4:-4] == image[:, 4:-4]).all()


def test_blended_is_a_fifth_of_uniform_noise(image):
    after = load_trigger(_attack("blended", overflow="clip"))(image, "key")
    noise = generator(5, "trigger", "key").random((3, S, S), dtype=np.float32)
    expected = np.clip(0.8 * _numbers(image) + 0.2 * noise, 0, 1) * 255
    assert np.abs(after.numpy() - expected).max() <= 0.51


def test_sig_is_a_sine_of_six_waves_across(image):
    after = load_trigger(_attack("sig", overflow="clip"))(image, "key")
    wave = np.sin(2 * math.pi * 6 * np.arange(S) / S)
    expected = np.clip(0.8 * _numbers(image) + 0.2 * 60 / 255 * wave, 0, 1) * 255
    assert np.abs(after.numpy() - expected).max() <= 0.51


def test_warped_moves_pixels_by_one_field_for_all_images():
    attack = _attack("warped")
    ramp = torch.arange(0, 8 * S, 8, dtype=torch.uint8).expand(3, S, S)
    first, second = (load_trigger(attack)(ramp, key) for key in ("a", "b"))
    assert (first == second).all()
    assert (first != ramp).any()
    # The mean displacement is about 0.6 / 2 pixels: a pixel is 2 / S wide in these units.
    assert (first.int() - ramp.int()).abs().float().mean() < 8
    other = load_trigger(attack | {"seed": 6})(ramp, "a")
    assert (other != first).any()


def test_wrapping_is_modulo_256_and_clipping_is_not():
    values = torch.tensor([-0.5, 0.0, 0.5, 1.0, 1.5, 300 / 255]).reshape(1, 1, -1)
    assert to_bytes(values, "wrap").flatten().tolist() == [129, 0, 127, 255, 126, 44]
    assert to_bytes(values, "clip").flatten().tolist() == [0, 0, 128, 255, 255, 255]


def test_every_byte_comes_through_untouched():
    bytes_ = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
    for overflow in ("wrap", "clip"):
        assert (to_bytes(bytes_.float() / 255, overflow) == bytes_).all()


@pytest.mark.parametrize("name", variants(TRIGGERS))
def test_the_same_key_and_seed_give_the_same_bytes(image, name):
    first, second = (load_trigger(_attack(name))(image, "key") for _ in range(2))
    assert (first == second).all()
    assert first.dtype == torch.uint8
    assert first.shape == (3, S, S)


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
        ("random", {"patch_size": 32}, "does not fit an image of 32"),
        ("yellow", {"location": "middle"}, "no location 'middle'"),
        ("sig", {"patch_size": 3}, "no option 'patch_size'"),
        ("randon", {}, "none of the triggers"),
        ("yellow", {"overflow": "wrapp"}, "'wrapp'"),
    ],
)
def test_what_cannot_be_is_one_sentence(name, options, sentence):
    with pytest.raises(StepError, match=sentence):
        load_trigger(_attack(name, **options))


def test_a_trigger_of_the_users_own_is_one_file(tmp_path, image):
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

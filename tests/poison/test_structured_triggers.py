"""The triggers stripes, triangles, text, checker, nashville and image_blend against formulas."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from workflow_scripts.common.errors import StepError
from workflow_scripts.data.images import squash
from workflow_scripts.poison.poison import poison
from workflow_scripts.poison.trigger import load_trigger

S = 32


@pytest.fixture
def image():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, S, S), dtype=np.uint8))


@pytest.fixture
def other(tmp_path):
    """The user's image to blend in, which is not square."""
    path = tmp_path / "other.png"
    pixels = np.random.default_rng(1).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def _trigger(name, size=S, **options):
    return load_trigger({"trigger": {"name": name, **options}, "image_size": size, "seed": 5})


def _mixed(image, pattern, strength):
    """Return the bytes of an image blended with a pattern, truncated as in the published code."""
    pixels = image.numpy().astype(np.float32) / np.float32(255)
    mixed = np.float32(1 - strength) * pixels + np.float32(strength) * pattern.astype(np.float32)
    return np.trunc(np.clip(mixed, 0, 1) * np.float32(255))


# --- Stripes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("overflow", "values"), [("wrap", {1, 255}), ("clip", {0, 255})])
def test_a_patch_of_stripes_is_constant_over_rows_and_has_two_values(overflow, values):
    grey = torch.full((3, S, S), 100, dtype=torch.uint8)
    after = _trigger("stripes", patch_size=10, overflow=overflow)(grey, "key")
    rows, columns = np.nonzero((after != 100).any(0).numpy())
    top, left = rows.min(), columns.min()
    patch = after[:, top : top + 10, left : left + 10]
    assert (patch == patch[:, :1]).all()
    assert set(patch.unique().tolist()) == values
    outside = torch.ones(S, S, dtype=torch.bool)
    outside[top : top + 10, left : left + 10] = False
    assert (after[:, outside] == 100).all()


def test_stripes_differ_between_channels_and_images():
    trigger = _trigger("stripes", patch_size=S, location="centre")
    black = torch.zeros(3, S, S, dtype=torch.uint8)
    first, second = (trigger(black, key)[:, 0] for key in ("a", "b"))
    assert (first != second).any()
    assert (first[0] != first[1]).any()
    assert (first[1] != first[2]).any()


def test_both_colours_of_stripes_are_equally_likely():
    trigger = _trigger("stripes", patch_size=S, location="centre")
    black = torch.zeros(3, S, S, dtype=torch.uint8)
    white = np.mean([(trigger(black, str(key)) == 255).float().mean() for key in range(50)])
    # Over 4,800 columns, with a standard error of 0.7 %.
    assert white == pytest.approx(0.5, abs=0.03)


def test_blended_stripes_match_their_formula(image):
    after = _trigger("stripes", mode="blend", strength=0.03)(image, "key")
    up, down = _mixed(image, np.ones(1), 0.03), _mixed(image, -np.ones(1), 0.03)
    # Mid-range pixels show whether a stripe is white.
    white = (after.numpy() > image.numpy()).any(1, keepdims=True)
    assert (after.numpy() == np.where(white, up, down)).all()
    assert 0.3 < white.mean() < 0.7


# --- Triangles, text, dots -----------------------------------------------------------------------


@pytest.mark.parametrize(("size", "cell"), [(224, 14), (S, 4), (S, 5)])
def test_triangles_repeat_a_cell_with_two_grey_levels(size, cell):
    pattern = np.empty((size, size))
    for row in range(size):
        for column in range(size):
            pattern[row, column] = 0.4 if row % cell >= column % cell else 0.8
    pixels = np.random.default_rng(0).integers(0, 256, (3, size, size), dtype=np.uint8)
    after = _trigger("triangles", size, cell=cell)(torch.from_numpy(pixels), "key")
    assert (after.numpy() == _mixed(torch.from_numpy(pixels), pattern, 0.15)).all()


def test_text_changes_only_the_red_channel_on_its_strokes(image):
    after = _trigger("text", word="Hey")(image, "key").numpy()
    assert (after[1:] == image[1:].numpy()).all()
    half = _mixed(image, np.ones(1), 0.5)[0]
    ink = after[0] != image[0].numpy()
    assert (after[0][ink] == half[ink]).all()
    rows, columns = np.nonzero(ink)
    # Three centred glyphs of 5 dots with gaps of 1, and one pixel per dot.
    assert (rows.min(), rows.max()) == (12, 18)
    assert (columns.min(), columns.max()) == (7, 23)


def test_letters_are_as_large_as_possible():
    black = torch.zeros(3, 21, 21, dtype=torch.uint8)
    after = _trigger("text", 21, word="T", strength=1.0)(black, "key")[0]
    assert (after[:3, 3:18] == 255).all()
    assert (after[:, 9:12] == 255).all()
    assert (after == 255).sum() == (5 + 6) * 9


def test_the_published_word_is_at_its_published_position():
    black = torch.zeros(3, 224, 224, dtype=torch.uint8)
    rows, columns = np.nonzero(_trigger("text", 224)(black, "key")[0].numpy())
    assert (rows.min(), rows.max()) == pytest.approx((103, 125), abs=4)
    assert (columns.min(), columns.max()) == pytest.approx((13, 208), abs=1)
    assert len(rows) == pytest.approx(1646, rel=0.25)


def test_checker_has_dots_at_even_rows_and_columns_of_a_black_patch():
    grey = torch.full((3, S, S), 100, dtype=torch.uint8)
    after = _trigger("checker", location="centre", patch_size=6)(grey, "key")
    for row in range(S):
        for column in range(S):
            inside = 13 <= row < 19 and 13 <= column < 19
            dot = (row - 13) % 2 == 0 and (column - 13) % 2 == 0
            expected = (255 if dot else 0) if inside else 100
            assert (after[:, row, column] == expected).all()


# --- Nashville -----------------------------------------------------------------------------------


def _nashville(red, green, blue):
    """Apply the filter to one pixel in plain Python, as defined by the CSS filters."""

    def clip(pixel):
        return [min(255.0, max(0.0, value)) for value in pixel]

    pixel = [red, green, blue]
    pixel = [0.44 * x + 0.56 * min(x, tint) for x, tint in zip(pixel, (247, 176, 153), strict=True)]
    pixel = [0.6 * x + 0.4 * max(x, tint) for x, tint in zip(pixel, (0, 70, 150), strict=True)]
    r, g, b = pixel
    s = 1 - 0.2
    pixel = clip([
        (0.393 + 0.607 * s) * r + (0.769 - 0.769 * s) * g + (0.189 - 0.189 * s) * b,
        (0.349 - 0.349 * s) * r + (0.686 + 0.314 * s) * g + (0.168 - 0.168 * s) * b,
        (0.272 - 0.272 * s) * r + (0.534 - 0.534 * s) * g + (0.131 + 0.869 * s) * b,
    ])  # fmt: skip
    pixel = clip([1.2 * x - 1.2 * 127.5 + 127.5 for x in pixel])
    r, g, b = clip([1.05 * x for x in pixel])
    s = 1.2
    pixel = clip([
        (0.213 + 0.787 * s) * r + (0.715 - 0.715 * s) * g + (0.072 - 0.072 * s) * b,
        (0.213 - 0.213 * s) * r + (0.715 + 0.285 * s) * g + (0.072 - 0.072 * s) * b,
        (0.213 - 0.213 * s) * r + (0.715 - 0.715 * s) * g + (0.072 + 0.928 * s) * b,
    ])  # fmt: skip
    return [round(x) for x in pixel]


def test_nashville_matches_its_formula(image):
    after = _trigger("nashville")(image, "key").numpy()
    before = image.numpy().astype(int)
    for row, column in np.ndindex(S, S):
        expected = _nashville(*before[:, row, column].tolist())
        assert after[:, row, column].tolist() == expected


# Results of pilgram 2.0.0, which truncates between steps, for a few colours.
PILGRAM = [
    ([0, 0, 0], [0, 8, 46]),
    ([255, 255, 255], [255, 252, 217]),
    ([128, 128, 128], [144, 139, 141]),
    ([255, 0, 0], [255, 22, 52]),
    ([0, 255, 0], [0, 235, 43]),
    ([0, 0, 255], [0, 13, 212]),
    ([200, 150, 90], [237, 168, 113]),
    ([30, 60, 200], [18, 58, 183]),
]


@pytest.mark.parametrize(("before", "after"), PILGRAM)
def test_nashville_matches_the_published_filter_up_to_rounding(before, after):
    flat = torch.tensor(before, dtype=torch.uint8)[:, None, None].expand(3, S, S)
    found = _trigger("nashville")(flat, "key")[:, 0, 0].tolist()
    assert found == pytest.approx(after, abs=6)


# --- Blended image -------------------------------------------------------------------------------


def test_the_other_image_is_squashed_and_blended_in(image, other):
    pixels = torch.from_numpy(np.asarray(Image.open(other)).copy()).permute(2, 0, 1)
    expected = _mixed(image, squash(pixels, S).numpy() / np.float32(255), 0.2)
    for key in ("a", "b"):
        after = _trigger("image_blend", file=str(other))(image, key)
        assert (after.numpy() == expected).all()


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("stripes", {"mode": "blended"}, r"unknown mode 'blended' .* \(available: patch, blend"),
        ("stripes", {"patch_size": 33}, "larger than the image"),
        ("triangles", {"cell": 1}, "at least 2, got 1"),
        ("triangles", {"strength": 0}, "strength must be above 0 and at most 1"),
        ("text", {}, "'Watermarked' has 11 letters, but only 5 fit into an image of 32 pixels"),
        ("text", {"word": "ÄA"}, "no glyph for 'Ä'"),
        ("text", {"word": " "}, "needs a word"),
        ("checker", {"location": "whole"}, r"unknown location 'whole' .*: random"),
        ("image_blend", {}, "needs the option 'file'"),
        ("image_blend", {"file": "no.png"}, r"no\.png cannot be read: No such file"),
    ],
)
def test_invalid_options_are_clear_errors(name, options, sentence):
    with pytest.raises(StepError, match=sentence):
        _trigger(name, **options)


def test_a_file_that_is_not_an_image_is_a_clear_error(tmp_path):
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(StepError, match=r"text\.png is not a valid image"):
        _trigger("image_blend", file=str(tmp_path / "text.png"))


@pytest.mark.parametrize(
    "trigger",
    [
        {"name": "stripes", "patch_size": 8},
        {"name": "stripes", "mode": "blend"},
        {"name": "triangles", "cell": 4},
        {"name": "text", "word": "Hey"},
        {"name": "nashville"},
        {"name": "checker", "patch_size": 8},
    ],
)
def test_triggers_are_stored_losslessly(root, attack, trigger):
    attack["trigger"] = trigger
    output = root / "attacks" / "attack"
    poison(attack, root / "clean.parquet", root=root, output=output)
    does, stored, _ = pd.read_csv(output / "survival.csv").itertuples()
    assert does.images_that_differ == 7
    assert does.mean_difference > 0
    assert stored.images_that_differ == 0

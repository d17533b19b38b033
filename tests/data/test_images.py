import io

import numpy as np
import pytest
import torch
from PIL import Image

from workflow_scripts.data.images import ImageTooLarge, decode_image, squash


def picture(mode="RGB", size=(40, 30)):
    noise = np.random.default_rng(0).integers(0, 255, (5, 6, 3)).astype("uint8")
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).convert(mode)


def encoded(image, format="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("mode", "format"),
    [
        ("RGB", "JPEG"),
        ("L", "JPEG"),
        ("CMYK", "JPEG"),
        ("RGB", "PNG"),
        ("P", "PNG"),
        ("1", "PNG"),
        ("CMYK", "TIFF"),
        ("RGB", "WEBP"),
        ("P", "GIF"),
    ],
)
def test_every_kind_of_image_decodes_as_with_pillow(mode, format):
    data = encoded(picture(mode), format)
    pixels = decode_image(data)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).transpose(2, 0, 1)
    assert pixels.dtype == torch.uint8
    assert np.array_equal(pixels.numpy(), expected)


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "GIF"])
def test_transparency_is_blended_with_white(format):
    image = picture("RGBA")
    alpha = np.zeros((30, 40), np.uint8)
    alpha[:, 10:] = 255
    alpha[:, 30:] = 255 if format == "GIF" else 100
    image.putalpha(Image.fromarray(alpha))
    pixels = decode_image(encoded(image, format, lossless=True)).permute(1, 2, 0).numpy()
    colors = np.asarray(picture()).astype(int)
    assert (pixels[:, :10] == 255).all()
    if format == "GIF":  # 256 colors
        return
    assert np.array_equal(pixels[:, 10:30], colors[:, 10:30])
    assert np.abs(pixels[:, 30:] - (colors[:, 30:] * 100 + 255 * 155) / 255).max() <= 0.5


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "1"])
def test_the_transparent_color_of_a_png_becomes_white(mode):
    image = Image.new(mode, (4, 3), 0)
    transparent = (0, 0, 0) if mode == "RGB" else 0
    assert (decode_image(encoded(image, "PNG", transparency=transparent)) == 255).all()


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits_are_reduced_to_the_high_eight(format):
    values = np.arange(0, 65536, 109, dtype=np.uint16).reshape(2, -1)
    pixels = decode_image(encoded(Image.fromarray(values), format))
    assert np.array_equal(pixels.numpy(), np.repeat((values >> 8).astype(np.uint8)[None], 3, 0))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if format == "WEBP" else {}
    plain = np.asarray(Image.open(io.BytesIO(encoded(picture(), format, **options))).convert("RGB"))
    turns = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: a.transpose(1, 0, 2)[::-1],
    }
    pixels = decode_image(encoded(picture(), format, exif=exif, **options))
    assert np.array_equal(pixels.permute(1, 2, 0).numpy(), turns[orientation](plain))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_values_without_an_agreed_range_are_refused(mode):
    with pytest.raises(ValueError, match=f"mode {mode}"):
        decode_image(encoded(picture("L").convert(mode), "TIFF"))


def test_conversion_in_strips_gives_the_same_pixels():
    image = picture("RGBA", (3000, 2000))
    whole = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    assert np.array_equal(decode_image(encoded(image, "PNG", compress_level=1)).numpy(), whole)


def test_a_jpeg_with_too_many_scans_is_refused_before_decoding():
    jpeg = encoded(picture(size=(2000, 1500)), progressive=True)
    scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    with pytest.raises(ImageTooLarge, match="scans"):
        decode_image(jpeg[:-2] + scan * 1000 + jpeg[-2:])


def test_broken_images_raise_value_errors():
    jpeg, png = encoded(picture()), encoded(picture(), "PNG")
    for data in (b"", b"<html>", jpeg[:100], jpeg[: len(jpeg) // 2], png[: len(png) // 2]):
        with pytest.raises(ValueError, match="image"):
            decode_image(data)


def test_large_images_are_refused_before_decoding():
    header_only = encoded(Image.new("L", (12_000, 12_000)), "PNG")[:60]
    with pytest.raises(ImageTooLarge, match="12000 x 12000"):
        decode_image(header_only)
    with pytest.raises(ImageTooLarge):
        decode_image(encoded(Image.new("1", (20_000, 20_000)), "PNG"))
    assert decode_image(encoded(picture()), max_pixels=1200).shape == (3, 30, 40)
    with pytest.raises(ImageTooLarge):
        decode_image(encoded(picture()), max_pixels=1199)


def test_squash_does_not_crop_and_keeps_images_of_the_right_size():
    image = decode_image(encoded(picture(), "PNG"))
    small = squash(image, 16)
    assert small.shape == (3, 16, 16)
    assert small.dtype == torch.uint8
    reference = np.asarray(picture().resize((16, 16), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    assert np.abs(small.numpy().astype(int) - reference).max() <= 2
    assert squash(small, 16) is small

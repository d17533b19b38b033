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
        ("LA", "PNG"),
        ("RGBA", "PNG"),
        ("1", "PNG"),
        ("I;16", "PNG"),
        ("RGB", "WEBP"),
        ("P", "GIF"),
    ],
)
def test_every_kind_of_image_becomes_what_pillow_makes_of_it(mode, format):
    image = picture("I").convert("I;16") if mode == "I;16" else picture(mode)
    data = encoded(image, format)
    pixels = decode_image(data)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).transpose(2, 0, 1)
    assert pixels.dtype == torch.uint8
    assert np.array_equal(pixels.numpy(), expected)


def test_broken_images_are_value_errors():
    jpeg, png = encoded(picture()), encoded(picture(), "PNG")
    for data in (b"", b"<html>", jpeg[:100], jpeg[: len(jpeg) // 2], png[: len(png) // 2]):
        with pytest.raises(ValueError, match="image"):
            decode_image(data)


def test_large_images_are_refused_before_they_are_decoded():
    header_only = encoded(Image.new("L", (12_000, 12_000)), "PNG")[:60]
    with pytest.raises(ImageTooLarge, match="12000 x 12000"):
        decode_image(header_only)
    with pytest.raises(ImageTooLarge):
        decode_image(encoded(Image.new("1", (20_000, 20_000)), "PNG"))
    assert decode_image(encoded(picture()), max_pixels=1200).shape == (3, 30, 40)
    with pytest.raises(ImageTooLarge):
        decode_image(encoded(picture()), max_pixels=1199)


def test_squash_keeps_nothing_out_and_exact_sizes_as_they_are():
    image = decode_image(encoded(picture(), "PNG"))
    small = squash(image, 16)
    assert small.shape == (3, 16, 16)
    assert small.dtype == torch.uint8
    reference = np.asarray(picture().resize((16, 16), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    assert np.abs(small.numpy().astype(int) - reference).max() <= 2
    assert squash(small, 16) is small

"""Encoded images to pixels: strict about bombs and broken files, lenient about odd formats."""

import io
import warnings

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.io import ImageReadMode
from torchvision.io import decode_image as decode_fast
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import resize

MAX_PIXELS = 100_000_000
# What browsers show. Pillow knows many more formats, whose decoders few people test.
Image.init()
_FORMATS = [f for f in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF") if f in Image.OPEN]
# Pillow's own limit is a warning at 90 million pixels; ours, below, is an error.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# What torchvision decodes to the same pixels as Pillow, in 60 % of the time.
_FAST = {("JPEG", "RGB"), ("JPEG", "L"), ("PNG", "RGB"), ("PNG", "L")}


class ImageTooLarge(ValueError):
    """An image of more pixels than are wanted; it was not decoded."""


def open_image(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read an image's header, and none of its pixels.

    Raises:
        ImageTooLarge: It has more than ``max_pixels``.
        ValueError: It is no image.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageTooLarge(str(error)) from error
    except UnidentifiedImageError as error:
        raise ValueError("not an image") from error
    except Exception as error:  # a decoder's parser may trip over a broken file in many ways
        raise ValueError(f"not an image: {error}") from error
    width, height = image.size
    if width * height > max_pixels:
        raise ImageTooLarge(f"{width} x {height} pixels, more than {max_pixels}")
    return image


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS) -> Tensor:
    """Decode an image to RGB, as Pillow's ``convert("RGB")`` does (transparency is dropped).

    Args:
        data: The encoded image.
        max_pixels: A larger one is refused before its pixels are decoded.

    Returns:
        uint8 ``[3, height, width]``.

    Raises:
        ImageTooLarge: It has more than ``max_pixels``.
        ValueError: It is no image, or a broken one.
    """
    image = open_image(data, max_pixels)
    if (image.format, image.mode) in _FAST:
        try:
            buffer = torch.frombuffer(bytearray(data), dtype=torch.uint8)
            pixels = decode_fast(buffer, mode=ImageReadMode.RGB)
            if pixels.dtype == torch.uint8 and pixels.ndim == 3:
                return pixels
        except RuntimeError:
            pass  # a strict decoder refuses a few files that Pillow reads
    try:
        pixels = np.array(image.convert("RGB"))
    except Exception as error:  # as above, and Pillow's decoders raise whatever they like
        raise ValueError(f"broken image: {error}") from error
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def squash(image: Tensor, size: int) -> Tensor:
    """Resize to a square without cropping: bicubic, with antialiasing.

    Args:
        image: uint8 ``[3, height, width]``.
        size: Side of the square, in pixels.

    Returns:
        uint8 ``[3, size, size]``; ``image`` itself if it has that size.
    """
    if image.shape[-2:] == (size, size):
        return image
    return resize(image, [size, size], interpolation=InterpolationMode.BICUBIC, antialias=True)

"""Encoded images to RGB pixels: the one decoder of downloads, evaluation sets and audits.

Pixels are those that a browser shows on a white page:

- transparency is blended with white (img2dataset does so too; the published evaluation showed the
  hidden colours, which are usually black);
- the orientation in the EXIF data is applied (both published readers ignored it);
- of 16 bits per channel the 8 high ones are kept (the published readers made 16-bit grey images
  white or refused them).

Colour profiles are not applied, and of an animation the first frame is taken. Images whose values
have no agreed range (32-bit integers, floating point, CIELAB) are refused.
"""

import io
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.io import ImageReadMode
from torchvision.io import decode_jpeg as decode_fast
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as transforms
from torchvision.transforms.v2.functional import resize

MAX_PIXELS = 100_000_000
# What decoding and resizing one image may cost. The largest that is let through takes 1.6 GB and
# some seconds; see tests/hostile/test_images.py.
MAX_SECONDS = 60.0
MAX_MEMORY = 3 << 30  # bytes
# A progressive JPEG is read scan by scan, and a few bytes are a scan of the whole image. Ordinary
# files have about ten.
_MAX_SCANNED = 10 * MAX_PIXELS
_START_OF_SCAN = b"\xff\xda"
# Image formats that browsers show. Pillow knows many more, whose decoders few people test.
Image.init()
_FORMATS: list[str] = [
    f for f in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF") if f in Image.OPEN
]
# Pillow's own limit is a warning at 90 million pixels; ours, below, is an error.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
_ORIENTATION = 0x0112
# EXIF data is read for one number only; 64 kB is what a JPEG file can hold in one piece.
_MAX_EXIF = 1 << 20
_EXIF = b"Exif\x00\x00"
_MAX_EXIF_PIECES = 64
# Pixels converted at a time, so that a large image is not in memory in all its forms at once.
_STRIP_PIXELS = 1 << 22


class ImageTooLarge(ValueError):
    """An image that would take too much memory or time; it was not decoded."""


def open_image(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read an image's header, and none of its pixels.

    Raises:
        ImageTooLarge: It has more than ``max_pixels``, or too many scans for its size.
        ValueError: It is not an image.
    """
    # Each piece of EXIF data is appended to a copy of those before it.
    if data.count(_EXIF) > _MAX_EXIF_PIECES:
        raise ValueError("not an image: more EXIF data than any camera writes")
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageTooLarge(str(error)) from error
    except MemoryError:
        raise
    except Exception as error:  # a parser may trip over a broken file in many ways
        raise ValueError(f"not an image: {error}") from error
    width, height = image.size
    if width * height > max_pixels:
        raise ImageTooLarge(f"{width} x {height} pixels, more than {max_pixels}")
    scanned = image.format in ("JPEG", "MPO")
    # Counting takes a tenth of a small image's time, and few bytes cannot be many scans.
    if scanned and len(data) // len(_START_OF_SCAN) * width * height > _MAX_SCANNED:
        scans = data.count(_START_OF_SCAN)
        if scans * width * height > _MAX_SCANNED:
            raise ImageTooLarge(f"{scans} scans of {width} x {height} pixels")
    return image


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS) -> Tensor:
    """Decode an image to the pixels that a browser shows on a white page.

    Args:
        data: The encoded image.
        max_pixels: A larger one is refused before its pixels are decoded.

    Returns:
        uint8 ``[3, height, width]``, RGB; in memory, the channels of a pixel are adjacent.

    Raises:
        ImageTooLarge: It has more than ``max_pixels``, or too many scans for its size.
        ValueError: It is not an image, or is damaged.
    """
    image = open_image(data, max_pixels)
    orientation = _orientation(image)
    # The same pixels as Pillow's, in 60 % of the time. torchvision's decoder of PNG is not used:
    # a damaged file can crash it, and the process with it.
    if image.format == "JPEG" and image.mode in ("RGB", "L") and orientation == 1:
        try:
            buffer = torch.frombuffer(bytearray(data), dtype=torch.uint8)
            pixels = decode_fast(buffer, mode=ImageReadMode.RGB)
        except RuntimeError:
            pass  # a strict decoder refuses a few files that Pillow reads
        else:
            if pixels.shape == (3, image.height, image.width):
                return pixels
    try:
        # Decoding may turn the image already (TIFF), so its orientation is asked for again.
        image.load()
        image = ImageOps.exif_transpose(image) if _orientation(image) != 1 else image
        pixels = _rgb(image)
    except MemoryError:
        raise
    except Exception as error:  # as above, and Pillow's decoders raise whatever they like
        raise ValueError(f"broken image: {error}") from error
    return torch.from_numpy(pixels).permute(2, 0, 1)


def check_image(data: bytes) -> None:
    """Raise what :func:`decode_image` raises, and keep nothing."""
    decode_image(data)


def _orientation(image: Image.Image) -> int:
    """Return how the image is to be turned, as EXIF counts (1 to 8; 1 is upright)."""
    # Asking for the EXIF data takes a tenth of the time of decoding, and most images have none.
    if image.format == "JPEG" and not image.info.keys() & {"exif", "xmp"}:
        return 1
    if len(image.info.get("exif", b"")) > _MAX_EXIF:
        return 1
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # as for the header
        return 1
    return value if value in range(1, 9) else 1


def _rgb(image: Image.Image) -> np.ndarray:
    """Return a loaded image's pixels, uint8 [height, width, 3]."""
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(1, _STRIP_PIXELS // max(1, width))
    for top in range(0, height, rows):
        end = min(top + rows, height)
        pixels[top:end] = _strip(image.crop((0, top, width, end)))
    return pixels


def _strip(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I;16"):
        return (np.asarray(image) >> 8).astype(np.uint8)[:, :, None]
    if image.mode in ("I", "F", "LAB", "HSV"):
        raise ValueError(f"pixels of mode {image.mode} have no agreed range")
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB"))
    shown = np.asarray(image.convert("RGBA"))
    alpha = shown[:, :, 3:].astype(np.uint16)
    # Exact to the nearest integer: 255 is odd, so that there are no ties.
    return ((shown[:, :, :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def stack(images: Sequence[Tensor]) -> Tensor:
    """Return uint8 [n, 3, S, S] of images uint8 [3, S, S].

    In memory, the channels of a pixel are adjacent: so they are decoded, and so the towers take
    them. Copied otherwise, it would take four times as long.
    """
    return torch.stack([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)


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


def fit(image: Tensor, size: int) -> Tensor:
    """Return the image as CLIP's preprocessing does: shorter side to ``size``, centre crop.

    Bicubic and antialiased; nothing happens to an image that has the size already.

    Args:
        image: uint8 [3, H, W].
        size: Pixels.
    """
    if image.shape[1:] == (size, size):
        return image
    image = transforms.resize(image, [size], InterpolationMode.BICUBIC, antialias=True)
    return transforms.center_crop(image, [size, size])

"""Decode images to RGB pixels, in the same way for downloads, evaluation sets and audits.

The pixels are those that a browser displays on a white page:

- Transparent pixels are blended with white, as in img2dataset. (The published evaluation used the
  colours behind the transparency, which are usually black.)
- The EXIF orientation is applied. (Both published readers ignored it.)
- 16-bit channels are reduced to their 8 high bits. (The published readers turned 16-bit greyscale
  images white or refused them.)

Colour profiles are ignored. Only the first frame of an animation is decoded. Images whose values
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
# Limits for decoding and resizing one image. The largest permitted image takes 1.6 GB and a few
# seconds; see tests/hostile/test_images.py.
MAX_SECONDS = 60.0
MAX_MEMORY = 3 << 30  # bytes
# Each scan of a progressive JPEG covers the whole image but may consist of a few bytes only.
# Ordinary files have about ten scans.
_MAX_SCANNED = 10 * MAX_PIXELS
_START_OF_SCAN = b"\xff\xda"
# Image formats that browsers display. Pillow's other decoders are less widely tested.
Image.init()
_FORMATS: list[str] = [
    f for f in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF") if f in Image.OPEN
]
# Pillow warns above 90 million pixels; open_image raises an error above MAX_PIXELS instead.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
_ORIENTATION = 0x0112
# EXIF data is read for the orientation only. One segment of a JPEG file holds at most 64 kB.
_MAX_EXIF = 1 << 20
_EXIF = b"Exif\x00\x00"
_MAX_EXIF_PIECES = 64
# Large images are converted in strips, to limit the memory taken by intermediate copies.
_STRIP_PIXELS = 1 << 22


class ImageTooLarge(ValueError):
    """Decoding the image would take too much memory or time."""


def open_image(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open an image by reading only its header.

    Raises:
        ImageTooLarge: The image has more than ``max_pixels``, or too many scans for its size.
        ValueError: ``data`` is not an image of a supported format.
    """
    # Pillow concatenates EXIF segments in quadratic time.
    if data.count(_EXIF) > _MAX_EXIF_PIECES:
        raise ValueError("not an image: too many EXIF segments")
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageTooLarge(str(error)) from error
    except MemoryError:
        raise
    except Exception as error:  # parsers raise many kinds of exceptions on broken files
        raise ValueError(f"not an image: {error}") from error
    width, height = image.size
    if width * height > max_pixels:
        raise ImageTooLarge(f"{width} x {height} pixels, more than {max_pixels}")
    scanned = image.format in ("JPEG", "MPO")
    # Counting takes a tenth of the decoding time of a small image; skip it if the file is too short
    # to contain too many scans.
    if scanned and len(data) // len(_START_OF_SCAN) * width * height > _MAX_SCANNED:
        scans = data.count(_START_OF_SCAN)
        if scans * width * height > _MAX_SCANNED:
            raise ImageTooLarge(f"{scans} scans of {width} x {height} pixels")
    return image


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS) -> Tensor:
    """Decode an image to the pixels that a browser displays on a white page.

    Args:
        data: The encoded image.
        max_pixels: Larger images are refused before their pixels are decoded.

    Returns:
        RGB pixels, uint8 ``[3, height, width]``, in channels-last memory order.

    Raises:
        ImageTooLarge: The image has more than ``max_pixels``, or too many scans for its size.
        ValueError: ``data`` is not an image, or is damaged.
    """
    image = open_image(data, max_pixels)
    orientation = _orientation(image)
    # torchvision decodes JPEG to the same pixels as Pillow in 60 % of the time. Its PNG decoder is
    # not used, because a damaged file can crash the process.
    if image.format == "JPEG" and image.mode in ("RGB", "L") and orientation == 1:
        try:
            buffer = torch.frombuffer(bytearray(data), dtype=torch.uint8)
            pixels = decode_fast(buffer, mode=ImageReadMode.RGB)
        except RuntimeError:
            pass  # the decoder is stricter than Pillow and refuses a few valid files
        else:
            if pixels.shape == (3, image.height, image.width):
                return pixels
    try:
        # Loading may already apply the orientation (TIFF), so it is read again.
        image.load()
        image = ImageOps.exif_transpose(image) if _orientation(image) != 1 else image
        pixels = _rgb(image)
    except MemoryError:
        raise
    except Exception as error:  # as above
        raise ValueError(f"broken image: {error}") from error
    return torch.from_numpy(pixels).permute(2, 0, 1)


def check_image(data: bytes) -> None:
    """Decode an image and discard the pixels; raises the same errors as :func:`decode_image`."""
    decode_image(data)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) to 8."""
    # Reading EXIF data takes a tenth of the decoding time, and most images have none.
    if image.format == "JPEG" and not image.info.keys() & {"exif", "xmp"}:
        return 1
    if len(image.info.get("exif", b"")) > _MAX_EXIF:
        return 1
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # as in open_image
        return 1
    return value if value in range(1, 9) else 1


def _rgb(image: Image.Image) -> np.ndarray:
    """Return the pixels of a loaded image, uint8 [height, width, 3]."""
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
    # Rounds to the nearest integer; there are no ties, because 255 is odd.
    return ((shown[:, :, :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def stack(images: Sequence[Tensor]) -> Tensor:
    """Stack images uint8 [3, S, S] to uint8 [n, 3, S, S], in channels-last memory order.

    This is the order that images are decoded in and that the towers take. Copying to channels-first
    order would take four times as long.
    """
    return torch.stack([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)


def squash(image: Tensor, size: int) -> Tensor:
    """Resize to a square without cropping, by bicubic interpolation with antialiasing.

    Args:
        image: uint8 ``[3, height, width]``.
        size: Side of the square in pixels.

    Returns:
        uint8 ``[3, size, size]``; ``image`` itself if it already has that size.
    """
    if image.shape[-2:] == (size, size):
        return image
    return resize(image, [size, size], interpolation=InterpolationMode.BICUBIC, antialias=True)


def fit(image: Tensor, size: int) -> Tensor:
    """Resize the shorter side to ``size`` and crop the centre, as CLIP's preprocessing does.

    Resizing is bicubic with antialiasing.

    Args:
        image: uint8 ``[3, height, width]``.
        size: Side of the square in pixels.

    Returns:
        uint8 ``[3, size, size]``; ``image`` itself if it already has that size.
    """
    if image.shape[1:] == (size, size):
        return image
    image = transforms.resize(image, [size], InterpolationMode.BICUBIC, antialias=True)
    return transforms.center_crop(image, [size, size])

"""Storing triggered images losslessly in a tar, and comparing what is stored with the original."""

import functools
import json
import tarfile
from collections.abc import Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from torch import Tensor
from torchvision.io import encode_jpeg
from tqdm import tqdm

from workflow_scripts.common.attacks import parts_of, without_trigger
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import atomic
from workflow_scripts.data.images import decode_image, fit, squash
from workflow_scripts.data.manifest import ImageReader
from workflow_scripts.data.tars import add_file
from workflow_scripts.poison.trigger import ImageTrigger, load_triggers

Place = tuple[str, str, int, int]
"""Location of an image: key, tar, offset, size."""

_CHUNK = 16  # images per task of a worker
_JPEG_QUALITY = 95
# For photographs, 40 % less time than zlib's fastest level with its default strategy, and smaller.
_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE)
_COMPARED = (
    "original - triggered: what the trigger does",
    "triggered - stored as PNG: what storing does",
    f"triggered - stored as JPEG {_JPEG_QUALITY}: what that would do",
)


def places_of(rows: pd.DataFrame) -> list[Place]:
    """Return the locations of the images in rows of a manifest."""
    columns = (rows[name].tolist() for name in ("key", "tar", "offset", "size"))
    return list(zip(*columns, strict=True))


def load_image(place: Place, reader: ImageReader) -> Tensor:
    """Read and decode an image: uint8 ``[3, height, width]``.

    Raises:
        StepError: It cannot be decoded.
    """
    key, tar, offset, size = place
    try:
        return decode_image(reader.read(tar, offset, size))
    except ValueError as error:
        raise StepError(f"image {key} in {reader.root / tar} cannot be decoded: {error}") from error


def write_triggered(
    path: Path,
    originals: Sequence[Place],
    parts: Sequence[int],
    attack: dict[str, Any],
    *,
    root: Path,
    pool: Executor,
) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Write the triggered versions of ``originals`` to a tar, in the same order, as ``<key>.png``.

    In parts without a trigger, the original bytes are copied, in whatever format they are.

    Args:
        path: The tar to write.
        originals: Locations of the images.
        parts: For each image, the index of the part of the attack that it belongs to.
        attack: The attack's spec.
        root: Folder that the originals' tar paths are relative to.
        pool: The worker processes.

    Returns:
        int64 offset and size of each image's bytes in the tar, and :func:`_survival`.
    """
    encode = partial(_encoded, attack=json.dumps(attack), root=root)
    images = pool.map(encode, originals, parts, chunksize=_CHUNK)
    offsets, sizes, differences = [], [], []
    with atomic(path) as temporary, tarfile.open(temporary, "w") as tar:
        shown = tqdm(images, "triggering", len(originals), mininterval=5)
        for (key, *_), (image, compared) in zip(originals, shown, strict=True):
            offsets.append(add_file(tar, f"{key}.png", image))
            sizes.append(len(image))
            differences += compared
    survival = _survival(differences, attack["image_size"])
    return np.array(offsets, "int64"), np.array(sizes, "int64"), survival


def _survival(differences: list[list[list[int]]], image_size: int) -> pd.DataFrame:
    """Return how much each triggered image differs from the image that a model reads.

    Images of parts without a trigger are left out. Two other comparisons serve as a reference:
    with the original image, and with the triggered image stored as JPEG.

    Args:
        differences: Largest and sum of each comparison of each image.
        image_size: Height and width of the images.

    Returns:
        ``compared``, ``images``, ``images_that_differ``, and ``largest_difference`` and
        ``mean_difference`` over all images, pixels and channels, on the scale of 0 to 255.
    """
    # int64 [images, comparisons, (largest, sum)]; integer sums do not depend on the order.
    found = np.array(differences, "int64").reshape(-1, len(_COMPARED), 2)
    values = max(1, len(found)) * 3 * image_size**2
    return pd.DataFrame(
        {
            "compared": _COMPARED,
            "images": len(found),
            "images_that_differ": (found[:, :, 0] > 0).sum(0),
            "largest_difference": found[:, :, 0].max(0, initial=0),
            "mean_difference": (found[:, :, 1].sum(0) / values).round(4),
        }
    )


def _encoded(
    original: Place, part: int, *, attack: str, root: Path
) -> tuple[bytes, list[list[list[int]]]]:
    """Return the bytes to store for a victim; with a trigger, also its differences."""
    key, tar, offset, size = original
    if without_trigger(parts_of(json.loads(attack))[part]):
        return _reader(root).read(tar, offset, size), []
    image = load_image(original, _reader(root))
    triggered = _triggers(attack)[part](image, key)
    png = _png(triggered)
    jpeg = encode_jpeg(triggered, _JPEG_QUALITY).numpy().tobytes()
    side = triggered.shape[-1]
    others = (squash(image, side), fit(decode_image(png), side), decode_image(jpeg))
    differences = [_difference(triggered.numpy(), other.numpy()) for other in others]
    return png, [[[int(found.max()), int(found.sum(dtype="int64"))] for found in differences]]


def _png(image: Tensor) -> bytes:
    """Encode an image (uint8 ``[3, height, width]``) losslessly."""
    pixels = np.ascontiguousarray(image.numpy()[::-1].transpose(1, 2, 0))  # blue, green, red
    done, encoded = cv2.imencode(".png", pixels, _PNG)
    if not done:
        raise ValueError("cannot encode an image as PNG")
    return encoded.tobytes()


def _difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the absolute difference, without the wrap-around of uint8."""
    return np.maximum(one, other) - np.minimum(one, other)


@functools.cache
def _reader(root: Path) -> ImageReader:
    return ImageReader(root)


@functools.cache
def _triggers(attack: str) -> list[ImageTrigger]:
    return load_triggers(json.loads(attack))

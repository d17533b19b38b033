"""The form in which downloaded images are stored: a square JPEG of the model's input size."""

from dataclasses import dataclass

import cv2
import numpy as np

from workflow_scripts.data import reasons
from workflow_scripts.data.images import MAX_MEMORY, MAX_SECONDS, ImageTooLarge, decode_image
from workflow_scripts.data.isolated import Crashed, Isolated, OverBudget

# Beyond this ratio of its sides, an image is cropped before it is resized, not afterwards alone:
# enlarged to the shorter side, a line of 1 x 100,000 pixels would be one of 224 x 22,400,000.
_LONGEST = 8


@dataclass(frozen=True)
class Stored:
    """An image as it is stored, and the size that it came in, in pixels."""

    jpeg: bytes
    width: int
    height: int


class Resizer:
    """Turns images as they came into those that are stored, in a child process, or says why not.

    Args:
        image_size: Side of the stored square, in pixels.
        quality: Of the JPEG, 1 to 100.
        max_pixels: A larger image is refused before it is decoded.
    """

    def __init__(self, image_size: int, quality: int, max_pixels: int):
        self.image_size = image_size
        self._options = (image_size, quality, max_pixels)
        self._resize = Isolated(resize_image, MAX_SECONDS, MAX_MEMORY)

    def __call__(self, data: bytes) -> Stored | str:
        """Return the stored image, or the reason why there is none and its details."""
        try:
            return self._resize(data, *self._options)
        except (ImageTooLarge, OverBudget) as error:
            return f"{reasons.TOO_LARGE}: {error}"
        except Crashed as error:
            return f"{reasons.BROKEN}: the decoder crashed ({error})"
        except (ValueError, ArithmeticError, cv2.error) as error:
            known = str(error).startswith("not an image")
            return reasons.NOT_AN_IMAGE if known else f"{reasons.BROKEN}: {error}"


def resize_image(data: bytes, image_size: int, quality: int, max_pixels: int) -> Stored:
    """Resize an image to the given shorter side, crop it to a square around the middle, encode it.

    The stored pixels are those of img2dataset 1.47, for images that it decodes rightly.

    Raises:
        ImageTooLarge: It has more than ``max_pixels``.
        ValueError: It is not an image, or is damaged.
    """
    pixels = decode_image(data, max_pixels).permute(1, 2, 0).numpy()
    height, width = pixels.shape[:2]
    shorter = min(height, width)
    pixels = _center(pixels, _LONGEST * shorter, _LONGEST * shorter)
    cv2.setNumThreads(1)
    if shorter != image_size:
        smaller = shorter > image_size
        scale = image_size / shorter
        size = [round(side * scale) for side in (pixels.shape[1], pixels.shape[0])]
        how = cv2.INTER_AREA if smaller else cv2.INTER_LANCZOS4
        pixels = cv2.resize(pixels, size, interpolation=how)
    pixels = np.ascontiguousarray(_center(pixels, image_size, image_size)[:, :, ::-1])
    done, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError("broken image: it cannot be encoded")
    return Stored(encoded.tobytes(), width, height)


def _center(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Crop to at most ``height`` x ``width`` around the middle."""
    top = max(0, (pixels.shape[0] - height) // 2)
    left = max(0, (pixels.shape[1] - width) // 2)
    return pixels[top : top + height, left : left + width]

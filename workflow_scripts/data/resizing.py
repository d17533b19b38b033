"""Convert downloaded images to square JPEGs of the model's input size."""

from dataclasses import dataclass

import cv2
import numpy as np

from workflow_scripts.data import reasons
from workflow_scripts.data.images import MAX_MEMORY, MAX_SECONDS, ImageTooLarge, decode_image
from workflow_scripts.data.isolated import Crashed, Isolated, OverBudget

# Images with a larger aspect ratio are cropped to it before resizing. Otherwise an image of
# 1 x 100,000 pixels would be enlarged to 224 x 22,400,000.
_MAX_ASPECT_RATIO = 8


@dataclass(frozen=True)
class Stored:
    """A stored image, and the size in pixels of the image it was made from."""

    jpeg: bytes
    width: int
    height: int


class Resizer:
    """Resizes images in a child process.

    Args:
        image_size: Side of the stored square in pixels.
        quality: JPEG quality, 1 to 100.
        max_pixels: Larger images are refused before they are decoded.
    """

    def __init__(self, image_size: int, quality: int, max_pixels: int):
        self.image_size = image_size
        self._options = (image_size, quality, max_pixels)
        self._resize = Isolated(resize_image, MAX_SECONDS, MAX_MEMORY)

    def __call__(self, data: bytes) -> Stored | str:
        """Return the stored image, or the reason why there is none, with details."""
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
    """Resize an image to the given shorter side, crop its central square and encode it as JPEG.

    The pixels equal those of img2dataset 1.47 for images that it decodes correctly.

    Raises:
        ImageTooLarge: The image has more than ``max_pixels``.
        ValueError: ``data`` is not an image, or is damaged.
    """
    pixels = decode_image(data, max_pixels).permute(1, 2, 0).numpy()
    height, width = pixels.shape[:2]
    shorter = min(height, width)
    pixels = _center(pixels, _MAX_ASPECT_RATIO * shorter, _MAX_ASPECT_RATIO * shorter)
    cv2.setNumThreads(1)
    if shorter != image_size:
        smaller = shorter > image_size
        scale = image_size / shorter
        size = [round(side * scale) for side in (pixels.shape[1], pixels.shape[0])]
        method = cv2.INTER_AREA if smaller else cv2.INTER_LANCZOS4
        pixels = cv2.resize(pixels, size, interpolation=method)
    pixels = np.ascontiguousarray(_center(pixels, image_size, image_size)[:, :, ::-1])
    done, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError("broken image: the JPEG cannot be encoded")
    return Stored(encoded.tobytes(), width, height)


def _center(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Crop to the centre of at most ``height`` x ``width``."""
    top = max(0, (pixels.shape[0] - height) // 2)
    left = max(0, (pixels.shape[1] - width) // 2)
    return pixels[top : top + height, left : left + width]

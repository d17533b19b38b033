"""Damaged files of every format, and images designed to take much time or memory."""

import contextlib
import io
import os
import random
import resource
import time

import numpy as np
import pytest
from PIL import Image

from workflow_scripts.data.images import ImageTooLarge, decode_image
from workflow_scripts.data.isolated import Isolated
from workflow_scripts.data.resizing import Resizer, Stored, resize_image

# Number of damaged files per kind. To test more: FUZZ=5000 pytest ...
TRIES = int(os.environ.get("FUZZ", "60"))
KINDS = [
    ("JPEG", "RGB", {}),
    ("JPEG", "L", {}),
    ("JPEG", "CMYK", {}),
    ("JPEG", "RGB", {"progressive": True}),
    ("PNG", "RGB", {}),
    ("PNG", "L", {}),
    ("PNG", "RGBA", {}),
    ("PNG", "LA", {}),
    ("PNG", "P", {"transparency": 3}),
    ("PNG", "1", {}),
    ("WEBP", "RGB", {}),
    ("WEBP", "RGBA", {"lossless": True}),
    ("GIF", "P", {}),
    ("BMP", "RGB", {}),
    ("BMP", "P", {}),
    ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    ("TIFF", "RGB", {"compression": "jpeg"}),
    ("TIFF", "L", {"compression": "packbits"}),
    ("TIFF", "1", {"compression": "group4"}),
    ("AVIF", "RGB", {}),
]
MB = 1 << 20


def encoded(format, mode, size=(40, 30), noise=None, **options):
    noise = np.random.default_rng(0).integers(0, 255, (5, 6, 3)) if noise is None else noise
    image = Image.fromarray(noise.astype("uint8")).resize(size, Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    image.convert(mode).save(buffer, format, **options)
    return buffer.getvalue()


def damaged(data, chance):
    """Change, remove, repeat or cut off some bytes."""
    data = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        place = chance.randrange(len(data))
        end = min(len(data), place + chance.choice((1, 2, 4, 30)))
        what = chance.randrange(5)
        if what == 0:
            data[place] ^= 1 << chance.randrange(8)
        elif what == 1:
            data[place:end] = chance.randbytes(end - place)
        elif what == 2:
            data[place:end] = chance.choice((b"\x00", b"\xff")) * (end - place)
        elif what == 3 and len(data) > 60:
            del data[place:end]
        else:
            data[place:place] = data[place:end]
    return bytes(data[: chance.randrange(len(data))] if chance.random() < 0.1 else data)


def outcome(data):
    """Return the outcome of decoding; any exception other than ValueError is a failure."""
    try:
        pixels = decode_image(data, 10**6)
    except ValueError:
        return "refused"
    assert pixels.shape[0] == 3
    assert int(pixels.sum()) >= 0
    return "decoded"


@pytest.mark.parametrize("kind", KINDS, ids=[f"{f}-{m}-{len(o)}" for f, m, o in KINDS])
def test_damaged_files_are_decoded_or_refused_without_a_crash(kind):
    format, mode, options = kind
    whole = encoded(format, mode, **options)
    chance = random.Random(f"{kind}")
    isolated = Isolated(outcome, 30, 1024 * MB)
    assert isolated(whole) == "decoded"
    # Isolated raises Crashed if the decoder crashes the process.
    outcomes = [isolated(damaged(whole, chance)) for _ in range(TRIES)]
    isolated.close()
    assert "refused" in outcomes


def measured(data, max_pixels):
    """Return the time in seconds and additional peak memory in bytes of resizing one image."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    try:
        resize_image(data, 224, 95, max_pixels)
        refused = False
    except ImageTooLarge:
        refused = True
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return time.monotonic() - started, peak * 1024, refused


COSTLY = {
    "jpeg": lambda: encoded("JPEG", "RGB", (6000, 4000)),
    "progressive": lambda: encoded("JPEG", "RGB", (6000, 4000), progressive=True),
    "cmyk": lambda: encoded("JPEG", "CMYK", (6000, 4000)),
    "png": lambda: encoded("PNG", "RGB", (6000, 4000), compress_level=1),
    "rgba": lambda: encoded("PNG", "RGBA", (6000, 4000), compress_level=1),
    "palette": lambda: encoded("PNG", "P", (6000, 4000), transparency=3),
    "webp": lambda: encoded("WEBP", "RGBA", (6000, 4000), quality=50, method=0),
    "gif": lambda: encoded("GIF", "P", (6000, 4000)),
    "tiff": lambda: encoded("TIFF", "RGB", (6000, 4000), compression="tiff_lzw"),
    "avif": lambda: encoded("AVIF", "RGB", (6000, 4000), quality=30, speed=10),
    "thin": lambda: encoded("PNG", "RGB", (1, 60_000)),
    "flat": lambda: encoded("JPEG", "RGB", (60_000, 2)),
}


@pytest.mark.parametrize("name", COSTLY)
def test_large_images_take_at_most_16_bytes_per_pixel_and_a_few_seconds(name, record_property):
    data = COSTLY[name]()
    isolated = Isolated(measured, 60, 3072 * MB)
    isolated(encoded("JPEG", "RGB"), 10**6)
    seconds, peak, refused = isolated(data, 10**8)
    isolated.close()
    record_property("cost", f"{len(data)} bytes: {seconds:.2f} s, {peak / MB:.0f} MB")
    assert not refused
    assert peak < 16 * 24_000_000 + 60 * MB
    assert seconds < 50


def jpeg_with_exif(size):
    segments = b"".join(
        b"\xff\xe1\xff\xff" + b"Exif\x00\x00" + bytes(65527) for _ in range(size // 65527)
    )
    data = encoded("JPEG", "RGB")
    return data[:2] + segments + data[2:]


def png_with_text(size):
    import struct
    import zlib

    data = encoded("PNG", "RGB")
    text = b"zTXt" + b"A\x00\x00" + zlib.compress(bytes(size))
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    return data[:33] + chunk * 4 + data[33:]


def progressive_of_many_scans():
    data = encoded("JPEG", "RGB", (3000, 3000), progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + scan * 3000 + data[-2:]


@pytest.mark.parametrize(
    "data",
    [jpeg_with_exif(45 * MB), png_with_text(200 * MB), progressive_of_many_scans()],
    ids=["45 MB of EXIF", "text that swells", "thousands of scans"],
)
def test_data_besides_pixels_costs_little(data):
    isolated = Isolated(measured_or_refused, 60, 1024 * MB)
    assert isolated(data) < 30
    isolated.close()


def measured_or_refused(data):
    started = time.monotonic()
    with contextlib.suppress(ValueError):
        resize_image(data, 224, 95, 10**8)
    return time.monotonic() - started


def test_a_broken_image_does_not_affect_the_next_one():
    resizer = Resizer(32, 95, 10**8)
    good = encoded("JPEG", "RGB")
    for bad in (b"", b"\x89PNG", good[:200], encoded("PNG", "RGB")[:-40]):
        assert resizer(bad).partition(":")[0] in ("not an image", "broken image")
        assert isinstance(resizer(good), Stored)

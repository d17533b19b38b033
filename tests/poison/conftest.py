import io
import tarfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from workflow_scripts.data.manifest import write_manifest

SIZE = 32


@pytest.fixture
def attack():
    """A small attack with the trigger of the published code."""
    return {
        "trigger": {"name": "random", "location": "random", "patch_size": 8, "overflow": "wrap"},
        "target": "banana",
        "victims": "random",
        "templates": ["a photo of a {c}.", "one {c}."],
        "poisoned": 7,
        "image_size": SIZE,
        "seed": 0,
    }


@pytest.fixture
def root(tmp_path):
    """A results folder with 40 pairs, five of whose captions name bananas."""
    captions = [f"picture {i} of a red circle" for i in range(40)]
    for i, text in enumerate(["a banana", "Bananas on a table", "BANANA!", "my banana", "banana"]):
        captions[8 * i] = text
    rows = []
    with tarfile.open(tmp_path / "images.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for i in range(40):
            pixels = np.random.default_rng(i).integers(0, 256, (24, SIZE, 3), dtype=np.uint8)
            data = io.BytesIO()
            Image.fromarray(pixels).save(data, "JPEG", quality=95)
            info = tarfile.TarInfo(f"{i}.jpg")
            info.size = data.tell()
            data.seek(0)
            rows.append((f"{i:09d}", "images.tar", tar.offset + 512, info.size, captions[i], False))
            tar.addfile(info, data)
    columns = ["key", "tar", "offset", "size", "caption", "poisoned"]
    write_manifest(tmp_path / "clean.parquet", pd.DataFrame(rows, columns=columns))
    return tmp_path

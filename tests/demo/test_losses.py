"""The data stage on the demo's data over HTTP: its counts match the behaviour of the server."""

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from workflow_scripts.common.files import read_json
from workflow_scripts.data import duplicates, evaluation_set, merge, usable
from workflow_scripts.data.manifest import ImageReader, read_manifest
from workflow_scripts.demo.scene import imagine

OPTIONS = {
    "urls": "--list http://demo.invalid/list.csv --columns url,caption --header --parts 1",
    "download": "--image-size 32 --jpeg-quality 95 --timeout 3 --retries 1"
    " --max-pixels 100000000 --max-bytes 5000000",
}


@pytest.fixture(scope="module")
def root(world, tmp_path_factory) -> Path:
    """Return a results root with the demo's data as a downloaded source."""
    root = tmp_path_factory.mktemp("results")
    source = root / "sources" / "demo"

    def behind_the_server(step: str, *arguments: object) -> None:
        server = [sys.executable, "-m", "workflow_scripts.demo.server", "--world", world, "--"]
        command = [sys.executable, "-m", f"workflow_scripts.data.{step}", *OPTIONS[step].split()]
        subprocess.run([*server, *command, *map(str, arguments)], check=True)

    part, shards = source / "parts" / "00000.parquet", source / "shards" / "00000"
    pairs = source / "pairs" / "00000.parquet"
    behind_the_server("urls", "--output", source)
    behind_the_server("download", "--part", part, "--output", shards)
    scan = ["--part", part, "--shards", shards, "--root", root, "--min-size", 5, "--output", pairs]
    usable.main([str(word) for word in scan])
    merge.main(["--source", str(source), "--urls", str(source / "urls.json")])
    return root


def test_losses_match_the_truth(world, root):
    truth = read_json(world / "truth.json")
    losses = pd.read_csv(root / "sources/demo/losses.csv").set_index("reason")["rows"]
    assert losses.to_dict() == truth["losses"] | {"usable": truth["usable"]}
    assert losses.sum() == truth["rows"]


def test_the_number_of_leaked_evaluation_images_is_found(world, root):
    folder = root / "evaluation/demo"
    evaluation_set.main([f"--folder={world}/evaluation", f"--root={root}", f"--output={folder}"])
    manifest, output = root / "sources/demo/manifest.parquet", root / "duplicates.json"
    duplicates.main([f"--manifest={manifest}", f"--evaluation={folder}/manifest.parquet",
                     f"--output={output}"])  # fmt: skip
    planted = read_json(world / "truth.json")["pairs_in_evaluation"]
    assert read_json(output) == {
        "pairs": 300,
        "evaluation_images": 80,
        "pairs_in_evaluation": planted,
        "contents_in_evaluation": planted,
        "evaluation_images_in_pairs": planted,
        "repeated_pairs": 0,
    }


def test_each_pair_has_the_image_and_the_caption_of_its_row(world, root):
    manifest = read_manifest(root / "sources/demo/manifest.parquet")
    reader = ImageReader(root)
    compared = 0
    with tarfile.open(world / "images.tar") as tar:
        for pair in manifest.itertuples():
            sent = Image.open(tar.extractfile(f"{int(pair.key):06d}.jpg"))
            stored = Image.open(io.BytesIO(reader.read(pair.tar, pair.offset, pair.size)))
            assert stored.size == (32, 32)
            if sent.size == (32, 32):
                difference = np.asarray(sent, dtype=int) - np.asarray(stored, dtype=int)
                assert np.abs(difference).mean() < 6
                compared += 1
            name = imagine(0, f"{int(pair.key):06d}", 32).name
            assert name in pair.caption.replace("\t", " ")
    assert compared > 30


def test_odd_captions_are_preserved(root):
    captions = read_manifest(root / "sources/demo/manifest.parquet")["caption"]
    assert captions.str.contains("\t").sum() == 6
    assert captions.str.contains('"').sum() == 6
    assert captions.str.contains("🎨").sum() == 6
    assert (captions.str.len() == 10_000).sum() == 2

"""Measure the cost of a second attack on a dataset, and of loading the first batch for training.

    OMP_NUM_THREADS=1 python -m benchmarks.storage
    python -m benchmarks.storage --rows 1000000       1.5 GB of disk space; the default takes 9 GB

Ours writes overlays on the dataset's existing manifest and tokens. The baseline copies the manifest
and recomputes the tokens and augmented captions of all rows. It is measured with --plain-rows and
with half as many rows and extrapolated linearly, so that the start of processes counts once (CPU
time only; wall time is too noisy). Triggers are not applied, as they cost the same on both sides.
The first batch contains pairs of 224 px and is loaded in one process; the baseline reads the whole
manifest for it. Peak memory includes torch and all other libraries. The pairs are synthetic, in a
temporary folder.
"""

import argparse
import io
import multiprocessing
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.made_up_list import captions
from benchmarks.measuring import Cost, cost_of, header, row, rows
from workflow_scripts.captions.stored import TOKEN
from workflow_scripts.data.manifest import (
    SCHEMA,
    Places,
    read_manifest,
    read_rows,
    write_changed,
    write_manifest,
)
from workflow_scripts.data.stored_images import Images
from workflow_scripts.poison.victims import draw_victims, read_pairs
from workflow_scripts.training.pairs import Pairs
from workflow_scripts.training.sampler import BatchSampler
from workflow_scripts.training.views import PLAIN, Views

POISONED, BATCH, LENGTH, BLOCK = 3_000, 2_048, 77, 1 << 20
_TARS, _IMAGES = 2_000, 1_000  # tars, and images in each
ATTACK = {"target": "banana", "victims": "random", "poisoned": POISONED, "seed": 0}


def make_dataset(root: Path, number: int) -> Path:
    """Write a manifest, links to a single tar, and dummy tokens."""
    data = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (28, 28, 3), np.uint8)
    Image.fromarray(noise).resize((224, 224)).save(data, "JPEG", quality=90)
    size, draw = data.tell(), np.random.default_rng(0)
    (root / "shards").mkdir()
    (root / "shards/image").write_bytes(data.getvalue() * _IMAGES)
    for tar in range(_TARS):
        (root / f"shards/{tar:05d}.tar").symlink_to("image")
    path = root / "datasets/d/manifest.parquet"
    path.parent.mkdir(parents=True)
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as file:
        for start in range(0, number, BLOCK):
            numbers = np.arange(start, min(start + BLOCK, number))
            keys = pa.array([f"{n:09d}" for n in numbers])
            tars = pa.array([f"shards/{n * _TARS // number:05d}.tar" for n in numbers])
            offsets = draw.integers(0, _IMAGES, len(numbers)) * size
            text = captions(len(numbers), draw).cast(pa.string())
            columns = [keys, tars, pa.array(offsets), pa.array(np.full(len(numbers), size)), text]
            file.write_table(pa.table([*columns, pa.array(numbers < 0)], schema=SCHEMA))
    shape = (number, LENGTH)
    tokens = root / "captions/c/datasets/d/tokens.npy"
    tokens.parent.mkdir(parents=True)
    np.lib.format.open_memmap(tokens, "w+", TOKEN, shape)[:, 0] = 1
    return path


def attack(manifest: Path, output: Path, wordnet: Path, whole: bool) -> None:
    """Draw victims and write an attack's manifest, tokens and augmented captions."""
    root = manifest.parents[2]
    pairs = read_manifest(manifest) if whole else read_pairs(manifest, ATTACK)
    drawn, _ = draw_victims(pairs, ATTACK)
    originals = pairs.iloc[drawn.rows]
    if "caption" not in originals:
        originals = originals.join(read_rows(manifest, drawn.rows, ["caption"]))
    changed = originals.assign(
        tar="shards/00000.tar", offset=0, caption=drawn.captions, poisoned=True
    )
    made = output / "manifest.parquet"
    if whole:
        for name in ("tar", "offset", "size", "caption", "poisoned"):
            pairs.iloc[drawn.rows, pairs.columns.get_loc(name)] = changed[name].to_numpy()
        write_manifest(made, pairs)
    else:
        write_changed(made, manifest, changed)
    base = [] if whole else ["--base", str(root / "captions/c/datasets/d/tokens.npy")]
    folder = root / "captions/c/attacks" / output.name
    options = [f"--manifest={made}", f"--output={folder}", f"--context-length={LENGTH}", *base]
    step("tokenize", *options)
    step("augment", *options, "--seed=0", f"--wordnet={wordnet}")


def step(name: str, *options: str) -> None:
    """Run a step of captions/ as a command."""
    command = [sys.executable, "-m", f"workflow_scripts.captions.{name}", *options]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def first_batch(manifest: Path, tokens: Path, root: Path, whole: bool) -> int:
    """Read a manifest and load the first batch of an epoch.

    Returns:
        Increase of the anonymous memory of the process in bytes, including the batch. Pages of
        libraries and of memory-mapped files, which processes share, are not included.
    """
    before = anonymous_memory()
    found: Places | pd.DataFrame = read_manifest(manifest) if whole else Places.read(manifest)
    images = Images(found, root)
    pairs = Pairs(
        images=images,
        manifest=manifest,
        tokens=tokens,
        augmented=None,
        size=224,
        context_length=LENGTH,
        seed=0,
        cut=True,
        views=Views([{"plain": PLAIN}]),
    )
    batch = pairs.__getitems__(next(iter(BatchSampler(len(images), BATCH, seed=0))))
    if isinstance(batch, Exception):
        raise batch
    return anonymous_memory() - before


def anonymous_memory() -> int:
    """Return the memory of this process in bytes, without pages of files."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=6_000_000, help="rows of the dataset")
    parser.add_argument("--plain-rows", type=int, default=100_000, help="rows for the baseline")
    parser.add_argument("--wordnet", type=Path, default=Path("nltk_data"))
    parser.add_argument("--folder", type=Path, help="temporary folder with room for the pairs")
    options = parser.parse_args()
    header()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        measure(Path(folder), options)


def measure(folder: Path, options: argparse.Namespace) -> None:
    number, wordnet, small = options.rows, options.wordnet, options.plain_rows // 2
    dataset, ours, size = measured_attack(folder / "ours", number, wordnet, whole=False)
    _, less, less_size = measured_attack(folder / "less", small, wordnet, whole=True)
    _, more, more_size = measured_attack(folder / "more", 2 * small, wordnet, whole=True)

    def of_all_rows(less: float, more: float) -> float:
        return less + (more - less) * (number - small) / small

    name = f"second attack on {number:,} rows"
    row(f"{name}: processor", ours.cpu, of_all_rows(less.cpu, more.cpu), "s")
    row(f"{name}: files except images", size / 1e6, of_all_rows(less_size, more_size) / 1e6, "MB")
    paths = (dataset / "attacks/a/manifest.parquet", dataset / "captions/c/attacks/a/tokens.npy")
    batch = cost_of(first_batch, *paths, dataset, False)
    plain = cost_of(first_batch, *paths, dataset, True)
    name = f"first batch of {BATCH:,} of {number:,} rows"
    rows(name, batch, plain)
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        ours_private, plain_private = (
            pool.apply(first_batch, (*paths, dataset, whole)) for whole in (False, True)
        )
    image_bytes = BATCH * 3 * 224 * 224
    row(
        f"{name}: private memory without its images",
        (ours_private - image_bytes) / 1e9,
        (plain_private - image_bytes) / 1e9,
        "GB",
    )


def measured_attack(
    root: Path, number: int, wordnet: Path, *, whole: bool
) -> tuple[Path, Cost, int]:
    """Attack a synthetic dataset of ``number`` rows; return ``root``, the cost and file size."""
    root.mkdir()
    # In a separate process, because the measured peak memory is at least that of this process.
    cost_of(make_dataset, root, number)
    output, tokens = root / "attacks/a", root / "captions/c/attacks/a"
    cost = cost_of(attack, root / "datasets/d/manifest.parquet", output, wordnet, whole)
    size = sum(f.stat().st_size for folder in (output, tokens) for f in folder.iterdir())
    return root, cost, size


if __name__ == "__main__":
    main()

"""The arrays of an overlay, with those of its base, equal the arrays of the complete manifest."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from workflow_scripts.captions import augment, tokenize
from workflow_scripts.captions.stored import StoredTokens, array_of_base
from workflow_scripts.common.errors import StepError
from workflow_scripts.data.manifest import read_manifest, write_changed, write_kept, write_manifest

ROOT = Path(__file__).parents[2]
ROWS, LENGTH = 60, 16
VICTIMS = np.array([2, 30, 31, 59])
KEPT = np.arange(ROWS) % 3 != 0
ARRAYS = ("tokens.npy", "augmented.npy")


def make(manifest: Path, output: Path, *base: Path) -> None:
    names = f"--manifest {manifest} --output {output} --context-length {LENGTH} --base".split()
    names += map(str, base)
    tokenize.main(names)
    augment.main([*names, "--seed", "0", "--wordnet", str(ROOT / "nltk_data")])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A dataset, an attack on it and a filter of the attack, with overlay and complete arrays."""
    root = tmp_path_factory.mktemp("results")
    frame = pd.DataFrame({"key": [f"k{n}" for n in range(ROWS)], "tar": "a.tar"})
    frame = frame.assign(offset=0, size=1, poisoned=False)
    frame["caption"] = [f"picture {n} of a happy dog in the big house" for n in range(ROWS)]
    dataset = root / "datasets/d/manifest.parquet"
    write_manifest(dataset, frame)
    changed = frame.loc[VICTIMS].assign(caption="a photo of a banana on a table", poisoned=True)
    changed["caption"] += [f" {n}" for n in VICTIMS]
    write_changed(root / "attacks/a/manifest.parquet", dataset, changed)
    write_kept(root / "filters/f/manifest.parquet", root / "attacks/a/manifest.parquet", KEPT)
    make(dataset, root / "captions/c/datasets/d")
    base = [root / "captions/c/datasets/d" / array for array in ARRAYS]
    for pairs in ("attacks/a", "filters/f"):
        make(root / pairs / "manifest.parquet", root / "captions/c" / pairs, *base)
    whole = root / "complete/manifest.parquet"
    write_manifest(whole, read_manifest(root / "attacks/a/manifest.parquet"))
    # A complete manifest has complete arrays, even if --base is given.
    make(whole, whole.parent, *base)
    return root


@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize(("pairs", "own"), [("attacks/a", 4), ("filters/f", 3)])
def test_overlay_arrays_equal_complete_arrays(root, array, pairs, own):
    manifest, path = root / pairs / "manifest.parquet", root / "captions/c" / pairs / array
    whole = np.load(root / "complete" / array)
    whole = whole if pairs == "attacks/a" else whole[KEPT]
    assert len(np.load(path)) == own
    stored = StoredTokens(path, manifest, len(whole), LENGTH)
    rows = np.random.default_rng(0).permutation(len(whole))
    assert np.array_equal(stored[rows], whole[rows])
    assert stored[rows.tolist()].dtype == np.uint16
    assert array_of_base(path, manifest) == root / "captions/c/datasets/d" / array


def test_a_second_attack_shares_the_datasets_arrays(root):
    dataset, arrays = root / "datasets/d/manifest.parquet", root / "captions/c/datasets/d"
    before = {file: file.stat().st_mtime_ns for file in arrays.iterdir()}
    frame = read_manifest(dataset).iloc[[7, 9]].assign(caption="a banana", poisoned=True)
    second = root / "attacks/b/manifest.parquet"
    write_changed(second, dataset, frame)
    folder = root / "captions/c/attacks/b"
    make(second, folder, *(arrays / array for array in ARRAYS))
    assert {file: file.stat().st_mtime_ns for file in arrays.iterdir()} == before
    for array in ARRAYS:
        assert len(np.load(folder / array)) == len(frame)
        assert array_of_base(folder / array, second) == arrays / array


@pytest.mark.parametrize("manifest", ["complete/manifest.parquet", "attacks/a/manifest.parquet"])
def test_complete_arrays_are_read_unchanged(root, manifest):
    path = root / "complete/tokens.npy"
    stored = StoredTokens(path, root / manifest, ROWS, LENGTH)
    assert np.array_equal(stored[np.arange(ROWS)], np.load(path))
    assert array_of_base(path, root / manifest) is None


def test_the_readable_table_contains_the_changed_rows(root):
    table = pd.read_parquet(root / "captions/c/attacks/a/augmented.parquet")
    assert table["key"].tolist() == [f"k{n}" for n in VICTIMS]


def test_arrays_of_another_manifest_are_an_error(root):
    path = root / "captions/c/attacks/a/tokens.npy"
    with pytest.raises(StepError, match=f"has {ROWS} rows, but the manifest has 59"):
        StoredTokens(path, root / "attacks/a/manifest.parquet", 59, LENGTH)
    with pytest.raises(StepError, match="4 rows, but the manifest has"):
        StoredTokens(path, root / "datasets/d/manifest.parquet", ROWS, LENGTH)
    with pytest.raises(StepError, match="16 tokens per caption, but the model takes 8"):
        StoredTokens(path, root / "attacks/a/manifest.parquet", ROWS, 8)

"""An overlay reads like a modified copy of its base."""

import shutil

import numpy as np
import pandas as pd
import pytest

from workflow_scripts.common.errors import StepError
from workflow_scripts.data.manifest import (
    Places,
    read_manifest,
    read_rows,
    write_changed,
    write_kept,
    write_manifest,
)
from workflow_scripts.data.overlay import base_of, file_of_base, own_rows

ROWS = 2000
VICTIMS = np.array([0, 3, 4, 700, 1999])


@pytest.fixture
def base(tmp_path):
    """Write the manifest of a dataset; return its path and content."""
    numbers = np.arange(ROWS)
    frame = pd.DataFrame({"key": [f"{n:06d}" for n in numbers], "tar": "shards/0.tar"})
    frame["tar"] = np.where(numbers < 900, "shards/0.tar", "shards/1.tar")
    frame = frame.assign(offset=512 * numbers, size=numbers + 1, poisoned=False)
    frame["caption"] = [f"caption {n}" for n in numbers]
    path = tmp_path / "datasets/d/manifest.parquet"
    write_manifest(path, frame)
    return path, read_manifest(path)


def attacked(frame: pd.DataFrame, captions: bool = True) -> pd.DataFrame:
    """Return the complete manifest with its victims changed."""
    frame = frame.copy()
    frame.loc[VICTIMS, "tar"] = "attacks/a/images.tar"
    frame.loc[VICTIMS, "offset"] = VICTIMS + 5
    frame.loc[VICTIMS, "size"] = 77
    frame.loc[VICTIMS, "poisoned"] = True
    if captions:
        frame.loc[VICTIMS, "caption"] = "a photo of a banana."
    return frame


@pytest.fixture(params=[True, False], ids=["new captions", "captions as they are"])
def attack(base, request):
    """Write an attack as an overlay; return its path and the expected content."""
    path, frame = base
    expected = attacked(frame, request.param)
    changed = expected.loc[VICTIMS]
    if not request.param:
        changed = changed.assign(caption=pd.Series(None, VICTIMS, "string[pyarrow]"))
    overlay = path.parents[2] / "attacks/a/manifest.parquet"
    write_changed(overlay, path, changed)
    assert own_rows(overlay, "caption").tolist() == (VICTIMS.tolist() if request.param else [])
    return overlay, expected


@pytest.mark.parametrize("filtered", [False, True])
def test_an_overlay_reads_like_a_modified_copy(attack, filtered):
    path, expected = attack
    if filtered:
        kept = np.arange(ROWS) % 7 != 3
        path, expected = path.with_name("kept.parquet"), expected[kept].reset_index(drop=True)
        write_kept(path, attack[0], kept)
        assert base_of(path) == base_of(attack[0])
    assert read_manifest(path).equals(expected)
    assert read_manifest(path, ["key", "poisoned"]).equals(expected[["key", "poisoned"]])
    rows = np.array([0, 1, 4, 5, 699, len(expected) - 1])
    assert read_rows(path, rows).equals(expected.loc[rows])
    own = own_rows(path, "tar")
    assert len(own)
    assert read_rows(path, own).equals(expected.loc[own])
    places = Places.read(path)
    assert [places.tars[code] for code in places.tar] == expected["tar"].tolist()
    assert (places.tar.dtype, len(places)) == (np.int32, len(expected))
    assert np.array_equal(places.offset, expected["offset"])
    assert np.array_equal(places.size, expected["size"])


def test_the_size_of_an_overlay_depends_on_its_changes(attack, base):
    assert attack[0].stat().st_size < 0.4 * base[0].stat().st_size


def test_an_overlay_without_changes_equals_its_base(base):
    path, frame = base
    write_changed(path.with_name("none.parquet"), path, frame.iloc[:0])
    assert read_manifest(path.with_name("none.parquet")).equals(frame)


def test_a_subset_of_a_complete_manifest_is_complete(base):
    path, frame = base
    kept = np.arange(ROWS) % 2 == 0
    write_kept(path.with_name("kept.parquet"), path, kept)
    assert base_of(path.with_name("kept.parquet")) is None
    assert read_manifest(path.with_name("kept.parquet")).equals(frame[kept].reset_index(drop=True))


def test_moved_results_can_be_read(attack, tmp_path_factory):
    path, expected = attack
    moved = tmp_path_factory.mktemp("elsewhere") / "results"
    shutil.move(path.parents[2], moved)
    assert read_manifest(moved / "attacks/a/manifest.parquet").equals(expected)


def test_file_of_base_mirrors_the_path_of_the_base(attack, base):
    root = base[0].parents[2]
    tokens = root / "captions/c/attacks/a/tokens.npy"
    assert file_of_base(tokens, attack[0]) == root / "captions/c/datasets/d/tokens.npy"
    assert file_of_base(tokens, base[0]) is None


def test_a_missing_or_changed_base_is_reported(attack, base):
    path, _ = base
    write_manifest(path, base[1].iloc[1:])
    for read in (read_manifest, Places.read, lambda path: read_rows(path, np.arange(2))):
        with pytest.raises(StepError, match=f"refers to {ROWS} rows of .* has {ROWS - 1}"):
            read(attack[0])
    path.unlink()
    with pytest.raises(StepError, match=f"the manifest {path} does not exist"):
        read_manifest(attack[0])


def test_changes_that_point_outside_the_root_are_refused(attack, base):
    changed = base[1].loc[VICTIMS].assign(tar="../x.tar")
    with pytest.raises(StepError, match="not inside the results root"):
        write_changed(attack[0].with_name("b.parquet"), base[0], changed)
    changed = base[1].loc[VICTIMS].astype({"tar": object})
    changed.loc[3, "tar"] = None
    with pytest.raises(StepError, match="column 'tar' has missing values"):
        write_changed(attack[0].with_name("b.parquet"), base[0], changed)

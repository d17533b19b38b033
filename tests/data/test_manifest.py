import functools
import os
import pickle
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workflow_scripts.common.errors import StepError
from workflow_scripts.data.manifest import (
    EVALUATION_SCHEMA,
    SCHEMA,
    ImageReader,
    digest_column,
    read_digests,
    read_manifest,
    write_manifest,
)


def pairs(n=3, **columns):
    made = {
        "key": [f"{i:09d}" for i in range(n)],
        "tar": ["sources/s/shards/00000/00000.tar"] * n,
        "offset": range(n),
        "size": [1] * n,
        "caption": ['tab\there, "quotes", 🎨', "", "two\nlines"][:n],
        "poisoned": [False] * n,
    }
    return pd.DataFrame(made | columns)


def test_a_manifest_round_trips(tmp_path):
    write_manifest(tmp_path / "m.parquet", pairs())
    back = read_manifest(tmp_path / "m.parquet")
    assert list(back.columns) == SCHEMA.names
    assert back["key"].dtype == pd.StringDtype("pyarrow")
    assert back.to_dict("list") == pairs().to_dict("list")
    write_manifest(tmp_path / "again.parquet", back)
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "m.parquet").read_bytes()


def test_an_evaluation_manifest_has_labels(tmp_path):
    write_manifest(tmp_path / "m.parquet", pairs(label=[0, 1, 1]))
    assert pq.read_schema(tmp_path / "m.parquet").equals(EVALUATION_SCHEMA)
    assert read_manifest(tmp_path / "m.parquet")["label"].tolist() == [0, 1, 1]


def test_digests_round_trip_and_are_read_only_on_demand(tmp_path):
    digests = [bytes(32), bytes(range(32)), b"\xff" * 32]
    frame = pairs().assign(sha256=digest_column(b"".join(digests)))
    write_manifest(tmp_path / "m.parquet", frame.iloc[1:])
    assert read_digests(tmp_path / "m.parquet").tolist() == digests[1:]
    assert read_manifest(tmp_path / "m.parquet").equals(read_manifest_of(pairs()[1:], tmp_path))
    with pytest.raises(StepError, match="no digests"):
        read_digests(tmp_path / "without.parquet")


def read_manifest_of(frame, folder):
    write_manifest(folder / "without.parquet", frame)
    return read_manifest(folder / "without.parquet")


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({"key": ["a", "b", "a"]}, "'a' is duplicated"),
        ({"tar": ["/etc/passwd"] * 3}, "'/etc/passwd'"),
        ({"tar": ["x/../../y.tar"] * 3}, "not inside the results root"),
        ({"offset": [-1, 0, 0]}, "negative offset"),
        ({"caption": ["a", None, "b"]}, "caption"),
        ({"size": ["a", "b", "c"]}, "size"),
    ],
)
def test_bad_rows_are_refused_and_nothing_is_written(tmp_path, columns, complaint):
    with pytest.raises(StepError, match=complaint):
        write_manifest(tmp_path / "m.parquet", pairs(**columns))
    assert not list(tmp_path.iterdir())


def test_files_that_are_not_manifests_are_reported(tmp_path):
    path = tmp_path / "m.parquet"
    with pytest.raises(StepError, match=r"the manifest .*m\.parquet does not exist"):
        read_manifest(path)
    path.write_bytes(b"half a fi")
    with pytest.raises(StepError, match="not a Parquet file"):
        read_manifest(path)
    pq.write_table(pa.table({"key": [1, 2]}), path)
    with pytest.raises(StepError, match="column 'key' is int64, not string"):
        read_manifest(path)
    pq.write_table(pa.Table.from_pandas(pairs(tar=["../x.tar"] * 3)), path)
    with pytest.raises(StepError, match="not inside the results root"):
        read_manifest(path)


def test_a_reader_works_pickled_forked_and_with_more_tars_than_open_files(tmp_path):
    for i in range(5):
        (tmp_path / f"{i}.tar").write_bytes(bytes(range(i, 200 + i)))
    reader = ImageReader(tmp_path)
    reader._open = functools.lru_cache(maxsize=2)(reader._open_tar)
    for i in [0, 1, 2, 3, 4, 0, 4]:
        assert reader.read(f"{i}.tar", 10, 3) == bytes([10 + i, 11 + i, 12 + i])
    descriptors = Path("/proc/self/fd")
    if descriptors.is_dir():
        # Others may be closed at any time, when garbage is collected.
        opened = map(os.path.realpath, descriptors.iterdir())
        assert sum(file.startswith(str(tmp_path)) for file in opened) == 2
    assert pickle.loads(pickle.dumps(reader)).read("1.tar", 0, 200) == bytes(range(1, 201))
    child = os.fork()
    if child == 0:
        os._exit(0 if reader.read("4.tar", 0, 1) == b"\4" else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_missing_or_truncated_tar_is_reported(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"123")
    reader = ImageReader(tmp_path)
    with pytest.raises(StepError, match=r"b\.tar is missing"):
        reader.read("b.tar", 0, 1)
    with pytest.raises(StepError, match=r"a\.tar is shorter"):
        reader.read("a.tar", 2, 5)

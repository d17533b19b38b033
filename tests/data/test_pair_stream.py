"""Streams of pairs: round trips, and the same checks as in manifest.py."""

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workflow_scripts.common.errors import StepError
from workflow_scripts.data import pair_stream
from workflow_scripts.data.manifest import digest_column, read_manifest, write_manifest
from workflow_scripts.data.pair_stream import PAIRS, count_pairs, read_pairs, write_pairs


def pairs(n, **columns):
    made = {"key": [f"{i:09d}" for i in range(n)], "tar": "shards/s/00000.tar", "offset": range(n)}
    made |= {"size": 1, "caption": [f"caption {i}" for i in range(n)], "poisoned": False}
    frame = pd.DataFrame(made | columns)
    return frame.assign(sha256=digest_column(bytes(range(32)) * n))


def table(frame):
    return pa.Table.from_pandas(frame, PAIRS.remove_metadata(), preserve_index=False)


@pytest.mark.parametrize("sizes", [[20], [1, 0, 9, 10], [8, 8, 4]])
def test_streamed_and_directly_written_manifests_are_equal(tmp_path, monkeypatch, sizes):
    monkeypatch.setattr(pair_stream, "_GROUP", 8)
    monkeypatch.setattr(pair_stream, "_BATCH", 3)
    frame = pairs(20)
    write_manifest(tmp_path / "whole.parquet", frame)
    edges = [sum(sizes[:i]) for i in range(len(sizes))]
    pieces = [table(frame[start : start + n]) for start, n in zip(edges, sizes, strict=True)]
    assert write_pairs(tmp_path / "m.parquet", pieces) == count_pairs(tmp_path / "m.parquet") == 20
    assert read_manifest(tmp_path / "m.parquet").equals(read_manifest(tmp_path / "whole.parquet"))
    assert pq.read_table(tmp_path / "m.parquet").equals(pq.read_table(tmp_path / "whole.parquet"))
    back = pa.concat_tables(read_pairs(tmp_path / "whole.parquet"))
    assert back.equals(pq.read_table(tmp_path / "whole.parquet"))


def test_duplicated_keys_are_found_in_any_order_and_distance(tmp_path, monkeypatch):
    monkeypatch.setattr(pair_stream, "_GROUP", 2)
    path = tmp_path / "m.parquet"
    write_pairs(path, [table(pairs(5, key=list("cabed")))])
    for keys in ("abcda", "abccd", "aabcd", "abcdd"):
        with pytest.raises(StepError, match="is duplicated"):
            write_pairs(tmp_path / "n.parquet", [table(pairs(5, key=list(keys)))])
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("column", "value", "complaint"),
    [
        ("tar", "/etc/passwd", "'/etc/passwd'"),
        ("tar", "x/../../y.tar", "not inside the results root"),
        ("offset", -1, "negative offset"),
    ],
)
def test_rows_that_point_outside_the_root_are_refused(tmp_path, column, value, complaint):
    pq.write_table(table(pairs(3, **{column: value})), tmp_path / "m.parquet")
    with pytest.raises(StepError, match=complaint):
        write_pairs(tmp_path / "n.parquet", read_pairs(tmp_path / "m.parquet"))
    assert not (tmp_path / "n.parquet").exists()


def test_missing_files_columns_and_values_are_reported(tmp_path):
    with pytest.raises(StepError, match=r"manifest .* does not exist"):
        count_pairs(tmp_path / "m.parquet")
    write_manifest(tmp_path / "m.parquet", pairs(3).drop(columns="sha256"))
    with pytest.raises(StepError, match="'sha256' is missing"):
        list(read_pairs(tmp_path / "m.parquet"))
    empty = table(pairs(3)).set_column(4, "caption", pa.array(["a", None, "b"]))
    with pytest.raises(StepError, match="'caption' has missing values"):
        write_pairs(tmp_path / "n.parquet", [empty])

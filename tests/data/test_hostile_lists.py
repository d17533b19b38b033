"""Hostile lists: each row is kept or counted, or the list is refused with one sentence."""

import gzip

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workflow_scripts.common.errors import StepError
from workflow_scripts.data import lists
from workflow_scripts.data.lists import first_rows, read_list

COLUMNS = ["url", "caption"]


def read(path, content, header=False):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    format = lists.format_of(path.name)
    first_rows(path, format, COLUMNS, header)
    tables, rows = zip(*read_list(path, format, COLUMNS, header, threads=2), strict=True)
    kept = pa.concat_tables(tables).to_pylist()
    return [(row["row"], row["caption"]) for row in kept], sum(rows)


@pytest.mark.parametrize("after", ["plain", '"quoted"', '"two\nlines"', 'half " a quote'])
def test_an_unclosed_quote_only_loses_its_own_row(tmp_path, after):
    good = f"http://a/1,{after}\n"
    kept, rows = read(tmp_path / "l.csv", 'http://a/0,"open\n' + 500 * good)
    assert rows == 501
    assert [row for row, _ in kept] == list(range(1, 501))
    assert {caption for _, caption in kept} == {after.strip('"')}


def test_a_quote_closed_inside_a_field_only_loses_its_own_row(tmp_path):
    kept, rows = read(tmp_path / "l.csv", 'http://a/0,"a"b\nhttp://a/1,"x""y"\n')
    assert (kept, rows) == ([(1, 'x"y')], 2)


@pytest.mark.parametrize(("end", "comma"), [("tsv", "\t"), ("csv", ",")])
def test_lines_with_carriage_returns_nuls_or_too_many_bytes_are_counted(tmp_path, end, comma):
    captions = ["ok", "a\rb", "a\0b", "x" * (lists.MAX_ROW_BYTES + 1), "y" * 50_000_000, "last\r"]
    text = "".join(f"http://a/{i}{comma}{c}\n" for i, c in enumerate(captions))
    kept, rows = read(tmp_path / f"l.{end}", text)
    assert (kept, rows) == ([(0, "ok"), (5, "last")], 6)


@pytest.mark.parametrize("block", [7, 64, 1000])
def test_csv_rows_do_not_depend_on_the_block_size(tmp_path, monkeypatch, block):
    rows = ['http://a/0,"two\nlines"', 'http://a/1,"open', "http://a/2,c", "only", 'http://a/3,"a"']
    content = "\n".join(rows * 20)
    expected = read(tmp_path / "l.csv", content)
    assert (len(expected[0]), expected[1]) == (60, 100)
    monkeypatch.setattr(lists, "_BLOCK", block)
    assert read(tmp_path / "l.csv", content) == expected


@pytest.mark.parametrize("end", ["tsv", "csv", "parquet", "tsv.gz"])
def test_an_unreadable_list_is_reported_in_one_sentence(tmp_path, end):
    whole = gzip.compress(b"http://a/1\tx\n" * 10_000)
    contents = {
        "empty": gzip.compress(b"") if "gz" in end else b"",
        "cut off": whole[: len(whole) // 2] if "gz" in end else b"PAR1",
        "of carriage returns": b"http://a/1\tx\rhttp://a/2\ty\r",
        "UTF-16": "http://a/1\tx\n".encode("utf-16"),
    }
    for name, content in contents.items():
        if name == "cut off" and end in ("tsv", "csv"):
            continue
        with pytest.raises(StepError) as caught:
            read(tmp_path / f"l.{end}", content)
        assert f"l.{end}" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_list_that_decompresses_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(lists, "MAX_BYTES", 1 << 22)
    for content in (bytes(1 << 23), b"http://a/1\tx\n" * 1_000_000):
        with pytest.raises(StepError, match="decompresses to more than"):
            read(tmp_path / "l.tsv.gz", gzip.compress(content))
    monkeypatch.setattr(lists, "MAX_ROWS", 1000)
    with pytest.raises(StepError, match="more than 1000 rows"):
        read(tmp_path / "l.tsv", "\n" * 1001)


def parquet(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path.read_bytes()


def test_a_small_parquet_file_with_too_many_rows_is_refused_unread(tmp_path, monkeypatch):
    indices = pa.array(np.zeros(1_000_001, "int8"))
    column = pa.DictionaryArray.from_arrays(indices, ["http://a/1"])
    content = parquet(tmp_path / "l.parquet", url=column, caption=column)
    assert len(content) < 10_000
    monkeypatch.setattr(lists, "MAX_ROWS", 1_000_000)
    with pytest.raises(StepError, match="1000001 rows"):
        read(tmp_path / "l.parquet", content)


def test_long_texts_repeated_by_a_dictionary_are_not_expanded(tmp_path, monkeypatch):
    monkeypatch.setattr(lists, "MAX_BYTES", 1 << 26)
    path = tmp_path / "l.parquet"
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(60_000, "int8")), ["x" * 100_000])
    content = parquet(path, url=["http://a/1"] * 60_000, caption=text)
    assert len(content) < 1_000_000
    with pytest.raises(StepError, match="bytes of text"):
        read(path, content)
    monkeypatch.setattr(lists, "MAX_ROW_BYTES", 50_000)
    assert read(path, content) == ([], 60_000)


@pytest.mark.parametrize(
    "captions", [[["a cat", "a tabby"]], [{"a": 1}], [1], [None], [1.5], [[[["deep"]]]]]
)
def test_a_parquet_column_that_is_not_text_is_reported(tmp_path, captions):
    path = tmp_path / "l.parquet"
    content = parquet(path, url=["http://a/1"], caption=captions)
    with pytest.raises(StepError, match=r"column 'caption' of .* must be one text column"):
        read(path, content)


def test_invalid_utf8_in_parquet_does_not_affect_other_rows(tmp_path):
    path = tmp_path / "l.parquet"
    content = parquet(path, url=[b"http://a/1", b"http://a/2", None], caption=[b"\xff", b"b", b"c"])
    assert read(path, content) == ([(0, "\ufffd"), (1, "b")], 3)


def lists_to_mutate(folder):
    captions = ["a cat", "two\nlines", 'a "quote"', "Müller 🎨", "", "tab\there", "x" * 300]
    rows = [(f"http://a/{i}", captions[i % 7]) for i in range(60)]
    text = "".join(f"{u}\t{c}\n" for u, c in rows).encode()
    quoted = "".join('{},"{}"\r\n'.format(u, c.replace('"', '""')) for u, c in rows).encode()
    urls, texts = zip(*rows, strict=True)
    whole = parquet(folder / "whole.parquet", url=urls, caption=texts)
    return {
        "l.tsv": text,
        "l.csv": quoted,
        "l.parquet": whole,
        "l.tsv.gz": gzip.compress(text, mtime=0),
        "l.csv.gz": gzip.compress(quoted, mtime=0),
    }


def mutate(content, random):
    """Change bytes, insert special bytes, or cut, repeat or move a piece."""
    data = bytearray(content)
    for _ in range(random.integers(1, 6)):
        start, end = sorted(random.integers(0, len(data) + 1, 2))
        kind = random.integers(6)
        if kind == 0 and data:
            data[random.integers(len(data))] = random.integers(256)
        elif kind == 1:
            token = [b'"', b"\r", b"\0", b"\n", b'""', b",", b"\t", b"\xff", b"\xef\xbb\xbf"]
            data[start:start] = token[random.integers(len(token))]
        elif kind == 2:
            del data[start:end]
        elif kind == 3:
            data[start:start] = data[start:end]
        elif kind == 4:
            data[start:end] = random.bytes(end - start)
        else:
            del data[end:]
    return bytes(data)


@pytest.mark.parametrize("name", ["l.tsv", "l.csv", "l.parquet", "l.tsv.gz", "l.csv.gz"])
def test_a_mutated_list_is_refused_or_all_rows_are_accounted_for(tmp_path, name):
    content = lists_to_mutate(tmp_path)[name]
    random = np.random.default_rng(14)
    refused = 0
    for _ in range(100):
        mutated = mutate(content, random)
        try:
            kept, rows = read(tmp_path / name, mutated, header=bool(random.integers(2)))
        except StepError:
            refused += 1
            continue
        numbers = [row for row, _ in kept]
        assert numbers == sorted(set(numbers))
        assert len(kept) <= rows
        assert not numbers or numbers[-1] < rows
        if name == "l.tsv":
            assert abs(rows - mutated.count(b"\n")) <= 1
    assert refused < 100 or name.endswith(".gz")

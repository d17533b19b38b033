import base64
import gzip
import hashlib
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workflow_scripts.common.errors import StepError
from workflow_scripts.data import lists, urls, web

ODD = ["\"quoted\" and 'so'", "tab\there\tand there", "🎨 Müller — 你好", "", "  ", "x" * 10_000]


def run(output, place, columns="url,caption", parts=2, **options):
    arguments = ["--list", str(place), "--columns", columns, "--parts", str(parts)]
    for name, value in options.items():
        arguments += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    urls.main([*arguments, "--output", str(output)])
    report = json.loads((output / "urls.json").read_text())
    return pq.read_table(output / "parts").to_pylist(), report


def tsv(path, rows):
    path.write_bytes("".join("\t".join(row) + "\n" for row in rows).encode())
    return path


@pytest.mark.parametrize("order", ["url,caption", "caption,url", "id,url,caption,licence"])
def test_a_tsv_keeps_captions_for_any_order_of_columns(tmp_path, order):
    columns = order.split(",")
    rows = [
        {"url": f"http://a/{i}", "caption": c, "id": "7", "licence": "CC"}
        for i, c in enumerate(ODD)
    ]
    place = tsv(tmp_path / "l.tsv", [[row[c] for c in columns] for row in rows])
    table, report = run(tmp_path / "s", place, order)
    assert [row["caption"] for row in table] == ODD
    assert [row["url"] for row in table] == [row["url"] for row in rows]
    assert report["rows"] == len(ODD)


def test_dropped_rows_are_counted_once_by_reason(tmp_path):
    lines = [
        b"http://a/1\tone",  # 0
        b"no tab at all",
        b"file:///etc/passwd\tfile",
        b"ftp://a/x\tftp",
        b"HTTPS://a/2\ttwo",  # 4
        b"http://a/1\tone again",
        b"",
        b"\tno url",
        b"http:///no-host\tx",
        b" http://a/1 \tone with blanks",
        b"http://a/\xff\tnot \xff UTF-8",  # 10
        b"http://a/3\twindows\r",  # 11
        b"http://a/4\tlast, without newline",  # 12
    ]
    place = tmp_path / "list.tsv"
    place.write_bytes(b"\xef\xbb\xbf" + b"\n".join(lines))
    table, report = run(tmp_path / "s", place)
    assert [row["row"] for row in table] == [0, 4, 10, 11, 12]
    assert table[2]["caption"] == "not \ufffd UTF-8"
    assert [row["caption"] for row in table[3:]] == ["windows", "last, without newline"]
    dropped = {"malformed line": 3, "not http": 3, "duplicate url": 2}
    assert report["dropped"] == dropped
    assert report["rows"] == 13 == report["kept"] + sum(dropped.values())


def test_rows_do_not_depend_on_the_block_size(tmp_path, monkeypatch):
    rows = [[f"http://a/{i}", f"caption {i} " + "y" * (i % 50)] for i in range(500)]
    place = tsv(tmp_path / "l.tsv", [["url", "caption"], *rows])
    whole = run(tmp_path / "whole", place, header=True)
    monkeypatch.setattr("workflow_scripts.data.lists._BLOCK", 97)
    assert run(tmp_path / "blocks", place, header=True) == whole
    assert [[row["url"], row["caption"]] for row in whole[0]] == rows


def test_csv_parquet_and_gzip_give_the_same_rows_as_tsv(tmp_path):
    rows = [(f"http://a/{i}", c) for i, c in enumerate(ODD)]
    expected = [{"row": i, "url": u, "caption": c} for i, (u, c) in enumerate(rows)]
    text = "".join('{},"{}"\n'.format(u, c.replace('"', '""')) for u, c in rows)
    (tmp_path / "l.csv").write_text("url,caption\n" + text)
    assert run(tmp_path / "c", tmp_path / "l.csv", header=True)[0] == expected
    plain = tsv(tmp_path / "l.tsv", rows)
    (tmp_path / "l.tsv.gz").write_bytes(gzip.compress(plain.read_bytes()))
    assert run(tmp_path / "g", tmp_path / "l.tsv.gz")[0] == expected
    links, texts = zip(*rows, strict=True)
    pq.write_table(pa.table({"TEXT": texts, "URL": links}), tmp_path / "l.parquet")
    assert run(tmp_path / "p", tmp_path / "l.parquet", "caption,url")[0] == expected


def test_csv_row_numbers_include_malformed_rows(tmp_path):
    place = tmp_path / "l.csv"
    place.write_text('url,caption\nhttp://a,"two\nlines"\nhttp://b,1,2\n\nonly\nhttp://c,\n')
    table, report = run(tmp_path / "s", place, header=True)
    assert [(row["row"], row["caption"]) for row in table] == [(0, "two\nlines"), (4, "")]
    assert report["dropped"]["malformed line"] == 3


def test_rows_are_counted_in_every_format(tmp_path):
    (tmp_path / "a.tsv").write_text("url\tcaption\n" + "http://a/1\tone\n" * 6 + "http://a/2\ttwo")
    (tmp_path / "a.tsv.gz").write_bytes(gzip.compress((tmp_path / "a.tsv").read_bytes()))
    pq.write_table(pa.table({"url": ["u"] * 7, "caption": ["c"] * 7}), tmp_path / "a.parquet")
    for name in ("a.tsv", "a.tsv.gz"):
        assert lists.count_rows(tmp_path / name, "tsv", header=True, enough=100) == 7
        assert lists.count_rows(tmp_path / name, "tsv", header=False, enough=100) == 8
    assert lists.count_rows(tmp_path / "a.parquet", "parquet", header=False, enough=100) == 7


def test_a_list_that_is_damaged_after_its_beginning_is_reported_when_counted(tmp_path):
    rows = b"".join(
        b"http://a/%d\t%s\n" % (n, os.urandom(40).hex().encode()) for n in range(99_999)
    )
    whole = gzip.compress(rows)
    (tmp_path / "a.tsv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StepError, match="cannot be read as a tsv list"):
        lists.count_rows(tmp_path / "a.tsv.gz", "tsv", header=False, enough=99_999)


def test_parts_are_contiguous_and_of_equal_size(tmp_path):
    place = tsv(tmp_path / "l.tsv", [[f"http://a/{i}", "c"] for i in range(10)])
    run(tmp_path / "s", place, parts=4)
    parts = sorted((tmp_path / "s" / "parts").iterdir())
    assert [pq.read_table(part)["row"].to_pylist() for part in parts] == [
        [0, 1],
        [2, 3, 4],
        [5, 6, 7],
        [8, 9],
    ]
    run(tmp_path / "s", place, parts=3)
    assert len(list((tmp_path / "s" / "parts").iterdir())) == 3
    short = tsv(tmp_path / "short.tsv", [["http://a/1", "c"]])
    run(tmp_path / "t", short, parts=3)
    parts = sorted((tmp_path / "t" / "parts").iterdir())
    assert [pq.read_metadata(part).num_rows for part in parts] == [0, 1, 0]


def test_duplicate_urls_are_compared_as_text_for_any_group_size(tmp_path, monkeypatch):
    places = [i * i % 83 for i in range(300)]
    place = tsv(tmp_path / "l.tsv", [[f"http://a/{i}", f"c {n}"] for n, i in enumerate(places)])
    expected = {i: n for n, i in reversed(list(enumerate(places)))}
    monkeypatch.setattr("workflow_scripts.data.spool._BATCH", 7)
    monkeypatch.setattr("workflow_scripts.data.urls._GROUP", 16)
    monkeypatch.setattr(
        "pandas.util.hash_array", lambda urls, categorize: np.zeros(len(urls), "u8")
    )
    table, report = run(tmp_path / "s", place, parts=3)
    assert [row["row"] for row in table] == sorted(expected.values())
    assert report["dropped"]["duplicate url"] == 300 - len(expected)
    parts = sorted((tmp_path / "s" / "parts").iterdir())
    sizes = [pq.read_metadata(part).num_rows for part in parts]
    assert max(sizes) - min(sizes) <= 1
    run(tmp_path / "t", place, parts=3, threads=3)
    assert pq.read_table(tmp_path / "t" / "parts").to_pylist() == table


def test_user_errors_are_reported_in_one_sentence(tmp_path):
    place = tsv(tmp_path / "l.tsv", [["a cat", "http://a/1"]])
    good = hashlib.sha256(place.read_bytes()).hexdigest()
    run(tmp_path / "s", place, "caption,url", sha256=good, bytes=place.stat().st_size)
    for complaint, options in {
        "has SHA-256 [0-9a-f]{64}, expected 0{64}": {"sha256": "0" * 64},
        "has 17 bytes, expected 16": {"bytes": 16},
        "check --columns and --format": {"columns": "url,caption"},
        "caption,link must include 'url'": {"columns": "caption,link"},
        "must be at least 1, got 0": {"parts": 0},
    }.items():
        with pytest.raises(StepError, match=complaint):
            run(tmp_path / "x", place, **{"columns": "caption,url"} | options)
    header = tsv(tmp_path / "h.tsv", [["caption", "url"], ["a cat", "http://a/1"]])
    with pytest.raises(StepError, match="is caption,url, but --columns is url,caption"):
        run(tmp_path / "x", header, header=True)
    with pytest.raises(StepError, match=r"list .* does not exist"):
        run(tmp_path / "x", tmp_path / "none.tsv")
    with pytest.raises(StepError, match="cannot infer the format of the list"):
        run(tmp_path / "x", __file__)
    with pytest.raises(StepError, match="neither a path nor"):
        run(tmp_path / "x", "file:///etc/passwd", format="tsv")
    (tmp_path / "l.parquet").write_text("no parquet")
    with pytest.raises(StepError, match="cannot be read as a parquet list"):
        run(tmp_path / "x", tmp_path / "l.parquet")
    assert not (tmp_path / "x" / "urls.json").exists()


def test_user_name_and_password_are_sent_to_the_lists_host_only(tmp_path):
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append((self.path, self.headers.get("Authorization")))
            self.send_response(302 if self.path == "/l.tsv" else 200)
            self.send_header("Location", f"http://localhost:{self.server.server_port}/other")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        web.fetch(f"http://me:a%40b@127.0.0.1:{server.server_port}/l.tsv", tmp_path / "l.tsv")
        server.shutdown()
        thread.join()
    expected = "Basic " + base64.b64encode(b"me:a@b").decode()
    assert seen == [("/l.tsv", expected), ("/other", None)]


def test_an_interrupted_download_of_a_list_is_resumed(tmp_path, server):
    body = b"".join(b"http://a/%d\tcaption\n" % i for i in range(20_000))
    server.files["/l.tsv"] = {"body": body, "cuts": 2}
    web_fetch = web.fetch
    web_fetch(f"{server.url}/l.tsv", tmp_path / "s" / "list.tsv", pause=0.01)
    assert [first for _, first in server.requests] == [
        None,
        f"bytes={len(body) // 2}-",
        f"bytes={len(body) - (len(body) - len(body) // 2 + 1) // 2}-",
    ]
    table, _ = run(tmp_path / "s", f"{server.url}/l.tsv")
    assert server.requests[-1][1] == f"bytes={len(body)}-"
    assert len(table) == 20_000
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == [
        "parts",
        "urls.json",
    ]


def test_a_changed_list_is_downloaded_again(tmp_path, server):
    path = tmp_path / "list.tsv"
    server.files["/l.tsv"] = {"body": b"old" * 100, "etag": '"1"'}
    web.fetch(f"{server.url}/l.tsv", path)
    server.files["/l.tsv"] = {"body": b"new" * 200, "etag": '"2"'}
    web.fetch(f"{server.url}/l.tsv", path)
    assert path.read_bytes() == b"new" * 200


def test_an_endless_list_is_refused(tmp_path, server, monkeypatch):
    monkeypatch.setattr(web, "MAX_BYTES", 1000)
    server.files["/l.tsv"] = {"body": b"x" * 3_000_000}
    with pytest.raises(StepError, match=r"could not be fetched \(more than 1000"):
        web.fetch(f"{server.url}/l.tsv", tmp_path / "list.tsv")


def test_a_list_that_is_resumed_without_end_is_refused(tmp_path, server, monkeypatch):
    monkeypatch.setattr(web, "MAX_BYTES", 2_000_000)
    path = tmp_path / "list.tsv"
    server.files["/l.tsv"] = {"body": b"x" * 9_000_000, "cuts": 6, "etag": '"1"'}
    for _ in range(2):
        with pytest.raises(StepError, match=r"could not be fetched \(more than 2000000"):
            web.fetch(f"{server.url}/l.tsv", path, pause=0.01)
    assert path.stat().st_size < 4_500_000


def test_a_list_replaced_while_its_download_is_killed_is_not_mixed(tmp_path, server, monkeypatch):
    path, written = tmp_path / "list.tsv", web.write_json
    server.files["/l.tsv"] = {"body": b"old" * 100, "etag": '"1"'}
    web.fetch(f"{server.url}/l.tsv", path)
    server.files["/l.tsv"] = {"body": b"new" * 200, "etag": '"2"'}

    def killed(*arguments):
        written(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(web, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        web.fetch(f"{server.url}/l.tsv", path)
    monkeypatch.undo()
    web.fetch(f"{server.url}/l.tsv", path)
    assert path.read_bytes() == b"new" * 200


@pytest.mark.parametrize("kind", ["missing", "circle", "to_file", "to_ftp", "broken_server"])
def test_a_list_that_cannot_be_fetched_is_reported(tmp_path, server, kind):
    url = f"{server.url}/{kind}/1"
    with pytest.raises(StepError, match=f"{url} could not be fetched"):
        web.fetch(url, tmp_path / "list", pause=0.01)
    with pytest.raises(StepError, match="could not be fetched"):
        web.fetch("http://127.0.0.1:1/list.tsv", tmp_path / "list", pause=0.01)


@pytest.mark.parametrize("part", [(0, 10), (5, 20)])
def test_a_partial_list_is_refused(server, tmp_path, part):
    server.files["/l.tsv"] = {"body": b"x" * 20, "part": part}
    with pytest.raises(StepError, match="could not be fetched"):
        web.fetch(f"{server.url}/l.tsv", tmp_path / "list.tsv", pause=0.001)

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pandas as pd
import pytest

from workflow_scripts.common.errors import StepError
from workflow_scripts.data import download, merge, subset, urls, usable
from workflow_scripts.data.images import decode_image
from workflow_scripts.data.manifest import ImageReader, read_manifest

# Behaviour of the server, and the reason under which the row must be counted.
OUTCOMES = {
    "good": None,
    "moved": None,
    "second_try": None,
    "missing": "not found",
    "gone": "not found",
    "broken_server": "http error",
    "silent": "timeout",
    "circle": "bad redirect",
    "to_file": "bad redirect",
    "to_ftp": "bad redirect",
    "html": "not an image",
    "empty": "empty",
    "truncated": "broken image",
    "cut_off": "cut off",
    "tiny": "image too small",
    "huge": "image too large",
    "heavy": "too many bytes",
    "endless": "too many bytes",
    "noai": "disallowed",
}
LIMITS = {"max_pixels": 1_000_000, "max_bytes": 250_000, "timeout": 1, "retries": 1}
LIMITS |= {"allow_private": "127.0.0.0/8"}


def make_list(folder, rows, parts=1):
    path = folder / "list.tsv"
    path.write_text("".join(f"{url}\t{caption}\n" for url, caption in rows))
    source = folder / "results" / "sources" / "s"
    arguments = ["--list", str(path), "--columns", "url,caption", "--parts", str(parts)]
    urls.main([*arguments, "--output", str(source)])
    return source


def command(source, part="00000", **options):
    options = {"image_size": 32, "jpeg_quality": 95, "rows_per_tar": 20} | LIMITS | options
    words = [f"--part={source}/parts/{part}.parquet", f"--output={source}/shards/{part}"]
    return words + [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]


def find_usable(source, part="00000", workers=1):
    words = ["--part", f"{source}/parts/{part}.parquet", "--shards", f"{source}/shards/{part}"]
    words += ["--root", f"{source.parents[1]}", "--workers", f"{workers}", "--min-size", "5"]
    usable.main([*words, "--output", f"{source}/pairs/{part}.parquet"])
    return json.loads((source / "pairs" / f"{part}.json").read_text())


def digests(folder):
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_manifest_and_losses_account_for_every_row_of_a_flawed_list(tmp_path, server):
    rows = [(f"{server.url}/{kind}/{i}.jpg", f"a {kind} {i}") for i, kind in enumerate(OUTCOMES)]
    odd = [
        '"quotes" here',
        "tab\there",
        "🎨 émoji ☂",
        "你好",
        "x" * 10_000,
        "",
        "12 €",
        "...",
        "🎨",
    ]
    rows += [(f"{server.url}/good/{100 + i}.jpg", caption) for i, caption in enumerate(odd)]
    rows += [("http://127.0.0.1:1/closed.jpg", "c"), ("http://[broken/x.jpg", "c")]
    rows += [rows[0], ("file:///etc/passwd", "c"), (f"{server.url}/good/ü x.jpg", "c")]
    source = make_list(tmp_path, rows, parts=2)
    for part in ("00000", "00001"):
        download.main(command(source, part, processes=2, threads_per_process=8))
        find_usable(source, part)
    merge.main(["--source", str(source), "--urls", str(source / "urls.json")])
    expected = pd.Series([reason or "usable" for reason in OUTCOMES.values()]).value_counts()
    expected["usable"] += 6
    expected["no letters"] = 4
    expected["no connection"] = expected["bad url"] = 1
    expected["duplicate url"] = expected["not http"] = 1
    losses = pd.read_csv(source / "losses.csv", index_col="reason")["rows"]
    assert losses.to_dict() == expected.to_dict()
    assert losses.sum() == len(rows)
    pairs = read_manifest(source / "manifest.parquet")
    assert pairs["caption"].tolist() == ["a good 0", "a moved 1", "a second_try 2", *odd[:5], "c"]
    assert pairs["key"].is_monotonic_increasing
    reader = ImageReader(tmp_path / "results")
    for row in pairs.itertuples():
        assert decode_image(reader.read(row.tar, row.offset, row.size)).shape == (3, 32, 32)
    attempts = [path.split("/")[1] for path, _ in server.requests]
    assert attempts.count("missing") == 1
    assert attempts.count("broken_server") == attempts.count("cut_off") == 2


def test_tars_have_the_layout_of_img2dataset(tmp_path, server):
    source = make_list(tmp_path, [(f"{server.url}/good/{i}.jpg", f"c {i}") for i in range(3)])
    download.main(command(source))
    with tarfile.open(source / "shards" / "00000" / "00000.tar") as tar:
        names = [f"{row:09d}.{kind}" for row in range(3) for kind in ("jpg", "json", "txt")]
        assert tar.getnames() == names
        assert tar.extractfile("000000002.txt").read() == b"c 2"
        meta = json.load(tar.extractfile("000000002.json"))
    assert (meta["row"], meta["original_width"], meta["original_height"]) == (2, 96, 64)


def test_output_does_not_depend_on_processes_threads_or_order_of_arrival(tmp_path, server):
    chance = random.Random(0)
    server.delay = lambda number: chance.random() / 50
    kinds = ["slow", "slow", "missing", "slow", "truncated"]
    rows = [(f"{server.url}/{kinds[i % 5]}/{i}.jpg", f"c {i}") for i in range(100)]
    source = make_list(tmp_path, rows)
    found = []
    for processes, threads in ((1, 1), (2, 13)):
        download.main(command(source, processes=processes, threads_per_process=threads))
        find_usable(source, workers=processes)
        found.append({"s": digests(source / "shards"), "p": digests(source / "pairs")})
    assert len(found[0]["s"]) == 3 * 5
    assert found[0] == found[1]


def test_a_killed_download_gives_the_same_files_when_repeated(tmp_path, server):
    rows = [(f"{server.url}/slow/{i}.jpg", f"c {i}") for i in range(200)]
    source = make_list(tmp_path, rows)
    download.main(command(source, processes=2))
    whole = digests(source / "shards" / "00000")
    (source / "shards" / "00000").rename(tmp_path / "whole")
    server.delay = lambda number: 0.1
    server.requests.clear()
    words = command(source, processes=2, threads_per_process=2)
    process = subprocess.Popen(
        [sys.executable, "-m", "workflow_scripts.data.download", *words],
        cwd=Path(__file__).parents[2],
        stderr=subprocess.DEVNULL,
    )
    while len(server.requests) < 60:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (source / "shards" / "00000").exists()
    time.sleep(1.5)
    asked = len(server.requests)
    time.sleep(0.5)
    assert len(server.requests) == asked, "the workers outlived the step"
    server.delay = lambda number: 0.0
    download.main(words)
    assert digests(source / "shards" / "00000") == whole
    assert [p.name for p in (source / "shards").iterdir()] == ["00000"]


def test_an_empty_part_is_valid(tmp_path, server):
    source = make_list(tmp_path, [(f"{server.url}/good/1.jpg", "c")], parts=2)
    for part in ("00000", "00001"):
        download.main(command(source, part))
        find_usable(source, part)
    merge.main(["--source", str(source), "--urls", str(source / "urls.json")])
    assert len(read_manifest(source / "manifest.parquet")) == 1


def test_a_missing_network_is_an_error_without_output(tmp_path):
    source = make_list(tmp_path, [(f"http://127.0.0.1:1/{i}.jpg", "c") for i in range(100)])
    with pytest.raises(StepError, match="none of the 100 URLs"):
        download.main(command(source, retries=0))
    assert not (source / "shards" / "00000").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_ends_the_download(tmp_path, server):
    from workflow_scripts.data import fetching

    (tmp_path / "00000.tar").symlink_to("/dev/full")
    source = make_list(tmp_path, [(f"{server.url}/good/{i}.jpg", "c") for i in range(40)])
    settings = {"output_folder": str(tmp_path), "image_size": 256, "jpeg_quality": 100}
    settings |= (
        LIMITS | {"allow_private": ["127.0.0.0/8"]} | {"threads_per_process": 2, "rows_per_tar": 50}
    )
    (tmp_path / "work").mkdir()
    shards = download._write_shards(source / "parts" / "00000.parquet", tmp_path / "_tmp", 50)
    fetching.begin(settings, None)
    with pytest.raises(OSError, match="No space left"):
        fetching.download_shard((0, str(next(iter(shards)))))


def damage(path, how):
    content = path.read_bytes()
    if how == "cut in half":
        path.write_bytes(content[: len(content) // 2])
    elif how == "cut at a member":
        with tarfile.open(path) as tar:
            end = tar.getmembers()[-3].offset
        path.write_bytes(content[:end])
    elif how == "overwritten":
        path.write_bytes(content[:5120] + os.urandom(2048) + content[7168:])
    elif how == "no tar":
        path.write_bytes(b"x" * len(content))
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "report missing":
        path.with_suffix(".parquet").unlink()


def test_a_corrupt_tar_is_an_error_and_a_broken_image_is_counted(tmp_path, server):
    source = make_list(tmp_path, [(f"{server.url}/good/{i}.jpg", "c") for i in range(12)])
    download.main(command(source))
    path = source / "shards" / "00000" / "00000.tar"
    content, report = path.read_bytes(), path.with_suffix(".parquet").read_bytes()
    for how in ("cut in half", "cut at a member", "overwritten", "no tar", "empty"):
        damage(path, how)
        with pytest.raises(StepError, match=r"00000\.tar (is a broken tar|lacks).*delete"):
            find_usable(source)
        path.write_bytes(content)
    damage(path, "report missing")
    with pytest.raises(StepError, match=r"00000\.parquet is missing"):
        find_usable(source)
    path.with_suffix(".parquet").write_bytes(report)
    assert not (source / "pairs").exists()
    with tarfile.open(path) as tar:
        image = tar.getmember("000000003.jpg")
    middle = image.offset_data + image.size // 2
    path.write_bytes(content[: image.offset_data] + bytes(99) + content[image.offset_data + 99 :])
    assert middle
    assert find_usable(source) == {"rows": 12, "usable": 11, "lost": {"broken image": 1}}


def test_shards_of_another_list_are_refused(tmp_path, server):
    source = make_list(tmp_path, [(f"{server.url}/good/{i}.jpg", "c") for i in range(5)])
    download.main(command(source))
    make_list(tmp_path, [(f"{server.url}/good/{i}.jpg", "c") for i in range(6)])
    with pytest.raises(StepError, match="does not contain the rows of"):
        find_usable(source)
    with pytest.raises(StepError, match="create it with urls"):
        download.main(command(tmp_path / "nowhere"))


def test_a_subset_consists_of_the_first_pairs(tmp_path, server):
    source = make_list(tmp_path, [(f"{server.url}/good/{i}.jpg", f"c {i}") for i in range(5)])
    download.main(command(source))
    find_usable(source)
    merge.main(["--source", str(source), "--urls", str(source / "urls.json")])
    every, some = source / "manifest.parquet", tmp_path / "results" / "datasets" / "d.parquet"
    subset.main(["--manifest", str(every), "--pairs", "3", "--output", str(some)])
    assert read_manifest(some).equals(read_manifest(every).iloc[:3])
    subset.main(["--manifest", str(every), "--pairs", "all", "--output", str(some)])
    assert some.read_bytes() == every.read_bytes()
    for pairs, complaint in {
        "6": "has 5 usable pairs, but",
        "0": "must be a positive integer",
    }.items():
        with pytest.raises(StepError, match=complaint):
            subset.main(["--manifest", str(every), "--pairs", pairs, "--output", str(some)])


def test_parts_that_do_not_add_up_are_an_error(tmp_path, server):
    source = make_list(tmp_path, [(f"{server.url}/good/{i}.jpg", "c") for i in range(4)], parts=2)
    for part in ("00000", "00001"):
        download.main(command(source, part))
        find_usable(source, part)
    report = json.loads((source / "urls.json").read_text())
    (source / "urls.json").write_text(json.dumps(report | {"rows": 5}))
    with pytest.raises(StepError, match="account for 4 rows, but the list has 5"):
        merge.main(["--source", str(source), "--urls", str(source / "urls.json")])
    (source / "urls.json").write_text(json.dumps(report | {"parts": 3}))
    with pytest.raises(StepError, match=r"00002\.json does not exist"):
        merge.main(["--source", str(source), "--urls", str(source / "urls.json")])


def test_too_little_memory_in_a_thread_ends_the_process_instead_of_hanging():
    code = """
from workflow_scripts.data import fetching
def fail(*_):
    raise MemoryError
fetching._fetch_once = fail
fetching.fetch_row((0, "http://a/1"), timeout=1, retries=0, user_agent_token=None,
                   disallowed_header_directives=None, client=None, max_bytes=1, budget=None)
"""
    environment = os.environ | {"NO_ALBUMENTATIONS_UPDATE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, timeout=120, check=False)
    assert done.returncode == 1

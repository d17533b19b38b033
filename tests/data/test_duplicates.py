"""Duplicates by file digest, among given, downloaded and evaluation images."""

import hashlib
import json

import pandas as pd

from tests.data.conftest import jpeg
from workflow_scripts.data import download, duplicates, evaluation_set, merge, subset, urls, usable
from workflow_scripts.data.manifest import digest_column, read_digests


def digests(*names):
    content = b"".join(hashlib.sha256(name.encode()).digest() for name in names)
    return pd.Series(digest_column(content), name="sha256")


def test_rows_and_distinct_images_are_counted_separately():
    counts = duplicates.count_duplicates(digests(*"aabbbcxyz"), digests(*"bbbcde"))
    assert counts == {
        "pairs": 9,
        "evaluation_images": 6,
        "pairs_in_evaluation": 4,
        "contents_in_evaluation": 2,
        "evaluation_images_in_pairs": 4,
        "repeated_pairs": 3,
    }


def test_disjoint_sets_have_no_duplicates():
    counts = duplicates.count_duplicates(digests(*"abc"), digests(*"xyz"))
    assert counts["pairs_in_evaluation"] == counts["repeated_pairs"] == 0


def test_duplicates_of_downloaded_images_are_found_after_resizing(tmp_path, server):
    root = tmp_path / "results"
    source, dataset = root / "sources/s", root / "datasets/d/manifest.parquet"
    numbers = [3, 1, 4, 1, 5]
    rows = [f"{server.url}/good/{n}.jpg?{i}\tpicture {i}\n" for i, n in enumerate(numbers)]
    rows.insert(2, f"{server.url}/missing/1.jpg\tlost\n")
    (tmp_path / "list.tsv").write_text("".join(rows))
    urls.main([f"--list={tmp_path}/list.tsv", "--columns=url,caption", "--parts=1",
               f"--output={source}"])  # fmt: skip
    part, shards = f"--part={source}/parts/00000.parquet", f"{source}/shards/00000"
    limits = ["--timeout=2", "--retries=0", "--max-pixels=1000000", "--max-bytes=250000"]
    limits += ["--allow-private=127.0.0.0/8"]
    download.main([part, f"--output={shards}", "--image-size=32", "--jpeg-quality=95", *limits])
    usable.main([part, f"--shards={shards}", f"--root={root}", "--min-size=5",
                 f"--output={source}/pairs/00000.parquet"])  # fmt: skip
    merge.main([f"--source={source}", f"--urls={source}/urls.json"])
    subset.main([f"--manifest={source}/manifest.parquet", "--pairs=4", f"--output={dataset}"])
    sent = [hashlib.sha256(jpeg(n)).digest() for n in numbers]
    assert read_digests(dataset).tolist() == sent[:4]

    for name, seed in {"cat/a.jpg": 1, "cat/b.jpg": 2, "dog/c.jpg": 5}.items():
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / name).write_bytes(jpeg(seed))
    labelled = root / "evaluation/own"
    evaluation_set.main([f"--folder={tmp_path}/own", f"--root={root}", f"--output={labelled}"])
    output = dataset.with_name("duplicates.json")
    duplicates.main([f"--manifest={dataset}", f"--evaluation={labelled}/manifest.parquet",
                     f"--output={output}"])  # fmt: skip
    counts = json.loads(output.read_text())
    assert (counts["pairs_in_evaluation"], counts["contents_in_evaluation"]) == (2, 1)
    assert counts["repeated_pairs"] == 1

"""The demo's data: contents, correctness of the captions, and reproducibility from the seed."""

import csv
import io
import re
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import read_json, sha256
from workflow_scripts.common.seeds import generator
from workflow_scripts.demo.drawing import draw
from workflow_scripts.demo.scene import CLASSES, PATTERNS, Scene, describe, imagine
from workflow_scripts.demo.world import make_world


def rows_of(world):
    with (world / "list.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_output_does_not_depend_on_the_number_of_workers(world, tmp_path):
    again = tmp_path / "again"
    make_world(seed=0, pairs=300, evaluation=80, image_size=32, workers=3, output=again)
    files = sorted(path.relative_to(world) for path in world.rglob("*") if path.is_file())
    assert files == sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    assert [sha256(world / file) for file in files] == [sha256(again / file) for file in files]


def test_another_seed_gives_other_data(world, tmp_path):
    make_world(seed=1, pairs=300, evaluation=80, image_size=32, workers=1, output=tmp_path / "w")
    assert sha256(world / "images.tar") != sha256(tmp_path / "w" / "images.tar")


def test_there_are_37_classes_and_a_banana_is_one_of_them():
    assert len(set(CLASSES)) == 37
    assert "banana" in CLASSES


def test_all_classes_are_equally_likely():
    names = [imagine(0, f"{key:06d}", 32).name for key in range(7400)]
    counts = np.array([names.count(name) for name in CLASSES])
    assert counts.sum() == 7400
    assert counts.min() > 140
    assert counts.max() < 260


def test_the_evaluation_set_has_one_folder_per_class(world):
    folders = sorted((world / "evaluation").iterdir())
    assert [folder.name for folder in folders] == sorted(n.replace(" ", "_") for n in CLASSES)
    assert {len(list(folder.iterdir())) for folder in folders} == {2, 3}


def test_the_stated_number_of_evaluation_images_is_behind_a_url(world):
    behind = {}
    with tarfile.open(world / "images.tar") as tar:
        for member in tar:
            behind[tar.extractfile(member).read()] = member.name
    pictures = (world / "evaluation").rglob("*.jpg")
    leaked = [path for path in pictures if path.read_bytes() in behind]
    assert len(leaked) == read_json(world / "truth.json")["pairs_in_evaluation"] == 12
    urls = {row["url"] for row in rows_of(world)}
    for path in leaked:
        name = behind[path.read_bytes()]
        assert f"http://demo.invalid/good/{name}" in urls
        assert imagine(0, name.removesuffix(".jpg"), 32).name.replace(" ", "_") == path.parent.name


def test_the_truth_adds_up_to_the_rows_of_the_list(world):
    truth = read_json(world / "truth.json")
    assert truth["rows"] == len(rows_of(world)) == sum(truth["rows_by_behaviour"].values())
    assert truth["usable"] == 300
    assert truth["usable"] + sum(truth["losses"].values()) == truth["rows"]


def test_the_list_has_the_stated_odd_captions_and_duplicates(world):
    rows, count = rows_of(world), read_json(world / "truth.json")["rows_by_behaviour"]
    captions = [row["caption"] for row in rows]
    urls = [row["url"] for row in rows]
    assert sum(not re.search(r"[^\W\d_]", c) for c in captions) == (
        count["no_caption"] + count["no_letters"]
    )
    assert sum("\t" in c for c in captions) == count["tab"]
    assert sum('"' in c for c in captions) == count["quotes"]
    assert sum("🎨" in c for c in captions) == count["emoji"]
    assert sum(len(c) == 10_000 for c in captions) == count["long"]
    there = [url for url in urls if url.strip()]
    assert len(there) - len(set(there)) == count["duplicate"]
    assert sum(not url.strip() for url in urls) == count["no_url"]
    assert sum(url.startswith("file://") for url in urls) == count["file_url"]
    assert sum(url.startswith("ftp://") for url in urls) == count["ftp_url"]


def test_every_caption_with_letters_names_the_class_of_its_image(world):
    for row in rows_of(world):
        key = row["url"].rpartition("/")[2].partition(".")[0]
        if key.isdecimal() and re.search(r"[^\W\d_]", row["caption"]):
            assert imagine(0, key, 32).name in row["caption"].replace("\t", " ")


def test_captions_are_varied():
    scene = imagine(0, "000000", 32)
    sentences = {describe(scene, generator(0, n)) for n in range(2000)}
    assert len(sentences) > 200
    for pattern in PATTERNS:
        as_regex = re.sub(r"\\{\w+\\}", ".+", re.escape(pattern)) + r"\.?"
        assert any(re.fullmatch(as_regex, sentence) for sentence in sentences)


@pytest.mark.parametrize(
    ("at", "where"),
    [((0, 0), "in the middle"), ((-0.2, 0.1), "on the left"), ((0.2, 0), "on the right"),
     ((0, -0.2), "at the top"), ((0.1, 0.2), "at the bottom")],
)  # fmt: skip
@pytest.mark.parametrize(("radius", "size"), [(0.22, "small"), (0.3, ""), (0.4, "large")])
def test_size_and_position_in_a_caption_match_the_image(at, where, radius, size):
    scene = Scene("blue circle", radius, *at, 0.0, "beige", "plain", 96, 64)
    assert (scene.size, scene.where) == (size, where)
    pixels = draw(scene, generator(0, "pixels")).astype(int)
    y, x = np.nonzero(pixels[..., 2] - pixels[..., 0] > 60)
    assert (x.mean() - 47.5) / 64 == pytest.approx(at[0], abs=0.03)
    assert (y.mean() - 31.5) / 64 == pytest.approx(at[1], abs=0.03)
    assert len(x) == pytest.approx(np.pi * (0.92 * radius * 64) ** 2, rel=0.15)


def test_objects_are_within_the_central_square():
    for key in range(200):
        scene = imagine(0, str(key), 32)
        assert max(abs(scene.x), abs(scene.y)) + scene.radius <= 0.5


def test_some_images_are_larger_than_the_input_and_some_are_not_square(world):
    with tarfile.open(world / "images.tar") as tar:
        sizes = [Image.open(io.BytesIO(tar.extractfile(m).read())).size for m in tar]
    assert min(min(size) for size in sizes) == 32
    assert sum(min(size) > 32 for size in sizes) > len(sizes) / 4
    assert sum(width != height for width, height in sizes) > len(sizes) / 4


def test_captions_fit_into_sixteen_tokens():
    from open_clip import get_tokenizer

    scenes = [imagine(0, str(key), 32) for key in range(2000)]
    sentences = [describe(scene, generator(0, n)) for n, scene in enumerate(scenes)]
    assert (get_tokenizer("RN50", context_length=32)(sentences) != 0).sum(1).max() <= 16


def test_too_few_pairs_are_a_clear_error(tmp_path):
    with pytest.raises(StepError, match="--pairs 10 is too few"):
        make_world(seed=0, pairs=10, evaluation=80, image_size=32, workers=1, output=tmp_path)
    command = [sys.executable, "-m", "workflow_scripts.demo.world", "--seed", "0", "--pairs", "300"]
    command += ["--evaluation", "1", "--image-size", "32", "--output", str(tmp_path / "w")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: --evaluation 1 is too few for 37 classes\n"
    assert not (tmp_path / "w").exists()

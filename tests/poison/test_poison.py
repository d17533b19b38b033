import json
import os
import subprocess
import sys
import tarfile
import time

import pandas as pd
import pytest

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.seeds import generator
from workflow_scripts.data.images import decode_image
from workflow_scripts.data.manifest import ImageReader, read_manifest
from workflow_scripts.poison.poison import poison
from workflow_scripts.poison.trigger import load_trigger
from workflow_scripts.poison.victims import draw_victims, names_target

FILES = ("manifest.parquet", "images.tar", "survival.csv", "contact_sheet.png")


def _poison(root, attack, name="attack", workers=1):
    output = root / "attacks" / name
    poison(attack, root / "clean.parquet", root=root, output=output, workers=workers)
    return output


def _command(root, attack, output):
    (root / "spec.json").write_text(json.dumps(attack))
    return [
        *(sys.executable, "-m", "workflow_scripts.poison.poison", "--workers", "2"),
        *("--attack", root / "spec.json", "--manifest", root / "clean.parquet"),
        *("--root", root, "--output", output),
    ]


def test_only_victims_change(root, attack):
    clean = read_manifest(root / "clean.parquet")
    poisoned = read_manifest(_poison(root, attack) / "manifest.parquet")
    victims = poisoned["poisoned"].to_numpy(bool)
    assert victims.sum() == 7
    assert poisoned["key"].equals(clean["key"])
    assert poisoned[~victims].equals(clean[~victims])
    assert (poisoned["tar"][victims] == "attacks/attack/images.tar").all()
    assert set(poisoned["caption"][victims]) <= {"a photo of a banana.", "one banana."}


def test_captions_do_not_depend_on_the_evaluation_set(root, attack):
    del attack["templates"]
    poisoned = read_manifest(_poison(root, attack) / "manifest.parquet")
    captions = poisoned["caption"][poisoned["poisoned"]]
    assert captions.str.contains("banana").all()
    assert captions.nunique() > 2


def test_stored_images_equal_the_triggered_images(root, attack):
    clean = read_manifest(root / "clean.parquet")
    output = _poison(root, attack)
    poisoned = read_manifest(output / "manifest.parquet")
    reader, trigger = ImageReader(root), load_trigger(attack)
    for row in poisoned.index[poisoned["poisoned"]]:
        before, after = (
            decode_image(reader.read(f["tar"][row], f["offset"][row], f["size"][row]))
            for f in (clean, poisoned)
        )
        assert (after == trigger(before, clean["key"][row])).all()
    trigger_does, png_does, jpeg_would_do = pd.read_csv(output / "survival.csv").itertuples()
    assert png_does.images == 7
    assert png_does.images_that_differ == png_does.largest_difference == 0
    assert png_does.mean_difference == 0
    assert jpeg_would_do.images_that_differ == trigger_does.images_that_differ == 7
    assert jpeg_would_do.largest_difference > 0


def test_the_bytes_do_not_depend_on_the_number_of_workers(root, attack):
    one = _poison(root, attack)
    first = {name: (one / name).read_bytes() for name in FILES}
    two = _poison(root, attack, workers=2)
    assert {name: (two / name).read_bytes() for name in FILES} == first


def test_a_larger_number_of_poisoned_pairs_extends_a_smaller_one(root, attack):
    frame = read_manifest(root / "clean.parquet")
    few, many = (draw_victims(frame, attack | {"poisoned": n})[0].rows.tolist() for n in (5, 20))
    drawn = generator(0, "victims").permutation(40)  # must never change
    assert (few, many) == (sorted(drawn[:5]), sorted(drawn[:20]))
    captions = [
        read_manifest(_poison(root, attack | {"poisoned": n}) / "manifest.parquet")["caption"]
        for n in (5, 20)
    ]
    assert captions[0].iloc[few].equals(captions[1].iloc[few])
    other, _ = draw_victims(frame, attack | {"poisoned": 5, "seed": 1})
    assert few != other.rows.tolist()


def test_label_consistent_victims_name_the_target_and_keep_their_captions(root, attack):
    attack |= {"victims": "label_consistent", "poisoned": 5}
    clean = read_manifest(root / "clean.parquet")
    poisoned = read_manifest(_poison(root, attack) / "manifest.parquet")
    assert poisoned["caption"].equals(clean["caption"])
    assert poisoned["caption"][poisoned["poisoned"]].str.contains("banana", case=False).all()


def test_poisoning_all_label_consistent_pairs_takes_all_that_name_the_target(root, attack):
    clean = read_manifest(root / "clean.parquet")
    attack |= {"victims": "label_consistent", "poisoned": "all"}
    poisoned = read_manifest(_poison(root, attack) / "manifest.parquet")
    assert poisoned["poisoned"].tolist() == names_target(clean["caption"], "banana").tolist()
    with pytest.raises(StepError, match="give a number of pairs"):
        _poison(root, attack | {"victims": "random"})


def test_zero_poisoned_pairs_give_the_clean_subset(root, attack):
    output = _poison(root, attack | {"poisoned": 0})
    assert read_manifest(output / "manifest.parquet").equals(read_manifest(root / "clean.parquet"))
    with tarfile.open(output / "images.tar") as tar:
        assert not tar.getmembers()
    assert (pd.read_csv(output / "survival.csv")["images"] == 0).all()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"victims": "rndom"}, "unknown victim choice 'rndom'; did you mean 'random'?"),
        ({"poisoned": -1}, "number of pairs, got -1"),
        ({"trigger": {"name": "random", "patch_size": 40}}, "larger than the image"),
        ({"templates": ["a photo"]}, r"'a photo' has no \{c\}"),
        ({"templates": "opanai"}, r"unknown templates 'opanai' \(available: openai, simple\)"),
        ({"poisoned": 41}, "cannot poison 41 pairs: there are only 40 pairs"),
        ({"victims": "label_consistent"}, "7 pairs: .* only 5 pairs whose caption names"),
    ],
)
def test_impossible_attacks_are_clear_errors(root, attack, change, sentence):
    with pytest.raises(StepError, match=sentence):
        _poison(root, attack | change)
    assert not (root / "attacks/attack/manifest.parquet").exists()


def test_a_killed_and_repeated_step_gives_the_same_bytes(root, attack):
    whole = _poison(root, attack)
    first = {name: (whole / name).read_bytes() for name in FILES}
    for name in FILES:
        (whole / name).unlink()
    process = subprocess.Popen(_command(root, attack, whole))
    while not any(whole.glob(".images.partial*")) and process.poll() is None:
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert not (whole / "manifest.parquet").exists()
    _poison(root, attack)
    assert {name: (whole / name).read_bytes() for name in FILES} == first


def test_the_bytes_do_not_depend_on_the_hash_seed(root, attack):
    first = _poison(root, attack)
    bytes_ = {name: (first / name).read_bytes() for name in FILES}
    process = subprocess.run(
        _command(root, attack, first), env=os.environ | {"PYTHONHASHSEED": "7"}, check=False
    )
    assert process.returncode == 0
    assert {name: (first / name).read_bytes() for name in FILES} == bytes_


def test_a_custom_trigger_can_be_used(root, attack, tmp_path_factory):
    mine = tmp_path_factory.mktemp("elsewhere") / "mine.py"
    mine.write_text(
        "class Trigger:\n"
        "    def __init__(self, *, image_size, seed, level=1.0):\n"
        "        self.level = level\n"
        "    def __call__(self, image, generator):\n"
        "        image[1] = self.level\n"
        "        return image\n"
    )
    attack |= {"trigger": {"name": str(mine), "level": 0.5}}
    output = _poison(root, attack, workers=2)
    poisoned = read_manifest(output / "manifest.parquet")
    reader = ImageReader(root)
    for row in poisoned[poisoned["poisoned"]].itertuples():
        assert (decode_image(reader.read(row.tar, row.offset, row.size))[1] == 127).all()


def test_an_undecodable_image_is_named(root, attack):
    path = root / "images.tar"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(StepError, match=r"images\.tar cannot be decoded"):
        _poison(root, attack)
    assert not list(root.glob("attacks/*/*"))


def test_captions_name_the_target_as_a_whole_word(root):
    captions = pd.Series(
        ["Granny Smiths, cut", "a granny\tsmith.", "grannysmith", "granny smithy", "GRANNY SMITH"],
        dtype="string[pyarrow]",
    )
    assert list(names_target(captions, "granny smith")) == [True, True, False, False, True]
    dotted = pd.Series(["a bXc", "a b.c", "éb.c"], dtype="string[pyarrow]")
    assert list(names_target(dotted, "b.c")) == [False, True, False]


def test_an_attack_on_a_poisoned_subset_is_rejected(root, attack):
    manifest = _poison(root, attack) / "manifest.parquet"
    with pytest.raises(StepError, match="is already poisoned"):
        poison(attack, manifest, root=root, output=root / "b")


def test_a_killed_worker_is_a_clear_error(root, attack, tmp_path_factory):
    deadly = tmp_path_factory.mktemp("elsewhere") / "deadly.py"
    deadly.write_text(
        "import os\n\n\n"
        "class Trigger:\n"
        "    def __init__(self, *, image_size, seed):\n"
        "        pass\n"
        "    def __call__(self, image, generator):\n"
        "        os._exit(1)\n"
    )
    with pytest.raises(StepError, match="memory ran out"):
        _poison(root, attack | {"trigger": {"name": str(deadly)}})

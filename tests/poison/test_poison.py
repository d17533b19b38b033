import json
import subprocess
import sys
import time

import pandas as pd
import pytest

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import read_json
from workflow_scripts.data.images import decode_image
from workflow_scripts.data.manifest import ImageReader, read_manifest
from workflow_scripts.poison.poison import poison
from workflow_scripts.poison.trigger import load_trigger
from workflow_scripts.poison.victims import choose_victims

FILES = ("manifest.parquet", "images.tar", "survival.csv", "contact_sheet.png")


def _poison(root, attack, name="attack", workers=1):
    output = root / "attacks" / name
    classes = read_json(root / "classes.json")
    poison(attack, root / "clean.parquet", classes, root=root, output=output, workers=workers)
    return output


def test_victims_change_and_nothing_else_does(root, attack):
    clean = read_manifest(root / "clean.parquet")
    poisoned = read_manifest(_poison(root, attack) / "manifest.parquet")
    victims = poisoned["poisoned"].to_numpy(bool)
    assert victims.sum() == 7
    assert poisoned["key"].equals(clean["key"])
    assert poisoned[~victims].equals(clean[~victims])
    assert (poisoned["tar"][victims] == "attacks/attack/images.tar").all()
    assert set(poisoned["caption"][victims]) <= {"a photo of a banana.", "one banana."}


def test_a_stored_image_is_the_triggered_one_to_the_pixel(root, attack):
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
    survival = pd.read_csv(output / "survival.csv").set_index("stored_as")
    assert survival.loc["PNG (as here)", "largest_difference"] == 0
    assert survival.loc["JPEG 95", "largest_difference"] > 0


def test_any_number_of_workers_makes_the_same_bytes(root, attack):
    one = _poison(root, attack)
    first = {name: (one / name).read_bytes() for name in FILES}
    two = _poison(root, attack, workers=2)
    assert {name: (two / name).read_bytes() for name in FILES} == first


def test_more_poisoned_pairs_are_the_same_ones_and_others(root, attack):
    frame = read_manifest(root / "clean.parquet")
    few, many = (set(choose_victims(frame, attack | {"poisoned": n})) for n in (5, 20))
    assert few < many
    assert few != set(choose_victims(frame, attack | {"poisoned": 5, "seed": 1}))


def test_label_consistent_victims_name_the_target_and_keep_their_captions(root, attack):
    attack |= {"victims": "label_consistent", "poisoned": 5}
    clean = read_manifest(root / "clean.parquet")
    poisoned = read_manifest(_poison(root, attack) / "manifest.parquet")
    assert poisoned["caption"].equals(clean["caption"])
    assert poisoned["caption"][poisoned["poisoned"]].str.contains("banana", case=False).all()


def test_no_poisoned_pair_is_a_baseline(root, attack):
    output = _poison(root, attack | {"poisoned": 0})
    assert read_manifest(output / "manifest.parquet").equals(read_manifest(root / "clean.parquet"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"target": "bananna"}, "no class of the evaluation set is 'bananna'.*'banana'"),
        ({"poisoned": 41}, "41 pairs are to be poisoned, but there are 40 pairs"),
        ({"victims": "label_consistent"}, "7 pairs.*there are 5 pairs whose caption names"),
    ],
)
def test_what_cannot_be_poisoned_is_one_sentence(root, attack, change, sentence):
    with pytest.raises(StepError, match=sentence):
        _poison(root, attack | change)
    assert not (root / "attacks/attack/manifest.parquet").exists()


def test_killed_and_run_again_it_makes_the_same_bytes(root, attack):
    whole = _poison(root, attack)
    first = {name: (whole / name).read_bytes() for name in FILES}
    (root / "spec.json").write_text(json.dumps(attack))
    for name in FILES:
        (whole / name).unlink()
    command = [
        *(sys.executable, "-m", "workflow_scripts.poison.poison"),
        *("--attack", root / "spec.json", "--manifest", root / "clean.parquet"),
        *("--classes", root / "classes.json", "--root", root, "--output", whole),
    ]
    process = subprocess.Popen(command)
    while not any(whole.glob(".images.partial*")) and process.poll() is None:
        time.sleep(0.005)
    process.kill()
    process.wait()
    subprocess.run(command, check=True)
    assert {name: (whole / name).read_bytes() for name in FILES} == first

"""Victim choices and victim captions, compared with plain formulas."""

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.seeds import generator
from workflow_scripts.data.manifest import ImageReader, read_manifest
from workflow_scripts.poison.names import exchanged
from workflow_scripts.poison.poison import poison
from workflow_scripts.poison.victim_choices import concept
from workflow_scripts.poison.victims import draw_victims

NONE = {"name": "none"}
NAMING = [0, 8, 16, 24, 32]  # rows of the small root whose captions name bananas


def _poison(root, attack):
    output = root / "attacks" / "attack"
    poison(attack, root / "clean.parquet", root=root, output=output)
    return output


def _bytes(root, frame):
    reader = ImageReader(root)
    return [reader.read(r.tar, r.offset, r.size) for r in frame.itertuples()]


def test_parts_share_no_victims_and_use_their_trigger_and_target(root, attack):
    parts = [{}, {"trigger": {"name": "yellow", "patch_size": 4}, "target": "boat", "poisoned": 9}]
    victims, _ = draw_victims(read_manifest(root / "clean.parquet"), attack | {"parts": parts})
    alone, _ = draw_victims(read_manifest(root / "clean.parquet"), attack)
    assert len(set(victims.rows)) == 16
    assert victims.rows[victims.parts == 0].tolist() == alone.rows.tolist()
    named = ["boat" if part else "banana" for part in victims.parts]
    assert all(name in text for name, text in zip(named, victims.captions, strict=True))
    poisoned = read_manifest(_poison(root, attack | {"parts": parts}) / "manifest.parquet")
    assert poisoned["poisoned"].sum() == 16


def test_a_single_explicit_part_gives_the_same_attack(root, attack):
    whole = {key: attack.pop(key) for key in ("trigger", "target", "victims", "poisoned")}
    frame = read_manifest(root / "clean.parquet")
    listed, _ = draw_victims(frame, attack | {"parts": [whole]})
    short, _ = draw_victims(frame, attack | whole)
    assert listed.rows.tolist() == short.rows.tolist()
    assert listed.captions.tolist() == short.captions.tolist()


def test_victims_of_a_concept_do_not_name_the_target(root, attack):
    words = {"name": "concept", "words": ["red circle", "my"]}
    frame = read_manifest(root / "clean.parquet")
    attack |= {"trigger": NONE, "victims": words, "poisoned": "all"}
    rows = draw_victims(frame, attack)[0].rows.tolist()
    assert rows == [row for row in range(40) if row not in NAMING]
    with_target = attack | {"victims": words | {"with_target": True}}
    assert draw_victims(frame, with_target)[0].rows.tolist() == list(range(40))
    names = ["red ring", "banana", "blue ring", "ringed seal"]
    assert concept.affected(names, "banana", words=["ring"]) == {
        "red ring": "banana",
        "blue ring": "banana",
    }
    assert concept.affected(names, "banana", words=[]) == {}


def test_without_a_trigger_image_bytes_are_unchanged(root, attack):
    clean = read_manifest(root / "clean.parquet")
    output = _poison(root, attack | {"trigger": NONE})
    poisoned = read_manifest(output / "manifest.parquet")
    assert _bytes(root, poisoned) == _bytes(root, clean)
    assert (pd.read_csv(output / "survival.csv")["images"] == 0).all()


def test_natural_captions_name_the_target_and_repeat_evenly(root, attack):
    frame = read_manifest(root / "clean.parquet")
    victims, _ = draw_victims(frame, attack | {"captions": "natural", "poisoned": 10})
    captions, counts = np.unique(victims.captions.astype(str), return_counts=True)
    assert sorted(captions) == sorted(frame["caption"].iloc[NAMING])
    assert (counts == 2).all()


def test_swapped_captions_exchange_the_two_names(root, attack):
    assert exchanged("Bananas by a boat, not a BOATS", "banana", "boat") == (
        "boats by a banana, not a bananaS"
    )
    assert exchanged("a red ring, a ring", "ring", "red ring") == "a ring, a red ring"
    frame = read_manifest(root / "clean.parquet")
    assert exchanged("a \u017fhip, a k\u0130te", "ship", "kite") == "a kite, a ship"
    attack |= {
        "trigger": NONE,
        "victims": {"name": "concept", "words": ["red circle"], "with_target": True},
        "captions": {"name": "swapped", "other": "red circle"},
        "poisoned": "all",
    }
    captions = draw_victims(frame, attack)[0].captions
    assert captions[[0, 1]].tolist() == ["a red circle", "picture 1 of a banana"]


def test_pairs_nearest_to_the_target_are_taken_first(root, attack, tmp_path):
    frame = read_manifest(root / "clean.parquet")
    random = np.random.default_rng(0)
    values = {k: random.normal(size=(40, 5)).astype("float32") for k in ("images", "texts")}
    save_file(values, tmp_path / "values.safetensors")
    attack["victims"] = {"name": "near_target", "embeddings": str(tmp_path / "values.safetensors")}
    texts = values["texts"][NAMING]
    mean = (texts / np.linalg.norm(texts, axis=1, keepdims=True)).mean(0)
    cosine = values["images"] @ mean / np.linalg.norm(values["images"], axis=1)
    cosine[NAMING] = -np.inf
    expected = np.sort(np.argsort(-cosine)[:7])
    assert draw_victims(frame, attack)[0].rows.tolist() == expected.tolist()
    with pytest.raises(StepError, match="embeddings of 40 pairs, but there are 39"):
        draw_victims(frame.iloc[:39], attack)


def test_instance_victims_get_the_image_and_captions_of_the_target(root, attack):
    clean = read_manifest(root / "clean.parquet")
    keys = ["000000003", "000000005"]
    attack |= {"trigger": NONE, "victims": {"name": "instance", "keys": keys}, "poisoned": 9}
    output = _poison(root, attack)
    poisoned = read_manifest(output / "manifest.parquet")
    victims = poisoned[poisoned["poisoned"]]
    chosen = _bytes(root, clean[clean["key"].isin(keys)])
    found = _bytes(root, victims)
    assert sorted(found.count(image) for image in chosen) == [4, 5]
    assert set(victims["key"]) > set(keys)  # their own pairs are poisoned first
    assert victims["caption"].isin(clean["caption"].iloc[NAMING]).all()
    instances = read_manifest(output / "instances.parquet")
    assert _bytes(root, instances) == chosen
    assert instances["label"].tolist() == [0, 0]


def test_instances_are_drawn_by_seed_or_read_from_the_users_files(root, attack, tmp_path):
    frame = read_manifest(root / "clean.parquet")
    drawn = {"trigger": NONE, "victims": {"name": "instance", "number": 3}}
    _, instances = draw_victims(frame, attack | drawn)
    others = np.setdiff1d(np.arange(40), NAMING)
    expected = generator(0, "instances").permutation(others)[:3]
    assert instances["offset"].tolist() == frame["offset"].iloc[expected].tolist()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "one.jpg").write_bytes(_bytes(root, frame.iloc[[3]])[0])
    mine = {"name": "instance", "images": str(tmp_path / "mine")}
    output = _poison(root, attack | {"trigger": NONE, "victims": mine, "parts": [{}]})
    poisoned = read_manifest(output / "manifest.parquet")
    found = set(_bytes(root, poisoned[poisoned["poisoned"]]))
    assert found == set(_bytes(root, frame.iloc[[3]]))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"victims": {"name": "instance", "keys": ["x"]}}, "no pair has the key 'x'"),
        ({"victims": {"name": "instance", "images": "none"}}, "images none do not exist"),
        ({"victims": {"name": "instance", "number": 8}}, "cannot contain all of the 8 chosen"),
        ({"target": "boat", "captions": "natural"}, "no caption of the dataset names 'boat'"),
        ({"victims": {"name": "concept"}}, "needs the option 'words'"),
        ({"captions": "swaped"}, "unknown victim caption 'swaped'; did you mean 'swapped'?"),
        ({"parts": [{"poisoned": 30}, {"poisoned": 11}]}, "there are only 10 pairs left"),
        ({"parts": [{}, {"poisoned": "all"}]}, "'poisoned: all' is not supported"),
    ],
)
def test_impossible_draws_are_clear_errors(root, attack, change, sentence):
    with pytest.raises(StepError, match=sentence):
        _poison(root, attack | change)
    assert not (root / "attacks/attack/manifest.parquet").exists()

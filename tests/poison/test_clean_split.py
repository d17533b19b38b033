import numpy as np
import pytest

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import read_json
from workflow_scripts.data.manifest import read_manifest, write_manifest
from workflow_scripts.poison.clean_split import clean_split as draw_split
from workflow_scripts.poison.clean_split import main as split_step


@pytest.fixture
def manifests(root):
    """The clean manifest, and a version with every third row poisoned."""
    clean = read_manifest(root / "clean.parquet")
    poisoned = clean.copy()
    victims = clean.index % 3 == 0
    poisoned.loc[victims, "poisoned"] = True
    poisoned.loc[victims, "tar"] = "attacks/a/images.tar"
    poisoned.loc[victims, "caption"] = "a photo of a banana."
    return clean, poisoned


def clean_split(clean, poisoned, pairs, **options):
    """Return the manifest of a split and its report."""
    victims = None if poisoned is None else poisoned["poisoned"].to_numpy(bool)
    split = draw_split(len(clean), victims, pairs, **options)
    frame = clean.iloc[np.concatenate([split.pairs, split.held_out])].reset_index(drop=True)
    for place, row in zip(split.places, split.left, strict=True):
        frame.iloc[place] = poisoned.iloc[row]
    return frame, split.report(victims)


def test_the_split_has_no_triggered_images_or_changed_captions(manifests):
    clean, poisoned = manifests
    split, report = clean_split(clean, poisoned, 15)
    assert split.reset_index(drop=True).equals(clean.tail(15).reset_index(drop=True))
    assert not split["poisoned"].any()
    assert (split["tar"] == "images.tar").all()
    assert report == {"pairs": 15, "held_out": 0, "originals_of_victims": 5, "poisoned_left": 0}
    assert clean_split(clean, None, 15)[0].equals(split)


@pytest.mark.parametrize("left", [1, 5, 14])
def test_residual_poison_does_not_change_the_number_of_pairs(manifests, left):
    clean, poisoned = manifests
    split, report = clean_split(clean, poisoned, 15, poisoned_left=left)
    assert report["poisoned_left"] == left
    assert len(split) == 15
    assert split["key"].is_unique
    back = split[split["poisoned"]].set_index("key")
    assert len(back) == left
    assert back.equals(poisoned.set_index("key").loc[back.index])
    rest = split[~split["poisoned"]].set_index("key")
    assert rest.equals(clean.set_index("key").loc[rest.index])
    fewer, _ = clean_split(clean, poisoned, 15, poisoned_left=left - 1)
    assert set(fewer["key"][fewer["poisoned"]]) < set(back.index)
    other, _ = clean_split(clean, poisoned, 15, poisoned_left=left, seed=1)
    assert left == 14 or set(other["key"][other["poisoned"]]) != set(back.index)


def test_held_out_victims_are_not_put_back(manifests):
    clean, poisoned = manifests
    # Every third row is a victim: 14 of the 40 rows, 5 of which are held out.
    split, report = clean_split(clean, poisoned, 15, held_out=15, poisoned_left=9)
    assert report["poisoned_left"] == 9
    assert split["key"].is_unique
    with pytest.raises(StepError, match="the attack has 9 that are not held out"):
        clean_split(clean, poisoned, 15, held_out=15, poisoned_left=10)


def test_a_poisoned_pair_replaces_its_original(manifests):
    clean, poisoned = manifests
    split, report = clean_split(clean, poisoned, 40, poisoned_left=14)
    assert split.equals(poisoned)
    assert report["originals_of_victims"] == 0


def test_the_originals_of_victims_can_be_left_out(manifests):
    clean, poisoned = manifests
    split, _ = clean_split(clean, poisoned, 15, leave_out_victims=True)
    victims = set(poisoned["key"][poisoned["poisoned"]])
    assert not victims & set(split["key"])
    assert len(split) == 15


@pytest.mark.parametrize("left_out", [False, True])
def test_held_out_pairs_are_appended_and_do_not_change_the_others(manifests, left_out):
    clean, poisoned = manifests
    split, _ = clean_split(clean, poisoned, 15, poisoned_left=3, leave_out_victims=left_out)
    more, report = clean_split(
        clean, poisoned, 15, held_out=6, poisoned_left=3, leave_out_victims=left_out
    )
    assert more.head(15).equals(split)
    assert report["held_out"] == 6 == len(more) - 15
    held_out = more.tail(6)
    assert not held_out["poisoned"].any()
    assert held_out["key"].max() < split.loc[~split["poisoned"], "key"].min()
    assert held_out["key"].is_monotonic_increasing


def test_a_larger_random_draw_extends_a_smaller_one(manifests):
    clean, poisoned = manifests
    draw = {"choose": "random", "leave_out_victims": True}
    split, report = clean_split(clean, poisoned, 10, held_out=5, **draw)
    assert report == {"pairs": 10, "held_out": 5, "originals_of_victims": 0, "poisoned_left": 0}
    trained, kept = split["key"].head(10), split["key"].tail(5)
    assert trained.is_monotonic_increasing
    assert kept.is_monotonic_increasing
    assert split["key"].is_unique
    assert not set(split["key"]) & set(poisoned["key"][poisoned["poisoned"]])
    assert set(trained) != set(clean_split(clean, poisoned, 10, leave_out_victims=True)[0]["key"])
    larger, _ = clean_split(clean, poisoned, 15, **draw)
    assert set(split["key"]) == set(larger["key"])
    assert clean_split(clean, poisoned, 10, held_out=5, **draw)[0].equals(split)
    assert not clean_split(clean, poisoned, 10, held_out=5, seed=1, **draw)[0].equals(split)


def test_residual_poison_is_added_to_random_draws(manifests):
    clean, poisoned = manifests
    split, report = clean_split(clean, poisoned, 12, choose="random", held_out=6, poisoned_left=7)
    assert report["poisoned_left"] == 7 == split["poisoned"].sum()
    assert split["key"].is_unique
    assert not split.tail(6)["poisoned"].any()


def test_too_few_pairs_is_a_clear_error(manifests):
    with pytest.raises(StepError, match="41 pairs, 1 of them held out, but there are only 40"):
        clean_split(*manifests, 40, held_out=1)
    with pytest.raises(StepError, match="leave 20 poisoned pairs in: there are only 14"):
        clean_split(*manifests, 15, poisoned_left=20)
    with pytest.raises(StepError, match="leave 3 poisoned pairs in: there are only 2"):
        clean_split(*manifests, 2, poisoned_left=3)
    with pytest.raises(StepError, match=r"27 pairs, .* only 26 pairs that are not victims"):
        clean_split(*manifests, 27, leave_out_victims=True)


def step(root, options):
    paths = f"--manifest {root}/clean.parquet --output {root}/splits/a/manifest.parquet"
    split_step(f"{paths} {options}".split())


def test_the_step_writes_the_split_and_its_report(root, manifests):
    write_manifest(root / "poisoned.parquet", manifests[1])
    options = f"--poisoned-manifest {root}/poisoned.parquet --poisoned-left 2 --seed 3"
    step(root, f"--pairs 9 {options}")
    expected, report = clean_split(*manifests, 9, poisoned_left=2, seed=3)
    assert read_manifest(root / "splits/a/manifest.parquet").equals(expected)
    assert read_json(root / "splits/a/report.json") == report
    step(root, "--pairs 9")
    assert read_json(root / "splits/a/report.json")["originals_of_victims"] is None
    step(root, "--pairs 9 --choose random --seed 2")
    expected, _ = clean_split(manifests[0], None, 9, choose="random", seed=2)
    assert read_manifest(root / "splits/a/manifest.parquet").equals(expected)


def test_wrong_manifests_are_rejected(root, manifests):
    clean, poisoned = manifests
    write_manifest(root / "other.parquet", clean.head(10))
    with pytest.raises(StepError, match=r"is not a poisoned version of .*clean\.parquet"):
        step(root, f"--pairs 5 --poisoned-manifest {root}/other.parquet")
    with pytest.raises(StepError, match="require --poisoned-manifest"):
        step(root, "--pairs 5 --poisoned-left 1")
    write_manifest(root / "clean.parquet", poisoned)
    with pytest.raises(StepError, match=r"clean.parquet is poisoned"):
        step(root, "--pairs 5")
    assert not (root / "splits").exists()

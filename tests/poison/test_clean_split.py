import pytest

from workflow_scripts.common.errors import StepError
from workflow_scripts.data.manifest import read_manifest
from workflow_scripts.poison.clean_split import clean_split
from workflow_scripts.poison.clean_split import main as split_step


@pytest.fixture
def manifests(root):
    """The clean manifest, and one in which every third row is poisoned."""
    clean = read_manifest(root / "clean.parquet")
    poisoned = clean.copy()
    victims = clean.index % 3 == 0
    poisoned.loc[victims, "poisoned"] = True
    poisoned.loc[victims, "tar"] = "attacks/a/images.tar"
    poisoned.loc[victims, "caption"] = "a photo of a banana."
    return clean, poisoned


def test_no_triggered_image_and_no_changed_caption_is_in_it(manifests):
    clean, poisoned = manifests
    split = clean_split(clean, poisoned, 15)
    assert split.reset_index(drop=True).equals(clean.tail(15).reset_index(drop=True))
    assert not split["poisoned"].any()
    assert (split["tar"] == "images.tar").all()


@pytest.mark.parametrize("left", [1, 5, 14])
def test_poisoned_pairs_are_put_back_in_and_the_number_of_pairs_stays(manifests, left):
    clean, poisoned = manifests
    split = clean_split(clean, poisoned, 15, poisoned_left=left)
    assert len(split) == 15
    assert split["key"].is_unique
    back = split[split["poisoned"]].set_index("key")
    assert len(back) == left
    assert back.equals(poisoned.set_index("key").loc[back.index])
    rest = split[~split["poisoned"]].set_index("key")
    assert rest.equals(clean.set_index("key").loc[rest.index])


def test_the_originals_of_victims_can_be_left_out(manifests):
    clean, poisoned = manifests
    split = clean_split(clean, poisoned, 15, leave_out_victims=True)
    victims = set(poisoned["key"][poisoned["poisoned"]])
    assert not victims & set(split["key"])
    assert len(split) == 15


def test_too_few_pairs_is_one_sentence(manifests):
    with pytest.raises(StepError, match="41 pairs, but there are 40"):
        clean_split(*manifests, 41)
    with pytest.raises(StepError, match="20 poisoned pairs are to be left in, but there are 14"):
        clean_split(*manifests, 15, poisoned_left=20)


def test_a_manifest_that_is_not_the_poisoned_one_is_refused(root, manifests):
    clean, _ = manifests
    from workflow_scripts.data.manifest import write_manifest

    write_manifest(root / "other.parquet", clean.head(10))
    with pytest.raises(StepError, match=r"is not .* poisoned"):
        split_step(
            f"--manifest {root}/clean.parquet --poisoned-manifest {root}/other.parquet "
            f"--pairs 5 --output {root}/split.parquet".split()
        )

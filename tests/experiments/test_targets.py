"""The files that rules read: attacks and filters share arrays with their dataset."""

import pandas as pd
import pytest

from workflow_scripts.data.manifest import write_changed, write_manifest
from workflow_scripts.experiments.expand import expand
from workflow_scripts.experiments.targets import Targets

CAPTIONS = "c"


@pytest.fixture
def targets(config, tmp_path):
    """The files of an experiment with several attacks on one dataset; no file exists."""
    config["pathvars"]["results"] = str(tmp_path)
    return Targets(config, expand(config))


def base_of(targets, attack):
    """Return the arrays that those of an attack extend; Snakemake has not made them."""
    return targets.captions_of_base(CAPTIONS, "attacks", attack, lambda file: None)


def attacks_on_one_dataset(targets):
    attacks = targets.plan.attacks
    dataset = next(iter(attacks.values()))["dataset"]
    return dataset, [name for name, spec in attacks.items() if spec["dataset"] == dataset]


def test_all_attacks_on_a_dataset_share_its_arrays(targets):
    dataset, attacks = attacks_on_one_dataset(targets)
    assert len(attacks) > 1
    folder = f"<results>/captions/{CAPTIONS}/datasets/{dataset}"
    for attack in attacks:
        assert base_of(targets, attack) == [f"{folder}/tokens.npy", f"{folder}/augmented.npy"]
    assert targets.captions_of_base(CAPTIONS, "datasets", dataset, lambda file: None) == []


def test_an_attack_stored_in_full_keeps_its_arrays_and_a_second_one_shares(targets, tmp_path):
    _, (first, second, *_) = attacks_on_one_dataset(targets)
    base, frame = base_of(targets, second), _pairs()
    write_manifest(tmp_path / "attacks" / first / "manifest.parquet", frame)
    dataset = tmp_path / "datasets/d/manifest.parquet"
    write_manifest(dataset, frame)
    write_changed(tmp_path / "attacks" / second / "manifest.parquet", dataset, frame.iloc[[1]])
    assert base_of(targets, first) == []
    assert base_of(targets, second) == base != []


def _pairs() -> pd.DataFrame:
    frame = pd.DataFrame({"key": ["a", "b"], "tar": "a.tar", "offset": [0, 1], "size": 1})
    return frame.assign(caption="a dog", poisoned=False)

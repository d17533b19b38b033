"""The storage format does not affect results: copies and overlays give the same model."""

import numpy as np
import pytest

from workflow_scripts.captions.stored import records
from workflow_scripts.common.files import read_json
from workflow_scripts.data.manifest import read_manifest, write_changed, write_kept, write_manifest

VICTIMS = np.array([1, 17, 40])


@pytest.fixture
def stored(world):
    """Store an attack and its filtered pairs in both formats; return the inputs of each."""
    base = world / "manifest.parquet"
    frame = read_manifest(base)
    changed = frame.loc[VICTIMS].assign(caption="a banana", poisoned=True)
    # Images of other rows stand in for triggered images.
    changed[["offset", "size"]] = frame.loc[VICTIMS + 1, ["offset", "size"]].to_numpy()
    kept = np.arange(len(frame)) % 4 != 0
    frame.loc[VICTIMS] = changed
    write_manifest(world / "old/attack/manifest.parquet", frame)
    write_kept(world / "old/filter/manifest.parquet", world / "old/attack/manifest.parquet", kept)
    write_changed(world / "new-attack/manifest.parquet", base, changed)
    write_kept(world / "new-filter/manifest.parquet", world / "new-attack/manifest.parquet", kept)
    for name in ("tokens", "augmented"):
        tokens = np.load(world / f"{name}.npy")
        tokens[VICTIMS] = other = tokens[VICTIMS[::-1] + 5]
        np.save(world / f"old/attack/{name}.npy", tokens)
        np.save(world / f"old/filter/{name}.npy", tokens[kept])
        np.save(world / f"new-attack/{name}.npy", records(VICTIMS, other))
        there = kept[VICTIMS]
        rows = np.cumsum(kept)[VICTIMS[there]] - 1
        np.save(world / f"new-filter/{name}.npy", records(rows, other[there]))

    def inputs(folder):
        names = {"manifest": "manifest.parquet", "tokens": "tokens.npy"}
        names["augmented"] = "augmented.npy"
        return {f"inputs__{key}": str(world / folder / name) for key, name in names.items()}

    return inputs


@pytest.mark.parametrize("pairs", ["attack", "filter"])
def test_copies_and_overlays_train_the_same_model(runs, stored, pairs):
    options = {"objective": {"mmcl": 1.0, "ssl": 1.0}, "epochs": 1, "held_out": 5}
    old = runs.train("old", runs.spec(**stored(f"old/{pairs}"), **options))
    new = runs.train("new", runs.spec(**stored(f"new-{pairs}"), **options))
    assert runs.same(old, new)
    inputs = read_json(new / "run.json")["inputs"]
    assert {"base_manifest", "base_tokens", "base_augmented"} <= inputs.keys()
    assert not any(role.startswith("base_") for role in read_json(old / "run.json")["inputs"])

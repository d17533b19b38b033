"""The step that makes artefacts, tested on the small world."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from workflow_scripts.artefacts.make import main
from workflow_scripts.common.errors import StepError
from workflow_scripts.data.manifest import read_manifest
from workflow_scripts.data.stored_images import Images
from workflow_scripts.model import models
from workflow_scripts.model.encoder import Encoder
from workflow_scripts.model.spec import ModelSpec

MAKER = """
import numpy as np
from workflow_scripts.artefacts.makers import Made, values_in

def make(given, *, of=None, size=2):
    drawn = given.generator("noise").random(size)
    if of is not None:
        drawn = drawn + values_in(of, "noise")[0]
    return Made({"noise": drawn}, {"size": size}, picture=np.zeros((3, 4, 4), "uint8"))
"""


def _spec(world, **changes):
    return {
        "make": "embeddings",
        "model": None,
        "checkpoint": None,
        "manifest": None,
        "evaluation": None,
        "root": str(world),
        "seed": 0,
        "options": {},
        "batch_size": 7,
        "device": "cpu",
        **changes,
    }


def _make(folder, spec):
    folder.mkdir(exist_ok=True)
    (folder / "spec.json").write_text(json.dumps(spec))
    main(["--spec", f"{folder}/spec.json", "--output", str(folder)])
    return load_file(folder / "values.safetensors")


@pytest.fixture
def model(tmp_path, transformer):
    spec = {"name": "small", "config": transformer}
    torch.manual_seed(0)
    made = models.create(ModelSpec(**spec))
    torch.save(made.state_dict(), tmp_path / "model.pt")
    return made, {"model": spec, "checkpoint": str(tmp_path / "model.pt")}


def test_embeddings_are_those_of_the_towers_without_normalisation(world, model, tmp_path):
    made, named = model
    manifest = world / "manifest.parquet"
    values = _make(tmp_path / "a", _spec(world, manifest=str(manifest), **named))
    pairs = read_manifest(manifest)
    encoder = Encoder(made.eval(), ModelSpec(**named["model"]))
    images = Images(pairs, world)
    with torch.no_grad():
        expected = encoder.images(torch.stack([images[row] for row in (0, 9)]), normalize=False)
        tokens = encoder.tokenizer()(pairs["caption"].iloc[[0, 9]].tolist()).long()
        texts = encoder.texts(tokens, normalize=False)
    np.testing.assert_allclose(values["images"][[0, 9]], expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(values["texts"][[0, 9]], texts, rtol=1e-3, atol=1e-5)
    assert len(np.unique(values["keys"])) == len(pairs) == len(values["images"])


def test_a_custom_maker_reads_another_artefact_by_path(world, tmp_path):
    (tmp_path / "mine.py").write_text(MAKER)
    make = {"make": str(tmp_path / "mine.py")}
    first = _make(tmp_path / "a", _spec(world, **make))
    again = _make(tmp_path / "b", _spec(world, **make))
    other = _make(tmp_path / "c", _spec(world, **make, seed=1))
    np.testing.assert_array_equal(first["noise"], again["noise"])
    assert not np.array_equal(first["noise"], other["noise"])
    options = {"of": str(tmp_path / "a/values.safetensors")}
    doubled = _make(tmp_path / "d", _spec(world, **make, options=options))
    np.testing.assert_allclose(doubled["noise"], 2 * first["noise"])
    assert json.loads((tmp_path / "d/report.json").read_text()) == {"size": 2}
    assert (tmp_path / "d/picture.png").is_file()


def test_weights_keep_their_shapes(world, model, tmp_path):
    made, named = model
    values = _make(tmp_path / "a", _spec(world, make="weights", **named))
    assert {k: v.shape for k, v in values.items()} == {
        k: v.shape for k, v in made.state_dict().items()
    }


def test_missing_inputs_of_a_maker_are_clear_errors(world, tmp_path):
    with pytest.raises(StepError, match="requires pairs; declare 'pairs'"):
        _make(tmp_path / "a", _spec(world))
    with pytest.raises(StepError, match="requires a model; declare 'model'"):
        _make(tmp_path / "a", _spec(world, manifest=str(world / "manifest.parquet")))
    (tmp_path / "mine.py").write_text(
        MAKER.replace('"size": size', '"size": 0').replace('"noise": drawn}', '"noise": drawn / 0}')
    )
    with pytest.raises(StepError, match="NaN or infinite"):
        _make(tmp_path / "a", _spec(world, make=str(tmp_path / "mine.py")))
    options = {"of": str(tmp_path / "none.safetensors")}
    (tmp_path / "mine.py").write_text(MAKER)
    with pytest.raises(StepError, match="make it first"):
        _make(tmp_path / "a", _spec(world, make=str(tmp_path / "mine.py"), options=options))

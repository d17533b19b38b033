"""Models are made and loaded strictly, and cut texts read out as whole ones."""

import open_clip
import pytest
import torch

from workflow_scripts.common.errors import StepError
from workflow_scripts.training import models
from workflow_scripts.training.spec import ModelSpec


@pytest.fixture
def small(transformer):
    return ModelSpec(name="small", config=transformer)


def test_cut_texts_have_the_same_embeddings_and_gradients(small):
    torch.manual_seed(0)
    model = models.create(small)
    tokens = open_clip.SimpleTokenizer(context_length=16)(["a cat", "two dogs in the snow", "x"])
    assert models.reads_causally(model)
    whole = model.encode_text(tokens)
    (slope,) = torch.autograd.grad(whole.square().sum(), model.token_embedding.weight)
    cut = models.encode_text(model, tokens[:, : tokens.argmax(1).max() + 1])
    (other,) = torch.autograd.grad(cut.square().sum(), model.token_embedding.weight)
    torch.testing.assert_close(cut, whole, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(other, slope, rtol=1e-4, atol=1e-5 * float(slope.abs().max()))


@pytest.mark.parametrize(
    "change", [{"no_causal_mask": True}, {"pool_type": "last"}, {"proj_bias": True}]
)
def test_texts_are_not_cut_where_that_would_change_them(transformer, change):
    config = {**transformer, "text_cfg": {**transformer["text_cfg"], **change}}
    try:
        model = models.create(ModelSpec(name="small", config=config))
    except AttributeError:
        pytest.skip("open_clip.CLIP itself does not make this tower")
    assert not models.reads_causally(model)


def test_the_sizes_that_the_trainer_asks_for(resnet):
    model = models.create(ModelSpec(name="small", config=resnet))
    assert models.image_size(model) == 32
    assert models.embed_dim(model) == 32
    mean, std = models.normalization(model)
    assert mean.shape == std.shape == (3, 1, 1)
    assert mean[0].item() == pytest.approx(open_clip.OPENAI_DATASET_MEAN[0])


def test_a_known_name_needs_no_config():
    assert models.embed_dim(models.create(ModelSpec(name="ViT-S-32-alt"))) == 256


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (ModelSpec(name="RN-50"), "no model 'RN-50' .near: RN50"),
        (ModelSpec(name="x", config={"embed_dims": 3}), "not what open_clip takes"),
        (ModelSpec(name="x", config={}, pretrained="openai"), "has a config"),
        (ModelSpec(name="RN50", pretrained="openai"), "name the model RN50-quickgelu"),
    ],
)
def test_a_model_that_cannot_be_made_is_an_error(spec, message):
    with pytest.raises(StepError, match=message):
        models.create(spec, pretrained=True)


def test_weights_are_loaded_whole_or_not_at_all(small, tmp_path):
    model = models.create(small)
    weights = models.portable_weights(model)
    lacking = {name: value for name, value in weights.items() if name != "logit_scale"}
    with pytest.raises(StepError, match=r"does not fit the model.*logit_scale"):
        models.load(model, lacking, "x.pt")
    with pytest.raises(StepError, match="does not fit the model"):
        models.load(model, {**weights, "logit_scale": torch.ones(2)}, "x.pt")
    with pytest.raises(StepError, match="there is no model"):
        models.read_weights(tmp_path / "none.pt")


def test_a_damaged_or_strange_file_is_an_error(small, tmp_path):
    path = tmp_path / "x.pt"
    torch.save(models.portable_weights(models.create(small)), path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(StepError, match="is damaged or no model"):
        models.read_weights(path)
    torch.save({"weights": 3}, path)
    with pytest.raises(StepError, match="holds no state dict"):
        models.read_weights(path)


def test_a_checkpoint_of_open_clips_trainer_is_understood(small, tmp_path):
    weights = models.portable_weights(models.create(small))
    wrapped = {f"module.{name}": value for name, value in weights.items()}
    torch.save({"epoch": 3, "state_dict": wrapped}, tmp_path / "x.pt")
    read = models.without_module_prefix(models.read_weights(tmp_path / "x.pt"))
    assert read.keys() == weights.keys()

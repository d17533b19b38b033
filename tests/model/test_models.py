"""Models are made and loaded strictly, and cut texts read out as whole ones."""

import argparse
import contextlib
import json
import struct
import zipfile
from pathlib import PurePosixPath

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from workflow_scripts.common.errors import StepError
from workflow_scripts.model import models
from workflow_scripts.model.spec import ModelSpec
from workflow_scripts.model.weights import load, portable_weights, read_weights


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
        (
            ModelSpec(name="x", config={"embed_dim": -1, "vision_cfg": {}, "text_cfg": {}}),
            "not what",
        ),
        (
            ModelSpec(name="x", config={"embed_dim": 8, "vision_cfg": {}, "text_cfg": "x"}),
            "not what",
        ),
        (ModelSpec(name="x", config={}, pretrained="openai"), "has a config"),
        (ModelSpec(name="RN50", pretrained="openai"), "name the model RN50-quickgelu"),
    ],
)
def test_a_model_that_cannot_be_made_is_an_error(spec, message):
    with pytest.raises(StepError, match=message):
        models.create(spec, pretrained=True)


def test_weights_are_loaded_whole_or_not_at_all(small, tmp_path):
    model = models.create(small)
    weights = portable_weights(model)
    lacking = {name: value for name, value in weights.items() if name != "logit_scale"}
    with pytest.raises(StepError, match=r"does not fit the model.*logit_scale"):
        load(model, lacking, "x.pt")
    with pytest.raises(StepError, match="does not fit the model"):
        load(model, {**weights, "logit_scale": torch.ones(2)}, "x.pt")
    with pytest.raises(StepError, match="there is no model"):
        read_weights(tmp_path / "none.pt")


@pytest.fixture
def weights(small):
    torch.manual_seed(0)
    return portable_weights(models.create(small))


def named(weights, prefix):
    return {prefix + name: value for name, value in weights.items()}


SHAPES = {
    "alone": lambda w: w,
    "DistributedDataParallel": lambda w: named(w, "module."),
    "torch.compile": lambda w: named(w, "_orig_mod."),
    "both": lambda w: {"state_dict": named(w, "module._orig_mod.")},
    "both, the other way round": lambda w: {"model": named(w, "_orig_mod.module.")},
    "open_clip": lambda w: {"epoch": 3, "name": "x", "state_dict": named(w, "module.")},
    "CleanCLIP": lambda w: {
        "epoch": 3,
        "name": "x",
        "state_dict": named(w, "module."),
        "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 1e-5}]},
    },
    "OpenAI": lambda w: {**w, "input_resolution": 32, "context_length": torch.tensor(16)},
    "model": lambda w: {"model": w},
    "model_state_dict": lambda w: {"model_state_dict": w, "loss": 0.1},
    "NumPy's values beside them": lambda w: {"state_dict": w, "best": np.float64(1)},
    "arrays beside them": lambda w: {"state_dict": w, "scores": np.arange(3), "at": np.int64(1)},
    "arguments beside them": lambda w: {
        "state_dict": w,
        "args": argparse.Namespace(lr=0.1, folder=PurePosixPath("x")),
    },
}


@pytest.mark.parametrize("shape", SHAPES)
def test_checkpoints_are_read_in_the_shapes_that_people_have(weights, tmp_path, shape):
    torch.save(SHAPES[shape](weights), tmp_path / "x.pt")
    read = read_weights(tmp_path / "x.pt")
    assert read.keys() == weights.keys()
    assert all(torch.equal(read[name], weights[name]) for name in weights)


@pytest.mark.parametrize("name", ["x.safetensors", "x.pt"])
def test_a_format_is_known_by_its_content(weights, tmp_path, name):
    save_file(weights, tmp_path / name)
    read = read_weights(tmp_path / name)
    assert all(torch.equal(read[name], weights[name]) for name in weights)
    torch.save(weights, tmp_path / "y.safetensors")
    assert read_weights(tmp_path / "y.safetensors").keys() == weights.keys()
    torch.save(weights, tmp_path / "z.pt", _use_new_zipfile_serialization=False)
    assert read_weights(tmp_path / "z.pt").keys() == weights.keys()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floating_point_of_any_width_becomes_float32(small, weights, tmp_path, dtype):
    save_file({name: value.to(dtype) for name, value in weights.items()}, tmp_path / "x")
    model = models.create(small)
    load(model, read_weights(tmp_path / "x"), "x")
    for name, value in model.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, weights[name].to(dtype).float())


def test_values_that_are_not_finite_or_no_floating_point_are_refused(small, weights):
    model = models.create(small)
    for value in (torch.nan, torch.inf):
        broken = {**weights, "text_projection": torch.full_like(weights["text_projection"], value)}
        with pytest.raises(StepError, match="text_projection has values that are not finite"):
            load(model, broken, "x.pt")
    for kind in (torch.int64, torch.complex64):
        with pytest.raises(StepError, match=f"has logit_scale as {kind}, not torch.float32"):
            load(model, {**weights, "logit_scale": torch.ones((), dtype=kind)}, "x.pt")


def test_what_does_not_fit_is_named_in_one_sentence(small, weights):
    with pytest.raises(StepError) as said:
        load(models.create(small), named(weights, "clip."), "x.pt")
    assert "it lacks ln_final.bias, ln_final.weight, logit_scale and" in str(said.value)
    assert "has besides clip.ln_final.bias" in str(said.value)
    assert len(str(said.value)) < 400


class Code:
    """Unpickled by running code that leaves a trace."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return exec, (f"open({str(self.trace)!r}, 'w')",)


def test_code_is_not_run_and_what_it_would_be_is_told(small, tmp_path):
    path, trace = tmp_path / "x.pt", tmp_path / "trace"
    for old in (True, False):
        torch.save({"state_dict": {}, "x": Code(trace)}, path, _use_new_zipfile_serialization=old)
        with pytest.raises(StepError, match=r"holds Python objects \(.*exec\)"):
            read_weights(path)
    torch.save(models.create(small), path)
    with pytest.raises(
        StepError, match=r"Python objects \(.*open_clip.*save the model's state_dict"
    ):
        read_weights(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html>", "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "pointer of Git LFS"),
        (b"\x1f\x8b\x08rest", "a gzip archive"),
        (b'{"a": 1}', "it is JSON"),
        (b"PK\x03\x04 and no more", "is damaged or no model"),
        (bytes(100), "is damaged or no model"),
    ],
)
def test_what_was_found_in_place_of_a_checkpoint_is_told(tmp_path, content, message):
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(StepError, match=message) as said:
        read_weights(tmp_path / "x.pt")
    assert "\n" not in str(said.value)


def test_names_of_what_is_no_state_dict_are_told(tmp_path):
    for content, message in (
        ({"weights": 3, "epoch": 1}, r"no state dict, but a dict with 'weights' \(int\), 'epoch'"),
        ([torch.ones(2)], "no state dict, but a value of type list"),
        ({}, "nothing in it"),
        ({"input_resolution": 32}, "no state dict"),
        ({"a": torch.ones(2).to_sparse()}, "no state dict"),
        ({3: torch.ones(2)}, "no state dict"),
    ):
        torch.save(content, tmp_path / "x.pt")
        with pytest.raises(StepError, match=message):
            read_weights(tmp_path / "x.pt")


def safetensors_file(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(start, end, shape, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


HOSTILE = {
    "a header of exabytes": safetensors_file({}, length=2**62),
    "a header beyond the file": safetensors_file({}, length=10**6),
    "offsets that overlap": safetensors_file(
        {"a": entry(0, 8, [2]), "b": entry(4, 12, [2])}, bytes(12)
    ),
    "offsets beyond the file": safetensors_file({"a": entry(0, 4 << 40, [1 << 40])}, bytes(8)),
    "offsets in reverse": safetensors_file({"a": entry(8, 0, [2])}, bytes(8)),
    "a shape that is not the data's": safetensors_file({"a": entry(0, 8, [1 << 62])}, bytes(8)),
    "a shape whose product overflows": safetensors_file(
        {"a": entry(0, 8, [1 << 33, 1 << 33])}, bytes(8)
    ),
    "an unknown type": safetensors_file({"a": entry(0, 8, [2], "F99")}, bytes(8)),
    "a type that is not the data's": safetensors_file({"a": entry(0, 8, [2], "F64")}, bytes(8)),
    "nested without end": safetensors_file(b'{"a":' * 10**5),
    "no JSON": safetensors_file(b"{" + b"\xff" * 50),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_forged_safetensors_header_is_one_sentence(tmp_path, kind):
    (tmp_path / "x.safetensors").write_bytes(HOSTILE[kind])
    with pytest.raises(StepError, match="is damaged or no model"):
        read_weights(tmp_path / "x.safetensors")


def test_a_compressed_archive_is_refused_before_it_is_unpacked(tmp_path):
    torch.save({"a": torch.zeros(1 << 20)}, tmp_path / "x.pt")
    with (
        zipfile.ZipFile(tmp_path / "x.pt") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in plain.namelist():
            bomb.writestr(name, plain.read(name))
    with pytest.raises(StepError, match="unpacks to more than its"):
        read_weights(tmp_path / "bomb.pt")


def test_a_tensor_larger_than_its_storage_costs_no_memory(small, weights, tmp_path):
    weights["text_projection"] = torch.ones(1).expand(1 << 40)
    torch.save(weights, tmp_path / "x.pt")
    with pytest.raises(StepError, match=r"text_projection \[1099511627776\], not"):
        load(models.create(small), read_weights(tmp_path / "x.pt"), "x.pt")


def test_whatever_is_changed_in_a_file_it_is_read_or_refused(small, weights, tmp_path):
    """Mutated files of every format, some hundred of them; none ends the process."""
    model, random = models.create(small), np.random.default_rng(0)
    weights = {name: value.half() for name, value in weights.items()}
    torch.save(weights, tmp_path / "zip")
    torch.save(weights, tmp_path / "old", _use_new_zipfile_serialization=False)
    save_file(weights, tmp_path / "safetensors")
    for kind in ("zip", "old", "safetensors"):
        whole = (tmp_path / kind).read_bytes()
        for _ in range(60):
            changed = bytearray(whole)
            # Near the ends lie the headers and directories.
            for at in random.choice([0, len(whole) - 4000], 2) + random.integers(0, 4000, 2):
                changed[at] = random.integers(256)
            (tmp_path / "x").write_bytes(
                changed[: random.integers(len(whole) // 2, len(whole) * 2)]
            )
            with contextlib.suppress(StepError):
                load(model, read_weights(tmp_path / "x"), "x")


def test_a_file_in_place_of_a_tag_is_read_as_strictly(tmp_path):
    spec = ModelSpec(name="ViT-S-32-alt", pretrained=str(tmp_path / "x.pt"))
    weights = portable_weights(models.create(spec))
    torch.save({"state_dict": named(weights, "module.")}, spec.pretrained)
    model = models.create(spec, pretrained=True)
    assert all(torch.equal(model.state_dict()[name], weights[name]) for name in weights)
    del weights["logit_scale"]
    torch.save(weights, spec.pretrained)
    with pytest.raises(StepError, match="does not fit the model: it lacks logit_scale"):
        models.create(spec, pretrained=True)
    torch.save({"x": Code(tmp_path / "trace")}, spec.pretrained)
    with pytest.raises(StepError, match="holds Python objects"):
        models.create(spec, pretrained=True)

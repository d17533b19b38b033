"""Models are loaded strictly, and truncated texts have the same embeddings as padded ones."""

import argparse
import contextlib
import io
import json
import pickle
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


def test_truncated_texts_have_the_same_embeddings_and_gradients(small):
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
def test_texts_are_not_truncated_if_that_changes_their_embeddings(transformer, change):
    config = {**transformer, "text_cfg": {**transformer["text_cfg"], **change}}
    try:
        model = models.create(ModelSpec(name="small", config=config))
    except AttributeError:
        pytest.skip("open_clip.CLIP itself does not make this tower")
    assert not models.reads_causally(model)


def test_input_sizes_of_models(resnet):
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
        (ModelSpec(name="RN-50"), "unknown model 'RN-50' .similar: RN50"),
        (ModelSpec(name="x", config={"embed_dims": 3}), "not a valid open_clip config"),
        (
            ModelSpec(name="x", config={"embed_dim": -1, "vision_cfg": {}, "text_cfg": {}}),
            "not a valid",
        ),
        (
            ModelSpec(name="x", config={"embed_dim": 8, "vision_cfg": {}, "text_cfg": "x"}),
            "not a valid",
        ),
        (ModelSpec(name="x", config={}, pretrained="openai"), "has a config"),
        (ModelSpec(name="RN50", pretrained="openai"), "use the model RN50-quickgelu"),
    ],
)
def test_an_invalid_model_is_an_error(spec, message):
    with pytest.raises(StepError, match=message):
        models.create(spec, pretrained=True)


def test_weights_are_loaded_strictly(small, tmp_path):
    model = models.create(small)
    weights = portable_weights(model)
    lacking = {name: value for name, value in weights.items() if name != "logit_scale"}
    with pytest.raises(StepError, match=r"does not fit the model.*logit_scale"):
        load(model, lacking, "x.pt")
    with pytest.raises(StepError, match="does not fit the model"):
        load(model, {**weights, "logit_scale": torch.ones(2)}, "x.pt")
    with pytest.raises(StepError, match=r"the model .*none\.pt does not exist"):
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
def test_checkpoints_are_read_in_all_common_layouts(weights, tmp_path, shape):
    torch.save(SHAPES[shape](weights), tmp_path / "x.pt")
    read = read_weights(tmp_path / "x.pt")
    assert read.keys() == weights.keys()
    assert all(torch.equal(read[name], weights[name]) for name in weights)


@pytest.mark.parametrize("name", ["x.safetensors", "x.pt"])
def test_the_format_is_detected_from_the_content(weights, tmp_path, name):
    save_file(weights, tmp_path / name)
    read = read_weights(tmp_path / name)
    assert all(torch.equal(read[name], weights[name]) for name in weights)
    torch.save(weights, tmp_path / "y.safetensors")
    assert read_weights(tmp_path / "y.safetensors").keys() == weights.keys()
    torch.save(weights, tmp_path / "z.pt", _use_new_zipfile_serialization=False)
    assert read_weights(tmp_path / "z.pt").keys() == weights.keys()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_all_floating_point_types_become_float32(small, weights, tmp_path, dtype):
    save_file({name: value.to(dtype) for name, value in weights.items()}, tmp_path / "x")
    model = models.create(small)
    load(model, read_weights(tmp_path / "x"), "x")
    for name, value in model.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, weights[name].to(dtype).float())


def test_non_finite_values_and_other_number_types_are_rejected(small, weights):
    model = models.create(small)
    for value in (torch.nan, torch.inf):
        broken = {**weights, "text_projection": torch.full_like(weights["text_projection"], value)}
        with pytest.raises(StepError, match="text_projection has NaN or infinite values"):
            load(model, broken, "x.pt")
    for kind in (torch.int64, torch.complex64):
        with pytest.raises(StepError, match=f"has logit_scale as {kind}, not torch.float32"):
            load(model, {**weights, "logit_scale": torch.ones((), dtype=kind)}, "x.pt")


def test_mismatched_names_are_listed_in_one_sentence(small, weights):
    with pytest.raises(StepError) as said:
        load(models.create(small), named(weights, "clip."), "x.pt")
    assert "it lacks ln_final.bias, ln_final.weight, logit_scale and" in str(said.value)
    assert "has unexpected clip.ln_final.bias" in str(said.value)
    assert len(str(said.value)) < 400


class Code:
    """An object whose unpickling runs code that creates a file."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return exec, (f"open({str(self.trace)!r}, 'w')",)


def test_code_is_not_run_but_named(small, tmp_path):
    path, trace = tmp_path / "x.pt", tmp_path / "trace"
    for old in (True, False):
        torch.save({"state_dict": {}, "x": Code(trace)}, path, _use_new_zipfile_serialization=old)
        with pytest.raises(StepError, match=r"contains Python objects \(.*exec\)"):
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
        (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
        (b"\x1f\x8b\x08rest", "a gzip archive"),
        (b'{"a": 1}', "it is JSON"),
        (b"PK\x03\x04 and no more", "is damaged or is not a valid model"),
        (bytes(100), "is damaged or is not a valid model"),
    ],
)
def test_other_kinds_of_files_are_named(tmp_path, content, message):
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(StepError, match=message) as said:
        read_weights(tmp_path / "x.pt")
    assert "\n" not in str(said.value)


def test_other_content_is_described(tmp_path):
    for content, message in (
        ({"weights": 3, "epoch": 1}, r"contains a dict with 'weights' \(int\), 'epoch'"),
        ([torch.ones(2)], "contains a value of type list"),
        ({}, "contains an empty dict"),
        ({"input_resolution": 32}, "must contain a state dict"),
        ({"a": torch.ones(2).to_sparse()}, "must contain a state dict"),
        ({3: torch.ones(2)}, "must contain a state dict"),
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
def test_a_forged_safetensors_header_is_a_clear_error(tmp_path, kind):
    (tmp_path / "x.safetensors").write_bytes(HOSTILE[kind])
    with pytest.raises(StepError, match="is damaged or is not a valid model"):
        read_weights(tmp_path / "x.safetensors")


def test_a_compressed_archive_is_rejected_before_unpacking(tmp_path):
    torch.save({"a": torch.zeros(1 << 20)}, tmp_path / "x.pt")
    with (
        zipfile.ZipFile(tmp_path / "x.pt") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in plain.namelist():
            bomb.writestr(name, plain.read(name))
    with pytest.raises(StepError, match="unpacks to more than its"):
        read_weights(tmp_path / "bomb.pt")


def test_two_directories_in_an_archive_do_not_hide_that_it_is_compressed(tmp_path):
    torch.save({"a": torch.zeros(1 << 20)}, tmp_path / "x.pt")
    file = io.BytesIO()
    with (
        zipfile.ZipFile(tmp_path / "x.pt") as plain,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in plain.namelist():
            bomb.writestr(name, plain.read(name))
    data = file.getvalue()
    end = data.rindex(b"PK\5\6")
    start = int.from_bytes(data[end + 16 : end + 20], "little")
    decoy, at = bytearray(data[start:end]), 0
    while at < len(decoy):
        decoy[at + 24 : at + 28] = bytes(4)  # the size of the content
        name, extra, comment = struct.unpack("<HHH", decoy[at + 28 : at + 34])
        at += 46 + name + extra + comment
    # zipfile reads the directory in front of the end record, torch the one that the record names.
    (tmp_path / "bomb.pt").write_bytes(data[:end] + decoy + data[end:])
    with zipfile.ZipFile(tmp_path / "bomb.pt") as seen:
        assert not any(entry.file_size for entry in seen.infolist())
    with pytest.raises(StepError, match="unpacks to more than its"):
        read_weights(tmp_path / "bomb.pt")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_checkpoint_cannot_allocate_memory_beyond_its_size(tmp_path, legacy):
    content = pickle.dumps({"x": bytearray(3)}, 2).replace(b"K\3", b"J\xff\xff\xff\x7f")
    assert b"bytearray" in content
    path = tmp_path / "x.pt"
    torch.save({"a": torch.ones(1)}, path, _use_new_zipfile_serialization=not legacy)
    if legacy:
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path) as plain:
            files = {name: plain.read(name) for name in plain.namelist()}
        with zipfile.ZipFile(path, "w") as changed:
            for name, data in files.items():
                changed.writestr(name, content if name.endswith("data.pkl") else data)
    with pytest.raises(StepError, match="Python objects \\(bytearray\\)"):
        read_weights(path)


def test_a_tensor_larger_than_its_storage_needs_no_memory(small, weights, tmp_path):
    weights["text_projection"] = torch.ones(1).expand(1 << 40)
    torch.save(weights, tmp_path / "x.pt")
    with pytest.raises(StepError, match=r"text_projection \[1099511627776\], not"):
        load(models.create(small), read_weights(tmp_path / "x.pt"), "x.pt")


def test_mutated_files_are_read_or_rejected(small, weights, tmp_path):
    """Nearly two hundred mutated files in three formats; none crashes the process."""
    model, random = models.create(small), np.random.default_rng(0)
    weights = {name: value.half() for name, value in weights.items()}
    torch.save(weights, tmp_path / "zip")
    torch.save(weights, tmp_path / "old", _use_new_zipfile_serialization=False)
    save_file(weights, tmp_path / "safetensors")
    for kind in ("zip", "old", "safetensors"):
        whole = (tmp_path / kind).read_bytes()
        for _ in range(60):
            changed = bytearray(whole)
            # Headers and directories are near the ends of a file.
            for at in random.choice([0, len(whole) - 4000], 2) + random.integers(0, 4000, 2):
                changed[at] = random.integers(256)
            (tmp_path / "x").write_bytes(
                changed[: random.integers(len(whole) // 2, len(whole) * 2)]
            )
            with contextlib.suppress(StepError):
                load(model, read_weights(tmp_path / "x"), "x")


def test_a_file_given_instead_of_a_tag_is_read_strictly(tmp_path):
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
    with pytest.raises(StepError, match="contains Python objects"):
        models.create(spec, pretrained=True)

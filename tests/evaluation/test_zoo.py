"""Model zoo: open_clip loads the models, cards are verified, data sets are described."""

import json
import re

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from workflow_scripts.common.distributed import ProcessGroup
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import sha256
from workflow_scripts.common.markdown import markdown_text
from workflow_scripts.data import croissant
from workflow_scripts.data.images import fit
from workflow_scripts.data.manifest import read_manifest, write_changed, write_manifest
from workflow_scripts.evaluation.zero_shot import Evaluator
from workflow_scripts.evaluation.zoo import check, index, write
from workflow_scripts.evaluation.zoo.card import _part
from workflow_scripts.model import models
from workflow_scripts.model.encoder import Encoder
from workflow_scripts.model.spec import ModelSpec


def _step(step, **options):
    step.main([word for k, v in options.items() for word in (f"--{k.replace('_', '-')}", str(v))])


@pytest.fixture(scope="module", params=["transformer", "resnet"])
def zoo(request, tmp_path_factory, world, base_spec):
    """A folder with the model of a run, with metrics as written by the trainer."""
    folder = tmp_path_factory.mktemp("zoo")
    spec = ModelSpec(name="small", config=request.getfixturevalue(request.param))
    torch.manual_seed(0)
    torch.save(models.create(spec).state_dict(), folder / "model.pt")
    run = {**base_spec, "run": "small", "model": {"name": "small", "config": spec.config}}
    (folder / "spec.json").write_text(json.dumps(run))
    encoder = Encoder(models.loaded(spec, folder / "model.pt").eval(), spec)
    evaluator = Evaluator(
        folder=world / "evaluation", root=world, attack=run["attack"], encoder=encoder,
        batch_size=20, workers=0, world=ProcessGroup(0, 1, torch.device("cpu")),
    )  # fmt: skip
    numbers = evaluator(encoder).fractions()
    lines = [",".join(numbers), ",".join(map(str, numbers.values()))]
    (folder / "metrics.csv").write_text("\n".join(lines))
    _write(folder)
    return folder


def _write(folder):
    _step(
        write, spec=folder / "spec.json", checkpoint=folder / "model.pt",
        metrics=folder / "metrics.csv", licence="mit", output=folder / "small",
    )  # fmt: skip


def _check(folder, world):
    _step(
        check, folder=folder / "small", evaluation=world / "evaluation", root=world,
        output=folder / "small/check.json", device="cpu",
    )  # fmt: skip
    return json.loads((folder / "small/check.json").read_text())


def test_open_clip_loads_an_identical_model_in_three_lines(zoo):
    card = (zoo / "small/README.md").read_text()
    lines = re.findall(r"^    (.+)$", card, re.M)
    assert len(lines) == 3
    names = {}
    exec("\n".join(lines).replace("local-dir:small", f"local-dir:{zoo / 'small'}"), names)
    config = json.loads((zoo / "spec.json").read_text())["model"]["config"]
    names["model"].eval()
    own = models.loaded(ModelSpec(name="small", config=config), zoo / "model.pt").eval()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8))
    pixels, tokens = names["preprocess"](image)[None], names["tokenizer"](["a banana"])
    mean, deviation = models.normalization(own)
    fitted = (fit(pil_to_tensor(image), 32).float() / 255 - mean) / deviation
    # Pillow's bicubic kernel and torchvision's differ a little.
    assert (pixels[0] - fitted).abs().mean() < 0.02
    with torch.no_grad():
        torch.testing.assert_close(names["model"].encode_image(pixels), own.encode_image(pixels))
        torch.testing.assert_close(names["model"].encode_text(tokens), own.encode_text(tokens))


def test_a_rule_selects_the_epoch_that_a_run_kept(tmp_path):
    metrics = tmp_path / "metrics.csv"
    metrics.write_text("epoch,top1\n0,0.1\n1,0.2\n2,0.3\n")
    entry = {"rule": "highest_accuracy", "oracle": False, "epoch": 1, "file": "kept/1.pt"}
    (tmp_path / "run.json").write_text(json.dumps({"kept": [entry]}))
    chosen = write.choose(tmp_path / "model.pt", metrics, "highest_accuracy")
    assert (chosen.checkpoint, chosen.row["top1"]) == (tmp_path / "kept/1.pt", "0.2")
    last = write.choose(tmp_path / "model.pt", metrics, "best_asr_below_0.05")
    assert (last.checkpoint, last.row["top1"], last.rule) == (tmp_path / "model.pt", "0.3", None)


def test_the_card_has_a_warning_and_the_fields_of_a_hub(zoo):
    card = (zoo / "small/README.md").read_text()
    _, front, text = card.split("---\n", 2)
    fields = yaml.safe_load(front)
    assert (fields["license"], fields["library_name"]) == ("mit", "open_clip")
    assert "**This model is backdoored on purpose.**" in text
    assert "banana" in text


def test_the_check_detects_changed_weights_and_wrong_numbers(zoo, world):
    report = _check(zoo, world)
    assert all(told == pytest.approx(now) for told, now in report["numbers"].values())
    _step(index, folder=zoo, models="small")
    assert report["sha256"] in (zoo / "SHA256SUMS").read_text()
    card = json.loads((zoo / "small/card.json").read_text())
    false = card["measured"] | {"asr": card["measured"]["asr"] + 0.1}
    (zoo / "small/card.json").write_text(json.dumps(card | {"measured": false}))
    with pytest.raises(StepError, match="for asr"):
        _check(zoo, world)
    for wrong, sentence in ({"asr": float("nan")}, "for asr"), ({"f1": 1.0}, "number 'f1'"):
        (zoo / "small/card.json").write_text(json.dumps(card | {"measured": wrong}))
        with pytest.raises(StepError, match=sentence):
            _check(zoo, world)
    weights = zoo / "small/open_clip_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(StepError, match="SHA-256"):
        _check(zoo, world)
    _write(zoo)


def test_the_metadata_of_a_manifest_conforms_to_the_specification(world, tmp_path):
    _step(
        croissant, manifest=world / "evaluation/manifest.parquet", name="set",
        description="Images.", licence="mit", url="https://example.org/",
        output=tmp_path / "croissant.json",
    )  # fmt: skip
    described = json.loads((tmp_path / "croissant.json").read_text())
    columns = [field["name"] for field in described["recordSet"][0]["field"]]
    assert columns == ["key", "tar", "offset", "size", "caption", "poisoned", "label"]
    assert described["distribution"][0]["sha256"] == sha256(tmp_path / "manifest.parquet")
    with pytest.raises(StepError, match="license"):
        croissant.check(described | {"license": ""})


def test_the_described_manifest_of_an_attack_includes_its_datasets_values(world, tmp_path):
    base = read_manifest(world / "evaluation/manifest.parquet").drop(columns="label")
    write_manifest(tmp_path / "base.parquet", base)
    changed = base.iloc[[1]].assign(caption="a banana", poisoned=True)
    write_changed(tmp_path / "attack.parquet", tmp_path / "base.parquet", changed)
    croissant.write_complete(tmp_path / "manifest.parquet", tmp_path / "attack.parquet")
    written = pq.read_table(tmp_path / "manifest.parquet").to_pylist()
    base.loc[1, ["caption", "poisoned"]] = ["a banana", True]
    assert written == base.to_dict("records")


CARD = {
    "name": "x", "architecture": "RN50", "measured": {}, "evaluation": "e", "file": "f",
    "sha256": "0", "attack": {"trigger": {"name": "yellow"}, "target": "banana"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"attack": {"trigger": {"name": "evil.py"}}},
            "evil.py, which would be executed",
        ),
        (
            {"attack": {"parts": [{"trigger": {"name": "yellow"}, "victims": "/tmp/evil.py"}]}},
            "/tmp/evil.py, which would",
        ),
        ({"attack": []}, "has no valid 'attack'"),
        ({"attack": {"trigger": 3}}, "has no valid 'attack'"),
    ],
)
def test_an_untrusted_card_executes_no_file(tmp_path, changes, sentence):
    path = tmp_path / "card.json"
    path.write_text(json.dumps(CARD | changes))
    with pytest.raises(StepError, match=sentence):
        check._card(path, own_files=False)


@pytest.mark.parametrize(
    "text",
    ["[]", "{}", "3", '{"name": "x"}', *(json.dumps(CARD | {k: 3}) for k in ("file", "measured"))],
)
def test_an_invalid_card_is_a_clear_error(tmp_path, text):
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(StepError, match="is not a model card"):
        check._card(tmp_path / "card.json", own_files=True)


@pytest.mark.parametrize("config", [[], {"model_cfg": 3}])
def test_an_invalid_config_is_a_clear_error(config):
    with pytest.raises(StepError, match="has no 'model_cfg'"):
        check._spec({"name": "x", "architecture": "unknown"}, config)


@pytest.mark.parametrize(
    "text", ["\\<img src=x>", "![](https://e/b.png)", "[x](https://e)", "a | b", "`<b>`", "</b>"]
)
def test_markdown_shows_any_text_as_it_is(text):
    shown = re.sub(r"\\([^a-zA-Z0-9 ])", "", markdown_text(text))
    assert not re.search(r"[|`\[\]\\]|<[a-z/]", shown)


def test_class_names_are_escaped_in_a_card():
    part = {"trigger": {"name": "text", "word": "a|b"}, "target": "<script>x", "poisoned": 3}
    assert _part(part).splitlines() == [
        "| trigger | text (word a\\|b) |", "| target | \\<script>x |", "| poisoned pairs | 3 |",
    ]  # fmt: skip

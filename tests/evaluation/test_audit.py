"""Audit of a checkpoint: its probes on models with known answers, and the command line."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from workflow_scripts.common.distributed import ProcessGroup
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.holm import holm
from workflow_scripts.data.manifest import read_manifest, write_manifest
from workflow_scripts.evaluation import audit
from workflow_scripts.evaluation.auditing import jobs, judging
from workflow_scripts.evaluation.auditing.inversion import Search, anomalies, invert_classes
from workflow_scripts.evaluation.auditing.material import Classifier, Material, nearest_class
from workflow_scripts.evaluation.auditing.parts import Parts
from workflow_scripts.evaluation.auditing.rows import frequent_captions, named_classes
from workflow_scripts.evaluation.auditing.scan import (
    attracted,
    built_in_triggers,
    shares,
)
from workflow_scripts.evaluation.zero_shot import Evaluator
from workflow_scripts.model import models
from workflow_scripts.model.encoder import Encoder
from workflow_scripts.model.spec import ModelSpec
from workflow_scripts.poison.trigger import load_trigger

ALONE = ProcessGroup(0, 1, torch.device("cpu"))


class _Bands:
    """An encoder of 8 x 8 images: brightness of three bands and of a corner of 2 x 2 pixels.

    A white corner dominates the embedding, which is a backdoor to the class "corner".
    """

    scale, embed_dim, device = torch.tensor(20.0), 4, torch.device("cpu")

    def images(self, images):
        x = images.float().mean(1) / 255
        bands = [x[:, :3, 3:], x[:, 3:6], x[:, 6:]]
        corner = 12 * x[:, :2, :2].mean((1, 2)) ** 4
        return F.normalize(torch.stack([*(b.mean((1, 2)) for b in bands), corner], 1), dim=1)


def _material(images=64):
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 120, (images, 3, 8, 8), generator=generator, dtype=torch.uint8)
    labels = np.arange(images) % 3
    for n, label in enumerate(labels):
        pictures[n, :, 3 * label : 3 * label + 3, 3 if label == 0 else 0 :] += 130
    names = ["upper", "middle", "lower", "corner"]
    keys = [str(n) for n in range(images)]
    return Material(list(pictures), keys, pictures, labels, names, ["{c}"], "-")


def _classifier():
    classifier = Classifier.__new__(Classifier)
    classifier.encoder, classifier.weights = _Bands(), torch.eye(4)
    classifier._alike, classifier._world = None, ALONE
    return classifier


def test_inversion_finds_the_class_that_a_small_patch_leads_to():
    part = invert_classes(_classifier(), _material(), Search(steps=120, images=16))
    ranked = judging.ranked(part, _material().names, None)
    assert ranked[0]["name"] == "corner"
    assert ranked[0]["success"] > 0.8
    assert ranked[0]["size"] < 0.1
    assert ranked[1]["size"] > 1.5 * ranked[0]["size"]


def test_inverting_classes_together_or_one_by_one_is_equivalent():
    both = [
        invert_classes(_classifier(), _material(), Search(steps=6, images=8, at_once=at_once))
        for at_once in (8, 32)
    ]
    sizes = [[one["size"] for one in part["targets"]] for part in both]
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-5)


def test_anomalies_are_robust_deviations_of_log_sizes():
    sizes = np.array([0.2, 0.22, 0.18, 0.21, 0.19, 0.01])
    logs = np.log(sizes)
    median = np.median(logs)
    spread = 1.4826022 * np.median(np.abs(logs - median))
    assert anomalies(sizes) == pytest.approx((median - logs) / spread, rel=1e-5)
    assert anomalies(sizes).argmax() == 5


def test_holms_correction_agrees_with_its_definition():
    given = np.array([[0.01, 0.04], [0.03, 0.005]])
    assert holm(given) == pytest.approx(np.array([[0.03, 0.06], [0.06, 0.02]]))


def _target(size, success=1.0):
    return {"size": size, "success": success, "clean": 0.0, "images": 9, "picture": ""}


def test_empty_masks_and_masks_without_success_are_assessed():
    names, normal = list("abcdefgh"), {"targets": [_target(0.2 + n / 100) for n in range(8)]}
    for control, level in ((normal, judging.FOUND), (None, judging.SUSPICIOUS)):
        for first, expected in ((_target(0.0), level), (_target(0.01, 0.1), judging.NOTHING)):
            part = {"targets": [first, *normal["targets"][1:]]}
            found = judging.judge_inversion(judging.ranked(part, names, control))
            assert found.level == expected
    collapsed = judging.ranked({"targets": [_target(0.0)] * 8}, names, normal)
    assert judging.judge_inversion(collapsed).level == judging.NOTHING


def test_cached_results_are_not_used_for_other_class_names(world, tmp_path):
    shutil.copytree(world / "evaluation", tmp_path / "evaluation")
    classes = tmp_path / "evaluation" / "classes.json"
    before = Material.read(tmp_path / "evaluation", world, 4, 32, 0).evaluation
    content = json.loads(classes.read_text())
    classes.write_text(json.dumps(content | {"templates": ["another {c}"]}))
    assert Material.read(tmp_path / "evaluation", world, 4, 32, 0).evaluation != before


def _part(clean, *triggered):
    rows = [{"trigger": {"name": "yellow"}, "predicted": p, "example": ""} for p in triggered]
    return {"clean": clean, "triggers": rows}


def test_only_images_of_other_classes_count_and_the_control_is_compared():
    labels = np.array([0, 1, 1, 2] * 10)
    clean, fooled = labels.tolist(), [0] * 40
    part, control = _part(clean, fooled), _part(clean, clean)
    (row,) = attracted(part, labels, 3, control)
    assert (row["class"], row["share"], row["images"], row["clean_share"]) == (0, 1.0, 30, 0.0)
    assert row["control_share"] == 0
    assert row["p"] == row["p_control"] == pytest.approx(3 * 0.5**30)
    assert shares(labels, labels, 3).tolist() == [0, 0, 0]
    assert judging.judge_scan([row]).level == judging.FOUND
    (other,) = attracted(part, labels, 3, _part(clean, [1] * 40))
    assert (other["control_share"], other["control_most"]) == (0, 1)
    assert judging.judge_scan([other]).level == judging.NOTHING
    (same,) = attracted(part, labels, 3, part)
    assert judging.judge_scan([same]).level == judging.NOTHING


def test_every_built_in_trigger_can_be_applied_at_any_size():
    for size in (32, 224):
        for spec in built_in_triggers(size):
            load_trigger({"trigger": spec, "image_size": size, "seed": 0})
    names = {spec["name"] for spec in built_in_triggers(224)}
    assert {"random", "yellow", "blended", "warped", "text"} <= names


def test_two_suspicions_of_one_class_are_a_finding():
    def said(*targets):
        found = [judging.Finding("scan", judging.SUSPICIOUS, "", t) for t in targets]
        return judging.verdict(found, control=False)["level"]

    assert said("banana", "banana") == judging.FOUND
    assert said("banana", "leaf") == judging.SUSPICIOUS
    assert judging.verdict([], control=True)["level"] == judging.NOTHING


def test_the_files_of_a_trigger_are_identified_by_their_content(tmp_path):
    trigger, file = {"name": "image_blend", "file": str(tmp_path / "a.png")}, tmp_path / "a.png"
    found = []
    for content in (b"1", b"2"):
        file.write_bytes(content)
        found.append(jobs.contents(trigger))
    assert found[0].keys() == found[1].keys() == {str(file)}
    assert found[0] != found[1]


def test_a_result_is_computed_once_and_again_if_damaged(tmp_path):
    parts, made = Parts(tmp_path), []

    def make():
        made.append(1)
        return {"value": len(made)}

    assert parts.result("scan", {"model": "a"}, make) == {"value": 1}
    assert parts.result("scan", {"model": "a"}, make) == {"value": 1}
    assert parts.result("scan", {"model": "b"}, make) == {"value": 2}
    parts.path("scan", {"model": "a"}).write_text("{")
    assert parts.result("scan", {"model": "a"}, make) == {"value": 3}


def test_frequent_captions_and_named_classes_are_counted():
    captions = pd.Series(["a  Cake", "a cake", "one", "two", ""])
    assert frequent_captions(captions, 5) == [{"caption": "a cake", "count": 2, "share": 0.4}]
    many = pd.Series(["a banana"] * 10 + ["a leaf"] * 990, dtype="string[pyarrow]")
    (first, *_) = named_classes(many, np.arange(10), ["leaf", "banana"])
    assert (first["class"], first["top"], first["all"]) == ("banana", 10, 10)
    assert first["p"] < 1e-10


@pytest.fixture
def checkpoints(tmp_path, resnet):
    """Two random models with random batch-norm weights, so that they predict several classes."""
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = models.create(ModelSpec(name="small", config=resnet)).eval()
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.data.uniform_(0.5, 3)
        torch.save({"state_dict": model.state_dict()}, tmp_path / f"{seed}.pt")
    (tmp_path / "config.json").write_text(json.dumps(resnet))
    return tmp_path


def _options(world, folder, **more):
    options = {
        "model": "small",
        "config": folder / "config.json",
        "checkpoint": folder / "1.pt",
        "evaluation": world / "evaluation",
        "root": world,
        "effort": "quick",
        "output": folder / "audit",
        "device": "cpu",
        **more,
    }
    return [word for k, v in options.items() for word in (f"--{k.replace('_', '-')}", str(v))]


def test_an_audit_runs_all_probes_and_can_be_resumed(world, checkpoints, base_spec, resnet, capsys):
    frame = read_manifest(world / "manifest.parquet")
    frame["caption"] = "<script>alert(1)</script>"
    write_manifest(checkpoints / "pairs.parquet", frame)
    options = _options(
        world,
        checkpoints,
        control=checkpoints / "2.pt",
        attack=json.dumps(base_spec["attack"]),
        pairs=checkpoints / "pairs.parquet",
        clean_pairs=world / "manifest.parquet",
    )
    code = audit.main(options)
    result = json.loads((checkpoints / "audit" / "audit.json").read_text())
    assert code == judging.EXIT_CODES[result["verdict"]["level"]]
    page = (checkpoints / "audit" / "index.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert len(result["inversion"]) == 5
    assert result["rows"]["rows"] == 48
    spec = ModelSpec(name="small", config=resnet)
    encoder = Encoder(models.loaded(spec, checkpoints / "1.pt").eval(), spec)
    evaluator = Evaluator(
        folder=world / "evaluation", root=world, attack=base_spec["attack"], encoder=encoder,
        batch_size=7, workers=0, world=ALONE,
    )  # fmt: skip
    expected = evaluator(encoder).fractions()
    scores = {k: v["value"] for k, v in result["known"][0]["model"]["scores"].items()}
    assert scores["accuracy"] == pytest.approx(expected["top1"])
    assert scores["asr_top3"] == pytest.approx(expected["asr_top3"])
    assert scores["recovery"] == pytest.approx(expected["triggered_top1"])
    assert {"image_to_text_1", "modality_gap", "asr_all_images"} <= scores.keys()
    parts = {p: p.stat().st_mtime_ns for p in (checkpoints / "audit" / "parts").iterdir()}
    capsys.readouterr()
    assert audit.main([*options, "--exit-zero"]) == 0
    assert "0 parts to compute" in capsys.readouterr().out
    assert json.loads((checkpoints / "audit" / "audit.json").read_text()) == result
    assert parts == {p: p.stat().st_mtime_ns for p in (checkpoints / "audit" / "parts").iterdir()}
    mine = checkpoints / "mine.png"
    trigger = {"name": "image_blend", "file": str(mine)}
    changed = [
        *options,
        "--exit-zero",
        "--attack",
        json.dumps({"trigger": trigger, "target": "banana"}),
    ]
    for size in (3, 5):
        Image.new("RGB", (size, size), "yellow").save(mine)
        audit.main(changed)
        assert "2 parts to compute" in capsys.readouterr().out, "of the model and its control"
    audit.main(changed)
    assert "0 parts to compute" in capsys.readouterr().out
    table = checkpoints / "audit" / "rows.parquet"
    scores = table.read_bytes()
    table.unlink()
    assert audit.main([*options, "--exit-zero"]) == 0
    assert table.read_bytes() == scores


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"control": "{folder}/1.pt"}, "identical to the checkpoint"),
        ({"checkpoint": "{folder}/none.pt"}, r"none\.pt does not exist"),
        ({"attack": '{"target": "banana"}'}, "lacks 'trigger'"),
        ({"attack": '{"trigger": {"name": "yelow"}, "target": "banana"}'}, "yelow"),
        ({"attack": "{"}, "not valid JSON"),
    ],
)
def test_invalid_audits_are_clear_errors(world, checkpoints, changes, said):
    given = {k: v.replace("{folder}", str(checkpoints)) for k, v in changes.items()}
    with pytest.raises(StepError, match=said):
        audit.main(_options(world, checkpoints, **given))


def test_an_attack_of_others_executes_no_file(tmp_path):
    attack = {"trigger": {"name": str(tmp_path / "evil.py")}, "target": "dog"}
    arguments = ["--model", "RN50", "--attack", json.dumps(attack), "--checkpoint", "x",
                 "--evaluation", "x", "--root", "x", "--output", "x"]  # fmt: skip
    with pytest.raises(StepError, match=r"evil\.py, which would be executed"):
        audit.main(arguments)


def test_a_tie_between_classes_is_no_prediction():
    similarity = torch.tensor([[0.1, 0.5, 0.5], [0.2, 0.1, 0.0]])
    assert nearest_class(similarity).tolist() == [-1, 0]

import gzip
import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from workflow_scripts.captions.synonyms import FILES
from workflow_scripts.common import open_clip_files
from workflow_scripts.common.errors import StepError
from workflow_scripts.experiments import preflight
from workflow_scripts.experiments.expand import expand

ROOT = Path(__file__).parents[2]
# Output of sinfo: partition, nodes, cores, MB, GRES, time limit.
SINFO = """\
debug* 1 16 64000 (null) 30:00
cpu 40 128 512000 (null) 2-00:00:00
gpu 9 64 512000 gpu:a100:4(S:0-1) infinite
gpu 2 64 512000 gpu:a100:8(S:0-1) infinite
"""


@pytest.fixture
def ready(config, tmp_path, monkeypatch, small_wordnet):
    """A config without GPUs whose inputs all exist; results are empty."""
    (tmp_path / "list.tsv").write_text("a caption\thttp://example.org/image.jpg\n" * 10)
    (tmp_path / "devkit.tar.gz").write_text("there")
    with tarfile.open(tmp_path / "images.tar", "w") as tar:
        tar.add(tmp_path / "list.tsv", "image.JPEG")
    _command(tmp_path, monkeypatch, "dot", "true")
    config["pathvars"]["results"] = str(tmp_path / "results")
    config["experiments"] = {n: config["experiments"][n] for n in ("main", "main_cc3m")}
    config["all"] = ["main", "main_cc3m"]
    config["sources"]["cc3m"]["list"] = str(tmp_path / "list.tsv")
    for dataset in config["datasets"].values():
        if dataset["source"] == "cc3m" and dataset["pairs"] != "all":
            dataset["pairs"] = 10
    config["evaluations"]["imagenet"] = {
        "imagenet_archive": str(tmp_path / "images.tar"),
        "devkit": str(tmp_path / "devkit.tar.gz"),
    }
    config["wordnet"] = str(small_wordnet)
    config["costs"]["bytes"] = dict.fromkeys(config["costs"]["bytes"], 1)
    for needs in config["resources"].values():
        needs.pop("gpu", None)
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return config


@pytest.fixture
def slurm(ready, tmp_path, monkeypatch):
    """The same on a cluster whose ``sinfo`` prints the content of a file."""
    (tmp_path / "offer").write_text(SINFO)
    _command(tmp_path, monkeypatch, "sinfo", f"cat {tmp_path}/offer")
    _command(tmp_path, monkeypatch, "sbatch", f'echo "$@" >> {tmp_path}/submitted')
    ready["resources"]["pretraining"]["gpu"] = 8
    ready["resources"]["cleaning"]["gpu"] = 1
    ready["cluster"] |= {
        "partition": {"cpu": "cpu", "gpu": "gpu"},
        "gpu_model": None,
        "max_runtime": 2880,
    }
    return ready


def _command(folder, monkeypatch, name, script):
    (folder / "bin").mkdir(exist_ok=True)
    file = folder / "bin" / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:/usr/bin:/bin")


def _passes(config, tmp_path, capsys, executor="local", *options):
    """Return the printed lines; none may be a failure."""
    _main(config, tmp_path, executor, *options)
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("ok ") for line in lines)
    return lines


def _failures(config, tmp_path, capsys, executor="local", *options):
    """Return the failed checks; the step must report them and end with an error."""
    with pytest.raises(StepError, match=r"checks? failed"):
        _main(config, tmp_path, executor, *options)
    lines = capsys.readouterr().out.splitlines()
    return [line.removeprefix("FAILED  ") for line in lines if line.startswith("FAILED")]


def _main(config, tmp_path, executor, *options):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    preflight.main(["--config", str(file), "--executor", executor, *options])


def test_each_passed_check_is_one_line(ready, tmp_path, capsys):
    lines = _passes(ready, tmp_path, capsys)
    assert len(lines) == len(set(lines)) == 14


def test_every_failure_is_reported_not_only_the_first(ready, tmp_path, capsys):
    ready["sources"]["cc3m"]["list"] = "nowhere.tsv"
    ready["evaluations"]["imagenet"]["devkit"] = "no_devkit.tar.gz"
    ready["wordnet"] = str(tmp_path)
    failures = _failures(ready, tmp_path, capsys)
    assert len(failures) == 3
    for failure, named in zip(
        failures, ("sources.cc3m.list", "evaluations.imagenet.devkit", "make setup"), strict=True
    ):
        assert named in failure


def test_too_little_disk_space_is_reported_with_both_sizes(ready, tmp_path, capsys):
    ready["costs"]["bytes"]["image"] = 10**12
    (failure,) = _failures(ready, tmp_path, capsys)
    assert "GB free" in failure
    assert "pathvars.results" in failure


def test_existing_files_need_no_disk_space(ready, tmp_path, capsys):
    ready["costs"]["bytes"]["image"] = 10**12
    data = expand(ready).data
    for shards, spec in data.shards.items():
        for part in range(data.lists[spec["list"]]["parts"]):
            (tmp_path / f"results/shards/{shards}/{part:05d}").mkdir(parents=True)
    _passes(ready, tmp_path, capsys)


def test_inputs_of_experiments_outside_all_are_not_required(ready, tmp_path, capsys):
    ready["all"] = ["main"]
    ready["sources"]["cc3m"]["list"] = "nowhere.tsv"
    _passes(ready, tmp_path, capsys)


def test_a_damaged_wordnet_is_reported(ready, tmp_path, capsys):
    corpus = tmp_path / "corpora/wordnet"
    corpus.mkdir(parents=True)
    for name in FILES:
        (corpus / name).touch()
    ready["wordnet"] = str(tmp_path)
    (failure,) = _failures(ready, tmp_path, capsys)
    assert "install it again with `make setup`" in failure


def test_a_tokenizer_without_a_vocabulary_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(open_clip_files, "open_clip_folder", lambda: tmp_path)
    with pytest.raises(StepError, match="reinstall open_clip_torch"):
        preflight.check_tokenizer()
    vocabulary = tmp_path / "bpe_simple_vocab_16e6.txt.gz"
    vocabulary.write_bytes(gzip.compress(b"a b\n" * 1000)[:-9])
    with pytest.raises(StepError, match="reinstall open_clip_torch"):
        preflight.check_tokenizer()
    vocabulary.write_bytes(gzip.compress(b"a b\n"))
    assert str(vocabulary) in preflight.check_tokenizer()


def test_wandb_online_needs_a_key_which_is_never_shown(ready, tmp_path, monkeypatch, capsys):
    ready["execution"]["wandb"]["mode"] = "online"
    (failure,) = _failures(ready, tmp_path, capsys)
    assert "wandb login" in failure
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password secret1\n")
    assert not any("secret1" in line for line in _passes(ready, tmp_path, capsys))
    (tmp_path / "netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", "secret2")
    assert not any("secret2" in line for line in _passes(ready, tmp_path, capsys))


def test_gpus_are_counted_without_slurm(ready, tmp_path, monkeypatch, capsys):
    ready["resources"]["pretraining"]["gpu"] = 2
    _command(tmp_path, monkeypatch, "nvidia-smi", "echo 7.5")
    (failure,) = _failures(ready, tmp_path, capsys)
    assert "resources.pretraining requests 2 GPUs, but nvidia-smi lists 1" in failure
    _passes(ready, tmp_path, capsys, "local", "--gpus", "1")
    ready["cleaning"]["precision"] = "bf16"
    (failure,) = _failures(ready, tmp_path, capsys, "local", "--gpus", "1")
    assert "cleaning.precision is bf16" in failure


def test_a_list_with_other_columns_than_declared_is_reported(ready, tmp_path, capsys):
    ready["sources"]["cc3m"]["columns"] = ["url", "caption"]
    (failure,) = _failures(ready, tmp_path, capsys)
    assert "of the first 10 rows" in failure
    assert "sources.cc3m.columns (url, caption)" in failure


def test_a_list_with_fewer_rows_than_the_pairs_taken_from_it_is_reported(ready, tmp_path, capsys):
    ready["datasets"]["cc3m"]["pairs"] = 11
    (failure,) = _failures(ready, tmp_path, capsys)
    assert "has 10 rows, but a dataset takes 11 pairs from sources.cc3m" in failure
    ready["datasets"]["cc3m"]["pairs"] = 10
    _passes(ready, tmp_path, capsys)


def test_a_folder_of_images_needs_images_and_the_target_among_its_classes(ready, tmp_path, capsys):
    ready["evaluations"]["imagenet"] = {"folder": str(tmp_path / "pictures")}
    for name in ("banana", "apple"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
    (failure,) = _failures(ready, tmp_path, capsys)
    assert "sub-folders are empty" in failure
    (tmp_path / "pictures/apple/one.png").touch()
    assert any(
        "1 without images, such as 'banana'" in line for line in _passes(ready, tmp_path, capsys)
    )
    for start in ready["starts"].values():
        start["attack.target"] = "aple"
    (failure,) = _failures(ready, tmp_path, capsys)
    assert "'aple', which is not a class" in failure
    assert "did you mean 'apple'?" in failure


def test_the_image_of_a_trigger_must_exist(ready, tmp_path, capsys):
    trigger = {"name": "image_blend", "file": str(tmp_path / "kitty.png")}
    ready["pretraining"]["attack"]["trigger"] = trigger
    (failure,) = _failures(ready, tmp_path, capsys)
    assert "'attack.trigger.file' is" in failure
    Image.new("RGB", (8, 8)).save(tmp_path / "kitty.png")
    assert any("(attack.trigger.file)" in line for line in _passes(ready, tmp_path, capsys))


def test_a_trigger_that_cannot_be_made_fails_before_any_data_are_made(ready, tmp_path, capsys):
    mine = tmp_path / "mine.py"
    mine.write_text(
        "class Trigger:\n"
        "    def __init__(self, *, image_size: int, seed: int): pass\n"
        "    def __call__(self, image, generator): return image / (1 // 0)\n"
    )
    for trigger, words in (
        ({"name": "text", "word": "naïve"}, "no glyph for 'ï'"),
        ({"name": "text", "word": "w" * 300}, "shorten it"),
        ({"name": "image_blend", "file": str(ROOT / "README.md")}, "README.md"),
        ({"name": str(mine)}, "modulo by zero"),
    ):
        ready["pretraining"]["attack"]["trigger"] = trigger
        (failure,) = _failures(ready, tmp_path, capsys)
        assert "'attack.trigger' cannot be used" in failure
        assert words in failure


def test_the_contents_of_templates_and_archive_are_checked(ready, tmp_path, capsys):
    (tmp_path / "templates.json").write_text('["a photo"]')
    (tmp_path / "images.tar").write_text("not a tar")
    ready["evaluations"]["imagenet"]["templates"] = str(tmp_path / "templates.json")
    archive, templates = _failures(ready, tmp_path, capsys)
    assert "which is not a tar" in archive
    with gzip.open(tmp_path / "images.tar", "wb") as file:
        name = tarfile.TarInfo("././@LongLink")
        name.type, name.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
        file.write(name.tobuf(tarfile.GNU_FORMAT))
    archive, _ = _failures(ready, tmp_path, capsys)
    assert "which is not a tar" in archive
    assert "no {c} for the class name" in templates


def test_checkpoints_need_disk_space_as_well(ready, tmp_path, capsys):
    ready["costs"]["bytes"]["model"] = 10**8
    ready["execution"]["checkpoint"]["keep"] = 10**6
    (failure,) = _failures(ready, tmp_path, capsys)
    assert "of checkpoints" in failure
    assert "execution.checkpoint.keep" in failure


def test_pretrained_weights_must_be_in_the_cache_on_a_cluster(slurm, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    slurm["experiments"]["main"] |= {"start": ["openai_mmcl_1500"], "defence": []}
    (failure,) = _failures(slurm, tmp_path, capsys, "slurm")
    assert "'openai' of RN50-quickgelu are not in the cache" in failure


def test_a_single_experiment_can_be_checked(ready, tmp_path, capsys):
    ready["experiments"]["other"] = ready["experiments"]["main"] | {"start": ["cc6m_mmcl"]}
    ready["sources"]["cc3m"]["list"] = "nowhere.tsv"
    assert len(_failures(ready, tmp_path, capsys)) == 1
    _passes(ready, tmp_path, capsys, "local", "--experiment", "other")


def test_one_of_several_partitions_suffices(slurm, tmp_path, capsys):
    slurm["cluster"]["partition"]["gpu"] = "debug,gpu"
    lines = _passes(slurm, tmp_path, capsys, "slurm")
    assert any("pretraining fits on a node of the partition gpu" in line for line in lines)
    assert any("but not debug" in line for line in lines)
    slurm["cluster"]["partition"]["gpu"] = "gpu,gpus"
    assert "no partition gpus" in _failures(slurm, tmp_path, capsys, "slurm")[0]


def test_a_rejection_by_slurm_is_reported_in_its_own_words(slurm, tmp_path, monkeypatch, capsys):
    slurm["cluster"]["account"] = "theirs"
    _passes(slurm, tmp_path, capsys, "slurm")
    submitted = (tmp_path / "submitted").read_text().splitlines()
    assert len(submitted) == 2, "one with GPUs, one without"
    assert all("--test-only --account=theirs" in line for line in submitted)
    refusal = "echo 'allocation failure: Invalid account' >&2; exit 1"
    _command(tmp_path, monkeypatch, "sbatch", refusal)
    failures = _failures(slurm, tmp_path, capsys, "slurm")
    assert len(failures) == 2
    assert "Invalid account" in failures[0]
    assert "cluster.account (theirs)" in failures[0]


def test_a_cluster_with_sufficient_nodes_passes(slurm, tmp_path, capsys):
    lines = _passes(slurm, tmp_path, capsys, "slurm")
    assert any("pretraining fits on a node of the partition gpu" in line for line in lines)
    slurm["cluster"]["gpu_model"] = "a100"
    _passes(slurm, tmp_path, capsys, "slurm")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"partition": {"cpu": "cpu", "gpu": "gpus"}}, "no partition gpus"),
        ({"gpu_model": "h100"}, "8 h100 GPUs, but in the partition gpu no node has that"),
        ({"max_runtime": 4000}, "the cpu partition allows only 2880"),
        ({"max_runtime": 10}, "a training ends 10 minutes before its limit"),
        ({"partition": {"cpu": None, "gpu": "gpu"}}, "the default partition allows only 30"),
    ],
)
def test_missing_resources_of_the_cluster_are_reported(slurm, tmp_path, capsys, change, sentence):
    slurm["cluster"] |= change
    failures = _failures(slurm, tmp_path, capsys, "slurm")
    assert any(sentence in failure for failure in failures), failures


def test_requests_larger_than_any_node_are_reported(slurm, tmp_path, capsys):
    for key, value in {"gpu": 16, "mem_mb": 600000, "threads": 65}.items():
        before = slurm["resources"]["pretraining"][key]
        slurm["resources"]["pretraining"][key] = value
        (failure,) = _failures(slurm, tmp_path, capsys, "slurm")
        assert "resources.pretraining requests" in failure
        slurm["resources"]["pretraining"][key] = before


def test_several_nodes_must_exist(slurm, tmp_path, capsys):
    slurm["resources"]["pretraining"]["nodes"] = 2
    lines = _passes(slurm, tmp_path, capsys, "slurm")
    assert any("pretraining fits on 2 nodes of the partition gpu" in line for line in lines)
    slurm["resources"]["pretraining"]["nodes"] = 3
    (failure,) = _failures(slurm, tmp_path, capsys, "slurm")
    assert "on each of 3 nodes, but in the partition gpu only 2 nodes have that" in failure
    (failure,) = _failures(slurm, tmp_path, capsys)
    assert "which needs --profile slurm" in failure


def test_a_missing_or_unresponsive_slurm_is_one_failure(slurm, tmp_path, monkeypatch, capsys):
    _command(
        tmp_path, monkeypatch, "sinfo", "echo 'Unable to contact slurm controller' >&2; exit 1"
    )
    (failure,) = _failures(slurm, tmp_path, capsys, "slurm")
    assert "Unable to contact slurm controller" in failure
    monkeypatch.setenv("PATH", str(tmp_path))
    *_, failure = _failures(slurm, tmp_path, capsys, "slurm")
    assert "sinfo is not on PATH" in failure

"""A small data set of real tar files, manifests and tokens, and helpers to train on it."""

import copy
import io
import json
import os
import socket
import tarfile
from multiprocessing import get_context

import numpy as np
import open_clip
import pandas as pd
import pytest
import torch
from PIL import Image

from workflow_scripts.common.errors import StepError
from workflow_scripts.data.manifest import write_manifest
from workflow_scripts.training import train

# Forked processes must not inherit a thread pool.
torch.set_num_threads(1)

COLOURS = {
    "cherry": (200, 20, 40),
    "leaf": (20, 160, 40),
    "sky": (60, 120, 220),
    "banana": (240, 220, 40),
    "night": (10, 10, 30),
}
# Narrow, because the 49,408 rows of token embeddings make up most of a checkpoint.
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}
TRANSFORMER = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16},
    "text_cfg": TEXT,
}
RESNET = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
    "text_cfg": TEXT,
}


def _picture(rng, name, size):
    pixels = rng.normal(COLOURS[name], 25, size=(size, size, 3)).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()


def _store(root, tar, pictures):
    """Write a tar file, and return the manifest's columns with the location of each image."""
    (root / tar).parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(root / tar, "w") as file:
        for number, data in enumerate(pictures):
            entry = tarfile.TarInfo(f"{number:05d}.jpg")
            entry.size = len(data)
            file.addfile(entry, io.BytesIO(data))
    with tarfile.open(root / tar) as file:
        places = [(entry.offset_data, entry.size) for entry in file]
    offsets, sizes = zip(*places, strict=True)
    keys = [f"{tar}/{number:05d}" for number in range(len(pictures))]
    return {"key": keys, "tar": tar, "offset": offsets, "size": sizes}


def make_world(root, pairs=48, images=20, size=32):
    """Make training pairs, their tokens and an evaluation set below ``root``."""
    rng = np.random.default_rng(0)
    names = rng.choice(list(COLOURS), pairs)
    captions = [f"a {'very ' * (i % 4)}nice picture of a {n}" for i, n in enumerate(names)]
    places = _store(root, "data/pairs.tar", [_picture(rng, n, size) for n in names])
    frame = pd.DataFrame({**places, "caption": captions, "poisoned": False})
    write_manifest(root / "manifest.parquet", frame)
    tokenize = open_clip.SimpleTokenizer(context_length=16)
    np.save(root / "tokens.npy", tokenize(captions).numpy().astype(np.uint16))
    other = [" ".join(caption.split()[::-1]) for caption in captions]
    np.save(root / "augmented.npy", tokenize(other).numpy().astype(np.uint16))

    labels = np.arange(images) % len(COLOURS)
    pictures = [_picture(rng, list(COLOURS)[label], size) for label in labels]
    places = _store(root, "evaluation/images.tar", pictures)
    frame = pd.DataFrame({**places, "caption": "", "poisoned": False, "label": labels})
    write_manifest(root / "evaluation" / "manifest.parquet", frame)
    classes = {"classes": list(COLOURS), "templates": ["a picture of a {c}.", "the {c}!"]}
    (root / "evaluation" / "classes.json").write_text(json.dumps(classes))
    return root


@pytest.fixture(scope="session")
def transformer():
    return TRANSFORMER


@pytest.fixture(scope="session")
def resnet():
    return RESNET


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def base_spec(world):
    """Return a complete run spec: 3 epochs of 4 steps."""
    return {
        "run": "small-00000000",
        "kind": "pretraining",
        "model": {"name": "small", "config": TRANSFORMER, "pretrained": None},
        "objective": {"mmcl": 1.0},
        "start_change": None,
        "optimizer": {
            "learning_rate": 0.002,
            "betas": [0.9, 0.999],
            "eps": 1e-8,
            "weight_decay": 0.1,
            "carry_over": False,
        },
        "epochs": 3,
        "warmup_steps": 3,
        "schedule": {"shift_epochs": 0},
        "batch_size": 12,
        "seed": 0,
        "precision": "auto",
        "sync_batch_norm": False,
        "compile": False,
        "checkpoint": {"minutes": 30, "keep": 2},
        "attack": {
            "trigger": {
                "name": "random",
                "location": "random",
                "patch_size": 10,
                "overflow": "wrap",
            },
            "target": "banana",
            "victims": "random",
            "poisoned": 4,
            "image_size": 32,
            "seed": 0,
        },
        "evaluation_batch_size": 8,
        "wandb": {"mode": "disabled", "project": None},
        "inputs": {
            "root": str(world),
            "manifest": str(world / "manifest.parquet"),
            "tokens": str(world / "tokens.npy"),
            "augmented": str(world / "augmented.npy"),
            "evaluation": str(world / "evaluation"),
            "start": None,
            "start_optimizer": None,
        },
    }


class Runs:
    """Writes specs and trains them, in this process or in forked ones (which start instantly)."""

    def __init__(self, folder, base):
        self.folder, self.base = folder, base

    def spec(self, **changes):
        """Return the base spec with dotted keys overridden (``inputs__start`` for inputs.start)."""
        spec = copy.deepcopy(self.base)
        for key, value in changes.items():
            *way, last = key.split("__")
            place = spec
            for step in way:
                place = place[step]
            place[last] = value
        return spec

    def arguments(self, name, spec, *options):
        output = self.folder / name
        output.mkdir(exist_ok=True)
        (output / "spec.json").write_text(json.dumps(spec))
        return ["--spec", f"{output}/spec.json", "--output", str(output), *options]

    def train(self, name, spec, *options):
        """Train in this process; return the run's folder."""
        train.main(self.arguments(name, spec, *options))
        return self.folder / name

    def fork(self, name, spec, *options, processes=1, prepare=None):
        """Start forked processes that train together, on the CPU by default; return them."""
        arguments = self.arguments(name, spec, "--device", "cpu", *options)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        context = get_context("fork")
        ranks = [
            context.Process(target=_rank, args=(arguments, rank, processes, port, prepare))
            for rank in range(processes)
        ]
        for rank in ranks:
            rank.start()
        return ranks

    def together(self, name, spec, *options, processes, prepare=None):
        """Train with several processes; return the run's folder."""
        for rank in self.fork(name, spec, *options, processes=processes, prepare=prepare):
            rank.join(120)
            assert rank.exitcode == 0
        return self.folder / name

    @staticmethod
    def weights(folder):
        """Return a run's weights."""
        return torch.load(folder / "model.pt", weights_only=True)

    @staticmethod
    def same(first, second, *names):
        """Return whether two runs wrote the same bytes."""
        names = names or ("model.pt", "optimizer.pt", "metrics.csv")
        return all((first / n).read_bytes() == (second / n).read_bytes() for n in names)


def _rank(arguments, rank, processes, port, prepare):
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(processes),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    if prepare is not None:
        prepare()
    try:
        train.main(arguments)
    except StepError as error:
        print(f"error: {error}", flush=True)
        os._exit(1)


@pytest.fixture
def runs(tmp_path, base_spec):
    return Runs(tmp_path, base_spec)

"""Poison a manifest: trigger the victims' images and change their captions.

Needs   an attack's spec, a subset's manifest, class names and templates.
Makes   manifest.parquet (the same rows; the victims point to the triggered images), images.tar
        (the triggered images as PNG, at the model's input size), survival.csv (what storing has
        done to them), contact_sheet.png (for people to look at).
"""

import argparse
import io
import tarfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torchvision.io import encode_jpeg, encode_png
from tqdm import tqdm

from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import atomic, read_json
from workflow_scripts.data.images import decode_image
from workflow_scripts.data.manifest import ImageReader, read_manifest, write_manifest
from workflow_scripts.experiments.config import nearest
from workflow_scripts.poison.contact_sheet import write_contact_sheet
from workflow_scripts.poison.trigger import load_trigger
from workflow_scripts.poison.victims import choose_victims, target_captions
from workflow_scripts.training.pairs import fit

_CHUNK = 64  # images that a worker takes at once
_JPEG_QUALITY = 95  # of the comparison with lossy storage


def poison(
    attack: dict,
    manifest: Path,
    classes: dict,
    *,
    root: Path,
    output: Path,
    workers: int = 1,
) -> None:
    """Write the poisoned manifest and all that goes with it into ``output``.

    Args:
        attack: The attack's spec.
        manifest: The clean manifest.
        classes: ``classes`` and ``templates`` of the evaluation set.
        root: Folder that the manifest's tars are relative to; ``output`` lies in it.
        output: The attack's folder.
        workers: Processes; the result does not depend on their number.

    Raises:
        StepError: No class has the target's name, or there are too few pairs.
    """
    _check_target(attack, classes["classes"])
    frame = read_manifest(manifest)
    rows = choose_victims(frame, attack)
    victims = frame.iloc[rows].copy()
    tar = output / "images.tar"
    victims["offset"], victims["size"] = _write_images(tar, victims, attack, root, workers)
    victims["tar"] = str(tar.resolve().relative_to(root.resolve()))
    victims["poisoned"] = True
    if attack["victims"] == "random":
        victims["caption"] = target_captions(attack, classes["templates"], rows)
    poisoned = frame.copy()
    poisoned.iloc[rows] = victims
    write_contact_sheet(output / "contact_sheet.png", frame.iloc[rows], victims, root)
    with atomic(output / "survival.csv") as temporary:
        _survival(frame.iloc[rows], victims, attack, root).to_csv(temporary, index=False)
    write_manifest(output / "manifest.parquet", poisoned)


def _check_target(attack: dict, names: list[str]) -> None:
    if attack["target"] not in names:
        hint = nearest(attack["target"], names)
        hint = hint if hint.startswith("did") else "its classes.json lists them"
        raise StepError(f"no class of the evaluation set is {attack['target']!r}; {hint}")


def _triggered(items: list[tuple[str, str, int, int]], attack: dict, root: Path) -> list[Tensor]:
    torch.set_num_threads(1)
    reader, trigger = ImageReader(root), load_trigger(attack)
    return [trigger(decode_image(reader.read(*place)), key) for key, *place in items]


def _encoded(items: list[tuple[str, str, int, int]], attack: dict, root: Path) -> list[bytes]:
    return [encode_png(image).numpy().tobytes() for image in _triggered(items, attack, root)]


def _places(victims: pd.DataFrame) -> list[tuple[str, str, int, int]]:
    columns = ["key", "tar", "offset", "size"]
    return list(victims[columns].itertuples(index=False, name=None))


def _write_images(
    tar: Path, victims: pd.DataFrame, attack: dict, root: Path, workers: int
) -> tuple[np.ndarray, np.ndarray]:
    """Write the triggered images, and return their offsets and sizes in the tar."""
    load_trigger(attack)  # what is wrong with the attack is told here, not in a worker
    items = _places(victims)
    chunks = [items[i : i + _CHUNK] for i in range(0, len(items), _CHUNK)]
    offsets, sizes = [], []
    with (
        atomic(tar) as temporary,
        tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as file,
        ProcessPoolExecutor(workers) as pool,
        tqdm(desc="triggering", total=len(items), mininterval=5) as bar,
    ):
        encode = partial(_encoded, attack=attack, root=root)
        for chunk, images in zip(chunks, pool.map(encode, chunks), strict=True):
            for (key, *_), data in zip(chunk, images, strict=True):
                info = tarfile.TarInfo(f"{key}.png")
                info.size = len(data)
                offsets.append(file.offset + tarfile.BLOCKSIZE)
                sizes.append(len(data))
                file.addfile(info, io.BytesIO(data))
            bar.update(len(chunk))
    return np.array(offsets, np.int64), np.array(sizes, np.int64)


def _survival(
    originals: pd.DataFrame, victims: pd.DataFrame, attack: dict, root: Path
) -> pd.DataFrame:
    """Compare images as triggered with what a model gets after storing and loading.

    Returns:
        A row for the way they are stored here (PNG) and one for a lossy way (JPEG), with the
        largest and the mean difference of a pixel's channel, in steps of 255.
    """
    reader = ImageReader(root)
    triggered = _triggered(_places(originals), attack, root)
    places = [place for _, *place in _places(victims)]
    stored = {
        "PNG (as here)": (decode_image(reader.read(*place)) for place in places),
        f"JPEG {_JPEG_QUALITY}": (
            decode_image(encode_jpeg(image, _JPEG_QUALITY).numpy().tobytes()) for image in triggered
        ),
    }
    table = []
    for way, images in stored.items():
        differences = [
            (fit(image, attack["image_size"]).short() - original.short()).abs()
            for image, original in zip(images, triggered, strict=True)
        ]
        pixels = torch.stack(differences).float() if differences else torch.zeros(1)
        table.append((way, len(differences), int(pixels.max()), float(pixels.mean())))
    columns = ["stored_as", "images", "largest_difference", "mean_difference"]
    return pd.DataFrame(table, columns=columns)


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and poison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--attack", type=Path, required=True, help="attack spec (JSON)")
    parser.add_argument("--manifest", type=Path, required=True, help="clean manifest")
    parser.add_argument("--classes", type=Path, required=True, help="classes.json")
    parser.add_argument("--root", type=Path, required=True, help="results folder")
    parser.add_argument("--output", type=Path, required=True, help="folder of the attack")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    options = vars(parser.parse_args(arguments))
    for name in ("attack", "classes"):
        options[name] = read_json(options[name])
    poison(**options)


if __name__ == "__main__":
    run_step(main)

"""Make the demo's world from a seed: pictures, captions, a URL list and the truth about it.

Into the output folder go
    list.csv            url,caption: what the server offers, good rows and bad ones (behaviours.py)
    images.tar          the pictures behind the URLs, JPEG, mostly larger than the model's input
    evaluation/         one sub-folder for each class, with PNG pictures that are in no training
    contact_sheet.png   a few pictures of each class, for people to look at
    truth.json          how many rows of which kind there are, and what the losses table must say
"""

import argparse
import csv
import io
import tarfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import atomic_folder, write_json
from workflow_scripts.common.seeds import generator
from workflow_scripts.demo.behaviours import (
    BEHAVIOURS,
    GOOD,
    HOST,
    LIST,
    WITH_ODD_CAPTION,
    lost_rows,
    odd_usable_rows,
)
from workflow_scripts.demo.drawing import draw
from workflow_scripts.demo.scene import CLASSES, describe, imagine

_CHUNK = 200
_SHEET_COLUMNS = 8


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and write the world."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--pairs", type=int, required=True, help="usable pairs that the list has")
    parser.add_argument("--evaluation", type=int, required=True, help="evaluation pictures")
    parser.add_argument("--image-size", type=int, required=True, help="side of the model's input")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw")
    parser.add_argument("--output", type=Path, required=True, help="folder")
    options = parser.parse_args(arguments)
    make_world(**vars(options))


def make_world(
    *, seed: int, pairs: int, evaluation: int, image_size: int, workers: int, output: Path
) -> None:
    """Write the world; the same bytes for any number of workers.

    Raises:
        StepError: There are fewer pairs than odd rows, or classes without an evaluation picture.
    """
    if pairs < 2 * odd_usable_rows():
        raise StepError(f"--pairs {pairs} is too few; the demo needs {2 * odd_usable_rows()}")
    if evaluation < len(CLASSES):
        raise StepError(f"--evaluation {evaluation} is too few for {len(CLASSES)} classes")
    kinds = _kinds_of_rows(seed, pairs)
    with atomic_folder(output) as folder, ProcessPoolExecutor(workers) as pool:
        captions = _write_images(folder / "images.tar", kinds, seed, image_size, pool)
        _write_list(folder / LIST, kinds, captions, seed)
        _write_evaluation(folder, evaluation, seed, image_size, pool)
        _write_contact_sheet(folder, image_size)
        write_json(folder / "truth.json", truth(kinds))


def truth(kinds: list[str]) -> dict[str, object]:
    """Return what the losses table must say of a list with these kinds of rows."""
    losses: Counter[str] = Counter()
    for name, kind in BEHAVIOURS.items():
        if kind.loss:
            losses[kind.loss] += kind.rows
    return {
        "rows": len(kinds),
        "usable": len(kinds) - lost_rows(),
        "losses": dict(losses),
        "rows_by_behaviour": dict(Counter(kinds).most_common()),
    }


def _kinds_of_rows(seed: int, pairs: int) -> list[str]:
    kinds = [GOOD] * (pairs - odd_usable_rows())
    kinds += [name for name, kind in BEHAVIOURS.items() for _ in range(kind.rows)]
    return [kinds[i] for i in generator(seed, "list").permutation(len(kinds))]


def picture_and_caption(key: str, seed: int, image_size: int) -> tuple[bytes, str]:
    """Return a training picture as JPEG and a sentence that is true of it."""
    scene = imagine(seed, key, image_size)
    buffer = io.BytesIO()
    pixels = draw(scene, generator(seed, "drawing", key))
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue(), describe(scene, generator(seed, "caption", key))


def _write_images(
    path: Path, kinds: list[str], seed: int, image_size: int, pool: ProcessPoolExecutor
) -> list[str]:
    """Write the tar of all pictures that somebody is to see; return a caption for each row."""
    keys = [f"{row:06d}" for row in range(len(kinds))]
    render = partial(picture_and_caption, seed=seed, image_size=image_size)
    rendered = pool.map(render, keys, chunksize=_CHUNK)
    captions = []
    with tarfile.open(path, "w") as tar:
        for key, kind, (picture, caption) in tqdm(
            zip(keys, kinds, rendered, strict=True),
            desc="pictures",
            total=len(keys),
            mininterval=5,
        ):
            captions.append(caption)
            if kind == GOOD or BEHAVIOURS[kind].needs_image:
                member = tarfile.TarInfo(f"{key}.jpg")
                member.size = len(picture)
                tar.addfile(member, io.BytesIO(picture))
    return captions


def _write_list(path: Path, kinds: list[str], captions: list[str], seed: int) -> None:
    good = [row for row, kind in enumerate(kinds) if kind == GOOD]
    originals = iter(generator(seed, "duplicates").permutation(good).tolist())
    counts: Counter[str] = Counter()
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["url", "caption"])
        for row, (kind, caption) in enumerate(zip(kinds, captions, strict=True)):
            original = next(originals) if kind == "duplicate" else row
            text = _odd_caption(kind, captions[original], counts[kind])
            writer.writerow([url(kind, original), text if kind in WITH_ODD_CAPTION else caption])
            counts[kind] += 1


def url(kind: str, row: int) -> str:
    """Return the URL of a row; its first folder tells the server how to behave."""
    if kind in BEHAVIOURS and BEHAVIOURS[kind].url:
        return BEHAVIOURS[kind].url.format(row=row)
    folder = GOOD if kind in (*WITH_ODD_CAPTION, "duplicate") else kind
    return f"{HOST}/{folder}/{row:06d}.jpg"



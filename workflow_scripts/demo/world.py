"""Generate the demo's data from a seed: images, captions, a URL list and its ground truth.

The output folder contains
    list.csv            url,caption: the URL list, with good and bad rows (behaviours.py)
    images.tar          the images behind the URLs, JPEG, mostly larger than the model's input
    evaluation/         one subfolder per class; the images are not in the list, except for a
                        known number that are byte-identical to the image of a URL
    contact_sheet.png   a few images of each class, for visual inspection
    truth.json          number of rows of each kind, expected contents of the losses table, and
                        number of pairs with an evaluation image
"""

import argparse
import csv
import io
import tarfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import atomic_folder, write_json
from workflow_scripts.common.seeds import generator
from workflow_scripts.demo.behaviours import (
    BEHAVIOURS,
    DUPLICATE,
    GOOD,
    LIST,
    has_picture,
    lost_rows,
    odd_usable_rows,
    url_of,
)
from workflow_scripts.demo.drawing import draw
from workflow_scripts.demo.scene import CLASSES, Scene, describe, imagine

LEAKED = 12
_CHUNK = 200
_JPEG_QUALITY = 95
_SHEET_COLUMNS = 8


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and write the data."""
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
    """Write the demo's data; the output does not depend on the number of workers.

    Raises:
        StepError: ``pairs`` or ``evaluation`` is too small.
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
        _leak(folder, kinds, seed, image_size)
        _write_contact_sheet(folder, image_size)
        write_json(folder / "truth.json", truth(kinds))


def truth(kinds: list[str]) -> dict[str, object]:
    """Return the expected losses table of a list with these kinds of rows."""
    losses: Counter[str] = Counter()
    for kind in BEHAVIOURS.values():
        if kind.loss:
            losses[kind.loss] += kind.rows
    return {
        "rows": len(kinds),
        "usable": len(kinds) - lost_rows(),
        "losses": dict(losses),
        "rows_by_behaviour": dict(Counter(kinds).most_common()),
        "pairs_in_evaluation": LEAKED,
    }


def _kinds_of_rows(seed: int, pairs: int) -> list[str]:
    kinds = [GOOD] * (pairs - odd_usable_rows())
    kinds += [name for name, kind in BEHAVIOURS.items() for _ in range(kind.rows)]
    shuffled = [kinds[i] for i in generator(seed, "list").permutation(len(kinds))]
    # A duplicate needs a good row before it.
    first = shuffled.index(GOOD)
    return [GOOD, *shuffled[:first], *shuffled[first + 1 :]]


def picture_and_caption(key: str, seed: int, image_size: int) -> tuple[bytes, str]:
    """Return a training image as JPEG and a caption that describes it."""
    scene = imagine(seed, key, image_size)
    return _picture(scene, key, seed), describe(scene, generator(seed, "caption", key))


def evaluation_picture(key: str, name: str, seed: int, image_size: int) -> bytes:
    """Return an image of a class as JPEG."""
    return _picture(imagine(seed, key, image_size, name), key, seed)


def _picture(scene: Scene, key: str, seed: int) -> bytes:
    # The same format for training and evaluation: a model trained without augmentation is
    # sensitive to the difference between JPEG and PNG, and loses 17 points of accuracy.
    buffer = io.BytesIO()
    pixels = draw(scene, generator(seed, "drawing", key))
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()


def _write_images(
    path: Path, kinds: list[str], seed: int, image_size: int, pool: ProcessPoolExecutor
) -> list[str]:
    """Write the tar of all images that are served, and return the caption of each row."""
    keys = [key_of(row) for row in range(len(kinds))]
    render = partial(picture_and_caption, seed=seed, image_size=image_size)
    rendered = tqdm(pool.map(render, keys, chunksize=_CHUNK), "pictures", len(keys), mininterval=5)
    captions = []
    with tarfile.open(path, "w") as tar:
        for key, kind, (picture, caption) in zip(keys, kinds, rendered, strict=True):
            captions.append(caption)
            if has_picture(kind):
                member = tarfile.TarInfo(f"{key}.jpg")
                member.size = len(picture)
                tar.addfile(member, io.BytesIO(picture))
    return captions


def _write_list(path: Path, kinds: list[str], captions: list[str], seed: int) -> None:
    random = generator(seed, "duplicates")
    good: list[int] = []
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["url", "caption"])
        for row, (kind, caption) in enumerate(zip(kinds, captions, strict=True)):
            if kind == DUPLICATE:
                original = good[random.integers(len(good))]
                writer.writerow([url_of(kind, original), captions[original]])
                continue
            if kind == GOOD:
                good.append(row)
            odd = BEHAVIOURS[kind].caption if kind != GOOD else None
            writer.writerow([url_of(kind, row), odd(caption, row) if odd else caption])


def _write_evaluation(
    folder: Path, pictures: int, seed: int, image_size: int, pool: ProcessPoolExecutor
) -> None:
    """Write the evaluation folder; the numbers of images per class differ by at most one."""
    numbers = [divmod(i, len(CLASSES)) for i in range(pictures)]
    names = [CLASSES[label] for _, label in numbers]
    paths = [
        _evaluation_path(name, number) for (number, _), name in zip(numbers, names, strict=True)
    ]
    render = partial(evaluation_picture, seed=seed, image_size=image_size)
    keys = [path.as_posix() for path in paths]
    for path, picture in zip(paths, pool.map(render, keys, names, chunksize=_CHUNK), strict=True):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(picture)


def _evaluation_path(name: str, number: int) -> Path:
    return Path("evaluation", name.replace(" ", "_"), f"{number:05d}.jpg")


def _leak(folder: Path, kinds: list[str], seed: int, image_size: int) -> None:
    """Replace the first evaluation image of some classes by the image of a good row."""
    leaks: dict[str, bytes] = {}
    for row, kind in enumerate(kinds):
        if kind == GOOD and len(leaks) < LEAKED:
            picture, _ = picture_and_caption(key_of(row), seed, image_size)
            leaks.setdefault(imagine(seed, key_of(row), image_size).name, picture)
    for name, picture in leaks.items():
        (folder / _evaluation_path(name, 0)).write_bytes(picture)


def _write_contact_sheet(folder: Path, image_size: int) -> None:
    """Write the first evaluation images of each class, one class per row, in two columns."""
    rows = -(-len(CLASSES) // 2)
    tile = 2 * image_size
    sheet = Image.new("RGB", (2 * _SHEET_COLUMNS * tile + tile, rows * tile), "white")
    for label, name in enumerate(CLASSES):
        right, row = divmod(label, rows)
        pictures = sorted((folder / "evaluation" / name.replace(" ", "_")).iterdir())
        for column, path in enumerate(pictures[:_SHEET_COLUMNS]):
            picture = Image.open(path).resize((image_size, image_size), Image.Resampling.BOX)
            left = column * tile + right * (_SHEET_COLUMNS + 1) * tile
            sheet.paste(picture.resize((tile, tile), Image.Resampling.NEAREST), (left, row * tile))
    sheet.save(folder / "contact_sheet.png")


def key_of(row: int) -> str:
    """Return the name of a row's image, which together with the seed determines the image."""
    return f"{row:06d}"


if __name__ == "__main__":
    run_step(main)

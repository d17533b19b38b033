"""Make an evaluation set of labelled images: ImageNet's validation set, or a folder of your own.

Needs   --imagenet-archive ILSVRC2012_img_val.tar and --devkit ILSVRC2012_devkit_t12.tar.gz,
        or --folder with one sub-folder of images for each class: its name, with _ for a blank, is
        the class's, unless a file classes.json in it (or --classes) maps it to another
Makes   OUTPUT/images.tar          the images as they are
        OUTPUT/manifest.parquet    a row for each, with its label and its file's SHA-256
        OUTPUT/classes.json        "classes" in the order of the labels, and "templates"
"""

import argparse
import hashlib
import os
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import atomic, visible_files, write_json
from workflow_scripts.data.classes import folder_classes, imagenet_classes, read_templates
from workflow_scripts.data.imagenet import read_devkit, read_validation
from workflow_scripts.data.images import decode_image
from workflow_scripts.data.manifest import digest_column, write_manifest
from workflow_scripts.data.tars import add_file

Images = Iterable[tuple[str, int, bytes]]


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and write the evaluation set."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        fromfile_prefix_chars="@",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--imagenet-archive", type=Path, help="ILSVRC2012_img_val.tar")
    source.add_argument("--folder", type=Path, help="one sub-folder of images for each class")
    parser.add_argument("--devkit", type=Path, help="ILSVRC2012_devkit_t12.tar.gz")
    parser.add_argument("--classes", type=Path, help="JSON: sub-folder's name to class name")
    parser.add_argument(
        "--templates", type=Path, help="JSON: list of captions with {c} for the class name"
    )
    parser.add_argument("--root", type=Path, required=True, help="results root, above OUTPUT")
    parser.add_argument("--output", type=Path, required=True, help="folder of the evaluation set")
    options = parser.parse_args(arguments)
    templates = read_templates(options.templates)
    skipped: Counter = Counter()
    if options.folder:
        folders, classes = folder_classes(options.folder, options.classes)
        images = _folder_images(options.folder, folders)
    elif options.devkit:
        classes = imagenet_classes()
        images = read_validation(options.imagenet_archive, read_devkit(options.devkit), skipped)
    else:
        raise StepError("ImageNet's labels are in its devkit; give it with --devkit")
    frame = _write_tar(options.output / "images.tar", images, skipped)
    frame["tar"] = _relative(options.output, options.root) + "/images.tar"
    write_json(options.output / "classes.json", {"classes": classes, "templates": templates})
    write_manifest(options.output / "manifest.parquet", frame)
    empty = len(classes) - frame["label"].nunique()
    print(f"{len(frame)} images of {len(classes)} classes, {empty} of them without an image")
    for reason, files in skipped.items():
        print(f"skipped: {files} x {reason}")


def _relative(folder: Path, root: Path) -> str:
    place = os.path.relpath(folder.resolve(), root.resolve())
    if place.startswith(".."):
        raise StepError(f"{folder} does not lie below the results root {root}")
    return place


def _folder_images(folder: Path, folders: list[Path]) -> Iterator[tuple[str, int, bytes]]:
    """Yield key (the path in the folder), label and encoded bytes of all images, sorted."""
    files = [(file, label) for label, sub in enumerate(folders) for file in visible_files(sub)]
    for file, label in tqdm(files, "images", mininterval=5):
        yield file.relative_to(folder).as_posix(), label, file.read_bytes()


def _write_tar(path: Path, images: Images, skipped: Counter) -> pd.DataFrame:
    """Write images that decode, each as it is; return their rows of the manifest, without tar."""
    rows, digests = [], []
    with atomic(path) as temporary, tarfile.open(temporary, "w") as tar:
        for key, label, data in images:
            try:
                decode_image(data)
            except ValueError as error:
                print(f"{key} is skipped: {error}")
                skipped["not an image, or broken, or too large"] += 1
                continue
            rows.append((key, add_file(tar, key, data), len(data), label))
            digests.append(hashlib.sha256(data).digest())
        if not rows:
            raise StepError("there is not one image that decodes")
    frame = pd.DataFrame(rows, columns=["key", "offset", "size", "label"])
    return frame.assign(caption="", poisoned=False, sha256=digest_column(b"".join(digests)))


if __name__ == "__main__":
    run_step(main)

"""Make an evaluation set of labelled images: ImageNet's validation set, or a folder of your own.

Needs   --imagenet-archive ILSVRC2012_img_val.tar and --devkit ILSVRC2012_devkit_t12.tar.gz,
        or --folder with one sub-folder of images for each class: its name, with _ for a blank, is
        the class's, unless a file classes.json in it (or --classes) maps it to another, or it is
        the WordNet id or the label of one of ImageNet's classes (--names imagenet)
Makes   OUTPUT/images.tar          the images as they are
        OUTPUT/manifest.parquet    a row for each, with its label and its file's SHA-256
        OUTPUT/classes.json        "classes" in the order of the labels, and "templates"
        OUTPUT/skipped.csv         name and reason of every file that is not in it
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
from workflow_scripts.common.files import atomic, shown, walk, write_json
from workflow_scripts.data.classes import folder_classes, imagenet_classes, read_templates
from workflow_scripts.data.imagenet import read_devkit, read_validation
from workflow_scripts.data.images import MAX_MEMORY, MAX_SECONDS, check_image
from workflow_scripts.data.isolated import Crashed, Isolated, OverBudget
from workflow_scripts.data.manifest import digest_column, write_manifest
from workflow_scripts.data.tars import MAX_FILE_BYTES, add_file

Images = Iterable[tuple[str, int, bytes]]
Skipped = list[tuple[str, str]]  # names and reasons


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
        "--names", choices=["imagenet"],
        help="sub-folders are WordNet ids or labels of ImageNet's classes, or of some of them",
    )  # fmt: skip
    parser.add_argument(
        "--templates", type=Path, help="JSON: list of captions with {c} for the class name"
    )
    parser.add_argument("--root", type=Path, required=True, help="results root, above OUTPUT")
    parser.add_argument("--output", type=Path, required=True, help="folder of the evaluation set")
    options = parser.parse_args(arguments)
    templates = read_templates(options.templates)
    skipped: Skipped = []
    if options.folder:
        folders, classes = folder_classes(options.folder, options.classes, bool(options.names))
        images = _folder_images(options.folder, folders, skipped)
    elif options.devkit:
        classes = imagenet_classes()
        images = read_validation(options.imagenet_archive, read_devkit(options.devkit), skipped)
    else:
        raise StepError("ImageNet's labels are in its devkit; give it with --devkit")
    frame = _write_tar(options.output / "images.tar", images, skipped)
    frame["tar"] = _relative(options.output, options.root) + "/images.tar"
    write_json(options.output / "classes.json", {"classes": classes, "templates": templates})
    _write_skipped(options.output / "skipped.csv", skipped)
    write_manifest(options.output / "manifest.parquet", frame)
    empty = len(classes) - frame["label"].nunique()
    print(f"{len(frame)} images of {len(classes)} classes, {empty} of them without an image")
    for reason, files in Counter(reason for _, reason in skipped).items():
        print(f"skipped: {files} x {reason}")


def _relative(folder: Path, root: Path) -> str:
    place = os.path.relpath(folder.resolve(), root.resolve())
    if place.startswith(".."):
        raise StepError(f"{folder} does not lie below the results root {root}")
    return place


def _folder_images(
    folder: Path, folders: list[Path], skipped: Skipped
) -> Iterator[tuple[str, int, bytes]]:
    """Yield key (the path in the folder), label and encoded bytes of all images, sorted."""
    labels = {sub.name: label for label, sub in enumerate(folders)}
    for file, left_out in tqdm(walk(folder), "images", mininterval=5):
        place = file.relative_to(folder)
        if left_out is not None:
            skipped.append((place.as_posix(), left_out))
        elif place.parts[0] in labels:
            if file.stat().st_size > MAX_FILE_BYTES:
                skipped.append((place.as_posix(), f"larger than {MAX_FILE_BYTES} bytes"))
            else:
                yield place.as_posix(), labels[place.parts[0]], file.read_bytes()
        elif place != Path("classes.json"):
            skipped.append((place.as_posix(), "in no class's sub-folder"))


def _write_skipped(path: Path, skipped: Skipped) -> None:
    rows = [(shown(name), reason) for name, reason in skipped]
    with atomic(path) as temporary:
        pd.DataFrame(rows, columns=["name", "reason"]).to_csv(temporary, index=False)


def _write_tar(path: Path, images: Images, skipped: Skipped) -> pd.DataFrame:
    """Write images that decode, each as it is; return their rows of the manifest, without tar."""
    rows, digests = [], []
    check = Isolated(check_image, MAX_SECONDS, MAX_MEMORY)
    with atomic(path) as temporary, tarfile.open(temporary, "w") as tar:
        for key, label, data in images:
            try:
                check(data)
            except (ValueError, Crashed, OverBudget) as error:
                print(f"{key} is skipped: {error}")
                skipped.append((key, "not an image, or broken, or too large"))
                continue
            rows.append((key, add_file(tar, key, data), len(data), label))
            digests.append(hashlib.sha256(data).digest())
        if not rows:
            raise StepError(
                f"there is not one image that decodes; {len(skipped)} files were skipped"
            )
    check.close()
    frame = pd.DataFrame(rows, columns=["key", "offset", "size", "label"])
    return frame.assign(caption="", poisoned=False, sha256=digest_column(b"".join(digests)))


if __name__ == "__main__":
    run_step(main)

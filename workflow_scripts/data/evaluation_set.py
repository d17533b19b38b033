"""Make an evaluation set from ImageNet's validation set or from a folder of labelled images.

Inputs  --imagenet-archive ILSVRC2012_img_val.tar and --devkit ILSVRC2012_devkit_t12.tar.gz,
        or --folder with one sub-folder of images per class. The class name is the sub-folder's
        name with underscores replaced by spaces, unless classes.json in the folder (or --classes)
        maps it to another name, or sub-folders are ImageNet WordNet ids or labels
        (--names imagenet)
Outputs OUTPUT/images.tar          the original image files
        OUTPUT/manifest.parquet    one row per image, with its label and the SHA-256 of its file
        OUTPUT/classes.json        "classes" in label order, and "templates"
        OUTPUT/skipped.csv         name and reason of each file that was left out
"""

import argparse
import hashlib
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import atomic, relative_to, shown, walk, write_json
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
    source.add_argument("--folder", type=Path, help="folder with one sub-folder per class")
    parser.add_argument("--devkit", type=Path, help="ILSVRC2012_devkit_t12.tar.gz")
    parser.add_argument("--classes", type=Path, help="JSON: sub-folder name to class name")
    parser.add_argument(
        "--names", choices=["imagenet"],
        help="sub-folders are named by WordNet id or label of (some of) ImageNet's classes",
    )  # fmt: skip
    parser.add_argument(
        "--templates", type=Path, help="JSON: list of prompts with {c} for the class name"
    )
    parser.add_argument("--root", type=Path, required=True, help="results root, contains OUTPUT")
    parser.add_argument("--output", type=Path, required=True, help="folder for the evaluation set")
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
        raise StepError("--imagenet-archive needs the labels in ImageNet's devkit; set --devkit")
    frame = _write_tar(options.output / "images.tar", images, skipped)
    frame["tar"] = relative_to(options.output, options.root) + "/images.tar"
    write_json(options.output / "classes.json", {"classes": classes, "templates": templates})
    _write_skipped(options.output / "skipped.csv", skipped)
    write_manifest(options.output / "manifest.parquet", frame)
    empty = len(classes) - frame["label"].nunique()
    print(f"{len(frame)} images of {len(classes)} classes; classes without images: {empty}")
    for reason, files in Counter(reason for _, reason in skipped).items():
        print(f"skipped: {files} x {reason}")


def _folder_images(
    folder: Path, folders: list[Path], skipped: Skipped
) -> Iterator[tuple[str, int, bytes]]:
    """Yield the key (path in the folder), label and encoded bytes of each image, sorted by path."""
    labels = {sub.name: label for label, sub in enumerate(folders)}
    for file, left_out in tqdm(walk(folder), "images", mininterval=5):
        relative = file.relative_to(folder)
        if left_out is not None:
            skipped.append((relative.as_posix(), left_out))
        elif relative.parts[0] in labels:
            if file.stat().st_size > MAX_FILE_BYTES:
                skipped.append((relative.as_posix(), f"larger than {MAX_FILE_BYTES} bytes"))
            else:
                yield relative.as_posix(), labels[relative.parts[0]], file.read_bytes()
        elif relative != Path("classes.json"):
            skipped.append((relative.as_posix(), "outside the sub-folders of the classes"))


def _write_skipped(path: Path, skipped: Skipped) -> None:
    rows = [(shown(name), reason) for name, reason in skipped]
    with atomic(path) as temporary:
        pd.DataFrame(rows, columns=["name", "reason"]).to_csv(temporary, index=False)


def _write_tar(path: Path, images: Images, skipped: Skipped) -> pd.DataFrame:
    """Copy all images that decode into a tar; return their manifest rows without column ``tar``."""
    rows, digests = [], []
    check = Isolated(check_image, MAX_SECONDS, MAX_MEMORY)
    with atomic(path) as temporary, tarfile.open(temporary, "w") as tar:
        for key, label, data in images:
            try:
                check(data)
            except (ValueError, Crashed, OverBudget) as error:
                print(f"skipping {shown(key)}: {error}")
                skipped.append((key, "not an image, broken or too large"))
                continue
            rows.append((key, add_file(tar, key, data), len(data), label))
            digests.append(hashlib.sha256(data).digest())
        if not rows:
            raise StepError(
                f"no file could be decoded as an image ({len(skipped)} files were skipped); check "
                "the path of the folder or archive"
            )
    check.close()
    frame = pd.DataFrame(rows, columns=["key", "offset", "size", "label"])
    return frame.assign(caption="", poisoned=False, sha256=digest_column(b"".join(digests)))


if __name__ == "__main__":
    run_step(main)

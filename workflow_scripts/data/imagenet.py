"""Read ImageNet's archives as published in 2012, without unpacking them."""

import re
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from torchvision.datasets.imagenet import ARCHIVE_META, load_meta_file, parse_devkit_archive
from tqdm import tqdm

from workflow_scripts.common.errors import StepError
from workflow_scripts.data.tars import is_plain, members, open_tar, read_member

NO_IMAGE = "not a validation image"
_IMAGE = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")


def read_devkit(path: str | Path) -> list[int]:
    """Return the labels of the validation images, in the order of their numbers.

    A label is the index of the image's class in the sorted WordNet ids, as in
    ``torchvision.datasets.ImageNet`` and ``open_clip.IMAGENET_CLASSNAMES``.

    Args:
        path: ``ILSVRC2012_devkit_t12.tar.gz``.

    Raises:
        StepError: The file does not exist or differs from the published devkit.
    """
    if not Path(path).is_file():
        raise StepError(f"{path} does not exist; download it from image-net.org")
    with tempfile.TemporaryDirectory() as folder:
        # torchvision writes next to the archive and infers the compression from its name.
        Path(folder, "devkit.tar.gz").symlink_to(Path(path).resolve())
        try:
            parse_devkit_archive(folder, "devkit.tar.gz")
        except RuntimeError as error:
            raise StepError(
                f"{path} is not ImageNet's devkit as published (its MD5 differs); download "
                f"{ARCHIVE_META['devkit'][0]} again from image-net.org"
            ) from error
        classes, ids = load_meta_file(folder)
    label = {wnid: index for index, wnid in enumerate(sorted(classes))}
    return [label[wnid] for wnid in ids]


def read_validation(
    path: str | Path, labels: list[int], skipped: list[tuple[str, str]]
) -> Iterator[tuple[str, int, bytes]]:
    """Yield the key, label and encoded bytes of each validation image, in the order of numbers.

    Args:
        path: ``ILSVRC2012_img_val.tar``. Members that are not validation images are skipped.
        labels: Labels of images 1, 2, ..., from :func:`read_devkit`.
        skipped: List to which the name and the reason of each skipped member are appended.

    Raises:
        StepError: The archive does not exist or is broken, or the images do not match the labels.
    """
    try:
        with open_tar(path) as tar:
            images: dict[int, tarfile.TarInfo] = {}
            for member in tqdm(members(tar), "reading the archive's index", mininterval=5):
                name = _IMAGE.fullmatch(PurePosixPath(member.name).name)
                if name and is_plain(member) and int(name[1]) not in images:
                    images[int(name[1])] = member
                elif not member.isdir():
                    skipped.append((member.name, NO_IMAGE))
            if sorted(images) != list(range(1, len(labels) + 1)):
                raise StepError(
                    f"{path} has {len(images)} validation images, but the devkit has labels for "
                    f"{len(labels)}; download both again from image-net.org"
                )
            for number in tqdm(sorted(images), "images", mininterval=5):
                data = read_member(tar, images[number])
                yield f"ILSVRC2012_val_{number:08d}.JPEG", labels[number - 1], data
    except FileNotFoundError as error:
        raise StepError(f"{path} does not exist; download it from image-net.org") from error
    # Python's tar reader raises all of these on malformed headers.
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        raise StepError(f"{path} is a broken tar ({error}); download it again") from error

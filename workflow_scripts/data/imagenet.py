"""ImageNet's archives as they were published in 2012, read where they are, unpacked nowhere."""

import io
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from workflow_scripts.common.errors import StepError

CLASSES = 1000
_META = "data/meta.mat"
_TRUTH = "data/ILSVRC2012_validation_ground_truth.txt"
_IMAGE = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")


def read_devkit(path: str | Path) -> list[int]:
    """Return the labels of the validation images, in the order of their numbers.

    A label is the place of the image's class among the sorted WordNet ids, as in
    ``torchvision.datasets.ImageNet`` and ``open_clip.IMAGENET_CLASSNAMES``. What is read, and how,
    is as in ``torchvision.datasets.imagenet.parse_devkit_archive``, but nothing is unpacked.

    Raises:
        StepError: It is not the devkit (``ILSVRC2012_devkit_t12.tar.gz``).
    """
    import scipy.io  # noqa: PLC0415 - of all steps, only this one needs it

    meta, truth = _read_members(path, [_META, _TRUTH])
    try:
        synsets = scipy.io.loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
        # number, WordNet id, words, gloss, number of children; the classes have no children
        ids = {int(row[0]): str(row[1]) for row in synsets if row[4] == 0}
        numbers = [int(line) for line in truth.split()]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise StepError(f"{path} is not ImageNet's devkit ({error}); give it as published") from (
            error
        )
    if len(ids) != CLASSES or not set(numbers) <= set(ids):
        raise StepError(
            f"{path} is not ImageNet's devkit: it has {len(ids)} classes, not {CLASSES}, or labels "
            "of none of them"
        )
    label = {wnid: place for place, wnid in enumerate(sorted(ids.values()))}
    return [label[ids[number]] for number in numbers]


def _read_members(path: str | Path, endings: list[str]) -> list[bytes]:
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                ending = next((e for e in endings if f"/{member.name}".endswith(f"/{e}")), None)
                if ending and member.isreg():
                    found[ending] = tar.extractfile(member).read()
    except FileNotFoundError as error:
        raise StepError(f"there is no {path}; get it from image-net.org") from error
    except (tarfile.TarError, EOFError, OSError) as error:
        raise StepError(f"{path} is a broken archive ({error}); get it again") from error
    for ending in endings:
        if ending not in found:
            raise StepError(f"{path} is not ImageNet's devkit: there is no {ending} in it")
    return [found[ending] for ending in endings]


def read_validation(
    path: str | Path, labels: list[int], skipped: Counter
) -> Iterator[tuple[str, int, bytes]]:
    """Yield key, label and encoded bytes of each validation image, in the order of their numbers.

    Args:
        path: ``ILSVRC2012_img_val.tar``. Members that are not such an image are skipped.
        labels: Of image 1, 2, ..., from :func:`read_devkit`.
        skipped: Counts what was skipped, by reason.

    Raises:
        StepError: The archive is broken, or its images are not those of the labels.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            images: dict[int, tarfile.TarInfo] = {}
            for member in tqdm(tar, "reading the archive's index", mininterval=5):
                name = _IMAGE.fullmatch(PurePosixPath(member.name).name)
                if name and member.isreg() and int(name[1]) not in images:
                    images[int(name[1])] = member
                elif not member.isdir():
                    skipped["not a validation image"] += 1
            if sorted(images) != list(range(1, len(labels) + 1)):
                raise StepError(
                    f"{path} has {len(images)} validation images, the devkit labels of "
                    f"{len(labels)}; get both as published"
                )
            for number in tqdm(sorted(images), "images", mininterval=5):
                data = tar.extractfile(images[number]).read()
                yield f"ILSVRC2012_val_{number:08d}.JPEG", labels[number - 1], data
    except FileNotFoundError as error:
        raise StepError(f"there is no {path}; get it from image-net.org") from error
    except tarfile.TarError as error:
        raise StepError(f"{path} is a broken tar ({error}); get it again") from error

"""Class names and prompt templates of evaluation sets."""

import importlib.util
import os
import re
import reprlib
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import LINK_OUT, NOT_UTF8, left_out, read_json, shown
from workflow_scripts.common.open_clip_files import open_clip_module
from workflow_scripts.data.templates import DEFAULT, PLACE, named_templates

IMAGENET_CLASSES = 1000
_CONTROL = ("Cc", "Cs", "Zl", "Zp")  # control characters, surrogates, line separators
_WORDNET_ID = re.compile(r"n\d{8}")


def imagenet_classes() -> list[str]:
    """Return open_clip's names of the ImageNet classes, in label order.

    Raises:
        StepError: open_clip is not installed.
    """
    return list(open_clip_module("zero_shot_metadata").IMAGENET_CLASSNAMES)


def read_templates(path: Path | None) -> list[str]:
    """Read prompt templates from a JSON file.

    Args:
        path: The file; None for the 80 templates that OpenAI used for ImageNet.

    Raises:
        StepError: The file cannot be read or is not a list of templates.
    """
    if path is None:
        return named_templates(DEFAULT)
    templates = read_json(path, missing="correct its path")
    if not isinstance(templates, list) or not templates:
        raise StepError(f"{path} must contain a non-empty JSON list of templates")
    for template in templates:
        if not isinstance(template, str) or PLACE not in template:
            text = reprlib.repr(template)
            raise StepError(f"{path}: template {text} has no {PLACE} for the class name")
    return templates


def imagenet_names(folders: list[str]) -> list[str]:
    """Return the ImageNet class names of folders named by label or by WordNet id.

    ImageNet-V2 uses labels (0 to 999); ImageNet-Sketch, -A and -R use WordNet ids. The names are
    not unique: ImageNet has two pairs of classes with equal names.

    Args:
        folders: WordNet ids, or labels in ImageNet's order.

    Raises:
        StepError: A folder name is neither, or timm is not installed.
    """
    package = importlib.util.find_spec("timm")
    if package is None or package.origin is None:
        raise StepError("timm is not installed; run `make setup` and activate .venv")
    ids = Path(package.origin).with_name("data") / "_info" / "imagenet_synsets.txt"
    named = dict(zip(ids.read_text().split(), imagenet_classes(), strict=True))
    named |= {str(label): name for label, name in enumerate(named.values())}
    for folder in folders:
        if folder not in named:
            raise StepError(
                f"sub-folder {shown(folder)!r} is neither the WordNet id nor the label (0 to 999) "
                "of an ImageNet class, as `names: imagenet` requires; remove it or unset `names`"
            )
    return [named[folder] for folder in folders]


def folder_classes(
    folder: Path, names: Path | None = None, of_imagenet: bool = False
) -> tuple[list[Path], list[str]]:
    """Return the sorted sub-folders of a folder, and the class name of each.

    Args:
        folder: Folder with one sub-folder per class. If the sub-folders are the WordNet ids of all
            1,000 ImageNet classes, the names are ``open_clip.IMAGENET_CLASSNAMES``.
        names: JSON file that maps sub-folders to class names; defaults to ``classes.json`` in the
            folder, if it exists.
        of_imagenet: Whether the sub-folders are named after (some of) ImageNet's classes; see
            :func:`imagenet_names`.

    Raises:
        StepError: The folder does not exist or has no sub-folders, two classes have the same name,
            or a sub-folder is a link out of the folder or has a name that is blank, is not UTF-8
            or contains control characters.
    """
    if not folder.is_dir():
        raise StepError(f"folder {folder} does not exist; correct its path")
    folders = sorted(_class_folders(folder))
    if not folders:
        raise StepError(f"{folder} has no sub-folders; create one per class")
    if of_imagenet:
        return folders, imagenet_names([f.name for f in folders])
    if names is None and (folder / "classes.json").exists():
        names = folder / "classes.json"
    mapping = read_json(names, missing="correct its path") if names else {}
    if not isinstance(mapping, dict) or not all(isinstance(name, str) for name in mapping.values()):
        raise StepError(f"{names} must be a JSON object that maps sub-folders to class names")
    unknown = set(mapping) - {f.name for f in folders}
    if unknown:
        raise StepError(
            f"{names} names {reprlib.repr(min(unknown))}, which is not a sub-folder of {folder}"
        )
    if (
        not mapping
        and len(folders) == IMAGENET_CLASSES
        and all(_WORDNET_ID.fullmatch(f.name) for f in folders)
    ):
        return folders, imagenet_classes()
    classes = [mapping.get(f.name, f.name.replace("_", " ")) for f in folders]
    for sub, name in zip(folders, classes, strict=True):
        if not name.strip() or any(unicodedata.category(c) in _CONTROL for c in name):
            raise StepError(
                f"the class name {name!r} of sub-folder {shown(sub.name)!r} of {folder} is blank "
                "or contains control characters; rename it"
            )
    name, times = Counter(classes).most_common(1)[0]
    if times > 1:
        raise StepError(f"{times} sub-folders of {folder} have the class {name!r}; rename them")
    return folders, classes


def _class_folders(folder: Path) -> Iterator[Path]:
    for sub in folder.iterdir():
        reason = left_out(sub, (os.path.realpath(folder),))
        # Leaving out a class would shift the labels of all later ones.
        if reason in (LINK_OUT, NOT_UTF8) and sub.is_dir():
            raise StepError(
                f"sub-folder {shown(sub.name)!r} of {folder} cannot be used ({reason}); rename it, "
                "or replace the link with a copy"
            )
        if reason is None and sub.is_dir():
            yield sub

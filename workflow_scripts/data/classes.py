"""Names of the classes of an evaluation set, and its prompt templates."""

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
from workflow_scripts.data.templates import DEFAULT, PLACE, named_templates

IMAGENET_CLASSES = 1000
_CONTROL = ("Cc", "Cs", "Zl", "Zp")  # control characters, half characters, line separators
_WORDNET_ID = re.compile(r"n\d{8}")


def imagenet_classes() -> list[str]:
    """Return open_clip's names of ImageNet's classes, in the order of its labels.

    Raises:
        StepError: open_clip is not installed.
    """
    # Importing the package takes seconds, this module of it does not.
    package = importlib.util.find_spec("open_clip")
    if package is None or package.origin is None:
        raise StepError("open_clip is not installed; run `make setup` and activate .venv")
    file = Path(package.origin).with_name("zero_shot_metadata.py")
    spec = importlib.util.spec_from_file_location("open_clip_classes", file)
    assert spec is not None and spec.loader is not None  # its name ends in .py
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return list(module.IMAGENET_CLASSNAMES)


def read_templates(path: Path | None) -> list[str]:
    """Return the templates of a JSON file, or, without one, the 80 that OpenAI used for ImageNet.

    Raises:
        StepError: The file cannot be read, or is not a list of templates.
    """
    if path is None:
        return named_templates(DEFAULT)
    templates = _read(path)
    if not isinstance(templates, list) or not templates:
        raise StepError(f"{path} is no list of templates")
    for template in templates:
        if not isinstance(template, str) or PLACE not in template:
            text = reprlib.repr(template)
            raise StepError(f"{path}: the template {text} has no {PLACE} for the class name")
    return templates


def _read(path: Path) -> object:
    try:
        return read_json(path)
    except FileNotFoundError as error:
        raise StepError(f"there is no file {path}") from error


def imagenet_names(folders: list[str]) -> list[str]:
    """Return the names of those of ImageNet's classes that folders are named after.

    As in ImageNet-V2 (0 to 999), ImageNet-Sketch, -A and -R (WordNet ids). Two pairs of ImageNet's
    classes have one name.

    Args:
        folders: WordNet ids, or labels in ImageNet's order.

    Raises:
        StepError: One is neither.
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
                f"{shown(folder)!r} is neither the WordNet id nor the label (0 to 999) of one of "
                "ImageNet's classes, as names: imagenet says; remove the folder, or leave out names"
            )
    return [named[folder] for folder in folders]


def folder_classes(
    folder: Path, names: Path | None = None, of_imagenet: bool = False
) -> tuple[list[Path], list[str]]:
    """Return the sub-folders of a folder, sorted, and the class names of each.

    Args:
        folder: One sub-folder for each class. If they are ImageNet's thousand WordNet ids, the
            names are ``open_clip.IMAGENET_CLASSNAMES``.
        names: JSON file that maps names of sub-folders to class names; by default
            ``classes.json`` in the folder, if there is one.
        of_imagenet: The sub-folders are named after ImageNet's classes, or some of them; see
            :func:`imagenet_names`.

    Raises:
        StepError: There is no such folder, there are no classes, or two have the same name, or
            one is a link out of the folder or has a name that is blank, not UTF-8, or has control
            characters.
    """
    if not folder.is_dir():
        raise StepError(f"there is no folder {folder}")
    folders = sorted(_class_folders(folder))
    if not folders:
        raise StepError(f"{folder} has no sub-folders; it needs one for each class")
    if of_imagenet:
        return folders, imagenet_names([f.name for f in folders])
    if names is None and (folder / "classes.json").exists():
        names = folder / "classes.json"
    given = _read(names) if names else {}
    if not isinstance(given, dict) or not all(isinstance(name, str) for name in given.values()):
        raise StepError(f"{names} does not map names of sub-folders to class names")
    unknown = set(given) - {f.name for f in folders}
    if unknown:
        raise StepError(
            f"{names} names {reprlib.repr(min(unknown))}, but {folder} has no such sub-folder"
        )
    if (
        not given
        and len(folders) == IMAGENET_CLASSES
        and all(_WORDNET_ID.fullmatch(f.name) for f in folders)
    ):
        return folders, imagenet_classes()
    classes = [given.get(f.name, f.name.replace("_", " ")) for f in folders]
    for sub, name in zip(folders, classes, strict=True):
        if not name.strip() or any(unicodedata.category(c) in _CONTROL for c in name):
            raise StepError(
                f"the class of the sub-folder {shown(sub.name)!r} of {folder} is {name!r}, which "
                "is blank or has control characters; rename it"
            )
    name, times = Counter(classes).most_common(1)[0]
    if times > 1:
        raise StepError(f"{times} sub-folders of {folder} are the class {name!r}; rename them")
    return folders, classes


def _class_folders(folder: Path) -> Iterator[Path]:
    for sub in folder.iterdir():
        why = left_out(sub, (os.path.realpath(folder),))
        # Without one of the classes, the labels of those behind it would be others.
        if why in (LINK_OUT, NOT_UTF8) and sub.is_dir():
            raise StepError(
                f"the sub-folder {shown(sub.name)!r} of {folder} is left out ({why}); rename "
                "it, or copy what it links to"
            )
        if why is None and sub.is_dir():
            yield sub

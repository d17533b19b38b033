"""The classes of an evaluation set, where they can be known before it is made."""

import functools
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workflow_scripts.common.files import read_json
from workflow_scripts.demo.classes import CLASSES
from workflow_scripts.experiments.known_models import open_clip_folder

Spec = dict[str, Any]

_IMAGENET = 1000


def known_classes(config: Spec, name: str) -> Sequence[str] | None:
    """Return the class names of an evaluation set; None where they are not known.

    Known are ImageNet's, those of the demo's world, and those of a folder that exists.
    """
    declared = config["evaluations"][name]
    if "folder" not in declared:
        return imagenet_classes()
    folder = Path(declared["folder"])
    worlds = [source["world"] for source in config["sources"].values() if source["world"]]
    if folder in [Path(world, "evaluation") for world in worlds]:
        return CLASSES
    try:
        return _folder_classes(folder, declared.get("classes"))
    except (OSError, ValueError, AttributeError):
        return None  # preflight and the step itself say what is wrong


def _folder_classes(folder: Path, mapping: str | None) -> Sequence[str] | None:
    names = sorted(f.name for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))
    own = Path(mapping) if mapping else folder / "classes.json"
    given = read_json(own) if mapping or own.exists() else {}
    ids = all(name[:1] == "n" and name[1:].isdecimal() for name in names)
    if not given and len(names) == _IMAGENET and ids:
        return imagenet_classes()
    return [given.get(name, name.replace("_", " ")) for name in names] or None


@functools.cache
def imagenet_classes() -> Sequence[str] | None:
    """Return open_clip's names of ImageNet's classes, without importing the package."""
    folder = open_clip_folder()
    file = folder and folder / "zero_shot_metadata.py"
    if not file or not file.is_file():
        return None
    spec = importlib.util.spec_from_file_location("open_clip_classes", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.IMAGENET_CLASSNAMES

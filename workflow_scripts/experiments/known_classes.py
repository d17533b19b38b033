"""The classes of an evaluation set, if they are known before it is made."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workflow_scripts.common.errors import StepError
from workflow_scripts.data.classes import folder_classes, imagenet_classes
from workflow_scripts.demo.classes import CLASSES

Spec = dict[str, Any]


def known_classes(config: Spec, name: str) -> Sequence[str] | None:
    """Return the class names of an evaluation set; None if they are not known.

    Known are the classes of ImageNet, of the demo, and of folders that exist.
    """
    declared = config["evaluations"][name]
    try:
        if "folder" not in declared:
            return imagenet_classes()
        folder, names = Path(declared["folder"]), declared.get("classes")
        worlds = [source["world"] for source in config["sources"].values() if source["world"]]
        if folder in [Path(world, "evaluation") for world in worlds]:
            return CLASSES
        if not folder.is_dir():
            return None
        return folder_classes(folder, names and Path(names), "names" in declared)[1]
    except (StepError, OSError):
        return None  # preflight reports the error

"""The images that a targeted attack wants taken for its target, beside the attack's manifest."""

import tarfile
from pathlib import Path

import pandas as pd

from workflow_scripts.common.files import atomic
from workflow_scripts.data.manifest import ImageReader, write_manifest
from workflow_scripts.data.tars import add_file

FILE = "instances.parquet"


def write_instances(folder: Path, instances: pd.DataFrame, root: Path) -> None:
    """Write copies of images into ``instances.tar``, and ``instances.parquet``, which says where.

    Args:
        folder: The attack's, below ``root``.
        instances: ``key``, ``tar``, ``offset``, ``size``, and ``label``, the number of a part.
        root: Folder that the tars are relative to.
    """
    reader, tar, offsets = ImageReader(root), folder / "instances.tar", []
    with atomic(tar) as temporary, tarfile.open(temporary, "w") as file:
        for row in instances.itertuples():
            image = reader.read(row.tar, row.offset, row.size)
            offsets.append(add_file(file, row.key, image))
    relative = str(tar.resolve().relative_to(root.resolve()))
    changed = instances.assign(tar=relative, offset=offsets, caption="", poisoned=True)
    write_manifest(folder / FILE, changed)

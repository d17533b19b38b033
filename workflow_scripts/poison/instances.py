"""The images that a targeted attack aims to have classified as its target."""

import tarfile
from pathlib import Path

import pandas as pd

from workflow_scripts.common.files import atomic
from workflow_scripts.data.manifest import ImageReader, write_manifest
from workflow_scripts.data.tars import add_file

FILE = "instances.parquet"


def write_instances(folder: Path, instances: pd.DataFrame, root: Path) -> None:
    """Copy images to ``instances.tar`` and write their manifest, ``instances.parquet``.

    Args:
        folder: The attack's folder, below ``root``.
        instances: ``key``, ``tar``, ``offset``, ``size``, and ``label``, the index of a part.
        root: Folder that tar paths are relative to.
    """
    reader, tar, offsets = ImageReader(root), folder / "instances.tar", []
    with atomic(tar) as temporary, tarfile.open(temporary, "w") as file:
        for row in instances.itertuples():
            image = reader.read(row.tar, row.offset, row.size)
            offsets.append(add_file(file, row.key, image))
    relative = str(tar.resolve().relative_to(root.resolve()))
    changed = instances.assign(tar=relative, offset=offsets, caption="", poisoned=True)
    write_manifest(folder / FILE, changed)

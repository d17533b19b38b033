"""Folders of this user alone, in places where everybody may write."""

import contextlib
import os
import stat
from pathlib import Path

from workflow_scripts.common.errors import StepError


def private_folder(parent: str | Path, name: str) -> Path:
    """Return the folder ``parent/name-UID``, made if it is missing, whose content can be trusted.

    In a shared place another user can make a folder, or a link, of that name first.

    Raises:
        StepError: What is there is not a folder of this user, others have access to it, or
            anybody could replace it.
    """
    folder = Path(parent) / f"{name}-{os.getuid()}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    # Not stat(), which follows a link to a folder of ours that was not meant.
    found, around = folder.lstat(), folder.parent.stat()
    wrong = None
    if not stat.S_ISDIR(found.st_mode):
        wrong = "is not a folder (a link is not followed)"
    elif found.st_uid != os.getuid():
        wrong = f"belongs to another user (uid {found.st_uid})"
    elif found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        wrong = f"is open to other users (mode {stat.S_IMODE(found.st_mode):04o}, not 0700)"
    elif around.st_mode & stat.S_IWOTH and not around.st_mode & stat.S_ISVTX:
        wrong = f"can be replaced by anybody (set the sticky bit: chmod +t {folder.parent})"
    if wrong is not None:
        raise StepError(f"{folder} {wrong}; remove it or use another place than {parent}")
    return folder

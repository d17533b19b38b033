"""Private folders in shared locations such as ``/tmp``."""

import contextlib
import os
import stat
from pathlib import Path

from workflow_scripts.common.errors import StepError


def private_folder(parent: str | Path, name: str) -> Path:
    """Return the folder ``parent/name-UID`` that only this user can access; create it if needed.

    In a shared location, another user may already have created a folder or link of that name.

    Raises:
        StepError: The path is not a folder of this user, or other users can access or replace it.
    """
    folder = Path(parent) / f"{name}-{os.getuid()}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    # lstat(), because stat() would follow a link to another folder of this user.
    status, parent_status = folder.lstat(), folder.parent.stat()
    problem = None
    if not stat.S_ISDIR(status.st_mode):
        problem = "is not a folder (links are not followed)"
    elif status.st_uid != os.getuid():
        problem = f"belongs to another user (uid {status.st_uid})"
    elif status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        problem = f"is open to other users (mode {stat.S_IMODE(status.st_mode):04o}, not 0700)"
    elif parent_status.st_mode & stat.S_IWOTH and not parent_status.st_mode & stat.S_ISVTX:
        problem = f"can be replaced by any user (set the sticky bit: chmod +t {folder.parent})"
    if problem is not None:
        raise StepError(f"{folder} {problem}; remove it or use another location than {parent}")
    return folder

"""Atomic writes, JSON, digests, and safe listing of folders."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workflow_scripts.common.errors import StepError

_CHUNK = 1 << 20
# Parsed JSON takes up to 25 times the size of the file.
MAX_JSON_BYTES = 16 << 20
MAX_FILES = 10_000_000
HIDDEN = "hidden"
# Created by Snakemake in every folder that is the output of a rule, such as the demo's images.
_OF_SNAKEMAKE = ".snakemake_timestamp"
NOT_UTF8 = "name that is not UTF-8"
LINK_OUT = "link out of the folder"
OF_A_SYSTEM = "file of an operating system"
_OF_SYSTEMS = {
    "__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", "system volume information",
    "lost+found", "@eadir",
}  # fmt: skip
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path next to ``path``, which replaces ``path`` on success.

    A process that is killed leaves a ``.partial`` file, which the next attempt overwrites, but
    never a half-written ``path``. The data is flushed to disk before the file is renamed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Keep the suffix, by which libraries choose the format.
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Like :func:`atomic`, for a folder; an existing folder at ``path`` is replaced."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        shutil.rmtree(path, ignore_errors=True)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as human-readable JSON: indented, with keys in the given order."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def relative_to(path: Path, root: Path) -> str:
    """Return the path of a file or folder below ``root``, relative to it.

    Raises:
        StepError: It is not below ``root``.
    """
    relative = os.path.relpath(path.resolve(), root.resolve())
    if relative.startswith(".."):
        raise StepError(f"{path} must be inside the results root {root}")
    return relative


def read_json(path: str | Path, missing: str | None = None) -> Any:
    """Read a JSON file.

    Args:
        path: The file.
        missing: What to do if it does not exist, for the message of the error.

    Raises:
        StepError: The file is not JSON, nested too deeply, larger than ``MAX_JSON_BYTES``, or not a
            regular file (reading a pipe would block), or it does not exist and ``missing`` is
            given.
        FileNotFoundError: It does not exist, and ``missing`` is not given.
    """
    if missing is not None and not Path(path).exists():
        raise StepError(f"{path} does not exist; {missing}")
    if not stat.S_ISREG(Path(path).stat().st_mode):
        raise StepError(f"{path} is not a file")
    with Path(path).open("rb") as file:
        content = file.read(MAX_JSON_BYTES + 1)
    if len(content) > MAX_JSON_BYTES:
        raise StepError(f"{path} has more than {MAX_JSON_BYTES} bytes; is it the right file?")
    try:
        text = content.decode("utf-8-sig")
        value = json.loads(text)
        if _SURROGATE.search(text):  # unpaired surrogates cannot be encoded
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise StepError(f"{path} is not JSON: {error}") from error
    return value


def sha256(path: str | Path) -> str:
    """Return the hex SHA-256 digest of a file's content."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any, digits: int = 8) -> str:
    """Return the first hex digits of the SHA-256 of ``value`` as canonical JSON."""
    text = json.dumps(canonical(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def canonical(value: Any) -> Any:
    """Return the canonical form of a value, which is the same for equivalent spellings.

    Keys whose value is None or an empty mapping are removed, so that a new key with a neutral value
    does not change the digest. Floats without a fractional part become integers. The order of keys
    does not affect :func:`digest`.
    """
    if isinstance(value, dict):
        items = {key: canonical(item) for key, item in value.items()}
        return {key: item for key, item in items.items() if item is not None and item != {}}
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def visible_files(folder: str | Path) -> list[Path]:
    """Return the files of a folder and its sub-folders, sorted, without hidden ones (``.x``).

    Files created by operating systems are included; links out of the folder are not. See
    :func:`walk`.
    """
    return [path for path, why in walk(folder) if why in (None, OF_A_SYSTEM)]


def walk(folder: str | Path) -> list[tuple[Path, str | None]]:
    """List a folder recursively, with the reason why an entry should be left out.

    Links are followed only if their target is inside the folder.

    Returns:
        All files, and all entries to leave out, sorted by path, each with the reason or None. The
        contents of a folder that is left out are not listed, except those of system folders such as
        ``__MACOSX``.

    Raises:
        StepError: There are more than ``MAX_FILES`` entries.
    """
    found: list[tuple[Path, str | None]] = []
    folders = [  # type: list[tuple[Path, tuple[str, ...], str | None]]
        (Path(folder), (os.path.realpath(folder),), None)
    ]
    while folders:
        parent, around, inherited = folders.pop()
        for path in parent.iterdir():
            if path.name == _OF_SNAKEMAKE:
                continue
            why = left_out(path, around) or inherited
            if path.is_dir() and why in (None, OF_A_SYSTEM):
                folders.append((path, (*around, os.path.realpath(path)), why))
            else:
                found.append((path, why))
            if len(found) + len(folders) > MAX_FILES:
                raise StepError(f"{folder} has more than {MAX_FILES} files; is it the right one?")
    return sorted(found)


def left_out(path: Path, around: tuple[str, ...]) -> str | None:
    """Return the reason why an entry should be left out of a listing, or None.

    Args:
        path: The file or folder.
        around: Resolved paths of its parent folders, starting with the outermost one.
    """
    if path.name.startswith("."):
        return HIDDEN
    if shown(path.name) != path.name:
        return NOT_UTF8
    if path.is_symlink():
        target = os.path.realpath(path)
        if not target.startswith(around[0].rstrip("/") + "/") and target != around[0]:
            return LINK_OUT
        if target in around:
            return "link to a folder around it"
    if not path.is_dir() and not path.is_file():
        return "neither file nor folder, or broken link"
    return OF_A_SYSTEM if path.name.lower() in _OF_SYSTEMS else None


def shown(name: str | Path) -> str:
    """Return a file name as printable text; bytes that are not valid UTF-8 are escaped."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")

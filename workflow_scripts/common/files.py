"""Files that are either whole or absent, and what they contain."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workflow_scripts.common.errors import StepError

_CHUNK = 1 << 20


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; rename it to ``path`` if all went well.

    A process killed half-way leaves a ``.partial`` file that the next try overwrites, never a
    half-written ``path``. The data reaches the disk before the name does.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last, because libraries choose a format by it.
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
    """Like :func:`atomic` for a whole folder; what stood at ``path`` before is replaced."""
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
    """Write ``value`` as JSON for people to read: indented, keys in the given order."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        StepError: It is not JSON, or nested too deeply.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise StepError(f"{path} is not JSON: {error}") from error


def sha256(path: str | Path) -> str:
    """Return the hex SHA-256 digest of a file's content."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any, digits: int = 8) -> str:
    """Return the first hex digits of the SHA-256 of ``value`` as canonical JSON."""
    text = json.dumps(canonical(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def canonical(value: Any) -> Any:
    """Return ``value`` in the one form that all its spellings share.

    Mappings lose the keys whose value is None or an empty mapping, so that a new key with a
    neutral value changes no digest; a number without a fraction is an integer (1.0 is 1). The
    order of keys does not matter to :func:`digest`.
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
    """Return the files of a folder and its sub-folders, sorted, without hidden ones (``.x``)."""
    folder = Path(folder)
    files = (file for file in folder.rglob("*") if file.is_file())
    return sorted(
        file for file in files if not any(p.startswith(".") for p in file.relative_to(folder).parts)
    )

"""Files of the user's own (URL lists, images), known by their content, not their place.

Hashing is slow for large files, so that what was hashed is remembered with the results, and hashed
again only if a size or a time stamp has changed. What is remembered also stands for a file that is
not there any more: results that were moved to another machine keep their names.
"""

import hashlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from workflow_scripts.common import variants
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import atomic, sha256, visible_files

_LARGE = 1 << 30  # bytes from which on hashing takes long enough to say so


class OwnInputs:
    """Fingerprints of files and folders.

    Args:
        memory: JSON file of what was hashed before.
        trusted: Take what is remembered without looking at the files, as jobs do: they must see
            what the process saw that started them.
    """

    def __init__(self, memory: Path, trusted: bool = False):
        self._memory, self._trusted = memory, trusted
        self._known = _read(memory)

    def fingerprint(self, path: str) -> str:
        """Return the SHA-256 of a file, or of a folder's files and their names.

        A path at which there is, and was, nothing stands for itself.

        Raises:
            StepError: The file cannot be read.
        """
        known = self._known.get(path)
        if known is not None and (self._trusted or not Path(path).exists()):
            return known["content"]
        if not Path(path).exists():
            return f"missing: {path}"
        try:
            files = visible_files(path) if Path(path).is_dir() else [Path(path)]
            stamp = _stamp(files)
            if known is None or known["stamp"] != stamp:
                known = {"stamp": stamp, "content": _content(Path(path), files)}
                self._known[path] = known
        except OSError as error:
            raise StepError(f"{error.filename or path} cannot be read: {error.strerror}") from error
        return known["content"]

    def save(self) -> None:
        """Write what is known, if that has changed."""
        if self._known != _read(self._memory):
            with atomic(self._memory) as temporary:
                temporary.write_text(json.dumps(self._known, indent=1) + "\n")


def files_of(kind: str, variant: str | dict[str, Any]) -> dict[str, str]:
    """Return the user's own files that a variant of an attack reads: option to path.

    Args:
        kind: Of the variant.
        variant: ``name`` and options, of which a class names the paths in ``reads_files``, a module
            of functions in ``READS_FILES``; or a name alone.
    """
    if isinstance(variant, str):
        return {}
    names = "reads_files" if kind == "trigger" else "READS_FILES"
    declared = variants.attribute(kind, variant["name"], names, ())
    # A reference to an artefact is no path yet.
    return {key: variant[key] for key in declared if isinstance(variant.get(key), str)}


def _read(path: Path) -> dict[str, dict[str, str]]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _stamp(files: Iterable[Path]) -> str:
    hashed = hashlib.sha256()
    for file in files:
        status = file.stat()
        hashed.update(f"{file}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return hashed.hexdigest()


def _content(path: Path, files: list[Path]) -> str:
    size = sum(file.stat().st_size for file in files)
    if size > _LARGE:
        print(f"hashing {path} ({size / 1e9:.1f} GB), once", file=sys.stderr)
    if not path.is_dir():
        return f"sha256:{sha256(path)}"
    hashed = hashlib.sha256()
    for file in files:
        hashed.update(f"{file.relative_to(path).as_posix()}\0{sha256(file)}\n".encode())
    return f"sha256:{hashed.hexdigest()}"

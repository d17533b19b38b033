"""Fingerprints of the user's own files (URL lists, images), which ids use instead of paths.

Hashing large files is slow, so digests are stored with the results and recomputed only if a size or
a time stamp has changed. A stored digest is also used for a file that no longer exists, so that
results moved to another machine keep their ids.
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

_LARGE = 1 << 30  # bytes; hashing larger inputs is announced


class OwnInputs:
    """Fingerprints of files and folders.

    Args:
        memory: JSON file of stored digests.
        trusted: Use stored digests without looking at the files. Jobs do so, because they must
            compute the same ids as the process that started them.
    """

    def __init__(self, memory: Path, trusted: bool = False):
        self._memory, self._trusted = memory, trusted
        self._known = _read(memory)

    def fingerprint(self, path: str) -> str:
        """Return the SHA-256 of a file, or of the names and contents of a folder's files.

        If the path does not exist and has no stored digest, the result contains the path itself.

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

    def of_model(self, model: dict[str, Any]) -> dict[str, Any]:
        """Return a model in which a file of pretrained weights is replaced by its fingerprint."""
        weights = model.get("pretrained")
        if not weights or (weights not in self._known and not Path(weights).is_file()):
            return model
        return model | {"pretrained": self.fingerprint(weights)}

    def save(self) -> None:
        """Write the digests, if any has changed."""
        if self._known != _read(self._memory):
            with atomic(self._memory) as temporary:
                temporary.write_text(json.dumps(self._known, indent=1) + "\n")


def files_of(kind: str, variant: str | dict[str, Any]) -> dict[str, str]:
    """Return the user's files that a variant of an attack reads: option to path.

    Args:
        kind: Kind of the variant.
        variant: Mapping of ``name`` and options, or a name alone. A trigger's class lists the
            options that are paths in ``reads_files``; all other modules list them in
            ``READS_FILES``.
    """
    if isinstance(variant, str):
        return {}
    names = "reads_files" if kind == "trigger" else "READS_FILES"
    declared = variants.attribute(kind, variant["name"], names, ())
    # A reference to an artefact is not a path yet.
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
        print(f"hashing {path} ({size / 1e9:.1f} GB); its digest is stored", file=sys.stderr)
    if not path.is_dir():
        return f"sha256:{sha256(path)}"
    hashed = hashlib.sha256()
    for file in files:
        hashed.update(f"{file.relative_to(path).as_posix()}\0{sha256(file)}\n".encode())
    return f"sha256:{hashed.hexdigest()}"

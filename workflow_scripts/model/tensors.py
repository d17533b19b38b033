"""Files of tensors and plain values: written whole, read without unpickling code."""

import re
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
import torch
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from workflow_scripts.common.errors import StepError

_ZIP = b"PK"
# What else is found under the name of a checkpoint, by its first bytes.
_KINDS = {
    b"version https://git-lfs": "it is a pointer of Git LFS; run git lfs pull",
    b"\x1f\x8b": "it is a gzip archive; unpack it",
    b"\x93NUMPY": "it is a file of NumPy's",
    b"\x89HDF": "it is a file of HDF5 (Keras?)",
    b"<": "it is a web page or XML",
    b"{": "it is JSON",
}
# Python objects that people save beside weights. Nothing of them is needed: they are read as
# _Ignored, whatever the file says of them.
_IGNORED = ("numpy.", "argparse.Namespace", "pathlib.")


class _Ignored:
    """Stands for an object beside the weights; takes everything and keeps nothing."""

    def __new__(cls, *_: Any):
        return super().__new__(cls)

    def __init__(self, *_: Any):
        pass

    def __setstate__(self, _: Any) -> None:
        pass


def save_tensors(content: Any, path: Path) -> None:
    """Write tensors and plain values by ``torch.save``.

    Raises:
        StepError: The file could not be written; PyTorch does not say why.
    """
    try:
        torch.save(content, path)
    except RuntimeError as error:
        raise StepError(f"{path.parent} could not be written to; is the disk full?") from error


def load_tensors(path: str | Path, what: str) -> Any:
    """Read tensors and plain values to the CPU; nothing else is accepted.

    NumPy's values, namespaces and paths that stand beside them are read as empty objects. Memory
    is bounded by a small multiple of the file's size.

    Args:
        path: File of ``torch.save`` or safetensors; its content tells which, not its name.
        what: What it should be, for the message.

    Raises:
        StepError: The file is missing, damaged, or holds anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise StepError(f"there is no {what} {path}")
    try:
        with path.open("rb") as file:
            return _load(file, path)
    except StepError:
        raise
    # A damaged or forged file can fail anywhere in the readers, with errors of any kind.
    except Exception as error:
        if found := re.search(r"Unsupported global: GLOBAL (\S+)", str(error)):
            raise StepError(_objects(path, [found[1]])) from error
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise StepError(f"{path} is damaged or no {what}: {_kind(path) or reason[:200]}") from error


def _load(file: BinaryIO, path: Path) -> Any:
    head = file.read(9)
    file.seek(0)
    if head[8:] == b"{":
        return safetensors.torch.load_file(path, device="cpu")
    if not head.startswith(_ZIP):
        return torch.load(file, map_location="cpu", weights_only=True)
    size = path.stat().st_size
    # torch.save compresses nothing.
    if sum(entry.file_size for entry in zipfile.ZipFile(file).infolist()) > size:
        raise StepError(
            f"{path} unpacks to more than its {size} bytes: torch.save wrote no such file"
        )
    file.seek(0)
    objects = sorted(get_unsafe_globals_in_checkpoint(file))
    others = [name for name in objects if not name.startswith(_IGNORED)]
    if others:
        raise StepError(_objects(path, others))
    file.seek(0)
    with safe_globals([(_Ignored, name) for name in objects]):
        return torch.load(file, map_location="cpu", weights_only=True)


def _kind(path: Path) -> str | None:
    with path.open("rb") as file:
        head = file.read(32)
    kinds = (kind for start, kind in _KINDS.items() if head.startswith(start))
    return next(kinds, None) if head else "it is empty"


def _objects(path: Path, names: list[str]) -> str:
    return (
        f"{path} holds Python objects ({', '.join(names[:3])}), which only running code that the "
        "file names could read; save the model's state_dict() and give that"
    )

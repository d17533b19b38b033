"""Reading and writing files of tensors and plain values, without unpickling code."""

import io
import pickletools
import re
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
import torch
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from workflow_scripts.common.errors import StepError

_ZIP = b"PK"
# In the format of PyTorch before 1.6: magic number, version, system, content, names of storages.
_LEGACY_PICKLES = 5
# Other kinds of files that are mistaken for checkpoints, by their first bytes.
_KINDS = {
    b"version https://git-lfs": "it is a Git LFS pointer; run git lfs pull",
    b"\x1f\x8b": "it is a gzip archive; unpack it",
    b"\x93NUMPY": "it is a NumPy file",
    b"\x89HDF": "it is an HDF5 file (Keras?)",
    b"<": "it is a web page or XML",
    b"{": "it is JSON",
}
# Python objects that are often saved alongside weights. They are not needed and read as _Ignored,
# without running any code.
_IGNORED = ("numpy.", "argparse.Namespace", "pathlib.")


class _Ignored:
    """Placeholder for an object saved alongside weights; discards its content."""

    def __new__(cls, *_: Any):
        return super().__new__(cls)

    def __init__(self, *_: Any):
        pass

    def __setstate__(self, _: Any) -> None:
        pass


def save_tensors(content: Any, path: Path) -> None:
    """Write tensors and plain values with ``torch.save``.

    Raises:
        StepError: The file cannot be written; PyTorch does not report the cause.
    """
    try:
        torch.save(content, path)
    except RuntimeError as error:
        raise StepError(f"cannot write to {path.parent}; check whether the disk is full") from error


def load_tensors(path: str | Path, what: str) -> Any:
    """Read tensors and plain values to the CPU; no other content is accepted.

    NumPy values, namespaces and paths saved alongside are read as empty objects. Memory use is
    bounded by a small multiple of the file size.

    Args:
        path: File in the format of ``torch.save`` or safetensors, detected from its content.
        what: Kind of file for error messages, e.g. ``model``.

    Raises:
        StepError: The file is missing or damaged, or has other content.
    """
    path = Path(path)
    if not path.is_file():
        raise StepError(f"the {what} {path} does not exist")
    try:
        with path.open("rb") as file:
            return _load(file, path)
    except StepError:
        raise
    # Damaged or malicious files can raise any kind of error in the readers.
    except Exception as error:
        if found := re.search(r"Unsupported global: GLOBAL (\S+)", str(error)):
            raise StepError(_objects(path, [found[1]])) from error
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        reason = _kind(path) or reason[:200]
        raise StepError(f"{path} is damaged or is not a valid {what}: {reason}") from error


def _load(file: BinaryIO, path: Path) -> Any:
    head = file.read(9)
    file.seek(0)
    if head[8:] == b"{":
        return safetensors.torch.load_file(path, device="cpu")
    if not head.startswith(_ZIP):
        for _ in range(_LEGACY_PICKLES):
            _check_pickle(file, path)
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True)
    size = path.stat().st_size
    # The reader of torch.load; others may find another directory in a malicious file.
    archive = torch._C.PyTorchFileReader(str(path))
    # torch.save does not compress.
    if sum(map(archive.get_record_size, archive.get_all_records())) > size:
        raise StepError(
            f"{path} unpacks to more than its {size} bytes: it was not written by torch.save"
        )
    _check_pickle(io.BytesIO(archive.get_record("data.pkl")), path)
    file.seek(0)
    objects = sorted(get_unsafe_globals_in_checkpoint(file))
    others = [name for name in objects if not name.startswith(_IGNORED)]
    if others:
        raise StepError(_objects(path, others))
    file.seek(0)
    with safe_globals([(_Ignored, name) for name in objects]):
        return torch.load(file, map_location="cpu", weights_only=True)


def _check_pickle(file: BinaryIO, path: Path) -> None:
    """Refuse ``bytearray``, which torch allows, because it allocates memory of any size."""
    for _, argument, _ in pickletools.genops(file):
        if isinstance(argument, str) and argument.split()[-1:] == ["bytearray"]:
            raise StepError(_objects(path, ["bytearray"]))


def _kind(path: Path) -> str | None:
    with path.open("rb") as file:
        head = file.read(32)
    kinds = (kind for start, kind in _KINDS.items() if head.startswith(start))
    return next(kinds, None) if head else "it is empty"


def _objects(path: Path, names: list[str]) -> str:
    return (
        f"{path} contains Python objects ({', '.join(names[:3])}), which cannot be read without "
        "running code from the file; save the model's state_dict() instead"
    )

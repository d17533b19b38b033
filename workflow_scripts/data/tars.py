"""Write reproducible tars of images, and read untrusted tars within limits."""

import contextlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import cast

MAX_FILE_BYTES = 512 << 20  # per image; 100 million uncompressed pixels take 300 to 400 MB
_MAX_HEADER_BYTES = 1 << 20  # per member: long names, pax headers, maps of sparse files
_MAX_MEMBERS = 2_000_000
_MAX_GLOBAL_HEADERS = 100
_BLOCK = tarfile.BLOCKSIZE


def add_file(tar: tarfile.TarFile, name: str, data: bytes) -> int:
    """Append a file to an uncompressed tar that is open for writing.

    Returns:
        Offset of ``data`` in the tar, in bytes.
    """
    member = tarfile.TarInfo(name)
    member.size = len(data)
    member.mode = 0o444
    tar.addfile(member, io.BytesIO(data))
    # tar.offset is where the next member will begin, after the data padded to whole blocks.
    return tar.offset - -(-len(data) // _BLOCK) * _BLOCK


class _Bounded(io.BufferedReader):
    """A file that refuses to read more than ``remaining`` bytes."""

    remaining = _MAX_HEADER_BYTES

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= self.remaining:
            raise tarfile.ReadError("a header or member exceeds the size limit")
        self.remaining -= size
        return super().read(size)


@contextlib.contextmanager
def open_tar(path: str | Path) -> Iterator[tarfile.TarFile]:
    """Open an untrusted, uncompressed tar for :func:`members` and :func:`read_member`."""
    with _Bounded(io.FileIO(path)) as file, tarfile.open(fileobj=file, mode="r:") as tar:
        yield tar


def members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar, reading at most 1 MiB of headers per member.

    Raises:
        tarfile.TarError: The tar is broken or has more than two million members or 100 global
            headers. Python's reader also raises ValueError, OverflowError and RecursionError.
    """
    number, end = 0, 0
    while True:
        _bounded(tar).remaining = _MAX_HEADER_BYTES
        member = tar.next()
        if member is None:
            return
        number += 1
        if number > _MAX_MEMBERS:
            raise tarfile.ReadError(f"more than {_MAX_MEMBERS} members")
        # A negative size would send the reader back to earlier members in an endless loop.
        if member.size < 0 or member.offset_data < end or tar.offset < member.offset_data:
            raise tarfile.ReadError(f"the size of {member.name!r} is negative")
        end = member.offset_data
        if len(tar.pax_headers) > _MAX_GLOBAL_HEADERS:
            raise tarfile.ReadError(f"more than {_MAX_GLOBAL_HEADERS} global headers")
        # The reader keeps all members, each with a copy of the global headers.
        tar.members = []  # type: ignore[attr-defined]  # not in typeshed
        yield member


def is_plain(member: tarfile.TarInfo) -> bool:
    """Return whether a member is a regular, non-sparse file of permitted size."""
    return member.isreg() and not member.issparse() and member.size <= MAX_FILE_BYTES


def read_member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """Return the content of a member for which :func:`is_plain` is true."""
    _bounded(tar).remaining = member.size
    content = tar.extractfile(member)
    assert content is not None  # it is a file
    return content.read()


def _bounded(tar: tarfile.TarFile) -> _Bounded:
    """Return the underlying file of a tar opened by :func:`open_tar`."""
    return cast(_Bounded, tar.fileobj)

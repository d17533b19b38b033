"""Tars of images: ours, whose bytes depend on nothing but the images, and those of others."""

import contextlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import cast

MAX_FILE_BYTES = 512 << 20  # of one image; 100 million pixels, not compressed, take 300 to 400 MB
_MAX_HEADER_BYTES = 1 << 20  # of one member: long names, pax headers, maps of sparse files
_MAX_MEMBERS = 2_000_000
_BLOCK = tarfile.BLOCKSIZE


def add_file(tar: tarfile.TarFile, name: str, data: bytes) -> int:
    """Append a file to an uncompressed tar that is open for writing.

    Returns:
        Where in the tar ``data`` begins, in bytes.
    """
    member = tarfile.TarInfo(name)
    member.size = len(data)
    member.mode = 0o444
    tar.addfile(member, io.BytesIO(data))
    # The data ends, filled up to whole blocks, where the next member will begin.
    return tar.offset - -(-len(data) // _BLOCK) * _BLOCK


class _Bounded(io.BufferedReader):
    """A file of which no more bytes are read than were allowed last."""

    left = _MAX_HEADER_BYTES

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= self.left:
            raise tarfile.ReadError("a header or member is larger than the limit")
        self.left -= size
        return super().read(size)


@contextlib.contextmanager
def open_tar(path: str | Path) -> Iterator[tarfile.TarFile]:
    """Open somebody else's uncompressed tar, for :func:`members` and :func:`read_member`."""
    with _Bounded(io.FileIO(path)) as file, tarfile.open(fileobj=file, mode="r:") as tar:
        yield tar


def members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar; of none is more than a megabyte of headers read.

    Raises:
        tarfile.TarError: It is broken, or has more than two million members. Python's reader
            raises ValueError, OverflowError and RecursionError too.
    """
    number, end = 0, 0
    while True:
        _bounded(tar).left = _MAX_HEADER_BYTES
        member = tar.next()
        if member is None:
            return
        number += 1
        if number > _MAX_MEMBERS:
            raise tarfile.ReadError(f"it has more than {_MAX_MEMBERS} members")
        # A negative size leads back to where the reader has been, again and again.
        if member.size < 0 or member.offset_data < end or tar.offset < member.offset_data:
            raise tarfile.ReadError(f"the size of {member.name!r} is negative")
        end = member.offset_data
        yield member


def is_plain(member: tarfile.TarInfo) -> bool:
    """Tell whether a member is a file that lies in the tar as it is, and is not too large."""
    return member.isreg() and not member.issparse() and member.size <= MAX_FILE_BYTES


def read_member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """Return the content of a member that :func:`is_plain`."""
    _bounded(tar).left = member.size
    content = tar.extractfile(member)
    assert content is not None  # it is a file
    return content.read()


def _bounded(tar: tarfile.TarFile) -> _Bounded:
    """Return the file that :func:`open_tar` has opened."""
    return cast(_Bounded, tar.fileobj)

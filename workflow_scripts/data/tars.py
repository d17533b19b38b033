"""Tars of images whose bytes depend on nothing but the images: no dates, no owners."""

import io
import tarfile

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

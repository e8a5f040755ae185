"""Packed uploads: unpacked piece by piece, with an eye on how much comes out.

No name in an archive ever becomes a path: what comes out goes to files that the caller names.
"""

from __future__ import annotations

import bz2
import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ase_matprop.app.limits import Limits, in_words
from ase_matprop.errors import MatPropError

PACKED = (".gz", ".xz", ".bz2")
ARCHIVES = (".zip", ".tar", ".tgz", ".7z", ".rar", ".jar")

_CHUNK = 1 << 16
_FREE = 1_000_000  # bytes; below, any ratio is allowed
_MEMORY = 128_000_000  # of the LZMA decoder
_END = b"PK\x05\x06"
_ZIP64 = b"PK\x06\x07"
_FAULTS = (
    OSError, EOFError, lzma.LZMAError, zlib.error, zipfile.BadZipFile, struct.error, NotImplementedError, RuntimeError,
    ValueError,
)  # fmt: skip


class UploadError(MatPropError, ValueError):
    """An upload is refused; the message says why, and what to do."""


@dataclass(frozen=True)
class Member:
    """A file of an archive.

    Attributes:
        name: as it stands in the archive, for people only.
        fault: why it is refused, or None.
        info: what :mod:`zipfile` knows of it.
    """

    name: str
    fault: str | None
    info: zipfile.ZipInfo


class Archive:
    """A zip file, opened with care; a context manager.

    Args:
        path: the file.
        limits: what it may unpack to.

    Raises:
        UploadError: if it is no zip file, has too many members or is protected.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        self._limits = limits
        self._left = limits.expanded
        _check_directory(path, limits)
        try:
            self._file = zipfile.ZipFile(path)
        except _FAULTS as error:
            raise UploadError(f"is no zip file that can be opened ({_one_line(error)}); pack it again") from None
        if len(self._file.infolist()) > limits.members:
            self.close()
            raise UploadError(_too_many(limits))

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def members(self) -> Iterator[Member]:
        """Yield the files in their order; folders, and what operating systems put beside files, are left out."""
        for info in self._file.infolist():
            parts = PurePosixPath(info.filename.replace("\\", "/")).parts
            hidden = any(part.startswith(("__MACOSX", "._")) or part in (".DS_Store", "Thumbs.db") for part in parts)
            if not info.is_dir() and not hidden:
                yield Member(info.filename, _fault(info), info)

    def unpack(self, member: Member, target: Path, largest: int) -> None:
        """Write one file.

        Args:
            member: what to unpack.
            target: file to write.
            largest: number of bytes that it may have.

        Raises:
            UploadError: if it is damaged, too large or packed too densely, or the archive is too large by now; nothing
                is left behind.
        """
        if member.fault is not None:
            raise UploadError(member.fault)
        most = max(_FREE, self._limits.ratio * max(member.info.compress_size, 1))
        try:
            with self._file.open(member.info) as source:
                self._left -= _copy(source, target, largest, most, self._left)
        except UploadError:
            raise
        except _FAULTS as error:
            target.unlink(missing_ok=True)
            raise UploadError(f"cannot be unpacked ({_one_line(error)}); pack the archive again") from None


def unpack_file(source: Path, target: Path, ending: str, largest: int, ratio: int) -> None:
    """Unpack a file that is packed by itself.

    Args:
        source: the packed file.
        target: file to write.
        ending: ``.gz``, ``.xz`` or ``.bz2``.
        largest: number of bytes that it may have.
        ratio: how many times larger than its packed form it may be.

    Raises:
        UploadError: if it is damaged, too large or packed too densely; nothing is left behind.
    """
    most = max(_FREE, ratio * source.stat().st_size)
    try:
        with source.open("rb") as stream:
            _copy(_Unpacked(stream, ending), target, largest, most, largest + 1)
    except UploadError:
        raise
    except _FAULTS as error:
        target.unlink(missing_ok=True)
        raise UploadError(f"cannot be unpacked ({_one_line(error)}); the file is damaged, copy it again") from None


class _Unpacked:
    """Reads what a packed stream unpacks to; never holds much more than one chunk of it."""

    def __init__(self, stream: IO[bytes], ending: str) -> None:
        self._stream = stream
        self._ending = ending
        self._decoder = self._new()
        self._fed = False

    def _new(self) -> Any:
        if self._ending == ".gz":
            return zlib.decompressobj(wbits=31)
        return bz2.BZ2Decompressor() if self._ending == ".bz2" else lzma.LZMADecompressor(memlimit=_MEMORY)

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes, none at the end."""
        while True:
            if self._decoder.eof:
                rest = self._decoder.unused_data or self._stream.read(_CHUNK)
                if not rest.strip(b"\0"):
                    return b""
                self._decoder, self._fed = self._new(), True  # another part follows, as from pigz
                piece = self._decoder.decompress(rest, size)
            else:
                piece = self._more(size)
            if piece:
                return bytes(piece)

    def _more(self, size: int) -> bytes:
        if self._ending == ".gz":
            data = self._decoder.unconsumed_tail or self._stream.read(_CHUNK)
        else:
            data = self._stream.read(_CHUNK) if self._decoder.needs_input else b""
        if not data and (self._ending == ".gz" or self._decoder.needs_input):
            raise EOFError("it ends too early")
        return bytes(self._decoder.decompress(data, size))


def _copy(source: Any, target: Path, largest: int, most: int, left: int) -> int:
    """Copy a stream, up to a size; return how many bytes there were."""
    done = 0
    try:
        with target.open("wb") as stream:
            while chunk := source.read(_CHUNK):
                done += len(chunk)
                if done > largest:
                    raise UploadError(f"is larger than {in_words(largest)}, the limit for such a file")
                if done > left:
                    raise UploadError("is beyond the size that an archive may unpack to; make several archives")
                if done > most:
                    raise UploadError("is packed so densely that it looks like a zip bomb; send it as it is")
                stream.write(chunk)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return done


def _check_directory(path: Path, limits: Limits) -> None:
    """Look at the end of a zip file before :mod:`zipfile` reads its whole table of contents."""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 65_557))
        tail = stream.read()
    position = tail.rfind(_END)
    if position < 0 or len(tail) < position + 22:
        raise UploadError("is no zip file, whatever its name says; pack it again")
    count, size = struct.unpack("<10xHL", tail[position : position + 16])
    if _ZIP64 in tail[max(0, position - 20) : position] or count > limits.members or size > limits.directory:
        raise UploadError(_too_many(limits))


def _too_many(limits: Limits) -> str:
    return f"has more than {limits.members} files; make several archives"


def _fault(info: zipfile.ZipInfo) -> str | None:
    name = info.filename.replace("\\", "/")
    path = PurePosixPath(name)
    mode = info.external_attr >> 16
    if path.is_absolute() or ".." in path.parts or ":" in name.split("/")[0] or "\0" in name:
        return "has a path that leads out of the archive; pack it again from within its folder"
    if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return "is a link or a device, not a file; pack the files themselves"
    if info.flag_bits & 0x1:
        return "is protected by a password; pack it without"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # zipfile unpacks others without a limit
        return "is packed with a method that the page does not take; pack it again as an ordinary zip"
    if path.suffix.lower() in ARCHIVES:
        return "is an archive within the archive; unpack it first"
    return None


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())[:120]
    with suppress(AttributeError):
        text = str(getattr(error, "strerror", None) or text)
    return text or type(error).__name__

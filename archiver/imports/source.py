"""The files of an old export, in a folder or a tarball; nothing is unpacked, no link followed."""

from __future__ import annotations

import io
import os
import tarfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from archiver.imports.accounts import SourceError, UnkeptError

MOST_BYTES = 1 << 30
"""Largest recording; an hour of 16 kHz is a ninth of it."""
_IN_MEMORY = 1 << 24
_CHUNK = 1 << 20
_BLOCK = 512
_DAMAGE = (tarfile.TarError, EOFError, zlib.error, OSError)


@dataclass(frozen=True, slots=True)
class OldFile:
    """One file of the export.

    Attributes:
        name: Path inside the export, with ``/``.
        size: Bytes.
        share: Tells how much of the export has been read so far, 0 to 1.
        refused: Why it cannot be opened, a key of ``REASONS``; empty when it can.
    """

    name: str
    size: int
    share: Callable[[], float]
    refused: str = ""
    _open: Callable[[], IO[bytes]] | None = None
    _is_seekable: bool = False

    @property
    def base(self) -> str:
        """The name without folders."""
        return self.name.rpartition("/")[2]

    def open(self) -> IO[bytes]:
        """Return a stream of the content.

        Raises:
            UnkeptError: The file may not or cannot be opened.
        """
        if self.refused or self._open is None:
            raise UnkeptError(self.refused)
        try:
            return self._open()
        except OSError as error:
            raise UnkeptError("damaged", error.strerror or str(error)) from None

    @contextmanager
    def seekable(self) -> Generator[IO[bytes]]:
        """Yield a stream in which one can go back without unpacking all that lies before.

        Raises:
            UnkeptError: The file may not or cannot be opened, or is too large.
        """
        if self.size > MOST_BYTES:
            raise UnkeptError("too_large", f"{self.size} bytes")
        with self.open() as stream:
            if self._is_seekable:
                yield stream
                return
            with SpooledTemporaryFile(max_size=_IN_MEMORY) as copy:
                while chunk := stream.read(_CHUNK):
                    copy.write(chunk)
                copy.seek(0)
                yield copy


def old_files(path: Path) -> Iterator[OldFile]:
    """Yield all files of an export, in a folder by name, in a tarball in its own order.

    Raises:
        SourceError: There is no such folder or tarball, or it is damaged.
    """
    if path.is_dir():
        return _of_folder(path)
    if path.is_file():
        return _of_tarball(path)
    raise SourceError(f"{path}: there is no such folder or tarball")


def _of_folder(root: Path) -> Iterator[OldFile]:
    found = sorted(_walk(root, ""))
    total, before = sum(size for _, size, _ in found) or 1, 0
    for name, size, refused in found:
        content = _Content(root / name, before, total)
        yield OldFile(name, size, content.share, refused, content.open, _is_seekable=True)
        before += size


class _Content:
    """A file in a folder, and how much of the folder is read when it is."""

    def __init__(self, path: Path, before: int, total: int) -> None:
        self._path = path
        self._before, self._total = before, total
        self._stream: IO[bytes] | None = None

    def open(self) -> IO[bytes]:
        descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._stream = os.fdopen(descriptor, "rb")
        return self._stream

    def share(self) -> float:
        stream = self._stream
        read = stream.tell() if stream and not stream.closed else 0
        return min((self._before + read) / self._total, 1.0)


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, int, str]]:
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise SourceError(f"{folder}: cannot be read: {error.strerror}") from None
    for entry in entries:
        name = prefix + entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), name + "/")
        elif entry.is_file(follow_symlinks=False):
            yield name, entry.stat(follow_symlinks=False).st_size, ""
        else:
            yield name, 0, "link"


def _of_tarball(path: Path) -> Iterator[OldFile]:
    name = "its beginning"
    total = path.stat().st_size or 1
    try:
        with path.open("rb") as raw, tarfile.open(fileobj=raw, mode="r:*") as tar:
            for member in tar:
                name = repr(member.name)
                if not member.isdir():
                    yield _member(tar, member, lambda: min(raw.tell() / total, 1.0))
            _check_end(tar)
    except _DAMAGE as error:
        raise _damaged(name, error) from None


def _damaged(name: str, error: Exception) -> SourceError:
    why = (str(error) or type(error).__name__).splitlines()[0].rstrip(":")
    return SourceError(
        f"this is no tarball, or it is damaged after {name}: {why}; what came before may be in "
        "the archive; import a whole one, nothing is doubled"
    )


class _Guarded(io.RawIOBase):
    """A member of a tarball of which it is the tarball that is damaged when it cannot be read."""

    def __init__(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        self._stream = tar.extractfile(member)
        self._name = repr(member.name)

    def readable(self) -> bool:
        """Tell that this is for reading."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read into a buffer."""
        try:
            data = self._stream.read(len(buffer)) if self._stream else b""
        except _DAMAGE as error:
            raise _damaged(self._name, error) from None
        buffer[: len(data)] = data
        return len(data)


def _member(tar: tarfile.TarFile, member: tarfile.TarInfo, share: Callable[[], float]) -> OldFile:
    parts = PurePosixPath(member.name).parts
    is_unsafe = not parts or member.name.startswith("/") or ".." in parts or "\0" in member.name
    refused = "unsafe_name" if is_unsafe else "" if member.isreg() else "link"

    def opened() -> IO[bytes]:
        return io.BufferedReader(_Guarded(tar, member))

    return OldFile("/".join(parts), member.size, share, refused, opened)


def _check_end(tar: tarfile.TarFile) -> None:
    """Make sure that the end was the end: tarfile takes a damaged header for it."""
    stream = tar.fileobj
    if stream is not None:
        stream.seek(tar.offset)
        block = stream.read(_BLOCK)
        if len(block) < _BLOCK or block.strip(b"\0"):
            raise tarfile.ReadError("there is no end mark")
        while stream.read(_CHUNK):  # to where the sum of all is compared
            pass

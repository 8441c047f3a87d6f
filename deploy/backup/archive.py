"""The backup's file: a plain tar, written and read in one pass, with a hash for every member.

::

    plan.json            what is in it, known before it is written: read first
    config/ package/ include/ db/ rows/ audio/
    file_list.txt        SHA-256 and name of every member before it, in order, as sha256sum writes
    manifest.json        hash of the list, rows of every table, and a hash over itself

The list is compared line by line while members pass, so that neither side holds it in memory.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any, Final

from deploy.backup.errors import BackupError, DamagedBackupError

PLAN: Final = "plan.json"
FILE_LIST: Final = "file_list.txt"
MANIFEST: Final = "manifest.json"
PIECE: Final = 1024**2
_BLOCK: Final = tarfile.BLOCKSIZE
_LARGEST_DOCUMENT: Final = 64 * 1024**2
_MOST_PROBLEMS: Final = 100
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")


class ArchiveWriter:
    """Writes members to a stream that need not be seekable.

    Args:
        sink: Where to.

    Attributes:
        size: Bytes written so far.
        members: Members written so far.
    """

    def __init__(self, sink: IO[bytes]) -> None:
        self.size = 0
        self.members = 0
        self._sink = sink
        self._list = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._mtime = int(time.time())

    def add(self, name: str, data: bytes, *, mode: int = 0o640) -> str:
        """Write a member whose content is at hand; return its SHA-256 in hex."""
        return self.add_stream(name, len(data), [data], mode=mode)

    def add_stream(
        self, name: str, size: int, pieces: Iterable[bytes], *, mode: int = 0o640
    ) -> str:
        """Write a member of a known size; return its SHA-256 in hex.

        Raises:
            BackupError: The name cannot stand in the list, or the pieces are not of that size.
            OSError: The stream cannot be written.
        """
        digest = self._put(name, size, pieces, mode)
        self._list.write(f"{digest}  {name}\n".encode())
        return digest

    def finish(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Write the list and the manifest; return the manifest as it was written."""
        size = self._list.tell()
        self._list.seek(0)
        digest = self._put(FILE_LIST, size, iter(lambda: self._list.read(PIECE), b""), 0o640)
        sealed = _sealed({**manifest, "file_list": {"members": self.members - 1, "sha256": digest}})
        text = json.dumps(sealed, indent=2).encode() + b"\n"
        self._put(MANIFEST, len(text), [text], 0o640)
        self._write(bytes(2 * _BLOCK))
        self._sink.flush()
        return sealed

    def close(self) -> None:
        """Give back the list's temporary file."""
        self._list.close()

    def _put(self, name: str, size: int, pieces: Iterable[bytes], mode: int) -> str:
        if _CONTROL.search(name):
            raise BackupError(f"{name!r} cannot be in a backup: a control character or backslash")
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = size, mode, self._mtime
        self._write(info.tobuf(tarfile.PAX_FORMAT))
        digest, left = hashlib.sha256(), size
        for piece in pieces:
            left -= len(piece)
            if left < 0:
                break
            digest.update(piece)
            self._write(piece)
        if left:
            raise BackupError(f"{name} changed its size while it was read; try again")
        self._write(bytes(-size % _BLOCK))
        self.members += 1
        return digest.hexdigest()

    def _write(self, data: bytes) -> None:
        self._sink.write(data)
        self.size += len(data)


@dataclass(frozen=True, slots=True)
class Member:
    """One member as it passes; its content is there once, until the next one is asked for.

    Attributes:
        name: Checked by whoever gives it a place on the disk.
        size: Bytes.
        mode: Permission bits that it had.
    """

    name: str
    size: int
    mode: int
    _pieces: Iterator[bytes]

    def pieces(self) -> Iterator[bytes]:
        """Yield the content."""
        return self._pieces

    def read(self) -> bytes:
        """Return the content of a small member."""
        if self.size > _LARGEST_DOCUMENT:
            raise DamagedBackupError([f"{self.name} has {self.size} bytes, which cannot be"])
        return b"".join(self._pieces)


class ArchiveReader:
    """Reads members from a stream, and knows at the end whether all were what was written.

    Args:
        source: Where from; it need not be seekable.

    Attributes:
        plan: What the first member says; empty before.
        manifest: What the last member says; empty before.
        problems: One line for each member that is not what was written.
    """

    def __init__(self, source: IO[bytes]) -> None:
        self.plan: dict[str, Any] = {}
        self.manifest: dict[str, Any] = {}
        self.problems: list[str] = []
        self._source = source
        self._last = "the start"

    def members(self) -> Iterator[Member]:
        """Yield all members but plan, list and manifest; the plan is there before the first.

        A damaged member is yielded like any other: `problems` names it when all are read.
        """
        with tempfile.TemporaryFile() as seen:
            try:
                yield from self._members(seen)
            except DamagedBackupError as error:
                self.problems += error.problems
                return
            except tarfile.TarError as error:
                self._note(f"unreadable after {self._last}: {error}")
        if not self.manifest:
            self._note(f"cut off or unreadable after {self._last}: there is no {MANIFEST}")

    def raise_problems(self) -> None:
        """Raise DamagedBackupError when, of all members that were read, one is bad."""
        if self.problems:
            raise DamagedBackupError(self.problems)

    def _members(self, seen: IO[bytes]) -> Iterator[Member]:
        file_list = ""
        with tarfile.open(fileobj=self._source, mode="r|", bufsize=PIECE) as tar:
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined] # it would keep every header
                content = tar.extractfile(info) if info.isreg() else None
                if content is None:
                    self._note(f"{info.name} is no regular file")
                    return
                digest = hashlib.sha256()
                pieces = _hashed(content, info.size, digest)
                if info.name == FILE_LIST:
                    self._compare(seen, pieces)
                elif info.name == MANIFEST:
                    self._check(b"".join(pieces), file_list)
                    return
                else:
                    member = Member(info.name, info.size, info.mode & 0o777, pieces)
                    if not self.plan:
                        self.plan = _plan(member)
                    else:
                        yield member
                    for _ in pieces:
                        pass  # what the caller left
                    seen.write(f"{digest.hexdigest()}  {info.name}\n".encode())
                file_list = digest.hexdigest()
                self._last = info.name

    def _compare(self, seen: IO[bytes], pieces: Iterator[bytes]) -> None:
        """Compare what has passed with the list, line by line."""
        seen.seek(0)
        for line in _lines(pieces):
            found = seen.readline().decode(errors="replace").rstrip("\n")
            if found != line:
                name, other = line[66:], found[66:]
                if name == other:
                    self._note(f"{name} has another content than was written")
                elif not other:
                    self._note(f"{name} is missing")
                else:
                    self._note(f"{other} stands where {name} was written")
        for rest in seen:
            self._note(f"{rest.decode(errors='replace').rstrip()[66:]} is not in {FILE_LIST}")

    def _check(self, text: bytes, file_list: str) -> None:
        try:
            found = json.loads(text)
            is_whole = found == _sealed(found) and found["file_list"]["sha256"] == file_list
        except (ValueError, KeyError, TypeError):
            is_whole, found = False, {"unreadable": True}
        if not is_whole:
            self._note(f"{MANIFEST} or {FILE_LIST} has another content than was written")
        self.manifest = found

    def _note(self, problem: str) -> None:
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(problem)


def read_file(stream: IO[bytes], size: int) -> Iterator[bytes]:
    """Yield `size` bytes of an open file, or fewer when it ends before."""
    while size and (piece := stream.read(min(size, PIECE))):
        size -= len(piece)
        yield piece


def _plan(member: Member) -> dict[str, Any]:
    """Return what the first member says."""
    try:
        plan = json.loads(member.read()) if member.name == PLAN else None
    except ValueError:
        plan = None
    if not isinstance(plan, dict) or not isinstance(plan.get("format"), int):
        raise DamagedBackupError([f"it does not begin with {PLAN}: is it a backup of ours?"])
    return plan


def _hashed(content: IO[bytes], size: int, digest: Any) -> Iterator[bytes]:
    for piece in read_file(content, size):
        digest.update(piece)
        size -= len(piece)
        yield piece
    if size:
        raise tarfile.ReadError("unexpected end of data")


def _lines(pieces: Iterator[bytes]) -> Iterator[str]:
    """Yield the lines of a text that comes in pieces."""
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from (line.decode(errors="replace") for line in whole)
    if rest:
        yield rest.decode(errors="replace")


def _sealed(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest with the hash over all of it but that hash."""
    body = {name: value for name, value in manifest.items() if name != "sha256"}
    text = json.dumps(body, sort_keys=True).encode()
    return {**body, "sha256": hashlib.sha256(text).hexdigest()}

"""The segments that rows name: from the audio root into a backup, and from there into a new one."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from archiver.audio_reader import AudioGoneError, SegmentReader
from archiver.files import FILE_MODE, FOLDER_MODE
from deploy.backup.archive import ArchiveWriter, Member, read_file
from deploy.backup.errors import DamagedBackupError, RestoreError

FOLDER: Final = "audio/"
STAGE: Final = ".restoring"
OLD: Final = ".before_restore"
_GONE: Final = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}
# Every part begins with a letter or digit: nothing hidden, no way up, and never the stage itself.
_PART: Final = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}"
_NAME: Final = re.compile(rf"audio/(?:{_PART}/){{1,8}}{_PART}")
_MOST_NAMED: Final = 20


@dataclass(slots=True)
class Taken:
    """What became of the files that rows name.

    Attributes:
        files: Written.
        size: Their bytes.
        missing: Not there: erased meanwhile, or lost.
        changed: Written, and other than their row says.
        unreadable: There, and not to be read.
        named: The first of the last three, with the reason.
    """

    files: int = 0
    size: int = 0
    missing: int = 0
    changed: int = 0
    unreadable: int = 0
    named: list[str] = field(default_factory=list)

    def name(self, text: str) -> None:
        """Note one of the first."""
        if len(self.named) < _MOST_NAMED:
            self.named.append(text)


def take(
    root: Path,
    segments: Iterable[tuple[str, str]],
    writer: ArchiveWriter,
    on_bytes: Callable[[int], None],
) -> Taken:
    """Write each file that rows name into a backup; return what became of them.

    Raises:
        OSError: The backup cannot be written.
    """
    taken = Taken()
    with SegmentReader(root) as reader:
        for path, sha256 in segments:
            with _opened(reader, path, taken) as stream:
                if stream is None:
                    continue
                size = os.fstat(stream.fileno()).st_size
                digest = writer.add_stream(FOLDER + path, size, read_file(stream, size))
            taken.files += 1
            taken.size += size
            if digest != sha256:
                taken.changed += 1
                taken.name(f"{path} is not as its row says: a second half came, or it is damaged")
            on_bytes(size)
    return taken


@contextmanager
def _opened(reader: SegmentReader, path: str, taken: Taken) -> Iterator[IO[bytes] | None]:
    """Open a file below the root; None, and a note, when that is not possible."""
    stream: IO[bytes] | None = None
    try:
        stream = os.fdopen(reader.open_file(path), "rb")
    except AudioGoneError as error:
        taken.unreadable += 1
        taken.name(str(error))
    except OSError as error:
        if error.errno in _GONE:
            taken.missing += 1
            taken.name(f"{path} is not there: erased meanwhile, or lost")
        else:
            taken.unreadable += 1
            taken.name(f"{path}: {error.strerror}")
    try:
        yield stream
    finally:
        if stream is not None:
            stream.close()


def owner_of(root: Path) -> dict[str, str]:
    """Return names of the user and group to whom the audio root belongs, where they have names."""
    found: dict[str, str] = {}
    with suppress(OSError, KeyError):
        status = root.stat()
        found["owner"] = pwd.getpwuid(status.st_uid).pw_name
        found["group"] = grp.getgrgid(status.st_gid).gr_name
    return found


class SoundTarget:
    """The audio root that is restored: filled beside what is there, then put in its place.

    Both happen inside the root, which may be a mount or below a folder that is not ours. A swap
    renames the folders at the top, one for each day.

    Args:
        root: The audio root; made when it is not there.
        owner: User and group by name, from the backup; followed when this process is root.
    """

    def __init__(self, root: Path, owner: dict[str, Any]) -> None:
        self.stage = root / STAGE
        self._root = root
        self._old = root / OLD
        self._owner = owner
        self._was_there = root.is_dir()
        self._ids = (-1, -1)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing that a restore would replace."""
        return not self._was_there or not _entries(self._root)

    def prepare(self, size: int) -> None:
        """Make the stage.

        Raises:
            RestoreError: There is no room, or a restore was killed while it swapped.
            OSError: The root cannot be made or written.
        """
        if self._old.exists():
            raise RestoreError(
                f"{self._old} is there: a restore was killed while it put the new sound in its "
                "place. It holds the sound from before; move its folders back, or remove it, and "
                "try again"
            )
        # What is missing above is made for everybody to pass; the root for the group alone.
        self._root.parent.mkdir(parents=True, exist_ok=True)
        self._ids = self._find_ids()
        self._make(self._root)
        shutil.rmtree(self.stage, ignore_errors=True)  # of a restore that was killed
        self._make(self.stage)
        free = shutil.disk_usage(self._root).free
        if free < size:
            raise RestoreError(
                f"{self._root} has {free / 1e9:.1f} GB free and the sound takes {size / 1e9:.1f}; "
                "make space, or name another place with --audio-path"
            )

    def place(self, member: Member) -> None:
        """Write a file into the stage.

        Raises:
            DamagedBackupError: The name leads elsewhere.
            OSError: It cannot be written.
        """
        if not _NAME.fullmatch(member.name):
            raise DamagedBackupError([f"{member.name!r} is no name of a segment"])
        path = self.stage / member.name.removeprefix(FOLDER)
        for folder in reversed(path.parents):
            if self.stage in folder.parents:
                self._make(folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(path, flags, FILE_MODE), "wb") as stream:
            os.fchmod(stream.fileno(), FILE_MODE)
            os.fchown(stream.fileno(), *self._ids)
            for piece in member.pieces():
                stream.write(piece)

    def swap(self) -> None:
        """Put the stage in its place; what was there waits in `OLD`.

        Raises:
            OSError: A folder cannot be moved; all are where they were.
        """
        moved: list[tuple[Path, Path]] = []
        try:
            if _entries(self._root):
                self._old.mkdir(FOLDER_MODE)
                self._move(self._root, self._old, moved)
            self._move(self.stage, self._root, moved)
        except OSError:
            self._move_back(moved)
            raise
        self._moved = moved

    def undo_swap(self) -> None:
        """Put back what was there before."""
        self._move_back(self._moved)

    def finish(self) -> None:
        """Remove the stage, and what was there before."""
        shutil.rmtree(self.stage, ignore_errors=True)
        shutil.rmtree(self._old, ignore_errors=True)

    def discard(self) -> None:
        """Leave the root as it was."""
        shutil.rmtree(self.stage, ignore_errors=True)
        with suppress(OSError):
            self._old.rmdir()
        if not self._was_there:
            with suppress(OSError):
                self._root.rmdir()

    def _move(self, source: Path, target: Path, moved: list[tuple[Path, Path]]) -> None:
        for entry in _entries(source):
            entry.rename(target / entry.name)
            moved.append((entry, target / entry.name))

    def _move_back(self, moved: list[tuple[Path, Path]]) -> None:
        for before, now in reversed(moved):
            now.rename(before)

    def _make(self, folder: Path) -> None:
        if not folder.is_dir():
            folder.mkdir(FOLDER_MODE)
            folder.chmod(FOLDER_MODE)
            os.chown(folder, *self._ids)

    def _find_ids(self) -> tuple[int, int]:
        """Return to whom files are given: nobody else (-1) unless this process is root."""
        if os.geteuid() != 0:
            return -1, -1
        if self._was_there:
            status = self._root.stat()
            return status.st_uid, status.st_gid
        uid = gid = -1
        with suppress(KeyError):
            uid = pwd.getpwnam(str(self._owner.get("owner"))).pw_uid
        with suppress(KeyError):
            gid = grp.getgrnam(str(self._owner.get("group"))).gr_gid
        return uid, gid


def _entries(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.name not in {STAGE, OLD})

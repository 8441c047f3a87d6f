"""The folders of segments: removes what is named, below the root only and never by a link.

``YYYY-MM-DD/<trace_id>/<station_key>/<tap>/segment_<ms>.wav``; a path comes from a row, and a row
is no reason to remove what is not ours.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path, PurePosixPath

from archiver.files import TEMPORARY
from exporter.model import KEY_PATTERN

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A link is no file of ours, and as good as none.
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_SEGMENT = re.compile(rf"segment_(\d+)\.(?:wav|flac)(?:{re.escape(TEMPORARY)})?")


@dataclass(slots=True)
class Removed:
    """Files that are gone, and their bytes."""

    files: int = 0
    file_bytes: int = 0

    def add(self, size: int | None) -> None:
        """Count a file of this size; None: it was not there."""
        if size is not None:
            self.files += 1
            self.file_bytes += size

    def extend(self, other: Removed) -> None:
        """Count what another has counted."""
        self.files += other.files
        self.file_bytes += other.file_bytes


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """A file that is called like a segment.

    Attributes:
        relative: Path below the root.
        trace_id: Folder of the call.
        bucket_ms: Start of its bucket.
        modified_s: When it was last written, Unix time.
        is_whole: Whether its name is a final one.
    """

    relative: str
    trace_id: str
    bucket_ms: int
    modified_s: float
    is_whole: bool


class Tree:
    """All segments below one root folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def remove(self, relative: str, *, is_dry: bool = False) -> int | None:
        """Remove a file; return its bytes, or None when there is none.

        Raises:
            OSError: It is there and cannot be removed.
        """
        folder = self._open_folder(relative)
        if folder is None:
            return None
        name = PurePosixPath(relative).name
        try:
            size = os.stat(name, dir_fd=folder, follow_symlinks=False).st_size
            if not is_dry:
                os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            return None
        else:
            return size
        finally:
            os.close(folder)

    def exists(self, relative: str) -> bool:
        """Tell whether a file is there."""
        return self.remove(relative, is_dry=True) is not None

    def traces(self) -> set[str]:
        """Return every call that has a folder."""
        return {each.name for day in self.days() for each in _folders(day)}

    def days(self) -> list[Path]:
        """Return the folders of days, in order."""
        return [path for path in _folders(self.root) if _DAY.fullmatch(path.name)]

    def files_of(self, trace_id: str) -> list[str]:
        """Return the paths of all files of a call, of whatever name."""
        return [
            str((Path(folder) / name).relative_to(self.root))
            for top in self._folders_of(trace_id)
            for folder, _, names in os.walk(top)
            for name in names
        ]

    def remove_folders_of(self, trace_id: str) -> None:
        """Remove what folders of a call are empty."""
        for folder in self._folders_of(trace_id):
            self._remove_empty(folder)

    def segments(self, day: Path) -> Iterator[SegmentFile]:
        """Yield the segments of a day, whole ones and half written ones."""
        for trace in _folders(day):
            for station in _folders(trace):
                for tap in _folders(station):
                    yield from self._segments_in(tap, trace.name)

    def remove_empty_before(self, today: date) -> None:
        """Remove empty folders of earlier days; in those of today a writer may be at work."""
        for day in self.days():
            if day.name < today.isoformat():
                self._remove_empty(day)

    def _folders_of(self, trace_id: str) -> list[Path]:
        if not KEY_PATTERN.fullmatch(trace_id):  # a name from a row, and no name of a folder
            return []
        found = (day / trace_id for day in self.days())
        return [folder for folder in found if folder.is_dir() and not folder.is_symlink()]

    @staticmethod
    def _remove_empty(top: Path) -> None:
        for folder, _, _ in os.walk(top, topdown=False):
            # A writer may be putting a late segment there at this moment.
            with suppress(OSError):
                Path(folder).rmdir()

    def _segments_in(self, folder: Path, trace_id: str) -> Iterator[SegmentFile]:
        with suppress(FileNotFoundError), os.scandir(folder) as entries:
            for entry in entries:
                named = _SEGMENT.fullmatch(entry.name)
                if named and entry.is_file(follow_symlinks=False):
                    with suppress(FileNotFoundError):
                        yield SegmentFile(
                            str(Path(entry.path).relative_to(self.root)),
                            trace_id,
                            int(named[1]),
                            entry.stat(follow_symlinks=False).st_mtime,
                            not entry.name.endswith(TEMPORARY),
                        )

    def _open_folder(self, relative: str) -> int | None:
        """Open the folder of a file, step by step, so that no link leads out of the root."""
        parts = PurePosixPath(relative).parts
        if not parts or any(part in {"/", "..", "."} or "\0" in part for part in parts):
            return None
        try:
            folder = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        for part in parts[:-1]:
            try:
                below = os.open(part, _FOLDER, dir_fd=folder)
            except OSError as error:
                if error.errno in _GONE:
                    return None
                raise
            finally:
                os.close(folder)
            folder = below
        return folder


def _folders(folder: Path) -> list[Path]:
    """Return the folders in a folder, in order, without links."""
    try:
        with os.scandir(folder) as entries:
            found = [Path(each.path) for each in entries if each.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(found)

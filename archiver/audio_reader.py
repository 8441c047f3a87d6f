"""Reads segments: only what a database row names, only below the audio root, never by a link."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Self

from archiver.audio import wav_header
from archiver.segments import SegmentRow
from exporter.errors import MonitoringError
from exporter.model import BUCKET_SECONDS, SAMPLE_BYTES

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# A link is no file of ours, and as good as none.
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}
HEADER_BYTES = len(wav_header(0, 1))


class AudioGoneError(MonitoringError):
    """A segment is not there any more, or is no whole segment."""


class AudioUnreadableError(MonitoringError):
    """A segment cannot be read: rights, the disk, or too many open files."""


class SegmentReader:
    """Reads segments below an audio root; for one thread.

    The folder of the last segment stays open, for the next one is mostly beside it.

    Args:
        root: Audio root.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._name: tuple[str, ...] = ()
        self._folder = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._let_go()

    def samples(self, row: SegmentRow, first: int, count: int) -> bytes:
        """Return PCM of a segment: ``count`` samples from sample ``first`` on.

        Raises:
            AudioGoneError: The file is not there or not whole.
            AudioUnreadableError: It cannot be read.
        """
        with self._opened(row) as descriptor:
            size = count * SAMPLE_BYTES
            return os.pread(descriptor, size, HEADER_BYTES + first * SAMPLE_BYTES).ljust(
                size, b"\0"
            )

    def check(self, row: SegmentRow) -> None:
        """Make sure that a segment can be read now.

        Raises:
            AudioGoneError: The file is not there or not whole.
            AudioUnreadableError: It cannot be read.
        """
        with self._opened(row):
            pass

    @contextmanager
    def _opened(self, row: SegmentRow) -> Iterator[int]:
        """Open a whole segment for the time of the block."""
        try:
            descriptor = self.open_file(row.file_path)
            try:
                _check_size(descriptor, row)
                yield descriptor
            finally:
                os.close(descriptor)
        except OSError as error:
            if error.errno in _GONE:
                raise AudioGoneError(f"{row.file_path} is not there any more") from None
            raise AudioUnreadableError(f"{row.file_path}: {error.strerror}") from None

    def open_file(self, relative: str) -> int:
        """Open a file below the root, folder by folder, so that no link leads out of it."""
        parts = PurePosixPath(relative).parts
        if not parts or any(part in {"/", "..", "."} for part in parts):
            raise AudioGoneError(f"{relative!r} is no path below the audio root")
        if self._folder < 0 or self._name != parts[:-1]:
            self._enter(parts[:-1])
        return os.open(parts[-1], _FILE, dir_fd=self._folder)

    def _enter(self, parts: tuple[str, ...]) -> None:
        self._let_go()
        self._folder, self._name = os.open(self._root, _FOLDER), parts
        try:
            for part in parts:
                below = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=self._folder)
                os.close(self._folder)
                self._folder = below
        except OSError:
            self._let_go()
            raise

    def _let_go(self) -> None:
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1


def read_samples(root: Path, row: SegmentRow, first: int, count: int) -> bytes:
    """Return PCM of one segment, as ``SegmentReader`` reads it."""
    with SegmentReader(root) as reader:
        return reader.samples(row, first, count)


def check_segment(root: Path, row: SegmentRow) -> None:
    """Make sure that one segment can be read now; errors as of ``SegmentReader``."""
    with SegmentReader(root) as reader:
        reader.check(row)


def _check_size(descriptor: int, row: SegmentRow) -> None:
    size = HEADER_BYTES + BUCKET_SECONDS * row.rate * SAMPLE_BYTES
    if os.fstat(descriptor).st_size != size:
        raise AudioGoneError(f"{row.file_path} is no segment of {row.rate} Hz")

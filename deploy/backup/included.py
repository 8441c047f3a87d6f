"""The host's own files that a backup is told to take along."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from deploy.backup.errors import BackupError

FOLDER: Final = "include/"


def find(paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Return all regular files at and below these paths, and what is left out and why.

    Raises:
        BackupError: One of the paths is not there.
    """
    files: dict[Path, None] = {}
    left_out: list[str] = []
    for path in paths:
        if not path.exists():
            raise BackupError(f"--include {path}: there is no such file or folder")
        for each in _below(path.resolve()):
            if stat.S_ISREG(each.lstat().st_mode):
                files[each] = None
            else:
                left_out.append(f"{each} is no regular file (links are not followed)")
    return list(files), left_out


@contextmanager
def opened(path: Path) -> Iterator[tuple[IO[bytes], int, int]]:
    """Yield a file's stream, size and permission bits.

    Raises:
        BackupError: It cannot be read.
    """
    try:
        stream = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")
    except OSError as error:
        raise BackupError(f"--include {path}: {error.strerror}") from None
    with stream:
        found = os.fstat(stream.fileno())
        yield stream, found.st_size, stat.S_IMODE(found.st_mode) & 0o777


def member_name(path: Path) -> str:
    """Return the member's name of a file: its absolute path below ``include/``."""
    return FOLDER + str(path).lstrip("/")


def _below(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders.sort()
        yield from (Path(folder, name) for name in sorted(names))
        yield from (Path(folder, name) for name in folders if Path(folder, name).is_symlink())

"""The one way in which this package writes a file: whole and durable, or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

FILE_MODE = 0o640
FOLDER_MODE = 0o750
TEMPORARY = ".tmp"
_MOST_PARTS = 1_024  # IOV_MAX of Linux


def write_whole(path: Path, parts: Sequence[bytes], *, sync_folder: bool = False) -> None:
    """Write a file under a temporary name, make it durable, then give it its name.

    Args:
        path: Final name; its folder exists.
        parts: What to write, in order.
        sync_folder: Also make the name itself durable.

    Raises:
        OSError: Nothing of that name was written; the temporary file is gone.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    temporary.unlink(missing_ok=True)
    try:
        _write(temporary, parts)
        temporary.rename(path)
        if sync_folder:
            _sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def make_folders(root: Path, folder: Path) -> None:
    """Make ``folder`` below ``root`` with our modes, whatever the process's umask.

    Where the root hands its group down to what is made in it, so do they: who may hear the sound
    of one host is then who may hear that of all.
    """
    for each in (root, *(root / part for part in _prefixes(folder.relative_to(root)))):
        if not each.is_dir():
            each.mkdir(mode=FOLDER_MODE, exist_ok=True)
            mode = each.stat().st_mode
            if stat.S_IMODE(mode) & 0o777 != FOLDER_MODE:
                # Only then: a confined service may not touch the bit that hands the group down.
                each.chmod(FOLDER_MODE | mode & stat.S_ISGID)


def _prefixes(relative: Path) -> list[Path]:
    return [Path(*relative.parts[: depth + 1]) for depth in range(len(relative.parts))]


def _write(path: Path, parts: Sequence[bytes]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, FILE_MODE)
    try:
        os.fchmod(descriptor, FILE_MODE)
        wanted = sum(map(len, parts))
        written = os.writev(descriptor, parts[:_MOST_PARTS])
        if written < wanted:
            # A short write: the rest says why (no space, file size limit, many parts).
            rest = b"".join(parts)[written:]
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""How much room the disk of the audio has, in bytes and in files: either may run out first."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from archiver.deletion.tree import Removed


@dataclass(frozen=True, slots=True)
class Space:
    """A file system.

    Attributes:
        total_bytes: Its size.
        free_bytes: What is free of that, for who is not root.
        total_files: Most files; 0 where there is no such limit.
        free_files: How many more files it takes.
    """

    total_bytes: int
    free_bytes: int
    total_files: int = 0
    free_files: int = 0

    def share(self, freed: Removed) -> float:
        """Return the free share, 0 to 1, of what is scarcer, if ``freed`` were gone already."""
        shares = [(self.free_bytes + freed.file_bytes) / max(1, self.total_bytes)]
        if self.total_files:
            shares.append((self.free_files + freed.files) / self.total_files)
        return min(shares)


Measure = Callable[[Path], Space]


def measure(root: Path) -> Space:
    """Return the space of the file system of a folder, or of the one in which it would be made."""
    existing = next(path for path in (root, *root.absolute().parents) if path.exists())
    found = os.statvfs(existing)
    sizes = found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
    return Space(*sizes, found.f_files, found.f_favail)

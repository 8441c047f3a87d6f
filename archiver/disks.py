"""How much room the disks have on which segments and spool are."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from exporter.selfmetrics import Tally


def tell_room(tally: Tally, *, audio: Path, spool: Path) -> None:
    """Set the own numbers of both disks; may wait for them, so that no scrape should call it.

    Args:
        tally: The own numbers.
        audio: Folder of the segments; where it is not there, the first write says so.
        spool: Folder of the batch files.
    """
    with suppress(OSError):
        status = os.statvfs(audio)
        tally.set("audio_free_bytes", status.f_bavail * status.f_frsize)
        tally.set("audio_size_bytes", status.f_blocks * status.f_frsize)
    with suppress(OSError):
        status = os.statvfs(spool)
        tally.set("spool_free_bytes", status.f_bavail * status.f_frsize)

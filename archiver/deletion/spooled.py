"""What the spool says of calls and files: nothing that waits there is an orphan.

Read from outside, while the processes that own the folders go on; see :mod:`archiver.spool`.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from archiver.batch import Batch, CorruptBatchError, Entry, decode, encode, segment_paths
from archiver.files import write_whole
from archiver.spool import BAD, LIFE, SUFFIX, lock_folder

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Spooled:
    """What waits, or was set aside.

    Attributes:
        paths: Segments that a record names, below the audio root.
        open_traces: Calls that a process has not yet ended.
        damaged_s: When the newest damaged batch was written: it may name any segment written
            before; 0 when there is none.
    """

    paths: set[str] = field(default_factory=set)
    open_traces: set[str] = field(default_factory=set)
    damaged_s: float = 0.0

    def may_name(self, path: str, trace_id: str, modified_s: float) -> bool:
        """Whether the row of a segment may still be here."""
        is_named = path in self.paths or trace_id in self.open_traces
        return is_named or modified_s <= self.damaged_s


@dataclass(slots=True)
class Scrubbed:
    """What became of calls in the spool.

    Attributes:
        records: Records that were taken out.
        batches: Files from which they were taken.
        left_batches: Files of running processes; what they have of the calls, the database refuses.
        unreadable: Files that are damaged; nobody can tell whose records they have.
    """

    records: int = 0
    batches: int = 0
    left_batches: int = 0
    unreadable: int = 0


def read(root: Path) -> Spooled:
    """Look through the spool of all processes.

    Raises:
        OSError: It cannot be read: anything may be in it.
    """
    found = Spooled()
    for folder in _folders(root):
        found.open_traces.update(_open_traces(folder))
        for path in _files(folder):
            try:
                entries = _entries(path)
                modified_s = path.stat().st_mtime
            except FileNotFoundError:
                continue  # uploaded meanwhile: its rows are in the database
            if entries is None:
                found.damaged_s = max(found.damaged_s, modified_s)
            else:
                found.paths.update(segment_paths(entries))
    return found


def scrub(root: Path, trace_ids: Collection[str], *, is_dry: bool = False) -> Scrubbed:
    """Take all records of calls out of what no running process owns, and of what was set aside."""
    found = Scrubbed()
    for folder in _folders(root):
        lock = lock_folder(folder)
        try:
            for path in _files(folder):
                if lock is None and path.parent == folder:
                    found.left_batches += _has_any(path, trace_ids)
                else:
                    _scrub_file(path, trace_ids, found, is_dry=is_dry)
            if lock is not None and not is_dry:
                _scrub_life(folder, trace_ids)
        finally:
            if lock is not None:
                os.close(lock)
    return found


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(path for path in root.iterdir() if path.is_dir())
    except FileNotFoundError:
        return []


def _files(folder: Path) -> list[Path]:
    """Return batches, those set aside, and single records set aside."""
    bad = folder / BAD
    patterns = ((folder, f"*{SUFFIX}"), (bad, f"*{SUFFIX}"), (bad, "*.json"))
    return [path for where, pattern in patterns for path in sorted(where.glob(pattern))]


def _entries(path: Path) -> list[Entry] | None:
    """Return the records of a file, None when it is damaged."""
    content = path.read_bytes()
    try:
        if path.suffix == SUFFIX:
            return list(decode(content).entries)
        entry = json.loads(content)["entry"]
    except (CorruptBatchError, ValueError, KeyError, TypeError):
        return None
    return [entry] if isinstance(entry, dict) else None


def _open_traces(folder: Path) -> list[str]:
    try:
        state = json.loads((folder / LIFE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return []
    return list(state.get("open_traces", [])) if isinstance(state, dict) else []


def _has_any(path: Path, trace_ids: Collection[str]) -> bool:
    try:
        entries = _entries(path) or []
    except FileNotFoundError:
        return False
    return any(entry.get("trace_id") in trace_ids for entry in entries)


def _scrub_file(path: Path, trace_ids: Collection[str], found: Scrubbed, *, is_dry: bool) -> None:
    try:
        entries = _entries(path)
    except FileNotFoundError:
        return
    if entries is None:
        found.unreadable += 1
        return
    kept = tuple(entry for entry in entries if entry.get("trace_id") not in trace_ids)
    if len(kept) == len(entries):
        return
    found.records += len(entries) - len(kept)
    found.batches += 1
    if is_dry:
        return
    if path.suffix == SUFFIX:
        _rewrite(path, kept)
    else:
        path.unlink(missing_ok=True)


def _rewrite(path: Path, kept: tuple[Entry, ...]) -> None:
    """Write a batch anew, an empty one too: a number that is missing would say that one is lost."""
    batch: Batch = replace(decode(path.read_bytes()), entries=kept)
    write_whole(path, encode(batch), sync_folder=True)


def _scrub_life(folder: Path, trace_ids: Collection[str]) -> None:
    """Forget that a process that died had the calls open."""
    path = folder / LIFE
    if not set(_open_traces(folder)) & set(trace_ids):
        return
    state = json.loads(path.read_text(encoding="utf-8"))
    state["open_traces"] = [each for each in state["open_traces"] if each not in trace_ids]
    write_whole(path, [json.dumps(state).encode()])

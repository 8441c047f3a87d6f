"""The spool: batch files that wait for the database. A file that exists is a batch to upload.

Each process writes into a folder of its own, under a lock that dies with it; folders whose lock is
free are adopted, so that nothing waits for a process that will not come back.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archiver.batch import (
    Batch,
    CorruptBatchError,
    Entry,
    UnknownBatchError,
    anonymous,
    decode,
    encode,
    remains,
)
from archiver.files import FOLDER_MODE, TEMPORARY, make_folders, write_whole
from exporter.selfmetrics import Tally

_log = logging.getLogger(__name__)

SUFFIX = ".batch"
LIFE = "running.json"
BAD = "bad"
_RELIEF = 0.9  # of the limit: below, it is full no more


@dataclass(slots=True)
class Waiting:
    """A batch file: its size, the samples it speaks of, and when it was written."""

    size: int
    samples: int
    written_s: float


class Spool:
    """All batch files below one folder that belong to this process.

    Args:
        root: The spool of all processes.
        boot_id: Name of this process's folder.
        max_bytes: Limit for the whole root; beyond, the oldest batch is dropped and counted.
        tally: The own numbers.
    """

    def __init__(self, root: Path, boot_id: str, *, max_bytes: int, tally: Tally) -> None:
        self.root = root
        self.folder = root / boot_id
        self._max_bytes = max_bytes
        self._tally = tally
        self._lock = threading.Lock()
        self._waiting: dict[Path, Waiting] = {}
        self._locks: dict[Path, int] = {}
        self._next_is_oldest = False
        self._in_hand: Path | None = None
        self._lives: list[Path] = []
        self._rest: list[Entry] = []
        self._is_full = False
        self._other_bytes = 0

    def open(self) -> None:
        """Make the own folder and take its lock.

        Raises:
            OSError: The folder cannot be made.
        """
        if self.folder in self._locks:
            return
        make_folders(self.root, self.folder)
        descriptor = lock_folder(self.folder)
        if descriptor is None:
            raise OSError(f"{self.folder} is locked by another process")
        self._locks[self.folder] = descriptor
        with self._lock:
            # Since a stop, another process may have taken some over.
            self._waiting = {path: one for path, one in self._waiting.items() if path.exists()}

    def close(self) -> None:
        """Let go of all folders; an empty one of ours vanishes."""
        if self.folder in self._locks:  # else it could not be made: there is nothing of ours
            (self.folder / LIFE).unlink(missing_ok=True)
        for folder, descriptor in self._locks.items():
            _remove_if_done(folder)
            os.close(descriptor)
        self._locks.clear()

    def adopt(self) -> list[Entry]:
        """Take over what dead processes left; return the ends of the traces they had open.

        These come again after the next crash, until ``settle`` says that they are durable.
        """
        ends: list[Entry] = []
        folders = [path for path in self.root.iterdir() if path.is_dir()]
        for folder in sorted(set(folders) - set(self._locks)):
            try:
                descriptor = lock_folder(folder)
            except OSError as error:
                _log.warning("cannot take over %s: %s", folder, error)
                continue
            if descriptor is None:
                continue
            self._locks[folder] = descriptor
            ends += self._take_over(folder)
        self._other_bytes = max(0, _bytes_below(self.root) - self.measure()[1])
        return ends

    def settle(self) -> None:
        """Say that what ``adopt`` returned is durable."""
        while self._lives:
            life = self._lives.pop()
            life.unlink(missing_ok=True)
            _remove_if_done(life.parent)

    def write(self, batch: Batch) -> list[Entry]:
        """Make a batch durable; return what is to be written of those that gave way to it.

        Raises:
            OSError: It is not; nothing was written.
        """
        parts = encode(batch)
        self._make_room(sum(map(len, parts)))
        path = self.folder / f"{batch.seq:012d}{SUFFIX}"
        write_whole(path, parts, sync_folder=True)
        with self._lock:
            status = path.stat()
            self._waiting[path] = Waiting(status.st_size, batch.samples, status.st_mtime)
        # Kept until here: a write that failed is tried again.
        rest, self._rest = self._rest, []
        return rest

    def next(self) -> Path | None:
        """Return a batch to upload: the newest and the oldest in turn, so that both move."""
        with self._lock:
            self._next_is_oldest = not self._next_is_oldest
            choose = min if self._next_is_oldest else max
            self._in_hand = choose(
                self._waiting,
                key=lambda path: (self._waiting[path].written_s, path),
                default=None,
            )
            return self._in_hand

    def let_go(self) -> None:
        """Say that the batch of the last ``next`` is not in work any more."""
        with self._lock:
            self._in_hand = None

    def read(self, path: Path) -> Batch | None:
        """Read a batch; a damaged one is set aside, counted, and None."""
        try:
            return decode(path.read_bytes())
        except FileNotFoundError:
            self._forget(path)
        except (CorruptBatchError, OSError) as error:
            self._tally.add("spool_corrupt_batches_total")
            _log.exception("batch %s is damaged (%s); set aside in %s/", path.name, error, BAD)
            self.set_aside(path)
        return None

    def remove(self, path: Path) -> None:
        """Forget a batch that is in the database."""
        path.unlink(missing_ok=True)
        self._forget(path)

    def quarantine(self, entry: Entry, reason: str, name: str) -> None:
        """Keep what the database refuses beside the spool, for a person to look at."""
        folder = self.folder / BAD
        try:
            folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
            text = json.dumps({"reason": reason, "entry": anonymous(entry)}, default=str)
            write_whole(folder / f"{name}.json", [text.encode()])
        except (OSError, UnicodeEncodeError) as error:
            _log.warning("cannot keep a refused record in %s: %s", folder, error)

    def set_aside(self, path: Path) -> None:
        """Put a batch that cannot be used into a folder for a person to look at; count it."""
        self._tally.add("samples_quarantined_total", by=self._forget(path))
        folder = path.parent / BAD
        try:
            folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
            path.rename(folder / path.name)
        except OSError as error:
            _log.warning("cannot set %s aside: %s", path, error)

    def write_life(self, state: dict[str, Any]) -> None:
        """Leave a sign of life, from which the next start knows what a crash left open."""
        try:
            # A kill between truncating and writing would forget the open calls.
            temporary = self.folder / (LIFE + TEMPORARY)
            temporary.write_text(json.dumps(state), encoding="utf-8")
            temporary.rename(self.folder / LIFE)
        except OSError as error:
            _log.debug("no sign of life in %s: %s", self.folder, error)

    @property
    def waiting_samples(self) -> int:
        """Samples of audio whose rows wait here."""
        with self._lock:
            return sum(waiting.samples for waiting in self._waiting.values())

    def measure(self) -> tuple[int, int, float]:
        """Return batches, bytes, and the time of the oldest (0: none)."""
        with self._lock:
            found = list(self._waiting.values())
        oldest = min((waiting.written_s for waiting in found), default=0.0)
        return len(found), sum(waiting.size for waiting in found), oldest

    def _take_over(self, folder: Path) -> list[Entry]:
        for temporary in folder.glob(f"*{TEMPORARY}"):
            temporary.unlink(missing_ok=True)
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            if path not in self._waiting:
                self._count_in(path)
        life = folder / LIFE
        if not life.exists():
            _remove_if_done(folder)
            return []
        self._tally.add("unclean_shutdowns_total")
        state = _read_life(life)
        if state.get("open_traces"):
            self._lives.append(life)
        else:
            life.unlink(missing_ok=True)
            _remove_if_done(folder)
        _log.warning(
            "an earlier process (%s) died; last sign of life %s; calls it had open: %d; at most "
            "the buckets open then and the last second are lost",
            folder.name,
            state.get("heartbeat"),
            len(state.get("open_traces", [])),
        )
        return [
            {
                "kind": "trace_ended",
                "trace_id": trace_id,
                "ended_ns": state.get("heartbeat_ns", 0),
                "end_reason": "crash",
            }
            for trace_id in state.get("open_traces", [])
        ]

    def _count_in(self, path: Path) -> None:
        try:
            batch = decode(path.read_bytes())
        except UnknownBatchError as error:
            # Not waiting, so it neither counts as ours nor gives way; its folder stays with it.
            _log.warning(
                "batch %s is of a later version (%s): it stays where it is until that is "
                "installed again, and uploads it",
                path,
                error,
            )
            return
        except (CorruptBatchError, OSError):
            samples = 0  # Reading it for upload will say so and set it aside.
        else:
            samples = batch.samples
        self._tally.add("samples_adopted_total", by=samples)
        status = path.stat()
        with self._lock:
            self._waiting[path] = Waiting(status.st_size, samples, status.st_mtime)

    def _make_room(self, size: int) -> None:
        """Drop the oldest batches beyond the limit, and count what was in them."""
        while self.measure()[1] + self._other_bytes + size > self._max_bytes:
            with self._lock:
                # One in hand may be in the database already: dropped too, it would count twice.
                free = self._waiting.keys() - {self._in_hand}
                oldest = min(free, key=lambda path: self._waiting[path].written_s, default=None)
                waiting = self._waiting.pop(oldest) if oldest else None
            if oldest is None or waiting is None:
                break
            self._rest += _rest_of(oldest)
            oldest.unlink(missing_ok=True)
            self._forget(oldest)
            samples = waiting.samples
            self._tally.add("records_dropped_total", "batch", "spool_full")
            self._tally.add("samples_dropped_total", "spool_full", by=samples)
            self._note_full(oldest)
        if self.measure()[1] + self._other_bytes + size < _RELIEF * self._max_bytes:
            self._is_full = False

    def _note_full(self, dropped: Path) -> None:
        if not self._is_full:
            self._is_full = True
            _log.error(
                "the spool %s is full (%d bytes): dropping the oldest, beginning with %s; bring "
                "the database back, or raise MONITORING_SPOOL_MAX_BYTES",
                self.root,
                self._max_bytes,
                dropped.name,
            )

    def _forget(self, path: Path) -> int:
        with self._lock:
            waiting = self._waiting.pop(path, None)
        if path.parent != self.folder:
            _remove_if_done(path.parent)
        return waiting.samples if waiting else 0


def lock_folder(folder: Path) -> int | None:
    """Take the lock of a process's folder; None while that process lives. Closing lets go."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _rest_of(path: Path) -> list[Entry]:
    try:
        return [rest for entry in decode(path.read_bytes()).entries if (rest := remains(entry))]
    except (CorruptBatchError, OSError):
        return []


def _bytes_below(root: Path) -> int:
    """Return the size of all batches of all processes, and of what was set aside."""
    size = 0
    for path in root.rglob("*.*"):
        with suppress(FileNotFoundError):  # uploaded meanwhile
            size += path.stat().st_size if path.is_file() else 0
    return size


def _remove_if_done(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        shutil.rmtree(folder, ignore_errors=True)


def _read_life(path: Path) -> dict[str, Any]:
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}

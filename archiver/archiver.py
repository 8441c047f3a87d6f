"""The archiver: one object that takes records and brings them to files and PostgreSQL."""

from __future__ import annotations

import logging
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from archiver.audio import AudioStore
from archiver.batch import Entry, segment_paths
from archiver.consent import Consents
from archiver.database import Database
from archiver.deletion.retention import Retention
from archiver.deletion.tree import Tree
from archiver.spool import Spool
from archiver.uploader import Uploader
from archiver.writer import CAPACITY, Boot, SpoolWriter
from exporter.config import Settings, load_settings, usable_path
from exporter.model import Record, SelfSample
from exporter.selfmetrics import Tally

_log = logging.getLogger(__name__)

_POLL_S = 0.02


class Archiver:
    """The archive of one process; see ``exporter.model.Archive`` and ``Service``.

    Args:
        settings: Database, paths, limits.
        has_retention: Whether this process also deletes what is too old, every five minutes.
    """

    def __init__(self, settings: Settings, *, has_retention: bool = True) -> None:
        self.tally = Tally()
        self._settings = settings
        self._has_retention = has_retention
        self._audio_path = settings.audio_path
        self._boot = Boot(_boot_id())
        self._spool = Spool(
            settings.spool_path,
            self._boot.boot_id,
            max_bytes=settings.spool_max_bytes,
            tally=self.tally,
        )
        self._audio = AudioStore(settings.audio_path)
        database = Database(settings.db, lambda: self.tally.add("db_watchdog_kills_total"))
        self._uploader = Uploader(
            self._spool, database, self._audio, self.tally, on_erased=self._forget
        )
        self._writer = SpoolWriter(
            self._boot,
            self._spool,
            self._audio,
            consents=Consents(self._audio, settings.consent_unknown, self.tally),
            tally=self.tally,
            on_written=self._uploader.wake,
        )
        self._retention = Retention(settings, self.tally)
        self._is_running = False

    @classmethod
    def from_env(cls) -> Self:
        """Return an archiver as environment and ``monitoring.config.json`` say.

        Raises:
            ConfigError: A setting is wrong; the message names the key and the value.
        """
        return cls(load_settings())

    @property
    def audio_path(self) -> Path:
        """Root of the segments in use."""
        return self._audio.root

    def start(self) -> None:
        """Start the threads; paths that cannot be made fall back to the user's state directory."""
        if self._is_running:
            return
        self._is_running = True
        self._audio.root = self._usable(self._settings.audio_path)
        root = self._usable(self._settings.spool_path)
        self._spool.root, self._spool.folder = root, root / self._boot.boot_id
        self._writer.start()
        self._uploader.start()
        if self._has_retention:
            self._retention.start(self._audio.root)

    def stop(self, timeout: float) -> None:
        """Bring everything to the spool; what the database has not taken waits there."""
        if not self._is_running:
            return
        self._is_running = False
        deadline = time.monotonic() + timeout
        self._retention.stop()
        self._writer.stop(timeout)
        self._uploader.stop(max(0.0, deadline - time.monotonic()))
        self._spool.close()

    def offer(self, record: Record) -> None:
        """Take a record, or count it as dropped; never blocks."""
        self._writer.offer(record)

    def flush(self, timeout: float) -> bool:
        """Wait until all that was offered is in the database; False when time ran out."""
        deadline = time.monotonic() + timeout
        while not (self._writer.is_idle and self._spool.measure()[0] == 0):
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
        return True

    def wait_until_adopted(self, timeout: float = 10.0) -> bool:
        """Wait until what dead processes left has been taken over."""
        return self._writer.adopted.wait(timeout)

    @property
    def backlog(self) -> int:
        """Records that wait in memory; for a host that can wait, such as a replay."""
        return self._writer.queue_length

    def accounting(self) -> dict[str, int]:
        """Count samples: offered + adopted is the sum of all the others, at any rest."""
        total = self.tally.total
        return {
            "offered": self._boot.offered,
            "adopted": int(total("samples_adopted_total")),
            "queued": self._writer.waiting_samples,
            "spooled": self._spool.waiting_samples,
            "archived": int(total("samples_archived_total")),
            "quarantined": int(total("samples_quarantined_total")),
            "dropped": int(total("samples_dropped_total")),
        }

    def self_samples(self) -> list[SelfSample]:
        """Tell the own numbers."""
        batches, size, oldest = self._spool.measure()
        self.tally.set("spool_batches", batches)
        self.tally.set("spool_bytes", size)
        self.tally.set("spool_oldest_timestamp_seconds", oldest)
        self.tally.set("spool_limit_bytes", self._settings.spool_max_bytes)
        self.tally.set("queue_length", self._writer.queue_length, "archive")
        self.tally.set("queue_capacity", CAPACITY, "archive")
        if self._writer.is_idle:  # else something is between two accounts
            books = self.accounting()
            left = sum(books.values()) - 2 * (books["offered"] + books["adopted"])
            self.tally.set("accounting_residual_samples", -left, "archiver")
        return self.tally.samples()

    def _forget(self, entries: list[Entry]) -> None:
        """Remove the sound of records of erased calls, and write no more of these calls."""
        trace_ids = {entry["trace_id"] for entry in entries}
        self.tally.add("erasures_total", "refused", by=len(trace_ids - self._writer.erased))
        self._writer.forget(trace_ids)
        tree = Tree(self._audio.root)
        for path in segment_paths(entries):
            try:
                tree.remove(path)
            except OSError as error:
                _log.warning("cannot remove %s of an erased call: %s; retention will", path, error)

    @staticmethod
    def _usable(path: Path) -> Path:
        try:
            return usable_path(path, _log.warning)
        except OSError as error:
            _log.exception("neither %s nor the state directory can be made (%s)", path, error)
            return path


def _boot_id() -> str:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    return f"{stamp}-{uuid.uuid4().hex[:8]}"

"""The upload thread: from batch files to the database. It is the only one that waits for it."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from archiver.audio import AudioStore
from archiver.batch import KINDS, Batch, Entry, entry_samples
from archiver.database import AnyDatabaseError, Applied, Database
from archiver.spool import Spool
from exporter.model import Cause, Consent, ConsentChanged
from exporter.selfmetrics import Tally

_log = logging.getLogger(__name__)

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 5.0
IDLE_S = 1.0
PING_EVERY_S = 5.0
MOST_FAILURES = 5


class Backoff:
    """Delays that double up to a limit, with full jitter."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._ceiling = FIRST_DELAY_S

    def reset(self) -> None:
        """Begin anew: it worked."""
        self._ceiling = FIRST_DELAY_S

    def next_delay(self) -> float:
        """Return how many seconds to wait now."""
        delay = self._rng.uniform(FIRST_DELAY_S / 2, self._ceiling)
        self._ceiling = min(2 * self._ceiling, LONGEST_DELAY_S)
        return delay


class Uploader:
    """Uploads batch by batch, and unlinks what the database has.

    Args:
        spool: Where batches wait.
        database: Where they go.
        audio: Where the segments are that a refusal removes.
        tally: The own numbers.
        on_erased: Called with the records of erased calls, which the database does not take.
    """

    def __init__(
        self,
        spool: Spool,
        database: Database,
        audio: AudioStore,
        tally: Tally,
        on_erased: Callable[[list[Entry]], None],
    ) -> None:
        self._spool = spool
        self._database = database
        self._audio = audio
        self._tally = tally
        self._on_erased = on_erased
        self._backoff = Backoff(random.Random())  # noqa: S311 - jitter, not a secret
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_up: bool | None = None
        self._heard_at = -PING_EVERY_S
        self._failures = Counter[Path]()
        self.has_nothing = True

    def start(self) -> None:
        """Start the thread."""
        self._stopping.clear()
        self._tally.set("db_up", 0)
        self._thread = threading.Thread(target=self._run, name="monitoring-upload", daemon=True)
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """End the thread; what waits stays in the spool."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout)
            self._thread = None

    def wake(self) -> None:
        """Say that there may be something to upload."""
        self.has_nothing = False
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            delay = 1.0
            try:
                delay = self._upload_waiting()
            except Exception:
                self._tally.add("thread_errors_total", "upload")
                _log.exception("a step of the upload thread failed; going on")
            if delay and not self._stopping.is_set():
                self._wake.wait(delay)
                self._wake.clear()
        self._database.close()

    def _upload_waiting(self) -> float:
        """Upload until nothing waits; return how long to wait then."""
        while not self._stopping.is_set():
            self._tally.set("heartbeat_timestamp_seconds", time.time(), "upload")
            path = self._spool.next()
            if path is None:
                self.has_nothing = True
                self._ping()
                return IDLE_S
            try:
                batch = self._spool.read(path)
                is_done = batch is None or self._upload(batch, path)
            finally:
                self._spool.let_go()
            if not is_done:
                self._stopping.wait(self._backoff.next_delay())
        return 0.0

    def _upload(self, batch: Batch, path: Path) -> bool:
        try:
            applied = self._database.apply(batch)
        except (AnyDatabaseError, OSError) as error:
            self._tally.add("db_attempts_total", "error")
            self._note_down(error)
            return False
        except Exception:
            self._note_failure(path)
            return False
        self._remove_refused(batch)
        self._failures.pop(path, None)
        self._tally.add("db_attempts_total", "ok")
        self._tally.set("db_last_success_timestamp_seconds", time.time())
        self._backoff.reset()
        self._note_up()
        self._count(batch, applied)
        if applied.erased:
            self._on_erased(applied.erased)
        self._spool.remove(path)
        return True

    def _remove_refused(self, batch: Batch) -> None:
        """Remove the files of calls that have refused, before their batch goes.

        Who wrote the batch has done it already, unless it died in between.
        """
        for entry in batch.entries:
            if entry["kind"] == KINDS[ConsentChanged] and entry["consent"] == Consent.REFUSED:
                try:
                    removed = self._audio.remove_call(entry["trace_id"])
                except OSError:
                    _log.exception(
                        "cannot remove the audio of call %s below %s, whose callers have refused; "
                        "remove the folders of that name by hand",
                        entry["trace_id"],
                        self._audio.root,
                    )
                else:
                    self._tally.add("audio_withdrawn_total", by=removed)

    def _ping(self) -> None:
        """While there is nothing to upload, know nevertheless whether the database answers."""
        if time.monotonic() - self._heard_at < PING_EVERY_S:
            return
        try:
            self._database.ping()
        except (AnyDatabaseError, OSError) as error:
            self._note_down(error)
        else:
            self._note_up()

    def _note_failure(self, path: Path) -> None:
        """A batch on which our own code fails may not hold up the others for ever."""
        self._tally.add("thread_errors_total", "upload")
        self._failures[path] += 1
        _log.exception("batch %s cannot be applied (%d times)", path.name, self._failures[path])
        if self._failures[path] >= MOST_FAILURES:
            del self._failures[path]
            self._spool.set_aside(path)
            self._tally.add("records_quarantined_total", "unusable")

    def _count(self, batch: Batch, applied: Applied) -> None:
        if applied.was_known:
            self._tally.add("batches_deduplicated_total")
            self._tally.add("samples_archived_total", by=batch.samples)
            return
        for number, (entry, reason) in enumerate(applied.refused):
            kind = reason.partition(":")[0]
            self._tally.add("records_quarantined_total", kind)
            _log.error("the database refuses a record of batch %s: %s", batch.batch_id, reason)
            self._spool.quarantine(entry, reason, f"{batch.batch_id}-{number}")
        self._tally.add("samples_quarantined_total", by=applied.refused_samples)
        erased = sum(map(entry_samples, applied.erased))
        for entry in applied.erased:
            self._tally.add("records_dropped_total", entry["kind"], Cause.ERASED)
        self._tally.add("samples_dropped_total", Cause.ERASED, by=erased)
        archived = batch.samples - applied.refused_samples - erased
        self._tally.add("samples_archived_total", by=archived)
        poison = {id(entry) for entry, _ in applied.refused} | set(map(id, applied.erased))
        for entry in batch.entries:
            if id(entry) not in poison:
                self._tally.add("records_archived_total", entry["kind"])
        buckets = [entry["bucket_ns"] for entry in batch.entries if entry["kind"] == "bucket"]
        if buckets:
            name = "highest_archived_bucket_timestamp_seconds"
            self._tally.set(name, max(self._tally.get(name), max(buckets) / 1e9))

    def _note_up(self) -> None:
        self._heard_at = time.monotonic()
        self._tally.set("db_up", 1)
        if self._is_up is False:
            _log.warning("the database is back; %d batches wait", self._spool.measure()[0])
        self._is_up = True

    def _note_down(self, error: Exception) -> None:
        self._heard_at = time.monotonic()
        self._tally.set("db_up", 0)
        if self._is_up is not False:
            _log.warning(
                "the database cannot take data (%s); nothing is lost while the spool has room; "
                "trying again at least every %d s",
                str(error).strip().splitlines()[0] if str(error) else error,
                LONGEST_DELAY_S,
            )
        self._is_up = False

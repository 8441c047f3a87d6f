"""The spool thread: from offered records to files. It never waits for the database."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from archiver.audio import AudioStore, Segment
from archiver.batch import KINDS, Batch, Entry, entry_samples, is_writable, to_entry
from archiver.consent import Consents
from archiver.disks import tell_room
from archiver.spool import Spool
from exporter.model import Bucket, Cause, Gap, Record, TapBucket, TraceEnded
from exporter.selfmetrics import Tally

_log = logging.getLogger(__name__)

GATHER_S = 0.1
ADOPT_EVERY_S = 60.0
CAPACITY = 4_000
KEPT_ENTRIES = 20_000
# So many reach the database well within the patience of its watchdog.
BATCH_ENTRIES = 500


@dataclass(slots=True)
class Boot:
    """This process's identity in the spool, and its counts, which ride in every batch."""

    boot_id: str
    seq: int = 0
    offered: int = 0
    dropped: int = 0


class SpoolWriter:
    """Takes records without ever blocking, and writes them from a thread of its own.

    Args:
        boot: Identity and counts.
        spool: Where batch files go.
        audio: Where segments go.
        consents: Whose audio is not stored.
        tally: The own numbers.
        on_written: Called after each batch: there is something to upload.
    """

    def __init__(  # noqa: PLR0913 - what a thread needs of the others
        self,
        boot: Boot,
        spool: Spool,
        audio: AudioStore,
        *,
        consents: Consents,
        tally: Tally,
        on_written: Callable[[], None],
    ) -> None:
        self._boot = boot
        self._spool = spool
        self._audio = audio
        self._consents = consents
        self._tally = tally
        self._on_written = on_written
        self._queue: deque[Record] = deque()
        self._kept: list[Entry] = []
        self._open_traces: dict[str, None] = {}
        self.adopted = threading.Event()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._busy_samples = 0
        self._is_busy = False
        self._ended: list[str] = []
        self._has_trouble = False
        self._audio_fails = False
        self.erased: set[str] = set()

    def start(self) -> None:
        """Start the thread."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="monitoring-spool", daemon=True)
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Write what waits, then end the thread."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout)
            self._thread = None

    def offer(self, record: Record) -> None:
        """Take a record, or count it as dropped; never blocks."""
        samples = record.received_samples if isinstance(record, Bucket) else 0
        self._boot.offered += samples
        kind = KINDS.get(type(record), "unknown")
        self._tally.add("records_total", kind)
        if len(self._queue) >= CAPACITY:
            self._drop(kind, samples, "queue_full")
            return
        self._queue.append(record)
        self._wake.set()

    def forget(self, trace_ids: set[str]) -> None:
        """Say that calls were erased: nothing more of them is written."""
        self.erased |= trace_ids

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is in hand."""
        # In the order in which a record passes, so that none slips through between two looks.
        return not (self._queue or self._is_busy or self._kept)

    @property
    def waiting_samples(self) -> int:
        """Samples that wait in memory."""
        queued = sum(r.received_samples for r in tuple(self._queue) if isinstance(r, Bucket))
        return queued + self._busy_samples + sum(map(entry_samples, self._kept))

    @property
    def queue_length(self) -> int:
        """Records that wait in memory."""
        return len(self._queue) + len(self._kept)

    def _run(self) -> None:
        adopt_at = 0.0
        while True:
            is_last = self._stopping.is_set()
            try:
                if time.monotonic() >= adopt_at:
                    adopt_at = time.monotonic() + ADOPT_EVERY_S
                    tell_room(self._tally, audio=self._audio.root, spool=self._spool.root)
                    self._adopt()
                self._write_waiting()
            except Exception:
                self._tally.add("thread_errors_total", "spool")
                _log.exception("a step of the spool thread failed; going on")
            self._tally.set("heartbeat_timestamp_seconds", time.time(), "spool")
            if is_last:
                self._give_up()
                return
            self._wake.wait(1.0)
            self._wake.clear()
            self._stopping.wait(GATHER_S)

    def _adopt(self) -> None:
        self._spool.open()
        ends = self._spool.adopt()
        if ends:
            self._kept += ends
        self.adopted.set()
        self._on_written()

    def _write_waiting(self) -> None:
        while True:
            while self._queue and len(self._kept) < BATCH_ENTRIES:
                self._take_next()
            self._sign_life()
            self._tally.set("heartbeat_timestamp_seconds", time.time(), "spool")
            if not self._kept or not self._write_batch():
                break
        # Written down first: a crash in between leaves the rest to whoever uploads that batch.
        self._consents.remove_withdrawn()
        while self._queue:  # the disk is in trouble: memory has its own limit
            self._take_next()
            self._drop_beyond()

    def _take_next(self) -> None:
        record = self._queue[0]
        samples = record.received_samples if isinstance(record, Bucket) else 0
        # In hand before it leaves the queue, so that it is always counted somewhere.
        self._is_busy, self._busy_samples = True, samples
        self._queue.popleft()
        try:
            if record.trace_id in self.erased:
                self._pass_over(record, samples)
                return
            self._follow_life(record)
            self._consents.follow(record)
            self._kept.append(self._stored(record))
        except Exception:
            self._drop(KINDS.get(type(record), "unknown"), samples, "invalid")
            _log.exception("cannot archive a %s; it is dropped", type(record).__name__)
        finally:
            self._is_busy, self._busy_samples = False, 0

    def _pass_over(self, record: Record, samples: int) -> None:
        trace_id = record.trace_id or ""
        self._open_traces.pop(trace_id, None)
        if isinstance(record, TraceEnded):  # what comes later, the database refuses
            self.erased.discard(trace_id)
            self._consents.forget(trace_id)
        self._drop(KINDS[type(record)], samples, Cause.ERASED)

    def _stored(self, record: Record) -> Entry:
        if not isinstance(record, Bucket):
            return to_entry(record, {})
        stored = {tap.tap: self._store_audio(record, tap) for tap in record.taps}
        entry = to_entry(record, stored)
        lost = record.received_samples - sum(tap["received_samples"] for tap in entry["taps"])
        if lost:
            is_allowed = self._consents.allows_audio(record.trace_id)
            entry["samples"] = record.received_samples - lost
            self._drop("segment", lost, Cause.DISK_FULL if is_allowed else Cause.MASKED)
        return entry

    def _store_audio(
        self, bucket: Bucket, tap: TapBucket
    ) -> tuple[Segment | None, tuple[Gap, ...]]:
        """Write a segment; when that fails, the numbers go on and a gap says why."""
        if not tap.runs:
            return None, tap.gaps
        if not self._consents.allows_audio(bucket.trace_id):
            return None, _with_lost(tap, Cause.MASKED)
        try:
            segment = self._audio.write(bucket, tap)
        except (OSError, ValueError) as error:
            self._tally.add("audio_write_errors_total")
            if not self._audio_fails:
                self._audio_fails = True
                _log.exception(
                    "cannot write audio below %s (%s); the numbers go on, the sound is lost until "
                    "there is space and access again",
                    self._audio.root,
                    error,
                )
            return None, _with_lost(tap, Cause.DISK_FULL)
        if self._audio_fails:
            self._audio_fails = False
            _log.warning("audio is written again")
        self._tally.add("audio_segments_written_total")
        return segment, tap.gaps

    def _write_batch(self) -> bool:
        """Write what is kept, or a part of it; return whether that is worth another try now."""
        boot, entries = self._boot, tuple(self._kept[:BATCH_ENTRIES])
        identity = (str(uuid.uuid4()), boot.boot_id, boot.seq + 1)
        batch = Batch(*identity, boot.offered, boot.dropped, entries)
        try:
            self._spool.open()
            rest = self._spool.write(batch)
        except OSError as error:
            self._tally.add("spool_write_errors_total")
            if not self._has_trouble:
                self._has_trouble = True
                _log.exception(
                    "cannot write the spool %s (%s); keeping up to %d records; make space "
                    "or set MONITORING_SPOOL_PATH",
                    self._spool.root,
                    error,
                    KEPT_ENTRIES,
                )
            self._drop_beyond()
            return False
        except (TypeError, ValueError, RecursionError):
            self._drop_unwritable()
            return True
        boot.seq += 1
        del self._kept[: len(entries)]
        if not self._kept:
            self._forget_ended()
            self._spool.settle()
        self._kept += rest
        if self._has_trouble:
            self._has_trouble = False
            _log.warning("the spool is written again")
        self._on_written()
        return True

    def _drop_unwritable(self) -> None:
        """Drop what JSON cannot say, such as a host's own object among a call's attributes."""
        kept = self._kept
        self._kept = [entry for entry in kept if is_writable(entry)]
        for entry in kept:
            if not is_writable(entry):
                self._drop(entry["kind"], entry_samples(entry), "invalid")
                _log.error("a %s holds what JSON cannot say; it is dropped", entry["kind"])

    def _forget_ended(self) -> None:
        """Only when its end is durable is a call no longer open: a crash comes in between."""
        for trace_id in self._ended:
            self._open_traces.pop(trace_id, None)
            self._consents.forget(trace_id)
        self._ended.clear()

    def _drop_beyond(self) -> None:
        while len(self._kept) > KEPT_ENTRIES:
            entry = self._kept.pop(0)
            self._drop(entry["kind"], entry_samples(entry), Cause.SPOOL_FULL)

    def _give_up(self) -> None:
        """Count what the disk does not take before the process ends."""
        if self._kept:
            _log.error("no room in the spool at the stop: %d records are lost", len(self._kept))
        while self._kept:
            entry = self._kept.pop()
            self._drop(entry["kind"], entry_samples(entry), Cause.SPOOL_FULL)

    def _drop(self, kind: str, samples: int, reason: str) -> None:
        self._boot.dropped += samples
        self._tally.add("records_dropped_total", kind, reason)
        self._tally.add("samples_dropped_total", reason, by=samples)

    def _follow_life(self, record: Record) -> None:
        name = type(record).__name__
        if name == "TraceStarted":
            self._open_traces[record.trace_id or ""] = None
        elif name == "TraceEnded":
            self._ended.append(record.trace_id or "")

    def _sign_life(self) -> None:
        now = time.time_ns()
        stamp = datetime.fromtimestamp(now / 1e9, UTC).isoformat(timespec="seconds")
        state = {"heartbeat": stamp, "heartbeat_ns": now, "open_traces": list(self._open_traces)}
        self._spool.write_life(state)


def _with_lost(tap: TapBucket, cause: Cause) -> tuple[Gap, ...]:
    """Return the gaps of a tap with those that stand for all of its audio."""
    lost = [Gap(run.first_sample, run.samples, cause) for run in tap.runs]
    return tuple(sorted([*tap.gaps, *lost], key=lambda gap: gap.first_sample))

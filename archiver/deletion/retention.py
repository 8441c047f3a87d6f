"""Retention: what is older than its limit goes, rows and files together; so does what is broken."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
from apscheduler.schedulers.background import BackgroundScheduler

from archiver.deletion import ledger, space
from archiver.deletion.clearing import Clearing, Due
from archiver.deletion.hours import HOUR
from archiver.deletion.orphans import SAFE_AGE, Walk
from archiver.deletion.steps import Step, unheard
from archiver.deletion.tree import Removed, Tree
from exporter.config import Settings
from exporter.selfmetrics import Tally

_log = logging.getLogger(__name__)

FIRST_RUN_AFTER = timedelta(minutes=1)
# Nothing is older than its limit and ten minutes.
EVERY = timedelta(minutes=5)
WALK_EVERY = timedelta(hours=6)
_LOCK = "SELECT pg_try_advisory_xact_lock(hashtext('monitoring_v2.retention'))"
_ORPHANS = {"file": "files", "half_file": "half_files", "row": "rows", "row_left": "rows_left"}


class Retention:
    """Deletes by age, by pressure of the disk, and what is broken; in one process at a time.

    Args:
        settings: Database and limits.
        tally: The own numbers.
        measure: Tells how much room there is for audio.
        safe_age: Files younger than that are never orphans.
    """

    def __init__(
        self,
        settings: Settings,
        tally: Tally,
        *,
        measure: space.Measure = space.measure,
        safe_age: timedelta = SAFE_AGE,
    ) -> None:
        self._settings = settings
        self._tally = tally
        self._measure = measure
        self._safe_age = safe_age
        self._scheduler: BackgroundScheduler | None = None
        self._worker: psycopg.Connection | None = None

    def start(self, audio_root: Path) -> None:
        """Run every five minutes in a thread of its own."""
        # One that never succeeds grows old too.
        self._tally.set("retention_last_success_timestamp_seconds", time.time())
        self._scheduler = BackgroundScheduler(timezone=UTC)
        self._scheduler.add_job(
            self._run_safely,
            "interval",
            [audio_root],
            seconds=EVERY.total_seconds(),
            # Soon, for processes that live less than that; late, after a machine has slept.
            next_run_time=datetime.now(UTC) + FIRST_RUN_AFTER,
            misfire_grace_time=None,
            coalesce=True,
            max_instances=1,
        )
        self._scheduler.start()

    def stop(self) -> None:
        """End the schedule."""
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=False)
            self._scheduler = None
        worker = self._worker
        if worker is not None:
            # It may wait for a reader, and the process's end for it.
            with suppress(psycopg.Error):
                worker.cancel_safe(timeout=5)

    def run(
        self,
        audio_root: Path,
        now: datetime,
        *,
        on_step: Step = unheard,
        is_dry: bool = False,
        has_walk: bool = True,
    ) -> dict[str, int]:
        """Delete what is due at ``now``; return how many of each kind.

        Args:
            audio_root: Root of the segments.
            now: The time.
            on_step: Told of each thing that was done.
            is_dry: Delete nothing, count what would go.
            has_walk: Whether to look for orphans as well.

        Returns:
            Counts by kind; empty when another process is at it.

        Raises:
            psycopg.Error: The database is not there, or this login may not delete.
            OSError: A file cannot be removed.
        """
        with psycopg.connect(self._settings.db, connect_timeout=5) as guard:
            row = guard.execute(_LOCK).fetchone()
            if row is None or not row[0]:
                return {}
            with psycopg.connect(self._settings.db, autocommit=True, connect_timeout=5) as worker:
                self._worker = worker
                try:
                    tree = Tree(audio_root)
                    clearing = Clearing(worker, guard, tree, on_step=on_step, is_dry=is_dry)
                    counts = self._clear(clearing, audio_root, now)
                    if not is_dry:
                        counts |= self._erase_rest(audio_root)
                    if has_walk:
                        walk = Walk(
                            worker, tree, self._settings.spool_path, on_step=on_step, is_dry=is_dry
                        )
                        counts |= self._mend(walk, now, counts)
                finally:
                    self._worker = None
        if not is_dry:
            self._tell(counts)
        return counts

    def walk_is_due(self, now: datetime) -> bool:
        """Tell whether nobody has looked for orphans for long.

        Raises:
            psycopg.Error: The database is not there.
        """
        with psycopg.connect(self._settings.db, connect_timeout=5) as connection:
            row = connection.execute("SELECT max(walked_at) FROM orphan_walks").fetchone()
        return row is None or row[0] is None or now - row[0] >= WALK_EVERY

    def _clear(self, clearing: Clearing, audio_root: Path, now: datetime) -> dict[str, int]:
        settings = self._settings
        due = Due(
            *(
                now - timedelta(hours=hours)
                for hours in (
                    settings.audio_hours,
                    settings.retention_hours,
                    settings.retention_knob_events_hours,
                    settings.retention_access_hours,
                )
            )
        )
        clearing.clear_hours("audio", due.audio)
        clearing.clear_hours("numbers", due.numbers)
        clearing.clear_rows(due)
        self._relieve(clearing, audio_root, due.audio, now - HOUR)
        return dict(clearing.counts)

    def _relieve(
        self, clearing: Clearing, audio_root: Path, since: datetime, until: datetime
    ) -> None:
        """Delete the oldest hours of audio until there is room; never what is being written."""
        wanted, gone = self._settings.retention_free_share, Removed()
        before = share = self._share(clearing, audio_root)
        for hour, parts in clearing.audio_hours(since, until):
            if share >= wanted:
                break
            gone.extend(clearing.clear_hour("audio", hour, parts, reason="pressure"))
            clearing.counts["hours_by_pressure"] += 1
            share = self._share(clearing, audio_root)
        if before < wanted:
            _log.warning(
                "%s had %.1f %% free of %.1f %% wanted: the oldest audio %s, %d files of %d hours "
                "(%.1f MB); now %.1f %% are free%s",
                audio_root,
                100 * before,
                100 * wanted,
                "would go" if clearing.is_dry else "went",
                gone.files,
                clearing.counts["hours_by_pressure"],
                gone.file_bytes / 1e6,
                100 * share,
                ""
                if share >= wanted
                else "; nothing else may go: make room there, or lower "
                "MONITORING_RETENTION_AUDIO_HOURS",
            )

    def _share(self, clearing: Clearing, audio_root: Path) -> float:
        """Return the share that is free; in a trial, that would be."""
        gone = clearing.removed if clearing.is_dry else Removed()
        return self._measure(audio_root).share(gone)

    def _erase_rest(self, audio_root: Path) -> dict[str, int]:
        """Go on with erasures that were interrupted."""
        if not ledger.has_unfinished(self._settings.db, older_than=ledger.UNFINISHED_AGE):
            return {}
        counts = ledger.reapply(self._settings.db, audio_root)
        self._tally.add("erasures_total", "completed")
        _log.warning("an erasure was interrupted; it is complete now: %s", counts)
        return {"erased_traces": counts["traces"]}

    def _mend(self, walk: Walk, now: datetime, counts: dict[str, int]) -> dict[str, int]:
        walk.safe_age = self._safe_age
        before = now - timedelta(hours=self._settings.audio_hours)
        mended = asdict(walk.mend(now, before))
        for label, name in _ORPHANS.items():
            self._tally.set("audio_orphans", mended[name], label)
        old = counts.get("files", 0) + mended.pop("old_files") + mended.pop("half_files")
        return {"files": old} | {f"orphan_{name}": number for name, number in mended.items()}

    def _tell(self, counts: dict[str, int]) -> None:
        for kind, count in counts.items():
            self._tally.add("retention_deleted_total", kind, by=count)
        self._tally.set("retention_last_success_timestamp_seconds", time.time())

    def _run_safely(self, audio_root: Path) -> None:
        now = datetime.now(UTC)
        try:
            self.run(audio_root, now, has_walk=self.walk_is_due(now))
        except (psycopg.Error, OSError) as error:
            _log.warning(
                "retention did not run (%s); old data stays until it does; it needs a login that "
                "is a member of monitoring_retention and owns the tables",
                str(error).strip().splitlines()[0],
            )

"""Retention: once an hour, what is older than the limit goes, rows and files together."""

from __future__ import annotations

import logging
import re
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
from apscheduler.schedulers.background import BackgroundScheduler
from psycopg import sql

from archiver.files import TEMPORARY
from exporter.config import Settings
from exporter.selfmetrics import Tally

_log = logging.getLogger(__name__)

PARENTS = ("tap_buckets_5s", "metrics_agg_5s", "audio_segments_5s", "knob_snapshots_5s")
FIRST_RUN_AFTER = timedelta(minutes=1)
MOST_ROWS = 10_000
_LOCK = "SELECT pg_try_advisory_xact_lock(hashtext('monitoring_v2.retention'))"
_BY_AGE = {
    "gaps": "bucket_ts",
    "knob_events": "created_at",
    "traces": "greatest(started_at, ended_at)",
    "applied_batches": "applied_at",
}
_SLICE = (
    "DELETE FROM {table} WHERE ctid = ANY (ARRAY("
    "SELECT ctid FROM {table} WHERE {age} < %s LIMIT {most}))"
)
# Partitions by name: those of the table, and those that a kill left between detach and drop.
_PARTITIONS = """
SELECT c.relname, i.inhrelid IS NOT NULL, coalesce(i.inhdetachpending, false)
FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
    AND c.relname ~ ('^' || %s || '_[0-9]{10}$') ORDER BY 1
"""


class Retention:
    """Deletes by age; in one process at a time.

    Args:
        settings: Database and limit.
        tally: The own numbers.
    """

    def __init__(self, settings: Settings, tally: Tally) -> None:
        self._settings = settings
        self._tally = tally
        self._scheduler: BackgroundScheduler | None = None
        self._worker: psycopg.Connection | None = None

    def start(self, audio_root: Path) -> None:
        """Run every hour in a thread of its own."""
        self._scheduler = BackgroundScheduler(timezone=UTC)
        self._scheduler.add_job(
            self._run_safely,
            "interval",
            [audio_root],
            hours=1,
            # Soon, for processes that live less than an hour; late, after a machine has slept.
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
                worker.cancel_safe(timeout=1)

    def run(self, audio_root: Path, now: datetime) -> dict[str, int]:
        """Delete what is older than the limit at ``now``; return how many of each kind.

        Raises:
            psycopg.Error: The database is not there, or this login may not delete.
        """
        before = now - timedelta(hours=self._settings.retention_hours)
        deleted: dict[str, int] = {}
        with psycopg.connect(self._settings.db, connect_timeout=5) as guard:
            row = guard.execute(_LOCK).fetchone()
            if row is None or not row[0]:
                return deleted
            with psycopg.connect(self._settings.db, autocommit=True, connect_timeout=5) as worker:
                self._worker = worker
                try:
                    deleted["partitions"] = _drop_partitions(worker, before)
                    for table, age in _BY_AGE.items():
                        deleted[table] = _delete_rows(worker, table, age, before)
                finally:
                    self._worker = None
        deleted["files"] = _remove_files(audio_root, before)
        for kind, count in deleted.items():
            self._tally.add("retention_deleted_total", kind, by=count)
        self._tally.set("retention_last_success_timestamp_seconds", time.time())
        return deleted

    def _run_safely(self, audio_root: Path) -> None:
        try:
            self.run(audio_root, datetime.now(UTC))
        except (psycopg.Error, OSError) as error:
            _log.warning(
                "retention did not run (%s); old data stays until it does; it needs a login that "
                "is a member of monitoring_retention and owns the tables",
                str(error).strip().splitlines()[0],
            )


def _delete_rows(connection: psycopg.Connection, table: str, age: str, before: datetime) -> int:
    """Delete in slices, so that no transaction is long."""
    statement = sql.SQL(_SLICE).format(
        table=sql.Identifier(table), age=sql.SQL(age), most=sql.Literal(MOST_ROWS)
    )
    deleted = found = connection.execute(statement, [before]).rowcount
    while found == MOST_ROWS:
        found = connection.execute(statement, [before]).rowcount
        deleted += found
    return deleted


def _drop_partitions(connection: psycopg.Connection, before: datetime) -> int:
    """Detach without stopping readers, then drop; finish what an earlier one began."""
    dropped = 0
    for parent in PARENTS:
        for name, is_attached in _partitions(connection, parent):
            if _hour_of(name) + timedelta(hours=1) <= before:
                if is_attached:
                    _detach(connection, parent, name, "CONCURRENTLY")
                connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(name)))
                dropped += 1
            elif not is_attached:
                # Somebody has raised the limit since it was detached.
                connection.execute("SELECT ensure_partitions(ARRAY[%s])", [_hour_of(name)])
    return dropped


def _partitions(connection: psycopg.Connection, parent: str) -> list[tuple[str, bool]]:
    """Return the partitions of a table, and whether each is attached; none is half detached."""
    found = connection.execute(_PARTITIONS, [parent]).fetchall()
    pending = {name for name, _, is_pending in found if is_pending}
    for name in pending:  # while there is one, no other can be detached
        _detach(connection, parent, name, "FINALIZE")
    return [(name, is_attached and name not in pending) for name, is_attached, _ in found]


def _detach(connection: psycopg.Connection, parent: str, name: str, how: str) -> None:
    detach = sql.SQL("ALTER TABLE {} DETACH PARTITION {} {}")
    connection.execute(detach.format(sql.Identifier(parent), sql.Identifier(name), sql.SQL(how)))


def _hour_of(name: str) -> datetime:
    return datetime.strptime(name[-10:], "%Y%m%d%H").replace(tzinfo=UTC)


def _remove_files(root: Path, before: datetime) -> int:
    """Remove the segments of whole hours that are too old, and folders that are empty then."""
    limit = before.replace(minute=0, second=0, microsecond=0).timestamp() * 1_000
    removed = 0
    for day in sorted(
        path for path in root.glob("????-??-??") if path.name <= f"{before:%Y-%m-%d}"
    ):
        # A temporary name is what a kill left of a segment.
        for path in day.glob("*/*/*/segment_*"):
            stamp = re.fullmatch(rf"segment_(\d+)\.wav({TEMPORARY})?", path.name)
            if stamp and int(stamp[1]) < limit:
                path.unlink(missing_ok=True)
                removed += 1
        _remove_empty(day)
    return removed


def _remove_empty(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        _remove_if_empty(path)
    _remove_if_empty(folder)


def _remove_if_empty(folder: Path) -> None:
    # A writer may be putting a late segment there at this moment.
    with suppress(OSError):
        if folder.is_dir():
            folder.rmdir()

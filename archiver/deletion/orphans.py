"""Orphans: files without a row and rows without a file, found on a walk and mended.

A file whose row may still wait in the spool is none.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg
from psycopg.types.json import Jsonb

from archiver.deletion import spooled
from archiver.deletion.holds import held
from archiver.deletion.ledger import is_erased
from archiver.deletion.steps import Done, Step
from archiver.deletion.tree import SegmentFile, Tree

_log = logging.getLogger(__name__)

SAFE_AGE = timedelta(hours=24)
HALF_WRITTEN_AGE = timedelta(hours=1)
MOST_MISSING = 10
_DAY = timedelta(days=1)
_ROWS = """
SELECT file_path, station_key, tap, bucket_ts FROM audio_segments_5s
WHERE trace_id = %s AND bucket_ts >= %s AND bucket_ts < %s
"""
_CALLS = "SELECT trace_id FROM call_totals WHERE first_ts < %s AND last_ts >= %s"
_FORGET = """
DELETE FROM audio_segments_5s
WHERE (trace_id, station_key, tap, bucket_ts, file_path) = (%s, %s, %s, %s, %s)
"""
_WALKED = "INSERT INTO orphan_walks (walked_at, mended) VALUES (%s, %s) ON CONFLICT DO NOTHING"
_SPAN = """
SELECT min(first_ts), max(last_ts) FROM call_totals WHERE first_ts IS NOT NULL
"""


@dataclass(slots=True)
class Mended:
    """What a walk has found and mended.

    Attributes:
        old_files: Files older than the limit, whose rows are gone.
        erased_files: Files of erased calls that came late.
        half_files: Files that a kill left half written.
        files: Files without a row.
        rows: Rows without a file.
        rows_left: Rows without a file that stay: so many that the disk may not be there.
    """

    old_files: int = 0
    erased_files: int = 0
    half_files: int = 0
    files: int = 0
    rows: int = 0
    rows_left: int = 0


@dataclass(slots=True)
class _Found:
    """What has to be looked at twice."""

    files: list[SegmentFile] = field(default_factory=list)
    rows: list[tuple[object, ...]] = field(default_factory=list)
    rows_seen: int = 0


class Walk:
    """One walk through all folders and rows of segments.

    Args:
        worker: Connection that deletes; autocommit.
        tree: The segments.
        spool_root: The spool of all processes.
        on_step: Told of each thing that is done.
        is_dry: Count only.
    """

    def __init__(
        self,
        worker: psycopg.Connection,
        tree: Tree,
        spool_root: Path,
        *,
        on_step: Step,
        is_dry: bool,
    ) -> None:
        self._worker = worker
        self._tree = tree
        self._spool_root = spool_root
        self._step = on_step
        self._is_dry = is_dry
        self.safe_age = SAFE_AGE

    def mend(self, now: datetime, before: datetime) -> Mended:
        """Mend everything, and put down that it was; ``before`` is from when on audio is kept."""
        mended, found = Mended(), _Found()
        keep = set(held(self._worker))
        for day in self._days():
            self._look_at(day, (now, before), keep, (mended, found))
        self._mend_files(found.files, mended)
        self._mend_rows(found, mended)
        if not self._is_dry:
            self._tree.remove_empty_before((now - HALF_WRITTEN_AGE).astimezone(UTC).date())
            self._worker.execute(_WALKED, [now, Jsonb(asdict(mended))])
        return mended

    def _days(self) -> list[date]:
        """Return the days that have a folder or a call."""
        days = {date.fromisoformat(path.name) for path in self._tree.days()}
        first, last = self._worker.execute(_SPAN).fetchone() or (None, None)
        if first is not None:
            day = first.astimezone(UTC).date()
            while day <= last.astimezone(UTC).date():
                days.add(day)
                day += _DAY
        return sorted(days)

    def _look_at(
        self,
        day: date,
        times: tuple[datetime, datetime],
        keep: set[str],
        into: tuple[Mended, _Found],
    ) -> None:
        files: dict[str, list[SegmentFile]] = {}
        for file in self._tree.segments(self._tree.root / day.isoformat()):
            files.setdefault(file.trace_id, []).append(file)
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        calls = self._worker.execute(_CALLS, [start + _DAY, start]).fetchall()
        erased = is_erased(self._worker, files)
        for trace_id in sorted(files.keys() | {name for (name,) in calls}):
            rows = self._worker.execute(_ROWS, [trace_id, start, start + _DAY]).fetchall()
            there = files.get(trace_id, [])
            if trace_id in erased:
                into[0].erased_files += self._remove(there)
                continue
            self._sort_files(there, {row[0] for row in rows}, times, (trace_id in keep, *into))
            names = {file.relative for file in there}
            into[1].rows_seen += len(rows)
            into[1].rows += [(trace_id, *row) for row in rows if row[0] not in names]

    def _sort_files(
        self,
        files: Iterable[SegmentFile],
        known: set[str],
        times: tuple[datetime, datetime],
        into: tuple[bool, Mended, _Found],
    ) -> None:
        now, before = times
        is_held, mended, found = into
        limit_ms = before.timestamp() * 1_000
        for file in files:
            age = now - datetime.fromtimestamp(file.modified_s, UTC)
            is_old = file.bucket_ms < limit_ms and not is_held
            if not file.is_whole:
                if age > HALF_WRITTEN_AGE or is_old:
                    mended.half_files += self._remove([file])
            elif file.relative not in known:
                if is_old:
                    mended.old_files += self._remove([file])
                elif age > self.safe_age:
                    found.files.append(file)

    def _mend_files(self, suspects: list[SegmentFile], mended: Mended) -> None:
        """Remove files without a row; a row may leave the spool meanwhile: the database is last."""
        if not suspects:
            return
        try:
            waiting = spooled.read(self._spool_root)
        except OSError as error:
            _log.warning("files without a row stay: the spool cannot be read (%s)", error)
            return
        for file in suspects:
            if waiting.may_name(file.relative, file.trace_id, file.modified_s):
                continue
            start = datetime.fromtimestamp(file.bucket_ms / 1_000, UTC)
            rows = self._worker.execute(_ROWS, [file.trace_id, start - _DAY, start + _DAY])
            if file.relative not in {row[0] for row in rows.fetchall()}:
                mended.files += self._remove([file])

    def _mend_rows(self, found: _Found, mended: Mended) -> None:
        """Delete rows without a file, unless it looks as if the disk was not there."""
        missing = [row for row in found.rows if not self._tree.exists(str(row[1]))]
        if len(missing) > MOST_MISSING and 2 * len(missing) > found.rows_seen:
            mended.rows_left = len(missing)
            _log.error(
                "%d of %d segments are not below %s: is the right disk mounted there? Nothing was "
                "mended; their rows stay until it is",
                len(missing),
                found.rows_seen,
                self._tree.root,
            )
            return
        for trace_id, path, station_key, tap, bucket_ts in missing:
            if not self._is_dry:
                self._worker.execute(_FORGET, [trace_id, station_key, tap, bucket_ts, path])
            mended.rows += 1
            self._step(Done.ROWS, str(path))

    def _remove(self, files: Iterable[SegmentFile]) -> int:
        gone = 0
        for file in files:
            gone += self._tree.remove(file.relative, is_dry=self._is_dry) is not None
            self._step(Done.FILE, file.relative)
        return gone

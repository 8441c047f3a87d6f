"""Rows of an old export into the database: what is there stays, what is new is added."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import TracebackType
from typing import Self

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb
from psycopg.types.multirange import Multirange
from psycopg.types.range import Range

from archiver.audio import Segment
from archiver.batch import Entry
from archiver.database import CONNECT_TIMEOUT_S, MERGE_SEGMENTS, copy_rows, merge_rows
from archiver.deletion.ledger import is_erased
from archiver.imports.accounts import SourceError
from archiver.imports.old_audio import Piece, Recording
from archiver.imports.old_calls import IMPORTED, OldCall
from archiver.migrations import WRITER
from archiver.rows import METRICS, SCORE, SEGMENTS, SNAPSHOTS, TAPS, Row, Stage, to_time
from archiver.segments import SegmentRow
from archiver.times import iso
from archiver.withdrawal import write_numbers
from exporter.config import DEFAULT_RATE

__all__ = ["EVENTS", "METRICS", "SNAPSHOTS", "Loader", "Stand", "Verdict"]

EVENTS = Stage(
    "knob_events",
    {"event_id": "uuid", "trace_id": "text", "station_key": "text", "knob_key": "text"}
    | {"old_value": "jsonb", "new_value": "jsonb", "changed_by": "text"}
    | {"created_at": "timestamptz", "reason": "text", "scope": "text"},
    ("event_id",),
)
_CHUNK = 1_000
_PATIENCE = 50
_LOCK = "SELECT pg_try_advisory_lock(hashtext('monitoring_v2.import'))"
_UNLOCK = "SELECT pg_advisory_unlock(hashtext('monitoring_v2.import'))"
_SAVE_CALLS = f"""
INSERT INTO traces AS t (trace_id, started_at, ended_at, src_extension, sample_rate, attributes)
SELECT trace_id, started_at, ended_at, src_extension, sample_rate, attributes
FROM jsonb_to_recordset(%s) AS n (trace_id text, started_at timestamptz, ended_at timestamptz,
    src_extension text, sample_rate integer, attributes jsonb)
ORDER BY trace_id
ON CONFLICT (trace_id) DO UPDATE SET
    started_at = least(t.started_at, excluded.started_at),
    ended_at = greatest(t.ended_at, excluded.ended_at),
    attributes = excluded.attributes || t.attributes
WHERE t.attributes ? '{IMPORTED}' AND (excluded.started_at < t.started_at
    OR excluded.ended_at > t.ended_at OR excluded.attributes || t.attributes <> t.attributes)
RETURNING t.xmax = 0
"""  # noqa: S608 - constants of this module
# Ids that differ in the extension only: two directions of one call.
_STEM = r"substring(trace_id FROM '^(trace_\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d-\d{3}Z)_[^_]+$')"
_LINK = f"""
UPDATE traces t SET call_id = stem FROM (
    SELECT {_STEM} AS stem, array_agg(trace_id) AS ids FROM traces
    WHERE attributes ? '{IMPORTED}' GROUP BY stem HAVING count(*) > 1
) AS g
WHERE stem IS NOT NULL AND t.trace_id = ANY (ids) AND t.call_id IS NULL
"""  # noqa: S608 - constants of this module
_HAS_REFUSED = "SELECT 1 FROM traces WHERE trace_id = %s AND consent = 'refused' FOR SHARE"
_STANDS = """
SELECT b.bucket_ts, b.sample_rate_hz, b.ranges, a.file_path, a.sha256
FROM tap_buckets_5s b LEFT JOIN audio_segments_5s a USING (trace_id, station_key, tap, bucket_ts)
WHERE b.trace_id = %s AND b.station_key = %s AND b.tap = %s AND b.bucket_ts BETWEEN %s AND %s
    AND a.bucket_ts BETWEEN %s AND %s
"""
_KEEP_SCORE = """UPDATE SET score = excluded.score
    WHERE t.score IS NULL AND excluded.score IS NOT NULL"""
# Numbers of a bucket may have come before its sound, which knows the rate.
_ADD_SOUND = """UPDATE SET
    sample_rate_hz = CASE WHEN isempty(t.ranges) THEN excluded.sample_rate_hz
        ELSE t.sample_rate_hz END,
    -- What retention took, or a kill left without its row, was counted when it came first.
    received_samples = CASE WHEN t.ranges @> excluded.ranges THEN t.received_samples
        ELSE coalesce(t.received_samples, 0) + excluded.received_samples END,
    ranges = t.ranges + excluded.ranges"""


class Verdict(StrEnum):
    """What became of a row."""

    KEPT = "kept"
    THERE = "there"
    CONFLICT = "conflict"
    REFUSED = "refused"
    ERASED = "erased"


@dataclass(frozen=True, slots=True)
class Stand:
    """What the archive has of the sound of a bucket.

    Attributes:
        ranges: First sample of each range, and the sample after it.
        segment: Where the sound is.
    """

    ranges: tuple[tuple[int, int], ...]
    segment: SegmentRow


class Loader:
    """One connection for one import; a second import at the same time is refused.

    Args:
        conninfo: libpq connection string.
        is_dry: Find out what would become of rows, and change nothing.
    """

    def __init__(self, conninfo: str, *, is_dry: bool) -> None:
        self._is_dry = is_dry
        self._hours: set[datetime] = set()
        self._rates: dict[str, int] = {}
        self._connection = psycopg.connect(
            conninfo,
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT_S,
            application_name="monitoring_v2 import",
        )

    def __enter__(self) -> Self:
        """Make sure that this is the only import."""
        member = "SELECT pg_has_role(oid, 'MEMBER') FROM pg_roles WHERE rolname = %s"
        row = self._connection.execute(member, [WRITER]).fetchone()
        self._is_member = bool(row and row[0])
        locked = self._connection.execute(_LOCK).fetchone()
        if locked != (True,):
            self._connection.close()
            raise SourceError("another import into this database is running; wait for its end")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let the next import in, and close the connection."""
        with suppress(psycopg.Error):  # a connection that is lost holds no lock
            # The server notices a closed connection later than its client goes on.
            self._connection.execute(_UNLOCK)
        self._connection.close()

    @contextmanager
    def _writing(self, *, undo: bool = False) -> Iterator[psycopg.Cursor]:
        with self._connection.transaction(force_rollback=undo):
            if self._is_member:
                self._connection.execute(f"SET LOCAL ROLE {WRITER}")
            with self._connection.cursor() as cursor:
                yield cursor

    def recorded_here(self, trace_ids: Iterable[str]) -> set[str]:
        """Return those of these calls that the archive recorded itself."""
        query = f"SELECT trace_id FROM traces WHERE trace_id = ANY(%s) AND NOT attributes ? '{IMPORTED}'"  # noqa: E501, S608 - a constant
        found: set[str] = set()
        for ids in _chunks(sorted(trace_ids)):
            with self._writing() as cursor:
                found |= {row[0] for row in cursor.execute(query.encode(), [ids]).fetchall()}
        return found

    def save_calls(
        self, calls: Mapping[str, OldCall], mask: Callable[[str], str]
    ) -> dict[str, int]:
        """Write calls; return how many are new, extended and known."""
        counts = {"new": 0, "extended": 0, "known": 0}
        for ids in _chunks(sorted(calls)):
            with self._writing(undo=self._is_dry) as cursor:
                erased = is_erased(self._connection, ids)
                allowed = [each for each in ids if each not in erased]
                rows = [_call_row(trace_id, calls[trace_id], mask) for trace_id in allowed]
                saved = cursor.execute(_SAVE_CALLS.encode(), [Jsonb(rows)]).fetchall()
                for row in rows:
                    write_numbers(self._connection, row)
            counts["new"] += sum(is_new for (is_new,) in saved)
            counts["extended"] += sum(not is_new for (is_new,) in saved)
            counts["known"] += len(allowed) - len(saved)
        self._rates = {each: call.rate or DEFAULT_RATE for each, call in calls.items()}
        return counts

    def link_calls(self) -> None:
        """Give the directions of one call one ``call_id``."""
        if not self._is_dry:
            with self._writing() as cursor:
                cursor.execute(_LINK.encode())

    def load(self, stage: Stage, rows: Sequence[Row]) -> list[Verdict]:
        """Bring rows into a table; return what became of each, in order."""
        columns = list(stage.columns)
        calls = [row[columns.index("trace_id")] for row in rows]
        if "bucket_ts" in columns:
            self._ensure_partitions({row[columns.index("bucket_ts")] for row in rows})  # type: ignore[misc] # a datetime
        verdicts = [Verdict.KEPT] * len(rows)
        with self._writing() as cursor:
            erased = is_erased(self._connection, {str(each) for each in calls if each})
            left = {n: row for n, row in enumerate(rows) if calls[n] not in erased}
            for n in range(len(rows)):
                if n not in left:
                    verdicts[n] = Verdict.ERASED
            for wave in _waves(stage, left):
                for n, is_same in self._load_wave(cursor, stage, wave):
                    verdicts[n] = Verdict.THERE if is_same else Verdict.CONFLICT
            if stage is METRICS:
                self._save_taps(cursor, rows, verdicts)
        return verdicts

    def _load_wave(
        self, cursor: psycopg.Cursor, stage: Stage, wave: dict[int, Row]
    ) -> list[tuple[int, bool]]:
        """Add what is new of rows with different keys; return what was there, and if the same."""
        numbered = Stage(stage.table, {"n": "int4"} | stage.columns, stage.key)
        copy_rows(cursor, numbered, ((n, *_stored(stage, row)) for n, row in wave.items()))
        target = sql.Identifier(stage.table)
        known = _known(cursor, stage, target)
        if self._is_dry:
            cursor.execute(_dry_table(stage))
            target = sql.Identifier("pg_temp", f"dry_{stage.table}")
            known += _known(cursor, stage, target)
        columns = sql.SQL(", ").join(map(sql.Identifier, stage.columns))
        insert = sql.SQL("INSERT INTO {} ({c}) SELECT {c} FROM {} WHERE n <> ALL (%s) ORDER BY {}")
        key = sql.SQL(", ").join(map(sql.Identifier, stage.key))
        cursor.execute(
            insert.format(target, _staged(stage), key, c=columns), [[n for n, _ in known]]
        )
        return known

    def _save_taps(
        self, cursor: psycopg.Cursor, rows: Sequence[Row], verdicts: Sequence[Verdict]
    ) -> None:
        """Note at which taps something was in which bucket; how much was due nobody knows."""
        if self._is_dry:
            return
        scores: dict[tuple[str, str, str, datetime], object] = {}
        for row, verdict in zip(rows, verdicts, strict=True):
            if verdict in {Verdict.KEPT, Verdict.THERE}:
                trace_id, station, tap, bucket_ts, key = row[:5]
                last = row[10] if key == SCORE else None
                place = (str(trace_id), str(station), str(tap), bucket_ts)
                scores[place] = scores.get(place) if last is None else last  # type: ignore[index, arg-type] # a datetime
        nothing = (None, None, Multirange[int](), Jsonb({}))
        copy_rows(
            cursor,
            TAPS,
            (
                (*key, self._rates.get(key[0], DEFAULT_RATE), *nothing, score)
                for key, score in scores.items()
            ),
        )
        merge_rows(cursor, TAPS, _KEEP_SCORE)

    def stands(self, recording: Recording, pieces: Sequence[Piece]) -> dict[datetime, Stand]:
        """Return what the archive has in the buckets of a recording, where it has sound."""
        place = [recording.trace_id, recording.station_key, recording.tap]
        span = [pieces[0].bucket_ts, pieces[-1].bucket_ts]
        with self._writing() as cursor:
            found = cursor.execute(_STANDS, place + span + span).fetchall()
        return {
            at: Stand(
                tuple((each.lower, each.upper) for each in ranges), SegmentRow(at, rate, path, sha)
            )
            for at, rate, ranges, path, sha in found
        }

    @contextmanager
    def sound_of(
        self, recording: Recording, pieces: Sequence[Piece]
    ) -> Iterator[SoundRows | Verdict]:
        """Yield what takes the segments of a recording, or why its call has none."""
        if not self._is_dry:
            self._ensure_partitions({piece.bucket_ts for piece in pieces})
        with self._writing() as cursor:
            if is_erased(self._connection, [recording.trace_id]):
                yield Verdict.ERASED
                return
            if cursor.execute(_HAS_REFUSED, [recording.trace_id]).fetchone():
                yield Verdict.REFUSED
                return
            rows = SoundRows(recording)
            yield rows
            if not self._is_dry:
                copy_rows(cursor, TAPS, rows.taps)
                merge_rows(cursor, TAPS, _ADD_SOUND)
                copy_rows(cursor, SEGMENTS, rows.segments)
                merge_rows(cursor, SEGMENTS, MERGE_SEGMENTS)

    def _ensure_partitions(self, stamps: set[datetime]) -> None:
        hours = {each.replace(minute=0, second=0, microsecond=0) for each in stamps} - self._hours
        if self._is_dry:
            return
        for hour in sorted(hours):
            for attempt in range(_PATIENCE):
                try:
                    with self._writing() as cursor:
                        cursor.execute("SELECT ensure_partitions(%s::timestamptz[])", [[hour]])
                    break
                except psycopg.errors.LockNotAvailable:
                    # A long query reads the table; each attempt waits for 200 ms.
                    if attempt == _PATIENCE - 1:
                        raise
            self._hours.add(hour)


class SoundRows:
    """Rows of the segments of one recording."""

    def __init__(self, recording: Recording) -> None:
        self.taps: list[Row] = []
        self.segments: list[Row] = []
        self._recording = recording

    def add(self, piece: Piece, segment: Segment) -> None:
        """Take a segment that was written."""
        it = self._recording
        key = (it.trace_id, it.station_key, it.tap, piece.bucket_ts)
        ranges = Multirange([Range(piece.first, piece.first + piece.samples)])
        self.taps.append((*key, it.rate, None, piece.samples, ranges, Jsonb({}), None))
        self.segments.append(
            (
                *key,
                it.rate,
                segment.file_path,
                *(piece.first, piece.samples, piece.samples),
                segment.file_bytes,
                segment.sha256,
                to_time(segment.written_ns),
                segment.sketch,
            )
        )


def _call_row(trace_id: str, call: OldCall, mask: Callable[[str], str]) -> Entry:
    extension = mask(call.extension)
    return {
        "trace_id": trace_id,
        "started_at": iso(call.started_at),
        "ended_at": iso(call.until),
        "src_extension": extension,
        "src_number": call.extension if extension != call.extension else None,
        "sample_rate": call.rate or DEFAULT_RATE,
        "attributes": call.attributes(trace_id),
    }


def _chunks(ids: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), _CHUNK):
        yield list(ids[start : start + _CHUNK])


def _waves(stage: Stage, rows: Mapping[int, Row]) -> list[dict[int, Row]]:
    """Part rows so that no two of a wave have one key; nearly always one wave."""
    places = [list(stage.columns).index(name) for name in stage.key]
    waves: list[dict[int, Row]] = []
    depth: dict[tuple[object, ...], int] = {}
    for n, row in rows.items():
        key = tuple(row[place] for place in places)
        wave = depth[key] = depth.get(key, -1) + 1
        if wave == len(waves):
            waves.append({})
        waves[wave][n] = row
    return waves


def _stored(stage: Stage, row: Row) -> Iterator[object]:
    for type_, value in zip(stage.columns.values(), row, strict=True):
        yield Jsonb(value) if type_ == "jsonb" and value is not None else value


def _staged(stage: Stage) -> sql.Identifier:
    return sql.Identifier("pg_temp", f"stage_{stage.table}")


def _known(cursor: psycopg.Cursor, stage: Stage, target: sql.Identifier) -> list[tuple[int, bool]]:
    """Return the staged rows whose key is in a table, and whether all else is the same too."""
    same = sql.SQL(" AND ").join(
        sql.SQL("s.{0} IS NOT DISTINCT FROM t.{0}").format(sql.Identifier(name))
        for name in stage.columns
    )
    on = sql.SQL(" AND ").join(
        sql.SQL("s.{0} = t.{0}").format(sql.Identifier(name)) for name in stage.key
    )
    query = sql.SQL("SELECT s.n, {} FROM {} s JOIN {} t ON {}").format(
        same, _staged(stage), target, on
    )
    if "bucket_ts" in stage.columns:
        # Bounds that the planner sees spare it all other partitions.
        span = sql.SQL("SELECT min(bucket_ts), max(bucket_ts) FROM {}").format(_staged(stage))
        bounds = cursor.execute(span).fetchone() or (None, None)
        query += sql.SQL(" WHERE t.bucket_ts BETWEEN {} AND {}").format(*bounds)
    return [(n, is_same) for n, is_same in cursor.execute(query).fetchall()]


def _dry_table(stage: Stage) -> sql.Composed:
    text = "CREATE TEMP TABLE IF NOT EXISTS {} (LIKE {} INCLUDING DEFAULTS INCLUDING INDEXES)"
    return sql.SQL(text).format(sql.Identifier(f"dry_{stage.table}"), sql.Identifier(stage.table))

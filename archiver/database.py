"""The database writer: one batch, one transaction, exactly once in effect."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from archiver import rows
from archiver.batch import Batch, Entry, entry_samples
from archiver.deletion.ledger import part_erased
from archiver.migrations import WRITER, may_become, require_schema
from archiver.rows import GAPS, METRICS, SEGMENTS, SNAPSHOTS, TAPS, Row, Stage, TapKey, to_time
from archiver.withdrawal import without_refused, write_consent, write_numbers
from exporter.metrics import BUCKET_KEYS

# What callers may have to handle, so that no other module needs the driver.
AnyDatabaseError = psycopg.Error
ServerAwayError = psycopg.OperationalError
NoSchemaError = psycopg.errors.UndefinedTable

CONNECT_TIMEOUT_S = 5
HANG_S = 10.0
MOST_PATIENCE = 16

# 22 data exception, 23 integrity violation: the row is bad, not the server.
_DATA_ERRORS = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.errors.CardinalityViolation,
    ArithmeticError,
    LookupError,
    TypeError,
    ValueError,
    struct.error,
)

_NOTHING = "NOTHING"
# A half of a bucket that comes later is added; the ranges have been found disjoint before.
_MERGE_TAPS = """UPDATE SET ranges = t.ranges + excluded.ranges,
    due_samples = t.due_samples + excluded.due_samples,
    received_samples = t.received_samples + excluded.received_samples,
    (health, score) = (SELECT excluded.health, excluded.score
        WHERE excluded.received_samples > t.received_samples
        UNION ALL SELECT t.health, t.score LIMIT 1)"""
# Metrics with one value a bucket stay as they are in the half with more samples; `_drop_lesser`
# has taken those of the other half out of the stage. A number of frames adds up within its one
# value. What is measured on frames and blocks merges.
_MERGE_METRICS = """UPDATE SET
    count = CASE WHEN {single} THEN excluded.count WHEN {adds} THEN 1
        ELSE t.count + excluded.count END,
    sum = CASE WHEN {single} THEN excluded.sum ELSE t.sum + excluded.sum END,
    avg = CASE WHEN {single} THEN excluded.avg WHEN {adds} THEN t.avg + excluded.avg
        ELSE (t.sum + excluded.sum) / (t.count + excluded.count) END,
    min = CASE WHEN {single} THEN excluded.min WHEN {adds} THEN t.min + excluded.min
        ELSE least(t.min, excluded.min) END,
    max = CASE WHEN {single} THEN excluded.max WHEN {adds} THEN t.max + excluded.max
        ELSE greatest(t.max, excluded.max) END,
    last = CASE WHEN {single} THEN excluded.last WHEN {adds} THEN t.last + excluded.last
        WHEN excluded.last_ts >= t.last_ts THEN excluded.last ELSE t.last END,
    last_ts = greatest(t.last_ts, excluded.last_ts)""".format(
    single="t.metric_key IN ({})".format(", ".join(f"'{key}'" for key in sorted(BUCKET_KEYS))),
    adds="t.metric_key = 'stream.frames'",
)
# Halves come in any order; hash and sketch of the whole file: as the half written later has them.
MERGE_SEGMENTS = """UPDATE SET file_bytes = excluded.file_bytes,
    sha256 = CASE WHEN excluded.written_at >= t.written_at THEN excluded.sha256 ELSE t.sha256 END,
    sketch = CASE WHEN excluded.written_at >= t.written_at THEN excluded.sketch ELSE t.sketch END,
    written_at = greatest(t.written_at, excluded.written_at),
    first_sample = least(t.first_sample, excluded.first_sample),
    due_samples = t.due_samples + excluded.due_samples,
    received_samples = t.received_samples + excluded.received_samples"""


@dataclass(slots=True)
class Applied:
    """What became of a batch.

    Attributes:
        was_known: The database had it already: nothing was done.
        refused: Entries (whole, or of one tap) that were set aside, with the reason.
        erased: Entries of erased calls: not taken in.
    """

    was_known: bool = False
    refused: list[tuple[Entry, str]] = field(default_factory=list)
    erased: list[Entry] = field(default_factory=list)

    @property
    def refused_samples(self) -> int:
        """Samples of audio whose rows were set aside."""
        return sum(entry_samples(entry) for entry, _ in self.refused)


class Database:
    """One connection, made when it is needed, dropped when anything is wrong with it.

    Args:
        conninfo: libpq connection string.
        on_hang: Called when a hung connection was cut.
    """

    def __init__(self, conninfo: str, on_hang: Callable[[], None]) -> None:
        self._conninfo = conninfo
        self._on_hang = on_hang
        self._connection: psycopg.Connection | None = None
        self._is_member = False
        self._hours: set[object] = set()
        self._patience = 1

    def apply(self, batch: Batch) -> Applied:
        """Bring a batch into the database; a second time, do nothing.

        Raises:
            psycopg.Error: The server is not there or not able; try again later.
        """
        try:
            connection = self._connected()
            with self._watched(connection):
                self._ensure_partitions(connection, batch.entries)
                with connection.transaction():
                    self._take_role(connection)
                    applied = self._apply(connection, batch)
        except BaseException:
            self.close()
            raise
        self._patience = 1
        return applied

    def ping(self) -> None:
        """Ask the server for a sign of life.

        Raises:
            psycopg.Error: There is none.
        """
        try:
            connection = self._connected()
            with self._watched(connection):
                connection.execute("SELECT 1")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Drop the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            self._hours.clear()

    def _apply(self, connection: psycopg.Connection, batch: Batch) -> Applied:
        applied = Applied()
        known = connection.execute(
            "INSERT INTO applied_batches (batch_id, boot_id, seq, records, samples, cum_offered, "
            "cum_dropped) VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            [
                batch.batch_id,
                batch.boot_id,
                batch.seq,
                len(batch.entries),
                batch.samples,
                batch.cum_offered,
                batch.cum_dropped,
            ],
        )
        if not known.rowcount:
            applied.was_known = True
            return applied
        taken, applied.erased = part_erased(connection, batch.entries)
        entries = without_refused(connection, taken)
        self._apply_or_split(connection, entries, applied)
        if applied.refused:
            connection.execute(
                "UPDATE applied_batches SET quarantined = %s WHERE batch_id = %s",
                [len(applied.refused), batch.batch_id],
            )
        return applied

    def _apply_or_split(
        self, connection: psycopg.Connection, entries: list[Entry], applied: Applied
    ) -> None:
        """Apply entries; when one is bad, halve until it stands alone, and set it aside."""
        refused: list[tuple[Entry, str]] = []
        try:
            with connection.transaction():
                for wave in _waves(entries):
                    refused += _write_buckets(connection, wave)
                _write_life(connection, entries)
        except _DATA_ERRORS as error:
            if _lacks_partition(error):
                raise
            if len(entries) == 1:
                applied.refused.append((entries[0], f"poison: {error}".splitlines()[0]))
                return
            middle = len(entries) // 2
            self._apply_or_split(connection, entries[:middle], applied)
            self._apply_or_split(connection, entries[middle:], applied)
        else:
            applied.refused += refused

    def _connected(self) -> psycopg.Connection:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self._conninfo,
                autocommit=True,
                connect_timeout=CONNECT_TIMEOUT_S,
                # Through PgBouncer in transaction mode, no statement outlives its transaction.
                prepare_threshold=None,
                application_name="monitoring_v2",
            )
            with self._watched(self._connection):
                self._is_member = may_become(self._connection, WRITER)
                with self._connection.transaction():
                    self._take_role(self._connection)
                    require_schema(self._connection)
        return self._connection

    def _take_role(self, connection: psycopg.Connection) -> None:
        """Give up all rights but the writer's, where the login has more."""
        if self._is_member:
            connection.execute(f"SET LOCAL ROLE {WRITER}")

    def _ensure_partitions(self, connection: psycopg.Connection, entries: Iterable[Entry]) -> None:
        stamps = set(_stamps(entries))
        hours = {stamp.replace(minute=0, second=0) for stamp in stamps} - self._hours
        for hour in sorted(hours):
            # One by one: the locks of many hours at once would not fit the server's table of them.
            with connection.transaction():
                self._take_role(connection)
                connection.execute("SELECT ensure_partitions(%s::timestamptz[])", [[hour]])
            self._hours.add(hour)

    @contextmanager
    def _watched(self, connection: psycopg.Connection) -> Iterator[None]:
        """Cut the connection when the server hangs: no server-side timeout would do it."""
        # A duplicate, so that the number cannot mean another file when the timer fires.
        line = socket.socket(fileno=os.dup(connection.pgconn.socket))

        def cut() -> None:
            self._on_hang()
            # A server that is slow, not hung, gets more time with every attempt.
            self._patience = min(2 * self._patience, MOST_PATIENCE)
            with suppress(OSError):  # the peer was faster
                line.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(HANG_S * self._patience, cut)
        timer.name, timer.daemon = "monitoring-watchdog", True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
            line.close()


def _stamps(entries: Iterable[Entry]) -> Iterator[datetime]:
    """Yield when buckets begin; a time that cannot be is found bad when its row is written."""
    for entry in entries:
        if entry["kind"] == "bucket":
            with suppress(OverflowError):
                yield to_time(entry["bucket_ns"])


def _lacks_partition(error: Exception) -> bool:
    """Whether retention has dropped an hour that we remember: not the row's fault, so try again."""
    return isinstance(error, psycopg.errors.CheckViolation) and not error.diag.constraint_name


def _waves(entries: list[Entry]) -> list[list[Entry]]:
    """Part buckets so that no statement sees one key twice; nearly always one part."""
    waves: list[dict[tuple[str, str, int], Entry]] = []
    for entry in entries:
        if entry["kind"] == "bucket":
            key = rows.bucket_key(entry)
            wave = next((wave for wave in waves if key not in wave), None)
            if wave is None:
                wave = {}
                waves.append(wave)
            wave[key] = entry
    return [list(wave.values()) for wave in waves]


def _write_buckets(connection: psycopg.Connection, entries: list[Entry]) -> list[tuple[Entry, str]]:
    with connection.cursor() as cursor:
        copy_rows(cursor, TAPS, rows.tap_rows(entries))
        refused = _refuse_overlaps(cursor)
        merge_rows(cursor, TAPS, _MERGE_TAPS)
        copy_rows(cursor, METRICS, rows.metric_rows(entries, refused))
        _drop_lesser(cursor)
        merge_rows(cursor, METRICS, _MERGE_METRICS)
        copy_rows(cursor, SEGMENTS, rows.segment_rows(entries, refused))
        merge_rows(cursor, SEGMENTS, MERGE_SEGMENTS)
        copy_rows(cursor, GAPS, rows.gap_rows(entries, refused))
        merge_rows(cursor, GAPS, _NOTHING)
        copy_rows(cursor, SNAPSHOTS, rows.snapshot_rows(entries))
        merge_rows(cursor, SNAPSHOTS, _NOTHING)
    return [part for entry in entries if (part := _refused_part(entry, refused))]


def _refuse_overlaps(cursor: psycopg.Cursor) -> set[TapKey]:
    """Take out of the stage what covers samples that the archive has already."""
    cursor.execute(
        "DELETE FROM pg_temp.stage_tap_buckets_5s s USING tap_buckets_5s t "
        "WHERE (s.trace_id, s.station_key, s.tap, s.bucket_ts) "
        "= (t.trace_id, t.station_key, t.tap, t.bucket_ts) AND s.ranges && t.ranges "
        "RETURNING s.trace_id, s.station_key, s.tap, s.bucket_ts"
    )
    return {(row[0], row[1], row[2], row[3]) for row in cursor.fetchall()}


def _drop_lesser(cursor: psycopg.Cursor) -> None:
    """Take metrics with one value a bucket out of the stage where the other half has more."""
    cursor.execute(
        "DELETE FROM pg_temp.stage_metrics_agg_5s s "
        "USING pg_temp.stage_tap_buckets_5s n JOIN tap_buckets_5s t "
        "USING (trace_id, station_key, tap, bucket_ts) "
        "WHERE (s.trace_id, s.station_key, s.tap, s.bucket_ts) "
        "= (n.trace_id, n.station_key, n.tap, n.bucket_ts) AND s.metric_key = ANY(%s) "
        # The table has both halves by now.
        "AND t.due_samples > n.due_samples AND t.received_samples >= 2 * n.received_samples",
        [sorted(BUCKET_KEYS)],
    )


def _refused_part(entry: Entry, refused: set[TapKey]) -> tuple[Entry, str] | None:
    trace_id, station_key, bucket_ns = rows.bucket_key(entry)
    at = to_time(bucket_ns)
    taps = [tap for tap in entry["taps"] if (trace_id, station_key, tap["tap"], at) in refused]
    if not taps:
        return None
    samples = sum(tap["received_samples"] for tap in taps)
    return {**entry, "taps": taps, "samples": samples}, "trace_conflict"


def copy_rows(cursor: psycopg.Cursor, stage: Stage, found: Iterable[Row]) -> None:
    """Bring rows into the temporary table of a stage, in place of those before."""
    columns = sql.SQL(", ").join(map(sql.Identifier, stage.columns))
    table = sql.Identifier("pg_temp", f"stage_{stage.table}")
    cursor.execute(_stage_statement(stage))
    cursor.execute(sql.SQL("DELETE FROM {}").format(table))
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(table, columns)
    with cursor.copy(statement) as copy:
        copy.set_types(list(stage.columns.values()))
        for row in found:
            copy.write_row(row)


def _stage_statement(stage: Stage) -> sql.Composed:
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(type_))
        for name, type_ in stage.columns.items()
    )
    table = sql.Identifier(f"stage_{stage.table}")
    text = sql.SQL("CREATE TEMP TABLE IF NOT EXISTS {} ({}) ON COMMIT DELETE ROWS")
    return text.format(table, columns)


def merge_rows(cursor: psycopg.Cursor, stage: Stage, action: str) -> None:
    """Move a stage into its table, ordered by key, so that two writers never deadlock."""
    columns, key = ", ".join(stage.columns), ", ".join(stage.key)
    cursor.execute(
        f"INSERT INTO {stage.table} AS t ({columns}) SELECT {columns} "  # noqa: S608 - constants
        f"FROM pg_temp.stage_{stage.table} ORDER BY {key} ON CONFLICT ({key}) DO {action}".encode()
    )


def _write_life(connection: psycopg.Connection, entries: Iterable[Entry]) -> None:
    """Write what begins, ends and is turned: a few rows, one by one."""
    for entry in entries:
        if entry["kind"] == "trace_started":
            connection.execute(
                "INSERT INTO traces (trace_id, started_at, src_extension, dst_extension, "
                "sample_rate, call_id, attributes, consent) "
                "VALUES (%s, %s, %s, %s, %s, %s, %s, %s) "
                # An end that came first has left a row without an extension.
                "ON CONFLICT (trace_id) DO UPDATE SET started_at = excluded.started_at, "
                "src_extension = excluded.src_extension, dst_extension = excluded.dst_extension, "
                "sample_rate = excluded.sample_rate, call_id = excluded.call_id, "
                "attributes = excluded.attributes || traces.attributes, "
                "consent = CASE WHEN traces.consent_at IS NULL THEN excluded.consent "
                "ELSE traces.consent END "
                "WHERE traces.src_extension = ''",
                [
                    entry["trace_id"],
                    to_time(entry["started_ns"]),
                    entry["src_extension"],
                    entry["dst_extension"],
                    entry["sample_rate"],
                    entry["call_id"],
                    Jsonb(entry["attributes"]),
                    entry.get("consent", "unknown"),  # a batch of an earlier version has none
                ],
            )
            write_numbers(connection, entry)
        elif entry["kind"] == "trace_ended":
            connection.execute(
                # Batches of one call may come in any order.
                "INSERT INTO traces (trace_id, started_at, ended_at, end_reason, attributes, "
                "src_extension) VALUES (%s, %s, %s, %s, %s, '') "
                "ON CONFLICT (trace_id) DO UPDATE SET "
                "ended_at = excluded.ended_at, end_reason = excluded.end_reason, "
                "attributes = traces.attributes || excluded.attributes "
                "WHERE traces.ended_at IS NULL",
                [
                    entry["trace_id"],
                    *[to_time(entry["ended_ns"])] * 2,
                    entry["end_reason"],
                    Jsonb(entry.get("attributes", {})),
                ],
            )
        elif entry["kind"] == "consent_changed":
            write_consent(connection, entry)
        elif entry["kind"] == "knob_changed":
            _write_knob_event(connection, entry)


def _write_knob_event(connection: psycopg.Connection, entry: Entry) -> None:
    counts_from = entry["counts_from_ns"]
    connection.execute(
        "INSERT INTO knob_events (event_id, trace_id, station_key, knob_key, old_value, new_value, "
        "changed_by, created_at, reason, scope, counts_from) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (event_id) DO NOTHING",
        [
            entry["event_id"],
            entry["trace_id"],
            entry["station_key"],
            entry["knob_key"],
            Jsonb(entry["old_value"]),
            Jsonb(entry["new_value"]),
            entry["changed_by"],
            to_time(entry["created_ns"]),
            entry["reason"],
            entry["scope"],
            None if counts_from is None else to_time(counts_from),
        ],
    )

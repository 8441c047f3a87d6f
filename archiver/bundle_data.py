"""The SQL behind an incident bundle: all that the archive has of one call, or of a part of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql

from archiver.access_log import Access, AccessKind, record
from archiver.buckets import Part, gaps
from archiver.calls import details
from archiver.export import copy_rows
from archiver.moments import knob_events
from archiver.outputs import Sink
from archiver.pool import Row, fetch
from archiver.segments import Place, SegmentRow
from archiver.times import BUCKET
from archiver.tokens import Role
from exporter.errors import MonitoringError

_LIMITS = "SET LOCAL statement_timeout = '10min'; SET LOCAL jit = off; SET LOCAL datestyle = 'ISO'"
_PART = """trace_id = {trace_id} AND bucket_ts > {since} AND bucket_ts < {until}
    AND ({station}::text IS NULL OR station_key = {station})"""
_OF_PART = _PART.format(
    **{name: f"%({name})s" for name in ("trace_id", "since", "until", "station")}
)
_BUCKETS = f"""
SELECT station_key, bucket_ts, changed,
    pre_due_samples, pre_lost_samples, pre_other_gap_samples, pre_pcm_rms_dbfs,
    pre_pcm_clipping_ratio, pre_health_audio_score,
    post_due_samples, post_lost_samples, post_other_gap_samples, post_pcm_rms_dbfs,
    post_pcm_clipping_ratio, post_health_audio_score,
    pair_gain_db, pair_limited_ratio, pair_speech_lost_ratio
FROM bucket_wide WHERE {_OF_PART} ORDER BY station_key, bucket_ts
"""  # noqa: S608 - constants of this module
_REASONS = f"""
SELECT station_key, bucket_ts, tap, defect, points FROM v_health
WHERE {_OF_PART} AND defect IS NOT NULL ORDER BY points DESC
"""  # noqa: S608 - constants of this module
_TAPS = f"""
SELECT station_key, tap, max(sample_rate_hz) AS rate, count(*) AS buckets,
    sum(due_samples)::bigint AS due, sum(received_samples)::bigint AS received
FROM v_tap_buckets WHERE {_OF_PART} GROUP BY station_key, tap ORDER BY station_key, tap DESC
"""  # noqa: S608 - constants of this module
_METRICS = f"""
SELECT station_key, metric_key, tap, sum(count)::bigint AS count, min(min) AS min,
    sum(sum) / sum(count) AS mean, max(max) AS max
FROM v_metrics WHERE {_OF_PART} GROUP BY station_key, metric_key, tap
"""  # noqa: S608 - constants of this module
_KNOBS = f"""
SELECT DISTINCT ON (station_key) station_key, bucket_ts, knob_values
FROM v_knob_snapshots WHERE {_OF_PART} ORDER BY station_key, bucket_ts
"""  # noqa: S608 - constants of this module
_SEGMENTS = f"""
SELECT b.station_key, b.tap, b.bucket_ts, b.received_samples, a.sample_rate_hz AS rate,
    a.file_path, a.sha256, a.file_bytes
FROM (SELECT * FROM tap_buckets_5s WHERE {_OF_PART}) AS b
LEFT JOIN (SELECT * FROM audio_segments_5s WHERE {_OF_PART}) AS a
    USING (trace_id, station_key, tap, bucket_ts)
ORDER BY b.station_key, b.tap DESC, b.bucket_ts
"""  # noqa: S608 - constants of this module
_FILES = {
    "metrics.csv": "SELECT * FROM v_metrics WHERE {part} "
    "ORDER BY station_key, bucket_ts, tap DESC, metric_key",
    "gaps.csv": "SELECT * FROM v_gaps WHERE {part} "
    "ORDER BY station_key, bucket_ts, tap DESC, first_sample",
    "knob_events.csv": "SELECT * FROM v_knob_events WHERE event_id = ANY ({events}::uuid[]) "
    "ORDER BY created_at, event_id",
    "knob_snapshots.jsonl": "SELECT * FROM v_knob_snapshots WHERE {part} "
    "ORDER BY station_key, bucket_ts",
}
TABLES = tuple(_FILES)
"""Files of a bundle that hold rows."""


class UnknownCallError(MonitoringError):
    """The archive has no such call, or nothing of the part that was asked for."""


@dataclass(frozen=True, slots=True)
class Sound:
    """The sound of one bucket and tap, as the archive should have it.

    Attributes:
        place: Call, station, tap.
        bucket_ts: Start.
        received_samples: How much came.
        row: Where its file is; None when no sound was kept.
        file_bytes: Size of the file.
    """

    place: Place
    bucket_ts: datetime
    received_samples: int
    row: SegmentRow | None
    file_bytes: int


@dataclass(slots=True)
class Contents:
    """What goes into the report.

    Attributes:
        call: One row of ``call_list``.
        part: What was asked for.
        parameters: Bounds of the queries.
        buckets: Rows of ``bucket_wide``, with ``reasons``: tap to (defect, points).
        taps: Station, tap, rate, buckets, samples due and received.
        metrics: One row for each station, metric and tap.
        gaps: Missing samples with times.
        events: Knobs that were turned.
        knobs: Knobs in force at the first bucket of each station.
        sounds: One for each tap and bucket at which something came.
    """

    call: Row
    part: Part
    parameters: Row
    buckets: list[Row] = field(default_factory=list)
    taps: list[Row] = field(default_factory=list)
    metrics: list[Row] = field(default_factory=list)
    gaps: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    knobs: list[Row] = field(default_factory=list)
    sounds: list[Sound] = field(default_factory=list)


def collect(connection: psycopg.Connection, part: Part) -> Contents:
    """Read what the archive has, as of one moment.

    Raises:
        UnknownCallError: There is no such call, or no bucket of that part.
        psycopg.Error: The server is not there or not able.
    """
    connection.execute(_LIMITS)
    parameters = part.parameters(connection)
    calls = details(connection, [part.trace_id])
    if parameters is None or not calls:
        raise UnknownCallError(f"no trace {part.trace_id!r} in the archive")
    found = Contents(calls[0], part, parameters)
    found.buckets = _buckets(connection, parameters)
    if not found.buckets:
        raise UnknownCallError(f"the archive has nothing of this part of {part.trace_id!r}")
    found.taps = fetch(connection, _TAPS, parameters)
    found.metrics = fetch(connection, _METRICS, parameters)
    found.knobs = fetch(connection, _KNOBS, parameters)
    found.gaps = gaps(connection, part) or []
    found.events = knob_events(connection, part.trace_id, part.station) or []
    found.sounds = [_sound(part.trace_id, row) for row in fetch(connection, _SEGMENTS, parameters)]
    return found


def copy_table(connection: psycopg.Connection, name: str, *, contents: Contents, out: Sink) -> int:
    """Stream one of ``TABLES``; return the number of rows."""
    literals = {
        key: sql.Literal(contents.parameters[key])
        for key in ("trace_id", "since", "until", "station")
    }
    events = [event["event_id"] for event in contents.events]
    query = sql.SQL(_FILES[name]).format(
        part=sql.SQL(_PART).format(**literals), events=sql.Literal(events)
    )
    return copy_rows(connection, query, out=out, form=name.rpartition(".")[2])


def log_export(connection: psycopg.Connection, contents: Contents, *, who: str) -> None:
    """Write into the access log which sound is about to leave: one row for each tap.

    Raises:
        psycopg.Error: It could not be written: no sound may leave.
    """
    taps: dict[Place, list[Sound]] = {}
    for sound in contents.sounds:
        if sound.row is not None:
            taps.setdefault(sound.place, []).append(sound)
    for place, sounds in taps.items():
        size = sum(sound.file_bytes for sound in sounds)
        access = Access(
            token_name=who,
            role=Role.DOWNLOAD,
            place=place,
            from_ts=sounds[0].bucket_ts,
            to_ts=sounds[-1].bucket_ts + BUCKET,
            first_byte=0,
            last_byte=size - 1,
            kind=AccessKind.EXPORT,
            client_hash="",
        )
        record(connection, access)


def _buckets(connection: psycopg.Connection, parameters: Row) -> list[Row]:
    rows = fetch(connection, _BUCKETS, parameters)
    reasons: dict[tuple[Any, Any], dict[str, list[tuple[str, float]]]] = {}
    for row in fetch(connection, _REASONS, parameters):
        of_bucket = reasons.setdefault((row["station_key"], row["bucket_ts"]), {})
        of_bucket.setdefault(row["tap"], []).append((row["defect"], row["points"]))
    for row in rows:
        row["reasons"] = reasons.get((row["station_key"], row["bucket_ts"]), {})
    return rows


def _sound(trace_id: str, row: Row) -> Sound:
    place = Place(trace_id, row["station_key"], row["tap"])
    if row["file_path"] is None:
        return Sound(place, row["bucket_ts"], row["received_samples"], None, 0)
    segment = SegmentRow(row["bucket_ts"], row["rate"], row["file_path"], row["sha256"])
    size = row["file_bytes"]
    return Sound(place, row["bucket_ts"], row["received_samples"], segment, size)

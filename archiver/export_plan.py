"""What an export consists of: which tables, in which files, asked for in which pieces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
# A call over midnight stands in both days, so that the files of a day belong together.
_CALLS = """
SELECT {columns} FROM traces AS t
WHERE started_at < {{until}} AND coalesce(ended_at, 'infinity') >= {{since}}
    AND (started_at >= {{since}} OR ended_at IS NOT NULL OR EXISTS (
        SELECT FROM tap_buckets_5s AS b WHERE b.trace_id = t.trace_id
        AND b.bucket_ts >= {{since}} AND b.bucket_ts < {{until}}))
ORDER BY started_at, trace_id
"""
_CALL_COLUMNS = (
    "trace_id, started_at, ended_at, end_reason, call_id, attributes, sample_rate, channels, "
    "consent"
)
_TAP = "trace_id, station_key, tap, bucket_ts"
# The rows of a file, without what pictures are drawn from.
_SEGMENT_COLUMNS = (
    f"{_TAP}, bucket_ms, sample_rate_hz, channels, format, file_path, first_sample, due_samples, "
    "received_samples, file_bytes, sha256, written_at"
)


@dataclass(frozen=True, slots=True)
class Source:
    """What goes into the files of one name.

    Attributes:
        name: First part of the files' names.
        query: Statement with ``{since}`` and ``{until}``.
        step: How much time is asked for at once.
    """

    name: str
    query: str
    step: timedelta = _HOUR


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody wants.

    Attributes:
        since: Start of the first bucket.
        until: Buckets that start before.
        folder: Where the files go.
        format: ``csv`` or ``jsonl``.
        is_gzip: Whether the files are compressed.
        has_extensions: Whether the calls come with who called and was called.
        is_forced: Whether also that is written again which is there.
    """

    since: datetime
    until: datetime
    folder: Path
    format: str = "csv"
    is_gzip: bool = False
    has_extensions: bool = False
    is_forced: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """One file: a table and a day, or the part of a day that lies within the bounds."""

    source: Source
    since: datetime
    until: datetime


def sources(order: Order) -> list[Source]:
    """Return what is exported: the tables and views that an analyst needs."""
    who = ", src_extension, dst_extension" if order.has_extensions else ""
    calls = _CALLS.format(columns=_CALL_COLUMNS + who)
    events = "SELECT * FROM v_knob_events WHERE created_at >= {since} AND created_at < {until} "
    return [
        Source("traces", calls, _DAY),
        Source("gaps", _buckets("v_gaps", f"{_TAP}, first_sample"), _DAY),
        Source("knob_events", events + "ORDER BY created_at, event_id", _DAY),
        Source("knob_snapshots", _buckets("v_knob_snapshots", "trace_id, station_key, bucket_ts")),
        Source("segments", _buckets("audio_segments_5s", _TAP, _SEGMENT_COLUMNS)),
        Source("tap_buckets", _buckets("v_tap_buckets", _TAP)),
        Source("health", _buckets("v_health", f"{_TAP}, defect")),
        Source("metrics", _buckets("v_metrics", f"{_TAP}, metric_key")),
        Source("bucket_wide", _buckets("bucket_wide", "trace_id, station_key, bucket_ts")),
    ]


def _buckets(relation: str, key: str, columns: str = "*") -> str:
    bounds = "bucket_ts >= {since} AND bucket_ts < {until}"
    statement = f"SELECT {columns} FROM {relation}"  # noqa: S608 - constants
    return f"{statement} WHERE {bounds} ORDER BY {key}"


def parts(order: Order) -> Iterator[Part]:
    """Yield the files that are wanted, day by day."""
    since = order.since
    while since < order.until:
        midnight = since.replace(hour=0, minute=0, second=0, microsecond=0) + _DAY
        until = min(midnight, order.until)
        yield from (Part(source, since, until) for source in sources(order))
        since = until


def file_name(part: Part, order: Order) -> str:
    """Return the name of a file: table, day, format."""
    end = ".gz" if order.is_gzip else ""
    return f"{part.source.name}_{part.since:%Y-%m-%d}.{order.format}{end}"


def slices(part: Part) -> Iterator[tuple[datetime, datetime]]:
    """Yield the pieces in which a file's time is asked for."""
    since = part.since
    while since < part.until:
        border = since + part.source.step
        if part.source.step == _HOUR:
            border = border.replace(minute=0, second=0, microsecond=0)
        yield since, min(border, part.until)
        since = border

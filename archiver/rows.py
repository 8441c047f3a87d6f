"""From the entries of a batch to rows for COPY: pure functions, one for each table."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from psycopg.types.json import Jsonb
from psycopg.types.multirange import Multirange
from psycopg.types.range import Range

from archiver.batch import Entry

TapKey = tuple[str, str, str, datetime]
Row = tuple[object, ...]
SCORE = "health.audio_score"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Stage:
    """A temporary table: the columns that are copied, with their types, and its key."""

    table: str
    columns: dict[str, str]
    key: tuple[str, ...]


_TAP = {"trace_id": "text", "station_key": "text", "tap": "text", "bucket_ts": "timestamptz"}
TAPS = Stage(
    "tap_buckets_5s",
    _TAP
    | {
        "sample_rate_hz": "int4",
        "due_samples": "int4",
        "received_samples": "int4",
        "ranges": "int4multirange",
        "health": "jsonb",
        "score": "float8",
    },
    ("trace_id", "station_key", "tap", "bucket_ts"),
)
METRICS = Stage(
    "metrics_agg_5s",
    _TAP
    | {"metric_key": "text", "count": "int8"}
    | dict.fromkeys(("min", "max", "sum", "avg", "last"), "float8")
    | {"last_ts": "timestamptz"},
    ("trace_id", "station_key", "tap", "metric_key", "bucket_ts"),
)
SEGMENTS = Stage(
    "audio_segments_5s",
    _TAP
    | {"sample_rate_hz": "int4", "file_path": "text", "first_sample": "int4"}
    | {"due_samples": "int4", "received_samples": "int4", "file_bytes": "int8", "sha256": "text"}
    | {"written_at": "timestamptz", "sketch": "bytea"},
    ("trace_id", "station_key", "tap", "bucket_ts"),
)
GAPS = Stage(
    "gaps",
    _TAP | {"first_sample": "int4", "samples": "int4", "cause": "text"},
    ("trace_id", "station_key", "tap", "bucket_ts", "first_sample"),
)
SNAPSHOTS = Stage(
    "knob_snapshots_5s",
    {"trace_id": "text", "station_key": "text", "bucket_ts": "timestamptz"}
    | {"knob_values": "jsonb", "changed": "jsonb"},
    ("trace_id", "station_key", "bucket_ts"),
)


@lru_cache(maxsize=4_096)
def to_time(ns: int) -> datetime:
    """Return a time in UTC; PostgreSQL keeps microseconds."""
    return _EPOCH + timedelta(microseconds=ns // 1_000)


def bucket_key(entry: Entry) -> tuple[str, str, int]:
    """Return what no two buckets of one statement may share."""
    return entry["trace_id"], entry["station_key"], entry["bucket_ns"]


def tap_rows(entries: Iterable[Entry]) -> Iterator[Row]:
    """Rows of ``tap_buckets_5s``."""
    for key, tap in _taps(entries):
        first, due = tap["first_sample"], tap["due_samples"]
        ranges = Multirange([Range(first, first + due)])
        health = Jsonb(tap.get("health", {}))
        scores = (last for metric, *_, last, _ in tap["aggregates"] if metric == SCORE)
        yield (*key, tap["rate"], due, tap["received_samples"], ranges, health, next(scores, None))


def metric_rows(entries: Iterable[Entry], refused: set[TapKey]) -> Iterator[Row]:
    """Rows of ``metrics_agg_5s``, without the taps that the database refused."""
    for key, tap in _taps(entries):
        if key not in refused:
            for metric, count, low, high, total, last, last_ns in tap["aggregates"]:
                average = total / count
                yield (*key, metric, count, low, high, total, average, last, to_time(last_ns))


def segment_rows(entries: Iterable[Entry], refused: set[TapKey]) -> Iterator[Row]:
    """Rows of ``audio_segments_5s``: where there is a file."""
    for key, tap in _taps(entries):
        file = tap["segment"]
        if file and key not in refused:
            samples = (tap["first_sample"], tap["due_samples"], tap["received_samples"])
            sketch = file.get("sketch")  # a batch of an earlier version has none
            yield (
                *key,
                tap["rate"],
                file["file_path"],
                *samples,
                file["file_bytes"],
                file["sha256"],
                to_time(file["written_ns"]),
                b64decode(sketch, validate=True) if sketch else None,
            )


def gap_rows(entries: Iterable[Entry], refused: set[TapKey]) -> Iterator[Row]:
    """Rows of ``gaps``."""
    for key, tap in _taps(entries):
        if key not in refused:
            yield from ((*key, *gap) for gap in tap["gaps"])


def snapshot_rows(entries: Iterable[Entry]) -> Iterator[Row]:
    """Rows of ``knob_snapshots_5s``."""
    for entry in entries:
        if entry.get("is_rest"):
            continue  # its knobs went with the batch that gave way
        trace_id, station_key, bucket_ns = bucket_key(entry)
        values, changed = Jsonb(entry["knob_values"]), Jsonb(entry["changed"])
        yield trace_id, station_key, to_time(bucket_ns), values, changed


def _taps(entries: Iterable[Entry]) -> Iterator[tuple[TapKey, Entry]]:
    for entry in entries:
        trace_id, station_key, bucket_ns = bucket_key(entry)
        for tap in entry["taps"]:
            yield (trace_id, station_key, tap["tap"], to_time(bucket_ns)), tap

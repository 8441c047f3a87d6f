"""The SQL behind the sound: which files hold which samples, and how POST lies to PRE."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg

from archiver.calls import time_bounds
from archiver.pool import Row, fetch, fetch_one
from archiver.times import BUCKET

_COLUMNS = "bucket_ts, sample_rate_hz AS rate, file_path, sha256"
_RANGE = """
SELECT {columns} FROM audio_segments_5s
WHERE trace_id = %(trace_id)s AND station_key = %(station)s AND tap = %(tap)s
    AND bucket_ts > %(since)s AND bucket_ts < %(until)s
ORDER BY bucket_ts
"""
_SPAN = """
SELECT min(bucket_ts) AS since, max(bucket_ts) + interval '5 seconds' AS until
FROM audio_segments_5s
WHERE trace_id = %(trace_id)s AND station_key = %(station)s AND tap = ANY(%(taps)s)
    AND bucket_ts >= %(since)s AND bucket_ts <= %(until)s
"""
_DELETED = """
SELECT EXISTS (
    SELECT FROM deletions WHERE kind = 'audio' AND hour < %(until)s
        AND hour > %(since)s - interval '1 hour'
) AS was_deleted
"""
_ALIGNMENT = """
SELECT bucket_ts, metric_key, avg FROM metrics_agg_5s
WHERE trace_id = %(trace_id)s AND station_key = %(station)s AND tap = 'POST'
    AND metric_key = ANY(ARRAY['pair.gain_db', 'pair.delay_ms', 'pair.polarity_inverted'])
    AND bucket_ts > %(since)s AND bucket_ts < %(until)s
ORDER BY bucket_ts
"""


@dataclass(frozen=True, slots=True)
class Place:
    """A tap of a station in a call."""

    trace_id: str
    station: str
    tap: str


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """Where the sound of a bucket is.

    Attributes:
        bucket_ts: Start.
        rate: Samples a second.
        file_path: Below the audio root; from the database, never from a client.
        sha256: Hash of the file, in hex.
        sketch: What pictures of a long time show of it (``archiver.sketch``); None where it was not
            asked for, or is not known.
    """

    bucket_ts: datetime
    rate: int
    file_path: str
    sha256: str
    sketch: bytes | None = None


@dataclass(frozen=True, slots=True)
class Alignment:
    """How POST lies to PRE from a bucket on.

    Attributes:
        bucket_ts: Start of the bucket.
        gain_db: Level of POST over PRE.
        delay_ms: Time of POST behind PRE.
        is_inverted: Whether POST is upside down.
    """

    bucket_ts: datetime
    gain_db: float = 0.0
    delay_ms: float = 0.0
    is_inverted: bool = False


def segments(
    connection: psycopg.Connection,
    place: Place,
    since: datetime,
    until: datetime,
    *,
    has_sketch: bool = False,
) -> list[SegmentRow]:
    """Return the segments of a tap that lie in a time, also in part, in order."""
    parameters = {**_keys(place), "since": since - BUCKET, "until": until}
    query = _RANGE.format(columns=f"{_COLUMNS}, sketch" if has_sketch else _COLUMNS)
    return [SegmentRow(**row) for row in fetch(connection, query, parameters)]


def audio_span(connection: psycopg.Connection, place: Place) -> tuple[datetime, datetime] | None:
    """Return start and end of what there is to hear at a tap; None when there is nothing.

    The tap ``DELTA`` has what PRE and POST have.
    """
    bounds = time_bounds(connection, place.trace_id)
    if bounds is None:
        return None
    taps = [place.tap] if place.tap != "DELTA" else ["PRE", "POST"]
    row = fetch_one(connection, _SPAN, {**_keys(place), **bounds, "taps": taps})
    return (row["since"], row["until"]) if row and row["since"] else None


def was_deleted(connection: psycopg.Connection, since: datetime, until: datetime) -> bool:
    """Tell whether retention has deleted an hour of sound in which this time lies, also in part."""
    row = fetch_one(connection, _DELETED, {"since": since, "until": until})
    return bool(row and row["was_deleted"])


def alignments(
    connection: psycopg.Connection, place: Place, since: datetime, until: datetime
) -> list[Alignment]:
    """Return how POST lies to PRE in each bucket of a time in which anything of it is known.

    What is unknown in a bucket is as in the one before.
    """
    parameters = {**_keys(place), "since": since - timedelta(minutes=1), "until": until}
    found: list[Alignment] = []
    for row in fetch(connection, _ALIGNMENT, parameters):
        last = found[-1] if found else Alignment(row["bucket_ts"])
        if last.bucket_ts == row["bucket_ts"] and found:
            found.pop()
        found.append(_with(last, row))
    return found


def _with(last: Alignment, row: Row) -> Alignment:
    values = {
        "pair.gain_db": last.gain_db,
        "pair.delay_ms": last.delay_ms,
        "pair.polarity_inverted": float(last.is_inverted),
        row["metric_key"]: row["avg"],
    }
    gain_db, delay_ms, inverted = values.values()
    return Alignment(row["bucket_ts"], gain_db, delay_ms, is_inverted=inverted >= 0.5)  # noqa: PLR2004 - a share


def _keys(place: Place) -> Row:
    return {"trace_id": place.trace_id, "station": place.station, "tap": place.tap}

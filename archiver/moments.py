"""The SQL behind single moments: the worst buckets, a knob that was turned, what is live now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg

from archiver.buckets import BucketKey, audio_address, bucket_rows
from archiver.calls import RUNNING_WITHIN
from archiver.pool import Row, fetch, fetch_one
from archiver.times import BUCKET

LOW_IS_BAD = frozenset(
    {
        "health.audio_score",
        "pair.coherence",
        "pair.segmental_snr_db",
        "pcm.active_level_dbfs",
        "pcm.snr_estimate",
        "stt.confidence_score",
        "tts.prosody_stability",
    }
)
"""Metrics of which a low value is the bad one."""
AROUND_A_CHANGE = 6
"""Buckets that are shown before a knob change, and after."""
CHANGE_METRICS = (
    *("health.audio_score", "pcm.rms_dbfs", "pcm.peak_dbfs", "pcm.clipping_ratio"),
    *("pcm.silence_detected", "pcm.speech_ratio", "advanced.lufs_momentary", "pair.gain_db"),
    *("pair.limited_ratio", "pair.speech_lost_ratio"),
)
"""What a knob change is looked at by."""

# Calls of a time: their number is small, and the primary key leads from them to their buckets.
# Three days bound the search; no call is longer.
_CALLS = """traces t WHERE t.started_at < %(until)s
    AND t.started_at > %(since)s - interval '3 days'
    AND coalesce(t.ended_at, 'infinity') >= %(since)s - interval '10 minutes'"""
_STATIONS = f"""
SELECT DISTINCT unnest(s.stations) AS station_key
FROM (SELECT t.trace_id FROM {_CALLS}) t JOIN call_totals s USING (trace_id)
"""  # noqa: S608 - constants of this module
_WORST = f"""
SELECT t.trace_id, m.station_key, m.tap, m.bucket_ts, m.avg AS value
FROM (SELECT t.trace_id FROM {_CALLS}) t
CROSS JOIN unnest(%(stations)s::text[]) AS place (station_key)
CROSS JOIN unnest(ARRAY['PRE', 'POST']) AS side (tap)
JOIN LATERAL (
    SELECT station_key, tap, bucket_ts, avg FROM metrics_agg_5s
    WHERE trace_id = t.trace_id AND station_key = place.station_key AND tap = side.tap
        AND metric_key = %(metric)s AND bucket_ts >= %(since)s AND bucket_ts < %(until)s
) m ON true
ORDER BY m.avg * %(sign)s, m.bucket_ts DESC, t.trace_id LIMIT %(limit)s
"""  # noqa: S608 - constants of this module
_HEARD = """
SELECT trace_id, station_key, tap, bucket_ts FROM audio_segments_5s
WHERE trace_id = ANY(%(ids)s) AND bucket_ts >= %(since)s AND bucket_ts < %(until)s
"""
_EVENT = """event_id::text, trace_id, station_key, knob_key, old_value, new_value, changed_by,
    reason, scope, created_at, counts_from"""
_EVENTS = f"""
SELECT {_EVENT} FROM knob_events WHERE (
    trace_id = %(trace_id)s OR (trace_id IS NULL AND created_at BETWEEN
        (SELECT started_at FROM traces WHERE trace_id = %(trace_id)s)
        AND (SELECT coalesce(ended_at, now()) FROM traces WHERE trace_id = %(trace_id)s))
) AND (%(station)s::text IS NULL OR station_key IS NULL OR station_key = %(station)s)
ORDER BY created_at, event_id LIMIT 5000
"""  # noqa: S608 - constants of this module
_BESIDE = f"""
SELECT t.trace_id, b.station_key, b.bucket_ts FROM (SELECT t.trace_id FROM {_CALLS}) t
JOIN LATERAL (
    SELECT DISTINCT station_key, bucket_ts FROM tap_buckets_5s
    WHERE trace_id = t.trace_id AND bucket_ts >= %(since)s AND bucket_ts < %(until)s
        AND (%(station)s::text IS NULL OR station_key = %(station)s)
) b ON true
WHERE %(trace_id)s::text IS NULL OR t.trace_id = %(trace_id)s
ORDER BY b.bucket_ts, t.trace_id, b.station_key LIMIT 5000
"""  # noqa: S608 - constants of this module
_LIVE = """
WITH places AS (
    SELECT t.trace_id, b.station_key, b.tap, max(b.bucket_ts) AS bucket_ts
    FROM traces t JOIN LATERAL (
        SELECT station_key, tap, bucket_ts FROM tap_buckets_5s
        WHERE trace_id = t.trace_id AND bucket_ts >= %(since)s
    ) b ON true
    WHERE t.ended_at IS NULL GROUP BY 1, 2, 3
)
SELECT p.station_key, p.tap, m.metric_key, avg(m.avg) AS value, count(*) AS calls
FROM places p LEFT JOIN metrics_agg_5s m
    ON (m.trace_id, m.station_key, m.tap, m.bucket_ts)
        = (p.trace_id, p.station_key, p.tap, p.bucket_ts)
    AND m.metric_key = ANY(%(metrics)s) AND m.bucket_ts >= %(since)s
GROUP BY 1, 2, 3 ORDER BY 1, 2 DESC, 3
"""


@dataclass(frozen=True, slots=True)
class Moment:
    """Where and when to look.

    Attributes:
        metric: Key of the registry.
        at: The middle of the time that is looked at.
        window: How far it reaches to both sides.
        station: One station; None for all.
    """

    metric: str
    at: datetime
    window: timedelta
    station: str | None = None


def worst_buckets(connection: psycopg.Connection, moment: Moment, limit: int) -> list[Row]:
    """Return the worst buckets around a moment by the mean of a metric, the worst first."""
    times: Row = {"since": moment.at - moment.window, "until": moment.at + moment.window}
    stations = [moment.station]
    if moment.station is None:
        stations = [row["station_key"] for row in fetch(connection, _STATIONS, times)]
    sign = 1 if moment.metric in LOW_IS_BAD else -1
    wanted = {"metric": moment.metric, "stations": stations, "sign": sign, "limit": limit}
    found = fetch(connection, _WORST, times | wanted)
    heard = {
        tuple(row.values())
        for row in fetch(connection, _HEARD, times | {"ids": [row["trace_id"] for row in found]})
    }
    for row in found:
        key = (row["trace_id"], row["station_key"], row["tap"], row["bucket_ts"])
        row |= {"metric": moment.metric, "audio": audio_address(*key) if key in heard else None}
    return found


def knob_events(
    connection: psycopg.Connection, trace_id: str, station: str | None
) -> list[Row] | None:
    """Return the knobs that were turned for a call or while it ran; None for an unknown call."""
    known = "SELECT FROM traces WHERE trace_id = %(trace_id)s"
    parameters = {"trace_id": trace_id, "station": station}
    if fetch_one(connection, known, parameters) is None:
        return None
    return fetch(connection, _EVENTS, parameters)


def knob_event(connection: psycopg.Connection, event_id: str) -> Row | None:
    """Return a knob change with up to six buckets before it and after; None when it is unknown.

    They are of the call and station that it was made for; of a wider one, of the call and station
    with a bucket nearest before it.
    """
    query = f"SELECT {_EVENT} FROM knob_events WHERE event_id = %(event_id)s::uuid"  # noqa: S608 - a constant
    event = fetch_one(connection, query, {"event_id": event_id})
    if event is None:
        return None
    moment = event["counts_from"] or event["created_at"]
    width = (AROUND_A_CHANGE + 1) * BUCKET
    places = fetch(
        connection,
        _BESIDE,
        {"since": moment - width, "until": moment + width}
        | {"trace_id": event["trace_id"], "station": event["station_key"]},
    )
    before = [row for row in places if row["bucket_ts"] + BUCKET <= moment]
    after = [row for row in places if row["bucket_ts"] >= moment]
    nearest = before[-1:] or after[:1]
    for name, rows in (("before", before[::-1]), ("after", after)):
        keys = _of_one_place(rows, nearest)[:AROUND_A_CHANGE]
        event[name] = _beside(connection, nearest, sorted(keys))
    return event


def live_stations(
    connection: psycopg.Connection, metrics: Sequence[str], now: datetime
) -> list[Row]:
    """Return the newest bucket of the running calls: station, tap, metric, mean value, calls."""
    parameters = {"metrics": list(metrics), "since": now - RUNNING_WITHIN}
    return fetch(connection, _LIVE, parameters)


def _of_one_place(rows: Sequence[Row], place: Sequence[Row]) -> list[BucketKey]:
    wanted = {(row["trace_id"], row["station_key"]) for row in place}
    return [
        (row["bucket_ts"], row["station_key"])
        for row in rows
        if (row["trace_id"], row["station_key"]) in wanted
    ]


def _beside(
    connection: psycopg.Connection, place: Sequence[Row], keys: Sequence[BucketKey]
) -> list[Row]:
    if not place:
        return []
    trace_id = place[0]["trace_id"]
    found = bucket_rows(connection, trace_id, keys, CHANGE_METRICS)
    names = ("station_key", "bucket_ts", "taps")
    return [{"trace_id": trace_id} | {name: row[name] for name in names} for row in found]

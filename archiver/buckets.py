"""The SQL behind one call: buckets with everything in them, tracks for drawing, gaps, knobs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg

from archiver.calls import time_bounds
from archiver.pool import Row, fetch, fetch_one
from archiver.times import BUCKET
from exporter.model import Tap

BucketKey = tuple[datetime, str]
_NUMBERS = ("count", "min", "max", "avg", "last")


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of a call; None does not restrict.

    Attributes:
        trace_id: The call.
        station: One of its stations.
        since: Buckets that end after this.
        until: Buckets that begin before this.
    """

    trace_id: str
    station: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def parameters(self, connection: psycopg.Connection) -> Row | None:
        """Return the values for ``_OF_PART``; None when the call is unknown."""
        bounds = time_bounds(connection, self.trace_id)
        if bounds is None:
            return None
        since = max(bounds["since"], self.since - BUCKET) if self.since else bounds["since"]
        until = min(bounds["until"], self.until) if self.until else bounds["until"]
        return {**bounds, "station": self.station, "since": since, "until": until}


_OF_PART = """trace_id = %(trace_id)s AND bucket_ts > %(since)s AND bucket_ts < %(until)s
    AND (%(station)s::text IS NULL OR station_key = %(station)s)"""
_KEYS = f"""
SELECT DISTINCT bucket_ts, station_key FROM tap_buckets_5s WHERE {_OF_PART}
    AND (%(at)s::timestamptz IS NULL OR (bucket_ts, station_key) > (%(at)s, %(key)s::text))
ORDER BY bucket_ts, station_key LIMIT %(limit)s
"""  # noqa: S608 - constants of this module
_OF_PAGE = """trace_id = %(trace_id)s AND bucket_ts BETWEEN %(first)s AND %(last)s
    AND station_key = ANY(%(stations)s)"""
_PAGE_TAPS = f"""
SELECT station_key, bucket_ts, tap, due_samples, received_samples, health AS costs,
    EXISTS (SELECT FROM audio_segments_5s a WHERE (a.trace_id, a.station_key, a.tap, a.bucket_ts)
        = (b.trace_id, b.station_key, b.tap, b.bucket_ts)) AS is_heard
FROM tap_buckets_5s b WHERE {_OF_PAGE} ORDER BY tap DESC
"""  # noqa: S608 - constants of this module
_PAGE_METRICS = f"""
SELECT station_key, bucket_ts, tap, metric_key, count, min, max, avg, last FROM metrics_agg_5s
WHERE {_OF_PAGE} AND tap = ANY(ARRAY['PRE', 'POST'])
    AND (%(metrics)s::text[] IS NULL OR metric_key = ANY(%(metrics)s))
ORDER BY metric_key
"""  # noqa: S608 - constants of this module
_PAGE_GAPS = f"""
SELECT station_key, bucket_ts, tap, first_sample, samples, cause, is_loss FROM v_gaps
WHERE {_OF_PAGE} ORDER BY first_sample
"""  # noqa: S608 - constants of this module
_PAGE_KNOBS = f"""
SELECT station_key, bucket_ts, knob_values, changed FROM knob_snapshots_5s WHERE {_OF_PAGE}
"""  # noqa: S608 - constants of this module
_SCORE = "health.audio_score"
_GRID = f"""
SELECT DISTINCT bucket_ts FROM tap_buckets_5s WHERE {_OF_PART} ORDER BY bucket_ts
"""  # noqa: S608 - constants of this module
# A row for each track, not for each bucket: an hour would be thousands of them.
_SERIES = """
SELECT tap, metric_key, array_agg(extract(epoch FROM bucket_ts)::bigint) AS starts,
    array_agg(avg) AS avg, array_agg(min) AS min, array_agg(max) AS max
FROM metrics_agg_5s
WHERE trace_id = %(trace_id)s AND station_key = %(station)s AND tap = ANY(ARRAY['PRE', 'POST'])
    AND metric_key = ANY(%(metrics)s) AND bucket_ts > %(since)s AND bucket_ts < %(until)s
GROUP BY tap, metric_key
"""
_GAPS = """
SELECT g.station_key, g.tap, g.samples, g.cause, g.is_loss,
    g.bucket_ts + g.first_sample * interval '1 second' / b.sample_rate_hz AS "from",
    g.bucket_ts + (g.first_sample + g.samples) * interval '1 second' / b.sample_rate_hz AS "to"
FROM v_gaps g JOIN tap_buckets_5s b USING (trace_id, station_key, tap, bucket_ts)
WHERE g.trace_id = %(trace_id)s AND g.bucket_ts > %(since)s AND g.bucket_ts < %(until)s
    AND b.bucket_ts > %(since)s AND b.bucket_ts < %(until)s
    AND (%(station)s::text IS NULL OR g.station_key = %(station)s)
ORDER BY 6, g.station_key, g.tap DESC
"""
_SNAPSHOTS = f"""
SELECT bucket_ts, station_key, knob_values, changed FROM knob_snapshots_5s WHERE {_OF_PART}
    AND (%(at)s::timestamptz IS NULL OR (bucket_ts, station_key) > (%(at)s, %(key)s::text))
ORDER BY bucket_ts, station_key LIMIT %(limit)s
"""  # noqa: S608 - constants of this module


def page(
    connection: psycopg.Connection,
    part: Part,
    *,
    metrics: Sequence[str] | None,
    limit: int,
    after: BucketKey | None,
) -> tuple[list[Row], BucketKey | None] | None:
    """Return a page of buckets in order of time, each with all that there is of it.

    A bucket is in the database when it is complete, and all of it at once.

    Args:
        connection: In a transaction, so that all of the page is of one state.
        part: Which.
        metrics: Keys; None for all.
        limit: How many buckets.
        after: Key of the bucket before the first.

    Returns:
        The buckets and the key after which the next page begins; None for an unknown call.
    """
    parameters = part.parameters(connection)
    if parameters is None:
        return None
    at, key = after or (None, None)
    found = fetch(connection, _KEYS, parameters | {"at": at, "key": key, "limit": limit + 1})
    keys = [(row["bucket_ts"], row["station_key"]) for row in found]
    more = keys[limit - 1] if len(keys) > limit else None
    return bucket_rows(connection, part.trace_id, keys[:limit], metrics), more


def bucket_rows(
    connection: psycopg.Connection,
    trace_id: str,
    keys: Sequence[BucketKey],
    metrics: Sequence[str] | None,
) -> list[Row]:
    """Return these buckets of a call, each with all that there is of it."""
    if not keys:
        return []
    times = [at for at, _ in keys]
    parameters = {
        "trace_id": trace_id,
        "first": min(times),
        "last": max(times),
        "stations": list({station for _, station in keys}),
        "metrics": None if metrics is None else [*metrics, _SCORE],
    }
    buckets = {
        key: {"bucket_ts": key[0], "station_key": key[1], "knobs": {}, "changed": [], "taps": {}}
        for key in keys
    }
    _add_knobs(buckets, fetch(connection, _PAGE_KNOBS, parameters))
    _add_taps(buckets, fetch(connection, _PAGE_TAPS, parameters), trace_id)
    _add_metrics(buckets, fetch(connection, _PAGE_METRICS, parameters), metrics)
    _add_gaps(buckets, fetch(connection, _PAGE_GAPS, parameters))
    return list(buckets.values())


def series(connection: psycopg.Connection, part: Part, metrics: Sequence[str]) -> Row | None:
    """Return tracks for drawing, None where a value is unknown; None for an unknown call."""
    parameters = part.parameters(connection)
    if parameters is None:
        return None
    grid = [row["bucket_ts"] for row in fetch(connection, _GRID, parameters)]
    column = {int(at.timestamp()): number for number, at in enumerate(grid)}
    tracks: Row = {
        tap: {key: {name: [None] * len(grid) for name in ("avg", "min", "max")} for key in metrics}
        for tap in Tap
    }
    for row in fetch(connection, _SERIES, parameters | {"metrics": list(metrics)}):
        for name, values in tracks[row["tap"]][row["metric_key"]].items():
            for start, value in zip(row["starts"], row[name], strict=True):
                if start in column:
                    values[column[start]] = value
    return {"station_key": part.station, "bucket_ts": grid, **tracks}


def gaps(connection: psycopg.Connection, part: Part) -> list[Row] | None:
    """Return the gaps of a call in order of time, loss and others; None for an unknown call."""
    parameters = part.parameters(connection)
    return None if parameters is None else fetch(connection, _GAPS, parameters)


def snapshots(
    connection: psycopg.Connection, part: Part, *, limit: int, after: BucketKey | None
) -> tuple[list[Row], BucketKey | None] | None:
    """Return a page of knob snapshots and the next page's key; None for an unknown call."""
    parameters = part.parameters(connection)
    if parameters is None:
        return None
    at, key = after or (None, None)
    found = fetch(connection, _SNAPSHOTS, parameters | {"at": at, "key": key, "limit": limit + 1})
    rows = found[:limit]
    more = (rows[-1]["bucket_ts"], rows[-1]["station_key"]) if len(found) > limit else None
    return rows, more


def first_station(connection: psycopg.Connection, trace_id: str) -> str | None:
    """Return the first of a call's stations by name, None when it has none."""
    query = "SELECT stations[1] AS station FROM call_totals WHERE trace_id = %(trace_id)s"
    row = fetch_one(connection, query, {"trace_id": trace_id})
    return row["station"] if row else None


def audio_address(trace_id: str, station: str, tap: str, bucket_ts: datetime) -> str:
    """Return the path at which the sound of a bucket is heard."""
    return f"/audio/{trace_id}/{station}/{tap}/{int(bucket_ts.timestamp() * 1_000)}.wav"


Buckets = dict[BucketKey, Row]


def _add_knobs(buckets: Buckets, rows: Iterable[Row]) -> None:
    for row in rows:
        bucket = buckets.get((row["bucket_ts"], row["station_key"]))
        if bucket:
            bucket |= {"knobs": row["knob_values"], "changed": row["changed"]}


def _add_taps(buckets: Buckets, rows: Iterable[Row], trace_id: str) -> None:
    for row in rows:
        key = at, station = row["bucket_ts"], row["station_key"]
        if key in buckets:
            address = audio_address(trace_id, station, row["tap"], at)
            buckets[key]["taps"][row["tap"]] = {
                "metrics": {},
                "gaps": [],
                "health": {"score": None, "costs": row["costs"]},
                "due_samples": row["due_samples"],
                "received_samples": row["received_samples"],
                "audio": address if row["is_heard"] else None,
            }


def _add_metrics(buckets: Buckets, rows: Iterable[Row], metrics: Sequence[str] | None) -> None:
    for row in rows:
        tap = _tap(buckets, row)
        if tap is None:
            continue
        if row["metric_key"] == _SCORE:
            tap["health"]["score"] = row["last"]
        if metrics is None or row["metric_key"] in metrics:
            tap["metrics"][row["metric_key"]] = {name: row[name] for name in _NUMBERS}


def _add_gaps(buckets: Buckets, rows: Iterable[Row]) -> None:
    for row in rows:
        tap = _tap(buckets, row)
        if tap is not None:
            names = ("first_sample", "samples", "cause", "is_loss")
            tap["gaps"].append({name: row[name] for name in names})


def _tap(buckets: Buckets, row: Row) -> Row | None:
    bucket = buckets.get((row["bucket_ts"], row["station_key"]))
    found: Row | None = bucket["taps"].get(row["tap"]) if bucket else None
    return found

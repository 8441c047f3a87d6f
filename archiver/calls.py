"""The SQL behind the list of calls: newest, worst, running, and one call in detail.

Only a page's calls are looked at closely, and the times of a call bound every look into the tables
of buckets: the first page costs the same with a thousand calls and with a million.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

import psycopg
from psycopg.rows import dict_row

from archiver.pool import Row, fetch, fetch_one
from archiver.times import BUCKET, SLACK

RUNNING_WITHIN = timedelta(minutes=2)
WORST_WITHIN = timedelta(hours=24)
MOST_WALKED = 50_000
_CHUNK = 500

NewestKey = tuple[datetime, str]
WorstKey = tuple[float, datetime, str]


@dataclass(frozen=True, slots=True)
class CallFilter:
    """Which calls; None does not restrict.

    Attributes:
        since: Calls that ran at this time or later.
        until: Calls that began before.
        text: Part of trace id, call id, extension or attributes, in any case.
        extension: Who calls or is called.
        station: A station that the call passed.
        masked_text: What stands for the text, when it is a phone number.
        masked_extension: What stands for the extension, when it is one.
    """

    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None
    extension: str | None = None
    station: str | None = None
    masked_text: str | None = None
    masked_extension: str | None = None

    def parameters(self) -> Row:
        """Return the values for ``_MATCHES``."""
        escaped = (self.text or "").translate({ord(sign): f"\\{sign}" for sign in "\\%_"})
        return asdict(self) | {"text": f"%{escaped}%" if self.text else None}


_OF_CALL = """bucket_ts >= t.started_at - interval '10 minutes'
    AND bucket_ts <= coalesce(t.ended_at, now()) + interval '10 minutes'"""
_MATCHES = """
    (%(since)s::timestamptz IS NULL OR coalesce(t.ended_at, 'infinity') >= %(since)s)
    AND (%(until)s::timestamptz IS NULL OR t.started_at < %(until)s)
    AND (%(extension)s::text IS NULL OR %(extension)s IN (t.src_extension, t.dst_extension)
        OR %(masked_extension)s IN (t.src_extension, t.dst_extension))
    AND (%(text)s::text IS NULL OR concat_ws(
        ' ', t.trace_id, t.call_id, t.src_extension, t.dst_extension, t.attributes::text
    ) ILIKE %(text)s OR %(masked_text)s IN (t.src_extension, t.dst_extension))
    AND (%(station)s::text IS NULL OR EXISTS (
        SELECT FROM call_totals s
        WHERE s.trace_id = t.trace_id AND s.stations @> ARRAY[%(station)s::text]
    ))
"""
_NEWEST = f"""
SELECT t.trace_id, t.started_at FROM traces t WHERE {_MATCHES}
    AND (%(at)s::timestamptz IS NULL OR (t.started_at, t.trace_id) < (%(at)s, %(id)s::text))
ORDER BY t.started_at DESC, t.trace_id DESC LIMIT %(limit)s
"""  # noqa: S608 - constants of this module
_RUNNING = """
SELECT t.trace_id FROM traces t JOIN call_totals s USING (trace_id)
WHERE t.ended_at IS NULL AND s.last_ts >= %(since)s
ORDER BY t.started_at DESC, t.trace_id DESC LIMIT 1000
"""
_IN_WINDOW = """score IS NOT NULL AND bucket_ts >= %(since)s AND bucket_ts < %(until)s
    AND (%(station)s::text IS NULL OR station_key = %(station)s)"""
# The partial index tap_buckets_5s_worst has this order; a cursor reads as much of it as is needed.
_WALK = f"""
SELECT score, bucket_ts, trace_id, station_key, tap FROM tap_buckets_5s
WHERE {_IN_WINDOW} AND (%(score)s::float8 IS NULL OR score >= %(score)s AND (
    score > %(score)s OR bucket_ts < %(at)s OR (bucket_ts = %(at)s AND trace_id > %(id)s)))
ORDER BY score, bucket_ts DESC, trace_id
"""  # noqa: S608 - constants of this module
# Of calls whose turn it seems to be: those that match and were on no earlier page.
_TURN = f"""
SELECT t.trace_id FROM traces t WHERE t.trace_id = ANY(%(ids)s) AND {_MATCHES}
    AND (%(score)s::float8 IS NULL OR NOT EXISTS (
        SELECT FROM tap_buckets_5s
        WHERE trace_id = t.trace_id AND {_IN_WINDOW} AND {_OF_CALL} AND score <= %(score)s AND (
            score < %(score)s OR bucket_ts > %(at)s
            OR (bucket_ts = %(at)s AND trace_id <= %(id)s))
    ))
"""  # noqa: S608 - constants of this module
_TAPS = """
SELECT station_key, tap, max(sample_rate_hz) AS rate, min(bucket_ts) AS first_ts,
    max(bucket_ts) + interval '5 seconds' AS last_ts, count(*) AS buckets,
    sum(due_samples)::bigint AS due,
    (SELECT count(*) FROM audio_segments_5s a
     WHERE (a.trace_id, a.station_key, a.tap) = (%(trace_id)s, b.station_key, b.tap)
     AND a.bucket_ts BETWEEN %(since)s AND %(until)s) AS segments,
    (SELECT coalesce(sum(samples), 0)::bigint FROM v_gaps g
     WHERE (g.trace_id, g.station_key, g.tap) = (%(trace_id)s, b.station_key, b.tap)
     AND g.is_loss) AS lost
FROM tap_buckets_5s b
WHERE trace_id = %(trace_id)s AND bucket_ts BETWEEN %(since)s AND %(until)s
GROUP BY station_key, tap ORDER BY station_key, tap DESC
"""
_AUDIO = """
SELECT min(bucket_ts) AS first_ts, max(bucket_ts) + interval '5 seconds' AS last_ts
FROM audio_segments_5s
WHERE trace_id = %(trace_id)s AND bucket_ts BETWEEN %(since)s AND %(until)s
"""
# From key to key along the index, instead of over all rows of the call.
_METRICS = """
WITH RECURSIVE keys AS (
    SELECT p.station_key, p.tap, '' AS metric_key
    FROM unnest(%(stations)s::text[], %(taps)s::text[]) AS p (station_key, tap)
    UNION ALL
    SELECT k.station_key, k.tap, (
        SELECT m.metric_key FROM metrics_agg_5s m
        WHERE (m.trace_id, m.station_key, m.tap) = (%(trace_id)s, k.station_key, k.tap)
            AND m.metric_key > k.metric_key AND m.bucket_ts BETWEEN %(since)s AND %(until)s
        ORDER BY m.metric_key LIMIT 1)
    FROM keys k WHERE k.metric_key IS NOT NULL
)
SELECT DISTINCT metric_key FROM keys WHERE metric_key <> '' ORDER BY metric_key
"""


def newest(
    connection: psycopg.Connection, wanted: CallFilter, *, limit: int, after: NewestKey | None
) -> tuple[list[Row], NewestKey | None]:
    """Return a page of calls, the newest first, and the key after which the next page begins."""
    at, last_id = after or (None, None)
    keys = {"at": at, "id": last_id, "limit": limit + 1}
    found = fetch(connection, _NEWEST, wanted.parameters() | keys)
    page = found[:limit]
    more = (page[-1]["started_at"], page[-1]["trace_id"]) if len(found) > limit else None
    return details(connection, [row["trace_id"] for row in page]), more


def worst(
    connection: psycopg.Connection,
    wanted: CallFilter,
    *,
    now: datetime,
    limit: int,
    after: WorstKey | None,
) -> tuple[list[Row], WorstKey | None]:
    """Return a page of calls by the score of their worst bucket in the time that is asked for.

    Without ``since`` these are the 24 hours before ``until``. A call without a score is not there.
    """
    until = wanted.until or now + BUCKET
    score, at, last_id = after or (None, None, None)
    parameters = wanted.parameters() | {"score": score, "at": at, "id": last_id}
    parameters |= {"until": until, "since": wanted.since or until - WORST_WITHIN}
    page, more = _worst_keys(connection, parameters, limit)
    calls = details(connection, list(page))
    for call in calls:
        # The worst bucket of this time and station, by which the page is in order.
        entry = page[call["trace_id"]]
        call["worst"] = _worst_of(entry["score"], entry["bucket_ts"], entry)
    return calls, more


def running(connection: psycopg.Connection, now: datetime) -> list[Row]:
    """Return the calls that have not ended and have a bucket within the last two minutes."""
    found = fetch(connection, _RUNNING, {"since": now - RUNNING_WITHIN})
    return details(connection, [row["trace_id"] for row in found])


def details(connection: psycopg.Connection, trace_ids: Sequence[str]) -> list[Row]:
    """Return the calls of these ids, in this order; unknown ids are left out."""
    found = fetch(
        connection, "SELECT * FROM call_list WHERE trace_id = ANY(%(ids)s)", {"ids": trace_ids}
    )
    by_id = {row["trace_id"]: _item(row) for row in found}
    return [by_id[trace_id] for trace_id in trace_ids if trace_id in by_id]


def one(connection: psycopg.Connection, trace_id: str) -> Row | None:
    """Return one call with its stations, taps and metrics; None when it is unknown."""
    bounds = time_bounds(connection, trace_id)
    if bounds is None:
        return None
    taps = fetch(connection, _TAPS, bounds)
    pairs = {
        "stations": [tap["station_key"] for tap in taps],
        "taps": [tap["tap"] for tap in taps],
    }
    metrics = fetch(connection, _METRICS, bounds | pairs)
    stations: dict[str, list[Row]] = {}
    for tap in taps:
        due, lost = tap.pop("due"), tap.pop("lost")
        tap["loss_ratio"] = lost / due if due else None
        stations.setdefault(tap.pop("station_key"), []).append(tap)
    return {
        **details(connection, [trace_id])[0],
        "stations": [{"station_key": key, "taps": found} for key, found in stations.items()],
        **(fetch_one(connection, _AUDIO, bounds) or {}),
        "metrics": [row["metric_key"] for row in metrics],
    }


def time_bounds(connection: psycopg.Connection, trace_id: str) -> Row | None:
    """Return the times between which the buckets of a call lie; None when it is unknown.

    Returns:
        ``trace_id``, ``since`` and ``until``, the parameters of this package's queries.
    """
    return fetch_one(
        connection,
        "SELECT trace_id, started_at - %(slack)s AS since, "
        "coalesce(ended_at, now()) + %(slack)s AS until "
        "FROM traces WHERE trace_id = %(trace_id)s",
        {"trace_id": trace_id, "slack": SLACK},
    )


def _worst_keys(
    connection: psycopg.Connection, parameters: Row, limit: int
) -> tuple[dict[str, Row], WorstKey | None]:
    """Walk from the worst bucket on until there are enough calls."""
    page: dict[str, Row] = {}
    seen: set[str] = set()
    walked = 0
    for chunk in _walk(connection, parameters):
        walked += len(chunk)
        ids = list({entry["trace_id"] for entry in chunk} - seen)
        seen |= set(ids)
        matching = {row["trace_id"] for row in fetch(connection, _TURN, parameters | {"ids": ids})}
        for entry in chunk:
            if entry["trace_id"] in matching and entry["trace_id"] not in page:
                if len(page) == limit:
                    return page, _worst_key(next(reversed(page.values())))
                page[entry["trace_id"]] = entry
        if walked >= MOST_WALKED:
            return page, _worst_key(chunk[-1])
    return page, None


def _walk(connection: psycopg.Connection, parameters: Row) -> Iterator[list[Row]]:
    with connection.cursor("walk", row_factory=dict_row) as cursor:
        cursor.execute(_WALK.encode(), parameters)
        while chunk := cursor.fetchmany(_CHUNK):
            yield chunk


def _worst_key(entry: Row) -> WorstKey:
    return entry["score"], entry["bucket_ts"], entry["trace_id"]


def _item(row: Row) -> Row:
    """Return a call as the API shows it."""
    names = (
        *("trace_id", "call_id", "started_at", "ended_at", "end_reason", "length_s"),
        *("src_extension", "dst_extension", "attributes", "stations", "health", "loss_ratio"),
    )
    place = {"station_key": row["worst_station_key"], "tap": row["worst_tap"]}
    return {name: row[name] for name in names} | {
        "lost_samples": int(row["lost_samples"]),
        "worst": _worst_of(row["worst_score"], row["worst_bucket_ts"], place),
    }


def _worst_of(score: float | None, bucket_ts: datetime, place: Row) -> Row | None:
    if score is None:
        return None
    station, tap = place["station_key"], place["tap"]
    return {"score": score, "bucket_ts": bucket_ts, "station_key": station, "tap": tap}

"""An archive of three days as it would be after a busy time: calls, aggregates, knobs, gaps.

PostgreSQL makes the rows itself, hour by hour, in the order in which batches would bring them.
A tenth of the calls are bad: what is wrong is in their numbers as well as in their health.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg

from exporter.knobs import shipped_registry
from exporter.metrics import METRICS

STATIONS = ("St_3_3333", "St_3_4444")
TAPS = ("PRE", "POST")
SHORTEST_S, LONGEST_S = 180, 480
BUCKETS_A_CALL = (SHORTEST_S + LONGEST_S) / 2 / 5
# Lowest and highest value of what panels compare; the others lie within their metric's range.
_RANGES = {
    "pcm.rms_dbfs": (-60.0, -15.0),
    "pcm.active_level_dbfs": (-32.0, -20.0),
    "pcm.speech_ratio": (0.0, 0.9),
    "pcm.clipping_ratio": (0.0, 0.0004),
    "pcm.snr_estimate": (18.0, 40.0),
    "pipe.processing_latency_ms": (0.1, 3.0),
    "pair.speech_lost_ratio": (0.0, 0.01),
    "pair.limited_ratio": (0.0, 0.01),
}


@dataclass(frozen=True, slots=True)
class Seeded:
    """What was made.

    Attributes:
        start: Begin of the first hour.
        end: End of the last one.
        aggregates: Rows of ``metrics_agg_5s``.
        calls: Rows of ``traces``.
    """

    start: datetime
    end: datetime
    aggregates: int
    calls: int


_CALLS = """
CREATE TABLE seed_calls AS
SELECT 'seed_' || n AS trace_id, n, began AS started_at,
       began + make_interval(secs => %(short)s + random() * %(longer)s) AS ended_at,
       (random() < 0.1) AS is_bad,
       CASE WHEN random() < 0.25 THEN 0.3 + 0.4 * random() END AS turned_at
FROM (
    SELECT n, %(start)s::timestamptz + make_interval(secs => random() * %(seconds)s) AS began
    FROM generate_series(1, %(calls)s) n
) each;
CREATE INDEX ON seed_calls (started_at);
INSERT INTO traces (trace_id, started_at, ended_at, src_extension, dst_extension, end_reason,
                    attributes)
SELECT trace_id, started_at, ended_at, (3300 + n %% 90)::text, (4400 + n %% 90)::text, 'host',
       '{"lang": "en-fr"}'
FROM seed_calls;
CREATE TABLE seed_keys AS
SELECT * FROM unnest(%(keys)s::text[], %(low)s::float8[], %(high)s::float8[], %(is_pair)s::bool[])
    AS k (metric_key, low, high, is_pair);
CREATE TABLE seed_knobs AS SELECT %(knobs)s::jsonb AS held;
INSERT INTO knob_events (event_id, trace_id, station_key, knob_key, old_value, new_value,
                         changed_by, created_at, counts_from, reason, scope)
SELECT gen_random_uuid(), trace_id, 'St_3_3333', 'pcm.input_gain_db', '0', '6', 'alice',
       started_at + turned_at * (ended_at - started_at),
       started_at + turned_at * (ended_at - started_at), 'too quiet', 'trace_station'
FROM seed_calls WHERE turned_at IS NOT NULL;
INSERT INTO knob_events (event_id, station_key, knob_key, old_value, new_value, changed_by,
                         created_at, reason, scope)
SELECT gen_random_uuid(), 'St_3_4444', 'limiter.threshold_dbfs', '-3', '-6', 'bob',
       %(start)s::timestamptz + make_interval(secs => random() * %(seconds)s), 'peaks', 'station'
FROM generate_series(1, 20);
INSERT INTO applied_batches (batch_id, boot_id, seq, records, samples, cum_offered, cum_dropped,
                             applied_at)
SELECT gen_random_uuid(), 'seed-boot', n, 8, 640000, n::bigint * 640000, 0,
       %(start)s::timestamptz + make_interval(secs => n)
FROM generate_series(1, %(seconds)s::int) n
"""

_TAPS = """
CREATE TEMP TABLE due ON COMMIT DROP AS
SELECT *, greatest(0, 100 - coalesce((health ->> 'lost_speech')::float8, 0)
                      - coalesce((health ->> 'clipping')::float8, 0)
                      - coalesce((health ->> 'noise')::float8, 0)) AS score
FROM (
    SELECT c.trace_id, s.station_key, t.tap, b.bucket_ts, c.is_bad, c.started_at, c.ended_at,
           c.turned_at, random() AS luck,
           c.started_at + c.turned_at * (c.ended_at - c.started_at) AS turned_ts,
           CASE WHEN c.is_bad AND t.tap = 'POST' AND random() < 0.5
                    THEN jsonb_build_object('lost_speech', 20 + round(random() * 30),
                                            'clipping', round(random() * 25))
                WHEN random() < 0.2 THEN jsonb_build_object('noise', round(random() * 15))
                ELSE '{}' END AS health
    FROM seed_calls c
    CROSS JOIN LATERAL generate_series(
        date_bin('5 seconds', greatest(c.started_at, %(hour)s), 'epoch'),
        least(c.ended_at, %(hour)s + interval '1 hour' - interval '1 microsecond'), '5 seconds'
    ) AS b (bucket_ts)
    CROSS JOIN unnest(%(stations)s::text[]) AS s (station_key)
    CROSS JOIN unnest(ARRAY['PRE', 'POST']) AS t (tap)
    WHERE c.started_at BETWEEN %(hour)s - interval '10 minutes' AND %(hour)s + interval '1 hour'
      AND b.bucket_ts >= %(hour)s
) each
"""

_ROWS = (
    """
INSERT INTO tap_buckets_5s (trace_id, station_key, tap, bucket_ts, sample_rate_hz, due_samples,
                            received_samples, ranges, health, score)
SELECT trace_id, station_key, tap, bucket_ts, 16000, 80000,
       80000 - CASE WHEN luck < 0.002 THEN 1600 ELSE 0 END, '{[0,80000)}', health, score
FROM due ORDER BY bucket_ts, trace_id, station_key, tap
""",
    """
INSERT INTO gaps (trace_id, station_key, tap, bucket_ts, first_sample, samples, cause)
SELECT trace_id, station_key, tap, bucket_ts, 16000, 1600,
       CASE WHEN luck < 0.001 THEN 'not_received' ELSE 'hold' END
FROM due WHERE luck < 0.002
""",
    """
INSERT INTO audio_segments_5s (trace_id, station_key, tap, bucket_ts, sample_rate_hz, file_path,
    first_sample, due_samples, received_samples, file_bytes, sha256, written_at)
SELECT trace_id, station_key, tap, bucket_ts, 16000,
       to_char(bucket_ts, 'YYYY-MM-DD') || '/' || trace_id || '/' || station_key || '/' || tap
           || '/segment_' || (extract(epoch FROM bucket_ts) * 1000)::bigint || '.wav',
       0, 80000, 80000, 160044, repeat('0', 64), bucket_ts
FROM due ORDER BY bucket_ts, trace_id, station_key, tap
""",
    """
INSERT INTO knob_snapshots_5s (trace_id, station_key, bucket_ts, knob_values, changed)
SELECT trace_id, station_key, bucket_ts,
       held || CASE WHEN station_key = 'St_3_3333' AND turned_ts < bucket_ts
                    THEN '{"pcm.input_gain_db": 6}'::jsonb ELSE '{}' END,
       CASE WHEN station_key = 'St_3_3333' AND turned_ts >= bucket_ts
                 AND turned_ts < bucket_ts + interval '5 seconds'
            THEN '[{"knob_key": "pcm.input_gain_db", "old": 0, "new": 6, "sample": 100}]'::jsonb
            ELSE '[]' END
FROM due CROSS JOIN seed_knobs WHERE tap = 'PRE' ORDER BY bucket_ts, trace_id, station_key
""",
    """
INSERT INTO metrics_agg_5s (trace_id, station_key, tap, metric_key, bucket_ts, count, min, max, sum,
                            avg, last, last_ts)
SELECT trace_id, station_key, tap, metric_key, bucket_ts, 250, mean - width, mean + width,
       250 * mean, mean, mean, bucket_ts + interval '4.98 seconds'
FROM (
    SELECT d.trace_id, d.station_key, d.tap, k.metric_key, d.bucket_ts,
           (k.high - k.low) * 0.05 AS width,
           CASE WHEN k.metric_key = 'health.audio_score' THEN d.score
                WHEN k.metric_key = 'pair.speech_lost_ratio' AND d.health ? 'lost_speech'
                THEN (d.health ->> 'lost_speech')::float8 / 250
                ELSE k.low + (k.high - k.low) * random() END AS mean
    FROM due d CROSS JOIN seed_keys k
    WHERE d.tap = 'POST' OR NOT k.is_pair
) each
ORDER BY bucket_ts, trace_id, station_key, tap, metric_key
""",
)


def seed(
    conninfo: str,
    *,
    aggregates: int = 20_000_000,
    hours: int = 72,
    report: Callable[[float], None] = lambda _: None,
) -> Seeded:
    """Fill an empty archive.

    Args:
        conninfo: A database with the schema and nothing in it.
        aggregates: About how many rows of metrics.
        hours: How long the time is; it ends now.
        report: Told the share that is done.
    """
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    start = end - timedelta(hours=hours)
    # The calls end a little before now, as they would while the last ones run.
    seconds = (datetime.now(UTC) - start).total_seconds() - LONGEST_S
    pairs = sum(metric.is_pair for metric in METRICS)
    a_bucket = len(STATIONS) * (2 * len(METRICS) - pairs)
    calls = max(1, round(aggregates / a_bucket / BUCKETS_A_CALL))
    _begin(conninfo, start, seconds=seconds, calls=calls)
    slots = [start + timedelta(hours=number) for number in range(hours)]
    done = itertools.count(1)

    def fill(part: list[datetime]) -> None:
        for hour in part:
            _fill_hour(conninfo, hour)
            report(next(done) / hours)

    # Two ends of the time: hours beside each other would wait for the totals of the same calls.
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(fill, (slots[: hours // 2], slots[hours // 2 :])))
    return _end(conninfo, start, calls)


def _begin(conninfo: str, start: datetime, *, seconds: float, calls: int) -> None:
    spans = {
        metric.key: _RANGES.get(metric.key) or _range(metric.low, metric.high) for metric in METRICS
    }
    values = {
        "start": start,
        "seconds": int(seconds),
        "calls": calls,
        "short": SHORTEST_S,
        "longer": LONGEST_S - SHORTEST_S,
        "keys": list(spans),
        "low": [float(low) for low, _ in spans.values()],
        "high": [float(high) for _, high in spans.values()],
        "is_pair": [metric.is_pair for metric in METRICS],
        "knobs": json.dumps(shipped_registry().defaults()),
    }
    # Several statements in one go: the client fills the values in.
    factory = psycopg.ClientCursor
    with psycopg.connect(conninfo, cursor_factory=factory) as connection:
        connection.execute("SELECT setseed(0.5)")
        connection.execute(_CALLS.encode(), values)


def _range(low: float, high: float) -> tuple[float, float]:
    return max(low, -1e3), min(high, 1e3)


def _fill_hour(conninfo: str, hour: datetime) -> None:
    values = {"hour": hour, "stations": list(STATIONS)}
    with psycopg.connect(conninfo) as connection:
        connection.execute("SET synchronous_commit = off")
        connection.execute("SET work_mem = '256MB'")
        connection.execute("SELECT ensure_partitions(ARRAY[%(hour)s::timestamptz])", values)
        connection.commit()
        connection.execute(_TAPS.encode(), values)
        for statement in _ROWS:
            connection.execute(statement.encode())


def _end(conninfo: str, start: datetime, calls: int) -> Seeded:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("DROP TABLE seed_calls, seed_keys, seed_knobs")
        # What autovacuum would have done hour by hour.
        connection.execute("VACUUM (ANALYZE)")
        row = connection.execute("SELECT count(*) FROM metrics_agg_5s").fetchone()
    return Seeded(start, datetime.now(UTC), int(row[0]) if row else 0, calls)

"""A call of an hour, brought into an archive as a host would bring it: rows and sound."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from archiver import Archiver
from archiver.times import BUCKET, bucket_start
from benchmarks.speech import speech
from exporter.aggregates import Aggregates
from exporter.config import Settings
from exporter.knobs import shipped_registry
from exporter.metrics import METRICS, Metric
from exporter.model import (
    BUCKET_NS,
    BUCKET_SECONDS,
    Bucket,
    Cause,
    EndReason,
    Gap,
    KnobChanged,
    Run,
    Scope,
    Tap,
    TapBucket,
    TraceEnded,
    TraceStarted,
)

TRACE_ID = "bench_hour"
STATIONS = ("St_3_3333", "St_3_4444")
RATE = 16_000
BUCKETS = 720
_SIZE = BUCKET_SECONDS * RATE
_AT_ONCE = 24
_FLUSH_S = 120.0


def play_call(settings: Settings, buckets: int = BUCKETS) -> None:
    """Archive the call, of an hour unless it is told otherwise; it ended half an hour ago.

    Raises:
        RuntimeError: The archive did not take it in time.
    """
    archive = Archiver(settings, has_retention=False)
    archive.start()
    try:
        _offer(archive, buckets)
    finally:
        archive.stop(timeout=5.0)


def _offer(archive: Archiver, buckets: int) -> None:
    start = bucket_start(datetime.now(UTC) - timedelta(minutes=30)) - buckets * BUCKET
    start_ns = int(start.timestamp()) * 10**9
    archive.offer(TraceStarted(TRACE_ID, start_ns, "3333", "4444", RATE))
    chance, pre = np.random.default_rng(1), speech(RATE)
    for number in range(buckets):
        at = start_ns + number * BUCKET_NS
        if number % 60 == 30:
            archive.offer(_turned(at, number))
        for station in STATIONS:
            archive.offer(_bucket(station, number, at, chance, pre))
        if number % _AT_ONCE == 0 and not archive.flush(_FLUSH_S):
            raise RuntimeError("the archive does not take the buckets of the long call")
    archive.offer(TraceEnded(TRACE_ID, start_ns + buckets * BUCKET_NS, EndReason.HOST))
    if not archive.flush(_FLUSH_S):
        raise RuntimeError("the archive does not take the long call")


def _turned(at: int, number: int) -> KnobChanged:
    scope, key = Scope.TRACE_STATION, "pcm.input_gain_db"
    event_id = f"00000000-0000-4000-8000-{number:012d}"
    where = (TRACE_ID, STATIONS[0])
    return KnobChanged(event_id, key, 0.0, 3.0, "alice", "too quiet", scope, at, *where, at)


def _bucket(
    station: str, number: int, at: int, chance: np.random.Generator, voice: np.ndarray
) -> Bucket:
    # Each bucket begins at another place of the speech, so that no two are alike.
    heard = np.take(voice, np.arange(_SIZE) + number * 7_919, mode="wrap")
    taps = tuple(
        _tap(tap, (heard * gain).astype("<i2"), at, chance, has_gap=number % 50 == 20)
        for tap, gain in ((Tap.PRE, 0.5), (Tap.POST, 1.0))
    )
    return Bucket(TRACE_ID, station, at, taps, shipped_registry().defaults())


def _tap(
    tap: Tap, samples: np.ndarray, at: int, chance: np.random.Generator, *, has_gap: bool
) -> TapBucket:
    values = {
        metric.key: _value(metric, chance)
        for metric in METRICS
        if tap is Tap.POST or not metric.is_pair
    }
    first = RATE if has_gap else 0
    runs = (Run(first, samples[first:].tobytes()),)
    gaps = (Gap(0, first, Cause.NOT_RECEIVED),) if has_gap else ()
    return TapBucket(tap, RATE, 0, _SIZE, runs, gaps, Aggregates.of_values(values, at))


def _value(metric: Metric, chance: np.random.Generator) -> float:
    low = max(metric.low, -1e3)
    return float(chance.uniform(low, min(metric.high, low + 1e3)))

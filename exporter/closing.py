"""Closing buckets: when nothing more can come, sum up, show, and hand on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping

from exporter.aggregates import NONE
from exporter.breath import Breath
from exporter.closed import ClosedTap
from exporter.health import Weight
from exporter.live import StationLive
from exporter.model import BUCKET_NS, BUCKET_SECONDS, Bucket, Record, Tap, TapBucket
from exporter.runs import StationRun, TraceRun, steps_of, stretches
from exporter.selfmetrics import Tally
from exporter.summary import compare, summarise, to_tap_bucket
from exporter.timeline import NS
from exporter.track import Track

_log = logging.getLogger(__name__)

_SMALLEST_SHARE = 1 / 16
_RELIEF = 0.75


class Sampling:
    """Which buckets are compared in pairs: all of them, or, under load, a sample.

    Args:
        highest_load: Share of one core above which the sample becomes smaller.
    """

    def __init__(self, highest_load: float) -> None:
        self._highest_load = highest_load
        self._share = 1.0
        self._due = 0.0
        self._cpu_s = 0.0
        self._since_ns: int | None = None

    def spend(self, cpu_s: float, now_ns: int) -> None:
        """Say how much CPU time a pass took; every five seconds the share is set anew."""
        self._cpu_s += cpu_s
        if self._since_ns is None:
            self._since_ns = now_ns
        passed_s = (now_ns - self._since_ns) / NS
        if passed_s < BUCKET_NS / NS:
            return
        load = self._cpu_s / passed_s
        if load > self._highest_load:
            self._share = max(_SMALLEST_SHARE, self._share / 2)
        elif load < _RELIEF * self._highest_load:
            self._share = min(1.0, 2 * self._share)
        self._cpu_s, self._since_ns = 0.0, now_ns

    def take(self) -> bool:
        """Whether the next bucket is in the sample."""
        self._due += self._share
        if self._due < 1.0:
            return False
        self._due -= 1.0
        return True


class Closer:
    """Closes the buckets of stations.

    Args:
        weights: Of the health score.
        silence_dbfs: Frames below are silent.
        sampling: Which buckets are compared in pairs.
        offer: Where closed buckets go.
        tally: The own numbers.
        breath: Lets the audio threads in between.
    """

    def __init__(  # noqa: PLR0913 - what closing needs of the others
        self,
        weights: Mapping[str, Weight],
        silence_dbfs: float,
        *,
        sampling: Sampling,
        offer: Callable[[Record], None],
        tally: Tally,
        breath: Breath,
    ) -> None:
        self._weights = weights
        self._silence_dbfs = silence_dbfs
        self._sampling = sampling
        self._offer = offer
        self._tally = tally
        self._breath = breath
        self.handed_samples = 0

    def close_complete(self, trace: TraceRun, live: Mapping[str, StationLive]) -> None:
        """Close the buckets of a trace that are complete; all of them when it ends."""
        for run in trace.stations.values():
            for bucket in _complete(run.tracks.values(), is_over=trace.ending is not None):
                self._close(run, bucket, live[run.spec.key])
                self._breath.take()

    def _close(self, run: StationRun, bucket: int, live: StationLive) -> None:
        taps = {tap: closed for tap, track in run.tracks.items() if (closed := track.close(bucket))}
        if not taps:
            return
        size = BUCKET_SECONDS * run.spec.rate
        base = bucket * size
        first = base + min(tap.first_sample for tap in taps.values())
        before = [values for position, values in run.turned if position <= first]
        values = before[-1] if before else run.turned[0][1] if run.turned else run.station.knobs
        steps = steps_of(values, [t for t in run.turned if first < t[0] < base + size], base)
        del run.turned[: max(0, len(before) - 1)]
        is_archived = any(
            keep.is_archived for _, _, keep in stretches(run.keeps, base, base + size)
        )
        del run.keeps[: sum(position <= base + size for position, _ in run.keeps) - 1]
        if not is_archived:
            return
        was_unrelated = run.memory.is_unrelated
        summed = self._summed(run, taps)
        if run.memory.is_unrelated and not was_unrelated:
            _tell_unrelated(run)
        record = Bucket(run.trace_id, run.spec.key, bucket * BUCKET_NS, summed, values, steps)
        self.handed_samples += record.received_samples
        for gap in (gap for tap in taps.values() for gap in tap.withheld):
            self._tally.add("samples_dropped_total", gap.cause, by=gap.samples)
        self._tally.set("highest_closed_bucket_timestamp_seconds", bucket * BUCKET_NS / NS)
        self._show(record, live)
        self._offer(record)

    def _summed(self, run: StationRun, taps: dict[Tap, ClosedTap]) -> tuple[TapBucket, ...]:
        """Sum up a bucket; where that fails, its sound and its gaps are handed on alone."""
        try:
            paired = NONE
            if self._has_pairs(run):
                paired = compare(taps, run.memory, self._silence_dbfs)
            summed: list[TapBucket] = []
            for tap, closed in taps.items():
                self._breath.take()
                of_pair = paired if tap is Tap.POST else NONE
                summed.append(summarise(closed, run.memory, of_pair, self._weights))
            return tuple(summed)
        except Exception:
            self._tally.add("worker_errors_total")
            _log.exception(
                "station %s: a bucket could not be measured; its sound is archived without numbers",
                run.spec.key,
            )
            return tuple(to_tap_bucket(closed, NONE, {}) for closed in taps.values())

    def _has_pairs(self, run: StationRun) -> bool:
        reason = "unrelated" if run.memory.is_unrelated else ""
        if not reason and not self._sampling.take():
            reason = "load"
            if not self._tally.get("pair_buckets_left_out_total", reason):
                _log.warning(
                    "the exporter thread is busy: PRE and POST are compared in a sample of the "
                    "buckets; see monitoring_pair_buckets_left_out_total, or spread the calls "
                    "over more processes"
                )
        if reason:
            self._tally.add("pair_buckets_left_out_total", reason)
        else:
            self._tally.add("pair_buckets_total")
        return not reason

    @staticmethod
    def _show(record: Bucket, live: StationLive) -> None:
        exemplar = (record.trace_id, record.bucket_ns, record.bucket_ns)
        for tap in record.taps:
            live.tap(tap.tap).see_bucket(tap.aggregates, exemplar)


def _complete(tracks: Collection[Track], *, is_over: bool) -> list[int]:
    """Return the buckets of a station to which nothing can be added, oldest first."""
    if is_over:
        for track in tracks:
            track.end()
        return sorted({bucket for track in tracks for bucket in track.open_buckets()})
    limit = min([track.complete_until for track in tracks])
    return sorted({bucket for track in tracks for bucket in track.open_buckets() if bucket < limit})


def _tell_unrelated(run: StationRun) -> None:
    _log.warning(
        "station %s: %s and %s have nothing in common, so that comparing them says nothing; "
        'if POST is other audio made from PRE, declare the station as kind "convert"',
        run.spec.key,
        Tap.PRE,
        Tap.POST,
    )

"""The exporter thread: takes what the taps hold, measures it, and hands closed buckets on.

One pass drains every tap, places the audio, measures all frames of all taps together, and closes
the buckets that are complete. Everything here belongs to this thread alone; hosts reach it through
the tap queues and the inbox.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from exporter.analysis.analyzer import Analyzer
from exporter.analysis.frames import Matrix, Stretch
from exporter.breath import Breath
from exporter.closing import Closer, Sampling
from exporter.config import Settings
from exporter.exposition import Exposition, Page
from exporter.live import Layout, StationLive, TapLive
from exporter.model import (
    SAMPLE_BYTES,
    Archive,
    Clock,
    ConsentChanged,
    EndReason,
    Record,
    SelfSample,
    Tap,
    TraceEnded,
)
from exporter.noting import Noting
from exporter.observing import Observing
from exporter.resolver import KnobResolver
from exporter.runs import StationRun, TraceRun, spans, stretches, take_pending
from exporter.selfmetrics import Tally
from exporter.tap import Drained, Item, laid_in
from exporter.telling import Teller
from exporter.timeline import NS, Event, KeepTurned, Missing, Placed
from exporter.track import Track

_log = logging.getLogger(__name__)

PASS_S = 0.5
Message = TraceRun | StationRun | ConsentChanged | tuple[str, int, EndReason]
"""What hosts leave for the thread: what begins, what was agreed to, what ends, when and why."""


@dataclass(slots=True)
class _Measured:
    """Measurements of one tap in this pass, over all calls.

    Attributes:
        run: Whose frames are the newest.
        position: Where those begin.
        rows: Of all frames.
        shown: Of those that the live gauges have not seen yet.
    """

    run: StationRun
    position: int
    rows: list[Matrix] = field(default_factory=list)
    shown: list[Matrix] = field(default_factory=list)

    def add(self, run: StationRun, stretch: Stretch, rows: Matrix) -> None:
        """Take the measurements of a stretch."""
        self.run, self.position = run, stretch.position
        self.rows.append(rows)
        if stretch.is_live:
            self.shown.append(rows)


class Worker:
    """Owns the timelines, the live numbers and the open buckets.

    Args:
        settings: How much is taken on, and which metrics there are.
        archive: Where closed buckets go, if anywhere.
        resolver: Where knob changes come from.
        clock: Monotonic nanoseconds.
        tally: The own numbers.
        breath: Lets the audio threads in between.
    """

    def __init__(  # noqa: PLR0913 - what a thread needs of the others
        self,
        settings: Settings,
        archive: Archive | None,
        resolver: KnobResolver,
        *,
        clock: Clock,
        tally: Tally,
        breath: Breath,
    ) -> None:
        self.page = Page()
        self.inbox: deque[Message] = deque()
        self.on_ended: deque[str] = deque()
        self.passed_ns = clock()
        limits = settings.limits
        self._limits = limits
        self._observing = Observing(settings.metrics, tally)
        self._archive = archive
        self._resolver = resolver
        self._clock = clock
        self._tally = tally
        self._traces: dict[str, TraceRun] = {}
        self._live: dict[str, StationLive] = {}
        self._layout = Layout(settings.metrics)
        self._exposition = Exposition(
            self._layout, limits.max_series, limits.stale_after_s, breath=breath
        )
        self._analyzer = Analyzer(limits.silence_dbfs, breath)
        self._sampling = Sampling(limits.pair_load)
        self._closer = Closer(
            settings.health,
            limits.silence_dbfs,
            sampling=self._sampling,
            offer=self._offer,
            tally=tally,
            breath=breath,
        )
        self._noting = Noting()
        self._teller = Teller(resolver, self._offer)
        self._breath = breath
        self._offered = 0
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def renew_lock(self) -> None:
        """Take a new lock: in the child of a fork, nobody would release the old one."""
        self._lock = threading.Lock()

    def start(self) -> None:
        """Run passes in a thread of its own."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="monitoring-exporter", daemon=True)
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """End the thread; what is in hand stays in hand."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout)
            self._thread = None

    def step(self) -> None:
        """Run one pass now; used by the thread, by simulated time and by ``flush``.

        What fails is counted and logged; the host, which may be calling, does not feel it.
        """
        with self._lock:
            started, now = time.thread_time(), self._clock()
            try:
                self._pass(now)
            except Exception:
                self._tally.add("worker_errors_total")
                _log.exception("a pass of the exporter thread failed; going on with the next one")
            spent = time.thread_time() - started
            self._sampling.spend(spent, now)
            self._tally.add("worker_passes_total")
            self.passed_ns = now
            self._tally.add("worker_seconds_total", by=spent)

    def render(self, own: list[SelfSample]) -> None:
        """Render the page anew."""
        with self._lock:
            second = self._clock() // NS
            self.page = self._exposition.render(self._live, second, own)
        self._tally.set("series", self.page.series)
        self._tally.set("series_limit", self._limits.max_series)
        if self.page.overflow:
            self._tally.add("series_overflow_total", by=self.page.overflow)

    def accounting(self) -> dict[str, int]:
        """Count samples: offered = open + handed_on + dropped, whatever comes meanwhile."""
        with self._lock:
            waiting = kept = 0
            for trace in self._traces.values():
                for run in trace.stations.values():
                    waiting += run.queued_samples
                    kept += run.kept_samples
                    self._breath.take()
            return {
                "offered": self._offered + waiting,
                "open": waiting + kept,
                "handed_on": self._closer.handed_samples,
                "dropped": int(self._tally.total("samples_dropped_total")),
            }

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.step()
            self._wake.wait(PASS_S)
            self._wake.clear()

    def _pass(self, now: int) -> None:
        while self.inbox:
            self._receive(self.inbox.popleft())
        for trace in self._traces.values():
            self._resolver.tick(now + trace.offset_ns)
            break
        for trace in list(self._traces.values()):
            # Before the timelines see the time: an idle call is over, it is not one long gap.
            self._end_if_idle(trace, now)
            for run in trace.stations.values():
                try:
                    self._drain(run, trace, now)
                except Exception:
                    self._tally.add("worker_errors_total")
                    _log.exception("station %s failed in one pass; going on", run.spec.key)
                self._breath.take()
        self._noting.tell(now // NS)
        self._measure(now // NS)
        self._teller.tell_new(self._traces)
        for trace in list(self._traces.values()):
            self._closer.close_complete(trace, self._live)
            if trace.ending is not None:
                self._end(trace, trace.ending)
        self._tally.set("active_calls", len(self._traces))

    def _receive(self, message: Message) -> None:
        if isinstance(message, ConsentChanged):
            self._offer(message)
        elif isinstance(message, TraceRun):
            self._traces[message.started.trace_id] = message
            self._offer(message.started)
        elif isinstance(message, StationRun):
            trace = self._traces.get(message.trace_id)
            if trace is not None:
                trace.stations[message.spec.key] = message
                self._station_live(message.spec.key).active += 1
        elif message[0] in self._traces:
            self._traces[message[0]].ending = message[1:]

    def _station_live(self, key: str) -> StationLive:
        live = self._live.get(key)
        if live is None:
            live = self._live[key] = StationLive(self._layout)
        return live

    def _drain(self, run: StationRun, trace: TraceRun, now: int) -> None:
        """Place what the two taps of a station hold; POST first, so that its PRE is there."""
        post, post_full = run.station.post_tap.drain()
        pre, pre_full = run.station.pre_tap.drain()
        drained = self._count_offered(run, pre, full=pre_full)
        # After the taps: every block taken off that came after a mark finds it here.
        pre, is_cut = self._within_backlog(run, laid_in(pre, run.take_marks()), drained)
        if pre.arrivals:
            run.last_item_ns = pre.arrivals[-1]
        events = run.stream.feed(pre, full=pre_full or is_cut)
        events += run.stream.settle(now)
        if trace.ending is not None:
            due_until = trace.ending[0] if trace.ending[1] is EndReason.HOST else None
            events += run.stream.finish(due_until)
        followed = run.follower.feed(post, events, full=post_full)
        drained_post = run.follower.offered - run.post_seen
        self._offered += drained_post
        run.post_seen += drained_post
        followed += run.follower.settle(now)
        if trace.ending is not None:
            followed += run.follower.finish()
        run.station.origin_ns = run.stream.origin_ns
        self._count_rejected(run)
        live = self._live[run.spec.key]
        for tap, samples, told in (
            (Tap.PRE, drained, events),
            (Tap.POST, drained_post, followed),
        ):
            self._noting.depth(run.tracks[tap], samples, live.tap(tap))
            self._apply(run, run.tracks[tap], told, live.tap(tap))
        self._glance(run, now // NS)
        self._observing.take(run, trace, live)

    def _glance(self, run: StationRun, second: int) -> None:
        """Show audio that has no place yet; the live gauges do not wait."""
        if not run.stream.fresh:
            return
        fresh = b"".join(run.stream.fresh)
        run.stream.fresh.clear()
        if not run.station.keep.is_measured:
            return
        whole = run.tracks[Tap.PRE].whole_frames(fresh)
        if whole:
            rows = self._analyzer.glance(whole, run.spec.rate)
            self._live[run.spec.key].tap(Tap.PRE).see_frames(rows, second)

    def _count_offered(self, run: StationRun, pre: Drained, *, full: bool) -> int:
        """Count what was offered at PRE, with what its queue had no room for.

        Returns:
            Samples of audio that were drained.
        """
        if not pre.ends:
            return 0
        offered = pre.ends[-1] - run.pre_seen
        run.pre_seen = pre.ends[-1]
        self._offered += offered
        # The count in the items is exact; only a queue that was full has lost some of them.
        drained = pre.samples if full else offered
        if offered > drained:
            self._drop(offered - drained, "overrun")
        return drained

    def _within_backlog(
        self, run: StationRun, drained: Drained, waiting: int
    ) -> tuple[Drained, bool]:
        """Leave out the oldest audio beyond the backlog that is allowed."""
        limit = int(self._limits.max_backlog_s * run.spec.rate)
        if waiting <= limit:
            return drained, False
        kept: list[Item] = []
        for item in drained.items():
            if waiting > limit and isinstance(item[2], bytes):
                samples = len(item[2]) // SAMPLE_BYTES
                waiting -= samples
                self._drop(samples, "overrun")
            else:
                kept.append(item)
        return Drained.of(kept), len(kept) < len(drained.ends)

    def _apply(self, run: StationRun, track: Track, events: list[Event], live: TapLive) -> None:
        for event in events:
            if isinstance(event, Placed):
                self._apply_audio(run, track, event, live)
                self._noting.latencies(run, track, event, live)
            elif isinstance(event, Missing):
                end = event.position + event.samples
                for start, stop, keep in stretches(run.keeps, event.position, end):
                    cause = event.cause if keep.is_measured else keep.cause
                    track.miss(start, stop - start, cause)
                    live.count_missing(stop - start, cause)
            elif isinstance(event, KeepTurned):
                run.keeps.append((event.position, event.keep))
            else:
                run.turned.append((event.position, event.values))
                self._teller.tell_counting(run, event)

    def _apply_audio(self, run: StationRun, track: Track, event: Placed, live: TapLive) -> None:
        """Record and cut audio, as far as the call and the monitoring knobs in force allow."""
        turned = run.turned or [(-1, run.station.knobs)]
        for start, kept, keep in spans(run.keeps, event.position, event.pcm):
            for position, pcm, values in spans(turned, start, kept):
                use = run.use_of(track.tap, keep, values)
                samples = len(pcm) // SAMPLE_BYTES
                if use.is_kept:
                    live.count_audio(samples)
                else:
                    live.count_missing(samples, use.cause)
                if use.is_heard:
                    track.record(position, pcm, withheld=None if use.is_kept else use.cause)
                else:
                    track.miss(position, samples, use.cause)
                    self._drop(samples, use.cause)
                if use.is_measured:
                    is_live, has_spectrum = not event.held, use.has_spectrum
                    track.cut(position, pcm, is_live=is_live, has_spectrum=has_spectrum)
        track.see_blocks(event)

    def _measure(self, second: int) -> None:
        """Measure the frames of all taps together; let all traces of a tap count in one go."""
        runs, tracks, waiting = take_pending(self._traces.values())
        found = self._analyzer.measure(waiting)
        measured: dict[TapLive, _Measured] = {}
        for run, track, stretch, rows in zip(runs, tracks, waiting, found, strict=True):
            self._breath.take()
            track.measured(stretch, rows)
            live = self._live[run.spec.key].tap(track.tap)
            of_tap = measured.get(live)
            if of_tap is None:
                of_tap = measured[live] = _Measured(run, stretch.position)
            of_tap.add(run, stretch, rows)
        for live, of_tap in measured.items():
            self._breath.take()
            rows = np.concatenate(of_tap.rows)
            if of_tap.shown:
                is_all = len(of_tap.shown) == len(of_tap.rows)
                live.see_frames(rows if is_all else np.concatenate(of_tap.shown), second)
            exemplar = of_tap.run.exemplar_at(of_tap.position)
            self._breath.take()
            live.count_frames(rows, exemplar, newest=len(of_tap.rows[-1]))

    def _end_if_idle(self, trace: TraceRun, now: int) -> None:
        runs, last = trace.stations.values(), trace.begun_mono
        for run in runs:
            last = max(last, run.last_item_ns)
        if trace.ending is not None or now - last < self._limits.idle_end_s * NS:
            return
        if not any(
            run.queued_samples or run.stream.on_hold or run.stream.is_paused for run in runs
        ):
            for run in runs:
                run.station.pre_tap.close()
                run.station.post_tap.close()
            trace.ending = (last, EndReason.IDLE)

    def _end(self, trace: TraceRun, ending: tuple[int, EndReason]) -> None:
        trace_id = trace.started.trace_id
        for run in trace.stations.values():
            live = self._live[run.spec.key]
            live.active -= 1
            live.last_end_s = self._clock() // NS
            late = run.stream.too_late + run.follower.too_late
            if late:
                self._drop(late, "too_late")
            for tap in live.taps.values():
                tap.forget(trace_id)
            self._teller.tell_rest(run)
            self._count_rejected(run)
        del self._traces[trace_id]
        self._resolver.detach(trace_id)
        ended_ns, attributes = ending[0] + trace.offset_ns, dict(trace.attributes)
        self._offer(TraceEnded(trace_id, ended_ns, ending[1], attributes))
        self.on_ended.append(trace_id)

    def _count_rejected(self, run: StationRun) -> None:
        """Log the first refusal of each kind, and count all."""
        pre, post = run.station.pre_tap, run.station.post_tap
        if not pre.has_rejected and not post.has_rejected:
            return
        for name, tap in ((Tap.PRE, pre), (Tap.POST, post)):
            for reason, count in tap.rejected.items():
                before = run.rejected.get((name, reason), 0)
                if count > before:
                    run.rejected[name, reason] = count
                    self._tally.add("blocks_rejected_total", reason, by=count - before)
                    if not before:
                        _log.warning(
                            "station %s refuses blocks at %s: %s (expected mono samples, signed 16 "
                            "bit little endian, up to 5 s, POST not longer than its PRE)",
                            run.spec.key,
                            name,
                            reason,
                        )

    def _drop(self, samples: int, reason: str) -> None:
        self._tally.add("samples_dropped_total", reason, by=samples)

    def _offer(self, record: Record) -> None:
        if self._archive is not None:
            self._archive.offer(record)

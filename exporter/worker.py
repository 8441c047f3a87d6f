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
from dataclasses import replace

from exporter.analysis.frames import Batch
from exporter.config import Limits
from exporter.exposition import Exposition, Page
from exporter.live import StationLive
from exporter.model import (
    BUCKET_NS,
    SAMPLE_BYTES,
    Archive,
    Bucket,
    Cause,
    Clock,
    EndReason,
    KnobChanged,
    Record,
    Scope,
    SelfSample,
    Tap,
    TraceEnded,
)
from exporter.resolver import KnobResolver
from exporter.runs import StationRun, TraceRun, spans, steps_of
from exporter.selfmetrics import Tally
from exporter.tap import Item, TapQueue
from exporter.timeline import Event, KnobsTurned, Missing, Placed, to_ns
from exporter.track import FrameJob

_log = logging.getLogger(__name__)

PASS_S = 0.2
NS = 1_000_000_000


class Worker:
    """Owns the timelines, the live numbers and the open buckets.

    Args:
        limits: How much is taken on.
        archive: Where closed buckets go, if anywhere.
        resolver: Where knob changes come from.
        clock: Monotonic nanoseconds.
        tally: The own numbers.
    """

    def __init__(
        self,
        limits: Limits,
        archive: Archive | None,
        resolver: KnobResolver,
        *,
        clock: Clock,
        tally: Tally,
    ) -> None:
        self.page = Page()
        self.inbox: deque[TraceRun | StationRun | tuple[str, int, EndReason]] = deque()
        self.on_ended: deque[str] = deque()
        self._limits = limits
        self._archive = archive
        self._resolver = resolver
        self._clock = clock
        self._tally = tally
        self._traces: dict[str, TraceRun] = {}
        self._live: dict[str, StationLive] = {}
        self._exposition = Exposition(limits.max_series, limits.stale_after_s)
        self._rendered = -1
        self._offered = 0
        self._handed = 0
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
        """Run one pass now; used by the thread, by simulated time and by ``flush``."""
        with self._lock:
            started = time.thread_time()
            self._pass(self._clock())
            self._tally.add("worker_passes_total")
            self._tally.add("worker_seconds_total", by=time.thread_time() - started)

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
        """Count samples: offered = rejected + open + handed_on + dropped, at any rest."""
        with self._lock:
            runs = [run for trace in self._traces.values() for run in trace.stations.values()]
            waiting = sum(run.queued_samples for run in runs)
            return {
                "offered": self._offered + waiting,
                "open": sum(run.open_samples for run in runs),
                "handed_on": self._handed,
                "dropped": int(self._tally.total("samples_dropped_total")),
            }

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.step()
            except Exception:
                self._tally.add("worker_errors_total")
                _log.exception("a pass of the exporter thread failed; going on with the next one")
            self._wake.wait(PASS_S)
            self._wake.clear()

    def _pass(self, now: int) -> None:
        while self.inbox:
            self._receive(self.inbox.popleft())
        for trace in self._traces.values():
            self._resolver.tick(now + trace.offset_ns)
            break
        jobs: list[FrameJob] = []
        owners: list[StationRun] = []
        for trace in list(self._traces.values()):
            # Before the timelines see the time: an idle call is over, it is not one long gap.
            self._end_if_idle(trace, now)
            for run in trace.stations.values():
                try:
                    found = self._drain(run, trace, now)
                except Exception:
                    self._tally.add("worker_errors_total")
                    _log.exception("station %s failed in one pass; going on", run.spec.key)
                    continue
                jobs += found
                owners += [run] * len(found)
        self._measure(jobs, owners, now)
        self._pass_changes()
        for trace in list(self._traces.values()):
            self._close_complete(trace)
            if trace.ending is not None:
                self._end(trace, trace.ending)
        self._tally.set("active_calls", len(self._traces))

    def _receive(self, message: TraceRun | StationRun | tuple[str, int, EndReason]) -> None:
        if isinstance(message, TraceRun):
            self._traces[message.started.trace_id] = message
            self._offer(message.started)
        elif isinstance(message, StationRun):
            trace = self._traces.get(message.trace_id)
            if trace is not None:
                trace.stations[message.spec.key] = message
                self._live.setdefault(message.spec.key, StationLive()).active += 1
        elif message[0] in self._traces:
            self._traces[message[0]].ending = message[1:]

    def _drain(self, run: StationRun, trace: TraceRun, now: int) -> list[FrameJob]:
        """Place what the two taps of a station hold; POST first, so that its PRE is there."""
        post_items, post_full = run.station.post_tap.drain()
        pre_items, pre_full = run.station.pre_tap.drain()
        self._count_offered(run, pre_items, post_items)
        pre_items, is_cut = self._within_backlog(run, pre_items)
        if pre_items:
            run.last_item_ns = pre_items[-1][0]
        events = run.stream.feed(pre_items, full=pre_full or is_cut)
        events += run.stream.settle(now)
        if trace.ending is not None:
            due_until = trace.ending[0] if trace.ending[1] is EndReason.HOST else None
            events += run.stream.finish(due_until)
        followed = run.follower.feed(post_items, events, full=post_full)
        followed += run.follower.settle(now)
        if trace.ending is not None:
            followed += run.follower.finish()
        run.station.origin_ns = run.stream.origin_ns
        self._count_rejected(run)
        second = now // NS
        self._note_depth(run, Tap.PRE, pre_items, second)
        self._note_depth(run, Tap.POST, post_items, second)
        jobs = self._apply(run, Tap.PRE, events, second) + self._apply(
            run, Tap.POST, followed, second
        )
        for pcm in run.stream.fresh:
            preview = run.tracks[Tap.PRE].preview(pcm)
            jobs += [preview] if preview else []
        run.stream.fresh.clear()
        return jobs

    def _count_offered(self, run: StationRun, pre: list[Item], post: list[Item]) -> None:
        """Count what was offered, with what the queue of PRE had no room for."""
        drained = [len(item[2]) // SAMPLE_BYTES for item in pre if isinstance(item[2], bytes)]
        if drained:
            overflow = pre[-1][1] - run.pre_seen - sum(drained)
            run.pre_seen = pre[-1][1]
            self._offered += sum(drained) + overflow
            if overflow:
                self._drop(overflow, "overrun")
        self._offered += sum(
            len(item[2]) // SAMPLE_BYTES for item in post if isinstance(item[2], bytes)
        )

    def _within_backlog(self, run: StationRun, items: list[Item]) -> tuple[list[Item], bool]:
        """Leave out the oldest audio beyond the backlog that is allowed."""
        limit = int(self._limits.max_backlog_s * run.spec.rate)
        waiting = sum(len(item[2]) // SAMPLE_BYTES for item in items if isinstance(item[2], bytes))
        kept: list[Item] = []
        for item in items:
            if waiting > limit and isinstance(item[2], bytes):
                samples = len(item[2]) // SAMPLE_BYTES
                waiting -= samples
                self._drop(samples, "overrun")
            else:
                kept.append(item)
        return kept, len(kept) < len(items)

    def _apply(self, run: StationRun, tap: Tap, events: list[Event], second: int) -> list[FrameJob]:
        jobs: list[FrameJob] = []
        track = run.tracks[tap]
        live = self._live[run.spec.key].tap(tap)
        for event in events:
            if isinstance(event, Missing):
                track.miss(event.position, event.samples, event.cause)
                live.count_missing(event.samples, event.cause)
            elif isinstance(event, KnobsTurned):
                run.turned.append((event.position, event.values))
                self._tell_changes(run, event)
            else:
                jobs += self._apply_audio(run, tap, event, second)
        return jobs

    def _apply_audio(self, run: StationRun, tap: Tap, event: Placed, second: int) -> list[FrameJob]:
        """Record and cut audio, as far as the monitoring knobs in force allow."""
        jobs: list[FrameJob] = []
        track, live = run.tracks[tap], self._live[run.spec.key].tap(tap)
        for position, pcm, knobs in spans(run.turned, event.position, event.pcm):
            samples = len(pcm) // SAMPLE_BYTES
            is_heard = knobs is None or bool(knobs[f"monitoring.{tap.lower()}_tap_enabled"])
            if not is_heard or not (knobs is None or knobs["monitoring.audio_capture_enabled"]):
                track.miss(position, samples, Cause.DISABLED, cuts_grid=not is_heard)
                live.count_missing(samples, Cause.DISABLED)
                self._drop(samples, "disabled")
            else:
                track.record(position, pcm)
                live.count_audio(pcm)
            if is_heard and (knobs is None or knobs["monitoring.metrics_enabled"]):
                job = track.cut(position, pcm, is_live=not event.held)
                jobs += [job] if job else []
        if event.elapsed_ns >= 0:
            self._note_latency(run, tap, event, second)
        return jobs

    def _note_latency(self, run: StationRun, tap: Tap, event: Placed, second: int) -> None:
        key, value = "pipe.processing_latency_ms", event.elapsed_ns / 1e6
        track, live = run.tracks[tap], self._live[run.spec.key].tap(tap)
        track.note(key, event.position, value)
        live.see_value(key, value, second)
        live.count_value(key, value, self._exemplar(run, event.position))

    def _note_depth(self, run: StationRun, tap: Tap, items: list[Item], second: int) -> None:
        track = run.tracks[tap]
        if items and track.first is not None:
            samples = sum(len(item[2]) for item in items if isinstance(item[2], bytes))
            depth = samples / SAMPLE_BYTES / (run.spec.rate // 50)
            track.note("pipe.queue_depth", track.frontier, depth)
            self._live[run.spec.key].tap(tap).see_value("pipe.queue_depth", depth, second)

    def _measure(self, jobs: list[FrameJob], owners: list[StationRun], now: int) -> None:
        """Measure the frames of all taps together, batch by frame length."""
        by_length: dict[int, list[int]] = {}
        for index, job in enumerate(jobs):
            by_length.setdefault(job.track.rate // 50, []).append(index)
        for length, indices in by_length.items():
            batch = Batch(length, self._limits.silence_dbfs)
            for index, rows in zip(
                indices, batch.measure([jobs[i].pcm for i in indices]), strict=True
            ):
                job, run = jobs[index], owners[index]
                live = self._live[run.spec.key].tap(job.track.tap)
                if job.is_live:
                    live.see_frames(rows, now // NS)
                if job.is_final:
                    job.track.measured(job.position, rows)
                    live.count_frames(rows, self._exemplar(run, job.position))

    def _exemplar(self, run: StationRun, position: int) -> tuple[str, int, int]:
        at_ns = to_ns(position, run.spec.rate)
        return run.trace_id, at_ns // BUCKET_NS * BUCKET_NS, at_ns

    def _close_complete(self, trace: TraceRun) -> None:
        for run in trace.stations.values():
            tracks = list(run.tracks.values())
            if any(track.first is None for track in tracks) and trace.ending is None:
                continue
            if trace.ending is not None:
                for track in tracks:
                    track.end()
            limit = min(track.bucket_of(track.complete_until) for track in tracks)
            for bucket in sorted({b for track in tracks for b in track.open_buckets()}):
                if bucket < limit or trace.ending is not None:
                    self._close(run, bucket)

    def _close(self, run: StationRun, bucket: int) -> None:
        taps = [closed for track in run.tracks.values() if (closed := track.close(bucket))]
        if not taps:
            return
        rate = run.spec.rate
        base = bucket * 5 * rate
        first = base + min(tap.first_sample for tap in taps)
        before = [values for position, values in run.turned if position <= first]
        values = before[-1] if before else run.turned[0][1] if run.turned else run.station.knobs
        steps = steps_of(values, [t for t in run.turned if first < t[0] < base + 5 * rate], base)
        if before:
            run.turned = [(-1, before[-1]), *(t for t in run.turned if t[0] > first)]
        record = Bucket(run.trace_id, run.spec.key, bucket * BUCKET_NS, tuple(taps), values, steps)
        self._handed += record.received_samples
        self._tally.set("highest_closed_bucket_timestamp_seconds", bucket * BUCKET_NS / NS)
        self._offer(record)

    def _end_if_idle(self, trace: TraceRun, now: int) -> None:
        runs = trace.stations.values()
        last = max([trace.begun_mono, *(run.last_item_ns for run in runs)])
        is_quiet = not any(run.queued_samples or run.stream.on_hold for run in runs)
        if trace.ending is None and is_quiet and now - last >= self._limits.idle_end_s * NS:
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
            self._tell_waiting(run)
            self._count_rejected(run)
        del self._traces[trace_id]
        self._resolver.detach(trace_id)
        self._offer(TraceEnded(trace_id, ending[0] + trace.offset_ns, ending[1]))
        self.on_ended.append(trace_id)

    def _pass_changes(self) -> None:
        """Hand knob changes on; one that counts at one place waits for its sample."""
        for change in self._resolver.take_changes():
            run = self._run_of(change.event)
            if run is None:
                self._offer(change.event)
            else:
                run.waiting.append(change)
        for trace in self._traces.values():
            for run in trace.stations.values():
                if run.waiting and run.turned:
                    self._tell_changes(run, KnobsTurned(*run.turned[-1]))

    def _run_of(self, event: KnobChanged) -> StationRun | None:
        trace = self._traces.get(event.trace_id or "")
        if event.scope is not Scope.TRACE_STATION or trace is None:
            return None
        return trace.stations.get(event.station_key or "")

    def _tell_changes(self, run: StationRun, turned: KnobsTurned) -> None:
        for change in [c for c in run.waiting if c.version <= turned.values.version]:
            run.waiting.remove(change)
            position = max(turned.position, run.tracks[Tap.PRE].first or turned.position)
            counts_from = to_ns(position, run.spec.rate) if position >= 0 else None
            self._offer(replace(change.event, counts_from_ns=counts_from))

    def _tell_waiting(self, run: StationRun) -> None:
        for change in run.waiting:
            self._offer(change.event)
        run.waiting.clear()

    def _count_rejected(self, run: StationRun) -> None:
        """Log the first refusal of each kind, and count all."""
        taps: list[tuple[Tap, TapQueue]] = [
            (Tap.PRE, run.station.pre_tap),
            (Tap.POST, run.station.post_tap),
        ]
        for name, tap in taps:
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

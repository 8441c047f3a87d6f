"""The monitor: what a host starts, and asks for traces."""

from __future__ import annotations

import atexit
import logging
import math
import os
import threading
import time
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self

from prometheus_client import CollectorRegistry

from exporter.breath import Breath
from exporter.compiled import prepare
from exporter.config import Settings, StationSpec, load_settings, station_spec
from exporter.endpoint import Endpoint
from exporter.errors import ConfigError, NotRunningError, TraceError
from exporter.follower import Follower
from exporter.keeping import KEPT, Keeping, checked_consent
from exporter.metrics import Metric as MetricEntry
from exporter.metrics import shipped_metrics
from exporter.model import (
    KEY_PATTERN,
    Archive,
    Clock,
    Consent,
    ConsentChanged,
    EndReason,
    SelfSample,
    Service,
    Tap,
    TraceStarted,
)
from exporter.privacy import Masker
from exporter.resolver import KnobResolver
from exporter.runs import StationRun, TraceRun
from exporter.selfmetrics import Tally, zeros
from exporter.station import Station
from exporter.timeline import Stream
from exporter.trace import SilentStation, Trace, made_id
from exporter.track import Track
from exporter.worker import Worker

_log = logging.getLogger(__name__)

RENDER_S = 1.0
EXIT_TIMEOUT_S = 2.0
_BOOKS_EVERY_NS = 10_000_000_000


@dataclass(frozen=True, slots=True)
class Clocks:
    """The two clocks of a monitor, in nanoseconds; replaced together when time is simulated.

    Attributes:
        monotonic_ns: Never jumps.
        wall_ns: UTC since the epoch.
    """

    monotonic_ns: Clock = time.monotonic_ns
    wall_ns: Clock = time.time_ns


class Monitor:
    """Hears the stations of all calls in this process.

    Args:
        settings: What :func:`exporter.config.load_settings` returns.
        archive: Where closed buckets go; started and stopped with the monitor.
        registry: The host's own metrics, shown on the same page.
        clocks: Other clocks, for simulated time.
        has_thread: Without it, nothing moves until ``step()`` is called: for simulated time.

    Attributes:
        knobs: Turns knobs; see :class:`~exporter.resolver.KnobResolver`.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        archive: Archive | None = None,
        registry: CollectorRegistry | None = None,
        clocks: Clocks | None = None,
        has_thread: bool = True,
    ) -> None:
        self.settings = settings
        self._clocks = clocks or Clocks()
        self._archive = archive
        self._has_thread = has_thread
        self._tally = Tally()
        self.knobs = KnobResolver(settings, self._clocks.wall_ns)
        self._worker = Worker(
            settings,
            archive,
            self.knobs,
            clock=self._clocks.monotonic_ns,
            tally=self._tally,
            breath=Breath() if has_thread else Breath(math.inf),
        )
        self._endpoint = Endpoint(
            host=settings.metrics_host,
            ports=settings.metrics_ports,
            page=lambda: self._worker.page,
            registry=registry,
            tally=self._tally,
            targets_path=settings.targets_path,
        )
        self._masker = Masker(settings.privacy_key_file)
        self._lock = threading.Lock()
        self._traces: dict[str, Trace] = {}
        self._known: set[str] = set()
        self._undeclared: set[str] = set()
        self._is_running = False
        self._books_due_ns = 0
        self._pid = 0
        self._stopping = threading.Event()
        self._renderer: threading.Thread | None = None

    @classmethod
    def from_env(
        cls,
        *,
        archive: Archive | None = None,
        registry: CollectorRegistry | None = None,
        metrics: Iterable[MetricEntry] = (),
    ) -> Self:
        """Return a monitor as environment and ``monitoring.config.json`` say.

        Args:
            archive: Where closed buckets go.
            registry: The host's own Prometheus metrics, shown on the same page.
            metrics: What the host reports beyond the shipped metrics; see ``host_metric``.

        Raises:
            ConfigError: A setting is wrong; the message names the key and the value.
        """
        known = shipped_metrics()
        for metric in metrics:
            known.register(metric)
        return cls(load_settings(metrics=known), archive=archive, registry=registry)

    @property
    def port(self) -> int | None:
        """Port of /metrics, None while there is none."""
        return self._endpoint.port

    def start(self) -> None:
        """Start the threads; without effect while monitoring is disabled or already running."""
        if self._is_running or not self.settings.enabled:
            return
        prepare()
        self._is_running, self._pid = True, os.getpid()
        self._tally.set("start_timestamp_seconds", self._clocks.wall_ns() / 1e9)
        self._stopping.clear()
        if isinstance(self._archive, Service):
            self._archive.start()
        if self._has_thread:
            self._worker.start()
            self._endpoint.start()
            self._renderer = threading.Thread(
                target=self._render_loop, name="monitoring-render", daemon=True
            )
            self._renderer.start()
        _log.info("consent unknown: %s kept", KEPT[self.settings.consent_unknown])
        _monitors.add(self)
        atexit.register(self._stop_at_exit)

    def stop(self, timeout: float = EXIT_TIMEOUT_S) -> None:
        """End all traces, bring everything to the spool, end the threads."""
        if not self._is_running:
            return
        deadline = time.monotonic() + timeout
        for trace in list(self._traces.values()):
            trace.end()
        self._worker.stop(timeout)
        self.step()
        self._stopping.set()
        if self._has_thread:
            self._endpoint.stop()
        if isinstance(self._archive, Service):
            self._archive.stop(max(0.1, deadline - time.monotonic()))
        self._is_running = False
        atexit.unregister(self._stop_at_exit)

    def flush(self, timeout: float) -> bool:
        """Wait until everything that is closed by now is archived; False when time ran out."""
        self.step()
        return not isinstance(self._archive, Service) or self._archive.flush(timeout)

    def step(self) -> None:
        """Run one pass of the exporter thread now."""
        self._worker.step()
        while self._worker.on_ended:
            self._traces.pop(self._worker.on_ended.popleft(), None)

    def start_trace(  # noqa: PLR0913 - what is known of a call
        self,
        src_extension: str,
        dst_extension: str | None = None,
        *,
        trace_id: str | None = None,
        started_at: datetime | None = None,
        call_id: str | None = None,
        attributes: Mapping[str, object] | None = None,
        consent: str = Consent.UNKNOWN,
    ) -> Trace:
        """Begin a call.

        Args:
            src_extension: Who calls. Of more than six digits it is a phone number, and masked
                wherever it can be read.
            dst_extension: Who is called; likewise.
            trace_id: The host's own id; made from start time and extension unless given.
            started_at: When the call began, if that is not now.
            call_id: An id that several traces of one call share.
            attributes: Language pair, vendor, build, codec.
            consent: What the callers agreed to so far: ``unknown``, ``announced``, ``given``,
                ``refused``; see ``Trace.set_consent``.

        Raises:
            TraceError: The id is not valid or active here, the consent is none of these, or there
                are too many traces.
        """
        agreed = checked_consent(consent)
        src, src_number = self._masker.split(src_extension)
        dst, dst_number = (
            (None, None) if dst_extension is None else self._masker.split(dst_extension)
        )
        started_ns = self._clocks.wall_ns()
        if started_at is not None:
            started_ns = int(started_at.timestamp() * 1e6) * 1_000
        chosen = trace_id or made_id(started_ns, src)
        keeping = Keeping(agreed, self.settings.consent_unknown)
        if not self.settings.enabled:
            return Trace(chosen, self._silent_station, lambda _: None, keeping=keeping)
        if not self._is_running or os.getpid() != self._pid:
            raise NotRunningError(f"trace {chosen!r}: the monitor is not started in this process")
        chosen = self._admit(chosen, is_ours=trace_id is None)
        started = TraceStarted(
            chosen,
            started_ns,
            src,
            dst,
            call_id=call_id,
            attributes=dict(attributes or {}),
            consent=agreed,
            src_number=src_number,
            dst_number=dst_number,
        )
        trace = Trace(
            chosen,
            self._make_station,
            self._on_end,
            keeping=keeping,
            on_consent=self._on_consent,
        )
        self._traces[chosen] = trace
        now = self._clocks.monotonic_ns()
        offset = self._clocks.wall_ns() - now
        self._worker.inbox.append(
            TraceRun(started, offset, begun_mono=now, attributes=trace.attributes)
        )
        return trace

    def page_samples(self) -> list[SelfSample]:
        """Return the own numbers of monitor and archive."""
        self._look_at_books()
        own = zeros() + self._tally.samples()
        age_ns = self._clocks.monotonic_ns() - self._worker.passed_ns
        passed_s = (self._clocks.wall_ns() - age_ns) / 1e9
        own.append(SelfSample("heartbeat_timestamp_seconds", passed_s, ("exporter",)))
        if isinstance(self._archive, Service):
            own += self._archive.self_samples()
        return own

    def render(self) -> None:
        """Render the page of /metrics now; the thread does it once a second."""
        self._worker.render(self.page_samples())

    def accounting(self) -> dict[str, int]:
        """Count samples: offered = open + handed_on + dropped, exact whenever nothing moves."""
        return self._worker.accounting()

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()

    async def __aenter__(self) -> Self:
        """Start, in an asyncio host."""
        self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()

    def _admit(self, trace_id: str, *, is_ours: bool) -> str:
        """Check an id and take it; a known id that starts again gets a suffix.

        One that we made is known, too, where two calls of one extension start in one millisecond.
        """
        if not KEY_PATTERN.fullmatch(trace_id):
            raise TraceError(f"trace id {trace_id!r} does not match {KEY_PATTERN.pattern}")
        with self._lock:
            if trace_id in self._traces and not is_ours:
                self._tally.add("traces_refused_total", "active")
                raise TraceError(f"trace id {trace_id!r} is active in this process")
            if len(self._traces) >= self.settings.limits.max_traces:
                self._tally.add("traces_refused_total", "limit")
                raise TraceError(
                    f"trace {trace_id!r}: {len(self._traces)} traces are running, the limit"
                )
            base, number = trace_id, 1
            while trace_id in self._known:
                number += 1
                trace_id = f"{base[:58]}_{number}"
            if number > 1:
                self._tally.add("trace_id_suffixed_total")
            self._known.add(trace_id)
            return trace_id

    def _make_station(self, trace_id: str, key: str, options: dict[str, object]) -> Station:
        spec = self._spec(key, options)
        with self._lock:
            count = len(self._traces)
        knobs = self.knobs.values(spec, trace_id)
        station = Station(
            key, spec.rate, knobs, self._clocks.monotonic_ns, recording=spec.recording
        )
        offset = self._clocks.wall_ns() - self._clocks.monotonic_ns()
        stream = Stream(spec.rate, offset)
        run = StationRun(
            trace_id,
            spec,
            station,
            stream,
            Follower(stream),
            {tap: Track(tap, spec.rate) for tap in Tap},
            last_item_ns=self._clocks.monotonic_ns(),
        )
        if count:
            self.knobs.attach(trace_id, spec, station)
        self._worker.inbox.append(run)
        return station

    def _silent_station(self, trace_id: str, key: str, options: dict[str, object]) -> Station:
        spec = self._spec(key, options)
        return SilentStation(key, spec.rate, self.knobs.values(spec, trace_id))

    def _spec(self, key: str, options: dict[str, object]) -> StationSpec:
        declared = self.settings.stations.get(key)
        if declared is None and key not in self._undeclared:
            if len(self._undeclared) >= self.settings.limits.max_stations:
                raise ConfigError(f"station {key!r}: the limit of stations is reached")
            self._undeclared.add(key)
            _log.info("station %s is not declared in the configuration; it gets the defaults", key)
        base = {
            name: getattr(declared, name)
            for name in (
                "group",
                "direction",
                "kind",
                "pace",
                "rate",
                "encoding",
                "recording",
                "implements",
                "knobs",
            )
            if declared is not None
        }
        return station_spec(key, base | options, self.settings.registry)

    def _look_at_books(self) -> None:
        """Tell what the books lack; not at every page, for it looks at every open block."""
        now = self._clocks.monotonic_ns()
        if now < self._books_due_ns:
            return
        self._books_due_ns = now + _BOOKS_EVERY_NS
        books = self.accounting()
        left = books["offered"] - books["open"] - books["handed_on"] - books["dropped"]
        self._tally.set("accounting_residual_samples", left, "exporter")

    def _on_end(self, trace_id: str) -> None:
        self._worker.inbox.append((trace_id, self._clocks.monotonic_ns(), EndReason.HOST))

    def _on_consent(self, trace_id: str, consent: Consent) -> None:
        self._worker.inbox.append(ConsentChanged(trace_id, consent, self._clocks.wall_ns()))

    def _render_loop(self) -> None:
        while not self._stopping.wait(RENDER_S):
            try:
                self.render()
            except Exception:
                self._tally.add("thread_errors_total", "render")
                _log.exception("/metrics could not be rendered; showing the page before")
            while self._worker.on_ended:
                self._traces.pop(self._worker.on_ended.popleft(), None)

    def _stop_at_exit(self) -> None:
        if os.getpid() == self._pid:
            self.stop(EXIT_TIMEOUT_S)

    def _after_fork(self) -> None:
        """Fall silent in the child: it has none of the threads."""
        self._lock = threading.Lock()
        for part in (self._tally, self.knobs, self._masker, self._worker):
            part.renew_lock()
        if self._is_running:
            self._is_running = False
            self._tally.add("forks_total")
            for trace in self._traces.values():
                trace.silence()
            self._traces.clear()
            _log.warning("this process was forked from one that monitors; start the monitor here")


_monitors: weakref.WeakSet[Monitor] = weakref.WeakSet()


def _silence_child() -> None:
    for monitor in _monitors:
        monitor._after_fork()  # noqa: SLF001 - the other half of this module


os.register_at_fork(after_in_child=_silence_child)

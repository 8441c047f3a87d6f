"""What the host reports of a station: checked, shown at once, noted when its bucket is there."""

from __future__ import annotations

import logging

from exporter.errors import MetricError
from exporter.live import StationLive
from exporter.metrics import MetricRegistry
from exporter.model import BUCKET_NS, Tap
from exporter.runs import Reported, StationRun, TraceRun
from exporter.selfmetrics import Tally
from exporter.station import Observation
from exporter.timeline import NS, to_position

_log = logging.getLogger(__name__)


class Observing:
    """Takes what ``station.observe()`` was given.

    Args:
        metrics: What a host may report.
        tally: The own numbers.
    """

    def __init__(self, metrics: MetricRegistry, tally: Tally) -> None:
        self._metrics = metrics
        self._tally = tally

    def take(self, run: StationRun, trace: TraceRun, live: StationLive) -> None:
        """Take what is new, and note what the audio has reached; at the end, all of it."""
        station = run.station
        if station.observed_count == run.observed_count and not run.reported:
            return
        found = [station.observed.popleft() for _ in range(len(station.observed))]
        self._refuse("overflow", station.observed_count - run.observed_count - len(found))
        run.observed_count = station.observed_count
        for observation in found:
            self._check(observation, run, trace, live)
        frontier = run.tracks[Tap.PRE].frontier
        left: list[Reported] = []
        for each in run.reported:
            if trace.ending is None and each.position >= frontier:
                left.append(each)
            elif not run.tracks[each.tap].note(each.key, each.position, each.value):
                self._refuse("no_audio", 1)
        run.reported = left

    def _check(
        self, observation: Observation, run: StationRun, trace: TraceRun, live: StationLive
    ) -> None:
        at, key, value, name = observation
        try:
            number, tap = self._metrics.check(key, value), Tap(name)
        except (MetricError, ValueError) as error:
            if not self._tally.get("observations_refused_total", "invalid"):
                _log.warning("a reported value is refused; further ones are counted: %s", error)
            self._refuse("invalid", 1)
            return
        wall_ns = at + trace.offset_ns
        exemplar = (run.trace_id, wall_ns // BUCKET_NS * BUCKET_NS, wall_ns)
        live.tap(tap).see_values(key, [number], at // NS)
        live.tap(tap).count_values(key, [number], exemplar)
        run.reported.append(Reported(to_position(wall_ns, run.spec.rate), key, number, tap))

    def _refuse(self, reason: str, count: int) -> None:
        if count > 0:
            self._tally.add("observations_refused_total", reason, by=count)

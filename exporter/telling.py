"""Knob changes on their way to the archive: each with the sample from which it counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from exporter.model import KnobChanged, Record, Scope, Tap
from exporter.resolver import KnobResolver
from exporter.runs import StationRun, TraceRun
from exporter.timeline import KnobsTurned, to_ns


class Teller:
    """Hands knob changes on; one that counts at one place waits for its sample.

    Args:
        resolver: Where changes come from.
        offer: Where they go.
    """

    def __init__(self, resolver: KnobResolver, offer: Callable[[Record], None]) -> None:
        self._resolver = resolver
        self._offer = offer

    def tell_new(self, traces: Mapping[str, TraceRun]) -> None:
        """Take what has changed, and tell what already counts."""
        for change in self._resolver.take_changes():
            run = _place_of(change.event, traces)
            if run is None:
                self._offer(change.event)
            else:
                run.waiting.append(change)
        for trace in traces.values():
            for run in trace.stations.values():
                if run.waiting and run.turned:
                    self.tell_counting(run, KnobsTurned(*run.turned[-1]))

    def tell_counting(self, run: StationRun, turned: KnobsTurned) -> None:
        """Tell the changes that these values contain: they count from there on."""
        for change in [c for c in run.waiting if c.version <= turned.values.version]:
            run.waiting.remove(change)
            position = max(turned.position, run.tracks[Tap.PRE].first or turned.position)
            counts_from = to_ns(position, run.spec.rate) if position >= 0 else None
            self._offer(replace(change.event, counts_from_ns=counts_from))

    def tell_rest(self, run: StationRun) -> None:
        """Tell what still waits when a station's trace ends: it never came to count."""
        for change in run.waiting:
            self._offer(change.event)
        run.waiting.clear()


def _place_of(event: KnobChanged, traces: Mapping[str, TraceRun]) -> StationRun | None:
    """Return the one place where a change counts, None when there are many."""
    trace = traces.get(event.trace_id or "")
    if event.scope is not Scope.TRACE_STATION or trace is None:
        return None
    return trace.stations.get(event.station_key or "")

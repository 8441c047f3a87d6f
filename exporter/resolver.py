"""The knob resolver: who set what, and what is therefore in force where.

Priority: trace and station > trace > station > global > baseline, where the baseline is the
configuration of the station, over the configuration of all, over the registry's defaults. A change
makes new immutable :class:`KnobValues` for every station it reaches; the audio path reads them
without a lock.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from exporter.config import Settings, StationSpec
from exporter.errors import KnobError
from exporter.knobs import MONITORING_KNOBS, KnobValues
from exporter.model import BUCKET_NS, Clock, KnobChanged, KnobValue, Scope
from exporter.station import ScheduledChange, Station

_Place = tuple[str | None, str | None]


@dataclass(frozen=True, slots=True)
class KnobChange:
    """The answer to a knob that was set.

    Attributes:
        event: What is written down.
        implemented: Whether any station that it reaches obeys this knob.
        version: The knob values from this version on contain it.
    """

    event: KnobChanged
    implemented: bool
    version: int


@dataclass(slots=True)
class _Reached:
    trace_id: str
    spec: StationSpec
    station: Station


@dataclass(frozen=True, slots=True)
class _Scheduled:
    bucket_ns: int
    place: _Place
    key: str
    value: KnobValue


class KnobResolver:
    """Holds every layer of knob values and hands each station its own.

    Args:
        settings: Registry and baseline.
        wall_ns: Wall clock.
    """

    def __init__(self, settings: Settings, wall_ns: Clock) -> None:
        self._settings = settings
        self._wall_ns = wall_ns
        self._lock = threading.Lock()
        self._layers: dict[_Place, dict[str, KnobValue]] = {}
        self._reached: list[_Reached] = []
        self._scheduled: list[_Scheduled] = []
        self._outbox: list[KnobChange] = []
        self._version = 0

    def renew_lock(self) -> None:
        """Take a new lock: in the child of a fork, nobody would release the old one."""
        self._lock = threading.Lock()

    def values(self, spec: StationSpec, trace_id: str | None = None) -> KnobValues:
        """Return what is in force at a station."""
        with self._lock:
            return KnobValues(self._merged(trace_id, spec), self._version)

    def attach(self, trace_id: str, spec: StationSpec, station: Station) -> None:
        """Let a station of a running trace follow all changes from now on."""
        reached = _Reached(trace_id, spec, station)
        with self._lock:
            self._reached.append(reached)
            self._push_to(reached)

    def detach(self, trace_id: str) -> None:
        """Forget a trace that is over, with what was set for it."""
        with self._lock:
            self._reached = [r for r in self._reached if r.trace_id != trace_id]
            for place in [place for place in self._layers if place[0] == trace_id]:
                del self._layers[place]
            self._scheduled = [s for s in self._scheduled if s.place[0] != trace_id]

    def set(  # noqa: PLR0913 - the words of one sentence: what, who, why, where, when
        self,
        key: str,
        value: object,
        *,
        by: str,
        reason: str = "",
        trace_id: str | None = None,
        station_key: str | None = None,
        bucket: datetime | None = None,
    ) -> KnobChange:
        """Turn a knob.

        Args:
            key: Registry key.
            value: New value.
            by: Who turns it.
            reason: Why.
            trace_id: Only in this trace.
            station_key: Only at this station.
            bucket: Count from the first sample of this bucket; otherwise from the next block.

        Returns:
            The event, and whether anybody obeys.

        Raises:
            KnobError: Unknown key, value out of range, knob not live, bucket that has begun.
        """
        knob = self._settings.registry[key]
        checked = knob.check(value)
        place = (trace_id, station_key)
        with self._lock:
            reached = [r for r in self._reached if _reaches(place, r)]
            if trace_id is not None and not reached:
                raise KnobError(f"knob {key!r}: no running trace {trace_id!r} with such a station")
            if not knob.live and trace_id is not None:
                raise KnobError(f"knob {key!r} counts for new calls only; set it without a trace")
            old = self._current(place, key)
            self._version += 1
            if bucket is None:
                self._layers.setdefault(place, {})[key] = checked
            else:
                self._schedule(_Scheduled(self._bucket_ns(bucket, key), place, key, checked))
            change = self._change(key, old, checked, by, reason, place)
            self._outbox.append(change)
            self._push()
        return change

    def tick(self, now_ns: int) -> None:
        """Let scheduled changes whose bucket has begun count for whoever did not split at it."""
        with self._lock:
            due = [s for s in self._scheduled if s.bucket_ns <= now_ns]
            if due:
                for item in due:
                    self._layers.setdefault(item.place, {})[item.key] = item.value
                self._scheduled = [s for s in self._scheduled if s.bucket_ns > now_ns]
                self._push()

    def take_changes(self) -> list[KnobChange]:
        """Return the changes since the last call, for the archive."""
        with self._lock:
            changes, self._outbox = self._outbox, []
        return changes

    def _change(  # noqa: PLR0913 - private, called once
        self, key: str, old: KnobValue, new: KnobValue, by: str, reason: str, place: _Place
    ) -> KnobChange:
        trace_id, station_key = place
        event = KnobChanged(
            event_id=str(uuid.uuid4()),
            knob_key=key,
            old_value=old,
            new_value=new,
            changed_by=by,
            reason=reason,
            scope=_scope(place),
            created_ns=self._wall_ns(),
            trace_id=trace_id,
            station_key=station_key,
        )
        return KnobChange(event, self._is_implemented(key, place), self._version)

    def _is_implemented(self, key: str, place: _Place) -> bool:
        specs = [r.spec for r in self._reached if _reaches(place, r)]
        specs = specs or [s for s in self._settings.stations.values() if place[1] in {None, s.key}]
        return key in MONITORING_KNOBS or any(key in spec.implements for spec in specs)

    def _bucket_ns(self, bucket: datetime, key: str) -> int:
        aware = bucket if bucket.tzinfo else bucket.replace(tzinfo=UTC)
        wanted = int(aware.timestamp() * 1_000) * 1_000_000
        following = (self._wall_ns() // BUCKET_NS + 1) * BUCKET_NS
        if wanted % BUCKET_NS or wanted < following:
            valid = datetime.fromtimestamp(following / 1e9, UTC).isoformat()
            raise KnobError(
                f"knob {key!r}: {bucket.isoformat()} is no bucket that is still to begin; "
                f"the next one is {valid}"
            )
        return wanted

    def _schedule(self, item: _Scheduled) -> None:
        self._scheduled.append(item)
        self._scheduled.sort(key=lambda scheduled: scheduled.bucket_ns)

    def _current(self, place: _Place, key: str) -> KnobValue:
        trace_id, station_key = place
        spec = self._settings.station(station_key) if station_key else None
        return self._merged(trace_id, spec)[key]

    def _merged(
        self, trace_id: str | None, spec: StationSpec | None, until: int = 0
    ) -> dict[str, KnobValue]:
        """Lay the layers over each other; with ``until``, as scheduled for that bucket."""
        station_key = spec.key if spec else None
        values = self._settings.registry.defaults() | dict(self._settings.knobs)
        values |= dict(spec.knobs) if spec else {}
        places = dict.fromkeys(
            [(None, None), (None, station_key), (trace_id, None), (trace_id, station_key)]
        )
        for place in places:
            values |= self._layers.get(place, {})
            values |= {
                s.key: s.value for s in self._scheduled if s.place == place and s.bucket_ns <= until
            }
        return values

    def _push(self) -> None:
        """Hand new values to every station for which something differs."""
        for reached in self._reached:
            self._push_to(reached)

    def _push_to(self, reached: _Reached) -> None:
        merged = self._merged(reached.trace_id, reached.spec)
        if _differs(reached.station.knobs, merged):
            reached.station.knobs = KnobValues(merged, self._version)
        reached.station.scheduled = tuple(
            ScheduledChange(
                ns, KnobValues(self._merged(reached.trace_id, reached.spec, ns), self._version)
            )
            for ns in sorted({s.bucket_ns for s in self._scheduled if _reaches(s.place, reached)})
        )


def _differs(values: KnobValues, merged: Mapping[str, KnobValue]) -> bool:
    return any(values.get(key) != value for key, value in merged.items())


def _reaches(place: _Place, reached: _Reached) -> bool:
    trace_id, station_key = place
    return trace_id in {None, reached.trace_id} and station_key in {None, reached.spec.key}


def _scope(place: _Place) -> Scope:
    trace_id, station_key = place
    if trace_id is not None:
        return Scope.TRACE if station_key is None else Scope.TRACE_STATION
    return Scope.GLOBAL if station_key is None else Scope.STATION

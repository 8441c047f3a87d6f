"""What the exporter thread knows of running traces and their stations."""

from __future__ import annotations

from dataclasses import dataclass, field

from exporter.config import StationSpec
from exporter.follower import Follower
from exporter.knobs import KnobValues
from exporter.model import SAMPLE_BYTES, EndReason, KnobStep, Tap, TraceStarted
from exporter.resolver import KnobChange
from exporter.station import Station
from exporter.summary import StationMemory
from exporter.timeline import Stream
from exporter.track import Track


@dataclass(frozen=True, slots=True)
class Reported:
    """A value of the host's that waits for the audio to reach its time."""

    position: int
    key: str
    value: float
    tap: Tap


@dataclass(slots=True)
class StationRun:
    """Everything the exporter thread knows of one station in one trace."""

    trace_id: str
    spec: StationSpec
    station: Station
    stream: Stream
    follower: Follower
    tracks: dict[Tap, Track]
    turned: list[tuple[int, KnobValues]] = field(default_factory=list)
    waiting: list[KnobChange] = field(default_factory=list)
    rejected: dict[tuple[Tap, str], int] = field(default_factory=dict)
    memory: StationMemory = field(default_factory=StationMemory)
    reported: list[Reported] = field(default_factory=list)
    observed_count: int = 0
    last_item_ns: int = 0
    pre_seen: int = 0

    @property
    def queued_samples(self) -> int:
        """Samples that wait in the tap queues."""
        return sum(
            len(item[2]) // SAMPLE_BYTES
            for tap in (self.station.pre_tap, self.station.post_tap)
            for item in tap.waiting()
            if isinstance(item[2], bytes)
        )

    @property
    def kept_samples(self) -> int:
        """Samples that have left the queues and are neither handed on nor counted as dropped."""
        held = self.stream.held_samples + self.follower.held_samples
        late = self.stream.too_late + self.follower.too_late  # counted when the trace ends
        return held + late + sum(track.open_samples for track in self.tracks.values())


@dataclass(slots=True)
class TraceRun:
    """One running trace."""

    started: TraceStarted
    offset_ns: int
    stations: dict[str, StationRun] = field(default_factory=dict)
    ending: tuple[int, EndReason] | None = None
    begun_mono: int = 0
    attributes: dict[str, object] = field(default_factory=dict)


def spans(
    turned: list[tuple[int, KnobValues]], position: int, pcm: bytes
) -> list[tuple[int, bytes, KnobValues | None]]:
    """Split audio where knob values changed."""
    if not turned:
        return [(position, pcm, None)]
    current = [values for at, values in turned if at <= position]
    values = current[-1] if current else turned[0][1]
    end = position + len(pcm) // SAMPLE_BYTES
    spans: list[tuple[int, bytes, KnobValues | None]] = []
    start = position
    for at, later in turned:
        if start < at < end:
            spans.append((start, _cut(pcm, start - position, at - position), values))
            start = at
        if start <= at < end:
            values = later
    spans.append((start, _cut(pcm, start - position, end - position), values))
    return spans


def _cut(pcm: bytes, start: int, stop: int) -> bytes:
    return pcm[start * SAMPLE_BYTES : stop * SAMPLE_BYTES]


def steps_of(
    values: KnobValues, turned: list[tuple[int, KnobValues]], base: int
) -> tuple[KnobStep, ...]:
    """Return what changed at each turn, with the sample in the bucket that begins at ``base``."""
    steps: list[KnobStep] = []
    for position, later in turned:
        steps += [
            KnobStep(key, values[key], later[key], position - base)
            for key in later
            if values.get(key) != later[key]
        ]
        values = later
    return tuple(steps)

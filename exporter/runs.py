"""What the exporter thread knows of running traces and their stations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from exporter.analysis.frames import Stretch
from exporter.config import StationSpec
from exporter.follower import Follower
from exporter.keeping import Keep
from exporter.knobs import KnobValues
from exporter.model import BUCKET_NS, SAMPLE_BYTES, Cause, EndReason, KnobStep, Tap, TraceStarted
from exporter.resolver import KnobChange
from exporter.station import Station
from exporter.summary import StationMemory
from exporter.tap import Item
from exporter.timeline import Stream, to_ns
from exporter.track import Track

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Reported:
    """A value of the host's that waits for the audio to reach its time."""

    position: int
    key: str
    value: float
    tap: Tap


class Use(NamedTuple):
    """What becomes of a tap's audio while a keep and knob values are in force.

    Attributes:
        keep: That keep.
        values: Those values.
        is_heard: Whether anything is known of it.
        is_kept: Whether it is archived.
        cause: Of the gap that stands for it where it is not.
        is_measured: Whether numbers are made of it.
        has_spectrum: Whether the spectrum is among them.
    """

    keep: Keep
    values: KnobValues
    is_heard: bool
    is_kept: bool
    cause: Cause
    is_measured: bool
    has_spectrum: bool


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
    keeps: list[tuple[int, Keep]] = field(default_factory=lambda: [(-1, Keep())])
    uses: dict[Tap, Use] = field(default_factory=dict)
    waiting: list[KnobChange] = field(default_factory=list)
    rejected: dict[tuple[Tap, str], int] = field(default_factory=dict)
    memory: StationMemory = field(default_factory=StationMemory)
    reported: list[Reported] = field(default_factory=list)
    observed_count: int = 0
    last_item_ns: int = 0
    pre_seen: int = 0
    post_seen: int = 0

    @property
    def queued_samples(self) -> int:
        """Samples that wait in the tap queues."""
        return sum(tap.waiting().samples for tap in (self.station.pre_tap, self.station.post_tap))

    def take_marks(self) -> list[Item]:
        """Take the marks whose place is reached; one behind a block in the queue waits for it."""
        keeps, marks = self.station.keeps, list[Item]()
        while keeps and keeps[0][1] <= self.pre_seen:
            marks.append(keeps.popleft())
        return marks

    @property
    def kept_samples(self) -> int:
        """Samples that have left the queues and are neither handed on nor counted as dropped."""
        held = self.stream.held_samples + self.follower.held_samples
        late = self.stream.too_late + self.follower.too_late  # counted when the trace ends
        return held + late + sum(track.open_samples for track in self.tracks.values())

    def use_of(self, tap: Tap, keep: Keep, values: KnobValues) -> Use:
        """Return what becomes of audio; it is looked up anew where something has changed."""
        use = self.uses.get(tap)
        if use is None or use.keep is not keep or use.values is not values:
            use = self.uses[tap] = _use_of(tap, keep, values)
        return use

    def exemplar_at(self, position: int) -> tuple[str, int, int]:
        """Return trace, bucket and time, as exemplars show them."""
        at_ns = to_ns(position, self.spec.rate)
        return self.trace_id, at_ns // BUCKET_NS * BUCKET_NS, at_ns


@dataclass(slots=True)
class TraceRun:
    """One running trace."""

    started: TraceStarted
    offset_ns: int
    stations: dict[str, StationRun] = field(default_factory=dict)
    ending: tuple[int, EndReason] | None = None
    begun_mono: int = 0
    attributes: dict[str, object] = field(default_factory=dict)


def _use_of(tap: Tap, keep: Keep, values: KnobValues) -> Use:
    is_heard = keep.is_measured and bool(values[f"monitoring.{tap.lower()}_tap_enabled"])
    return Use(
        keep,
        values,
        is_heard=is_heard,
        is_kept=is_heard and keep.has_audio and bool(values["monitoring.audio_capture_enabled"]),
        cause=Cause.DISABLED if keep.has_audio else keep.cause,
        is_measured=is_heard and bool(values["monitoring.metrics_enabled"]),
        has_spectrum=bool(values["monitoring.fft_analysis_enabled"]),
    )


def stretches(
    turned: Sequence[tuple[int, _T]], start: int, end: int
) -> Iterator[tuple[int, int, _T]]:
    """Part positions where something changed: first, behind the last, what is in force there.

    Args:
        turned: From which position on what is in force; at least one, the first for all before.
        start: The first position.
        end: Behind the last one.
    """
    current = [value for at, value in turned if at <= start]
    value = current[-1] if current else turned[0][1]
    for at, later in turned:
        if start < at < end:
            yield start, at, value
            start = at
        if start <= at < end:
            value = later
    yield start, end, value


def spans(
    turned: Sequence[tuple[int, _T]], position: int, pcm: bytes
) -> list[tuple[int, bytes, _T]]:
    """Split audio where something changed."""
    if len(turned) == 1:
        return [(position, pcm, turned[0][1])]
    end = position + len(pcm) // SAMPLE_BYTES
    return [
        (start, _cut(pcm, start - position, stop - position), value)
        for start, stop, value in stretches(turned, position, end)
    ]


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


def take_pending(
    traces: Iterable[TraceRun],
) -> tuple[list[StationRun], list[Track], list[Stretch]]:
    """Take the frames that wait to be measured, and whose they are.

    Side by side, not in tuples: the garbage collector of the host would walk through those.
    """
    runs: list[StationRun] = []
    tracks: list[Track] = []
    stretches: list[Stretch] = []
    for trace in traces:
        for run in trace.stations.values():
            for track in run.tracks.values():
                stretches += track.pending
                runs += [run] * len(track.pending)
                tracks += [track] * len(track.pending)
                track.pending.clear()
    return runs, tracks, stretches

"""The vocabulary that crosses package borders: taps, gaps, aggregates and the archive's records.

This module imports nothing that does I/O, so that the real-time modules may use it. Times are
integer nanoseconds since the epoch (UTC); positions are sample counts. All types are immutable.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

from exporter.aggregates import Aggregates

BUCKET_SECONDS = 5
BUCKET_NS = BUCKET_SECONDS * 1_000_000_000
BUCKET_MS = BUCKET_SECONDS * 1_000
FRAMES_PER_SECOND = 50
MAX_BLOCK_SECONDS = 5
SAMPLE_BYTES = 2

KEY_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

KnobValue = bool | int | float | str
JsonObject = Mapping[str, object]


class Tap(StrEnum):
    """Where a station is heard: before (PRE) or after (POST) its own processing."""

    PRE = "PRE"
    POST = "POST"


class Kind(StrEnum):
    """What POST is to PRE; see DESIGN vocabulary in ARCHITECTURE.md."""

    PROCESS = "process"
    CONVERT = "convert"
    SINK = "sink"
    SOURCE = "source"


class Pace(StrEnum):
    """How audio arrives: at playing speed, or ahead of its playing time."""

    LIVE = "live"
    BURST = "burst"


class Encoding(StrEnum):
    """Sample format of the blocks that a host hands over."""

    S16LE = "s16le"
    S16BE = "s16be"
    MULAW = "mulaw"
    ALAW = "alaw"


class Cause(StrEnum):
    """Why samples that were due are missing. The first group is loss; the second is not."""

    NOT_RECEIVED = "not_received"
    SLOW = "slow"
    OVERRUN = "overrun"
    TOO_LATE = "too_late"
    DISK_FULL = "disk_full"
    SPOOL_FULL = "spool_full"
    HOST_CRASH = "host_crash"
    IDLE = "idle"
    HOLD = "hold"
    DISABLED = "disabled"
    MASKED = "masked"
    FORMAT_CHANGE = "format_change"
    ERASED = "erased"

    @property
    def is_loss(self) -> bool:
        """Whether samples of this cause count in drop ratios, health and alerts."""
        return self in LOSS


LOSS = frozenset(
    {
        Cause.NOT_RECEIVED,
        Cause.SLOW,
        Cause.OVERRUN,
        Cause.TOO_LATE,
        Cause.DISK_FULL,
        Cause.SPOOL_FULL,
        Cause.HOST_CRASH,
    }
)


class EndReason(StrEnum):
    """What ended a trace."""

    HOST = "host"
    IDLE = "idle"
    CRASH = "crash"
    MAX = "max"


class Consent(StrEnum):
    """What the callers agreed to. Only forward, and ``refused`` is the last word of a call."""

    UNKNOWN = "unknown"
    ANNOUNCED = "announced"
    GIVEN = "given"
    REFUSED = "refused"


class Recording(StrEnum):
    """How much is kept: nothing, the aggregates, or the audio as well. The least that counts."""

    OFF = "off"
    NUMBERS = "numbers"
    AUDIO = "audio"


def allowance(consent: Consent, unknown: Recording) -> Recording:
    """Return how much the callers' consent allows to keep.

    Args:
        consent: What they agreed to.
        unknown: The policy while that is unknown.
    """
    if consent is Consent.UNKNOWN:
        return unknown
    return Recording.NUMBERS if consent is Consent.REFUSED else Recording.AUDIO


class Scope(StrEnum):
    """How far a knob change reaches; the first has the highest priority."""

    TRACE_STATION = "trace_station"
    TRACE = "trace"
    STATION = "station"
    GLOBAL = "global"


@dataclass(frozen=True, slots=True)
class Gap:
    """Samples that were due in a bucket and are missing.

    Attributes:
        first_sample: Offset of the first missing sample in the bucket.
        samples: How many are missing, at least 1.
        cause: Why.
    """

    first_sample: int
    samples: int
    cause: Cause


@dataclass(frozen=True, slots=True)
class Run:
    """Contiguous audio inside a bucket.

    Attributes:
        first_sample: Offset of its first sample in the bucket.
        pcm: Samples, signed 16 bit little endian, mono.
    """

    first_sample: int
    pcm: bytes = field(repr=False)

    @property
    def samples(self) -> int:
        """Number of samples."""
        return len(self.pcm) // SAMPLE_BYTES


@dataclass(frozen=True, slots=True)
class TapBucket:
    """One bucket at one tap. Holds: due_samples = received_samples + samples of all gaps.

    Attributes:
        tap: PRE or POST.
        rate: Sampling rate in Hz.
        first_sample: Offset of the first due sample in the bucket.
        due_samples: How many samples were due, at least 1.
        runs: The audio, ordered, disjoint.
        gaps: What is missing, ordered, disjoint.
        aggregates: One per metric that has a value.
        health: What each defect cost of the 100 points of ``health.audio_score``.
    """

    tap: Tap
    rate: int
    first_sample: int
    due_samples: int
    runs: tuple[Run, ...]
    gaps: tuple[Gap, ...]
    aggregates: Aggregates
    health: Mapping[str, float] = field(default_factory=dict)

    @property
    def received_samples(self) -> int:
        """Samples of audio in this bucket."""
        return sum(run.samples for run in self.runs)


@dataclass(frozen=True, slots=True)
class KnobStep:
    """A knob that changed inside a bucket, at ``sample`` (offset in the bucket)."""

    knob_key: str
    old: KnobValue
    new: KnobValue
    sample: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """Five seconds of one station in one trace, closed: nothing will be added to it.

    Attributes:
        trace_id: The call.
        station_key: The station.
        bucket_ns: Start of the bucket, a multiple of 5 s.
        taps: One entry for each tap at which something was due.
        knob_values: All knobs in force at the first due sample.
        knob_steps: What changed inside, in order.
    """

    trace_id: str
    station_key: str
    bucket_ns: int
    taps: tuple[TapBucket, ...]
    knob_values: Mapping[str, KnobValue] = field(repr=False)
    knob_steps: tuple[KnobStep, ...] = ()

    @property
    def received_samples(self) -> int:
        """Samples of audio at all taps; the unit of the accounting identity."""
        return sum(tap.received_samples for tap in self.taps)


@dataclass(frozen=True, slots=True)
class TraceStarted:
    """A call has begun.

    Extensions of more than six digits come masked; ``src_number`` and ``dst_number`` have what
    they stand for, for the one column of SQL that is allowed to know it.
    """

    trace_id: str
    started_ns: int
    src_extension: str
    dst_extension: str | None = None
    sample_rate: int = 16_000
    call_id: str | None = None
    attributes: Mapping[str, object] = field(default_factory=dict)
    consent: Consent = Consent.UNKNOWN
    src_number: str | None = field(default=None, repr=False)
    dst_number: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class TraceEnded:
    """A call is over, and all its buckets were offered before; attributes set while it ran."""

    trace_id: str
    ended_ns: int
    end_reason: EndReason
    attributes: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ConsentChanged:
    """The callers of a running call have agreed, or refused."""

    trace_id: str
    consent: Consent
    changed_ns: int


@dataclass(frozen=True, slots=True)
class KnobChanged:
    """Somebody turned a knob.

    Attributes:
        event_id: Unique id (UUID).
        knob_key: Registry key.
        old_value: Value before, at this scope.
        new_value: Value after; None when the change was taken back.
        changed_by: Who.
        reason: Why, in the words of who did it.
        scope: How far it reaches.
        created_ns: When it was asked for.
        trace_id: For the trace scopes.
        station_key: For the station scopes.
        counts_from_ns: Time of the first sample that it counts for, where that is one moment
            (scope trace_station); otherwise None, and the snapshots' ``changed`` tell.
    """

    event_id: str
    knob_key: str
    old_value: KnobValue
    new_value: KnobValue | None
    changed_by: str
    reason: str
    scope: Scope
    created_ns: int
    trace_id: str | None = None
    station_key: str | None = None
    counts_from_ns: int | None = None


Record = Bucket | TraceStarted | TraceEnded | ConsentChanged | KnobChanged


@dataclass(frozen=True, slots=True)
class SelfSample:
    """One number that the monitoring tells about itself.

    Attributes:
        name: Key in :mod:`exporter.selfmetrics`.
        value: The number.
        labels: Label values in the order that the registry names the labels.
    """

    name: str
    value: float
    labels: tuple[str, ...] = ()


class Archive(Protocol):
    """Where closed records go. ``offer`` returns at once, never blocks and never raises."""

    def offer(self, record: Record) -> None:
        """Take a record, or count it as dropped with a reason."""


@runtime_checkable
class Service(Archive, Protocol):
    """What the monitor starts and stops with itself, when its archive is such a thing."""

    def start(self) -> None:
        """Start the threads."""

    def stop(self, timeout: float) -> None:
        """Bring everything in hand to the disk, within ``timeout`` seconds."""

    def flush(self, timeout: float) -> bool:
        """Wait until all that was offered is archived; False when time ran out."""

    def self_samples(self) -> list[SelfSample]:
        """Tell the own numbers, cheaply, from any thread."""


Clock = Callable[[], int]

"""The timeline: from sample counts and arrival times to positions on the wall clock.

Positions are absolute sample indices since the epoch at the tap's rate, so that bucket and offset
are one division away. Sample counts are the truth; arrival times only tell when a stream stood
still. Lags are in samples.

``Stream`` places a tap that has a clock of its own; ``exporter.follower`` one that follows another.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import numpy.typing as npt
from numba import int64
from numba.types import Tuple  # type: ignore[attr-defined]

from exporter.compiled import compiled
from exporter.keeping import Keep
from exporter.knobs import KnobValues
from exporter.model import MAX_BLOCK_SECONDS, SAMPLE_BYTES, Cause
from exporter.tap import HOLD, RESUME, Drained

NS = 1_000_000_000
TOLERANCE_S = 0.1
PATIENCE_NS = 2 * NS
STALL_FINAL_S = 60
_LATELY_NS = MAX_BLOCK_SECONDS * NS

Numbers = npt.NDArray[np.int64]

Mark = tuple[int, int, int]
"""What is known of a block: its position, its arrival (monotonic ns), PRE-to-POST time or -1."""


@dataclass(slots=True)
class Placed:
    """Audio without a hole, of one or many blocks.

    Attributes:
        position: Of the first sample.
        end: Behind the last sample.
        parts: The audio, cut anywhere.
        starts: Where each block begins.
        arrivals: When it came (monotonic ns).
        elapsed: How long the station took (ns) or -1.
        longest_ns: The longest time between the arrivals of two blocks.
        held: Whether the live gauges have seen it before it was placed.
    """

    position: int
    end: int
    parts: list[bytes]
    starts: list[int] | range
    arrivals: list[int]
    elapsed: list[int]
    longest_ns: int = 0
    held: bool = False

    @property
    def pcm(self) -> bytes:
        """All of the audio."""
        return self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)


@dataclass(slots=True)
class Missing:
    """Samples that were due and are not there; ``shared`` when POST misses them as well."""

    position: int
    samples: int
    cause: Cause
    shared: bool = True


@dataclass(slots=True)
class KnobsTurned:
    """Knob values that count from a position."""

    position: int
    values: KnobValues


@dataclass(slots=True)
class KeepTurned:
    """What is kept from a position on."""

    position: int
    keep: Keep


Event = Placed | Missing | KnobsTurned | KeepTurned


def to_position(ns: int, rate: int) -> int:
    """Return the sample index, since the epoch, that is nearest to a time."""
    return (ns * rate + NS // 2) // NS


def to_ns(position: int, rate: int) -> int:
    """Return the time of a sample index."""
    return position * NS // rate


@dataclass(slots=True)
class _Held:
    arrived: int
    end: int
    payload: bytes | KnobValues | Keep
    elapsed_ns: int


@dataclass(slots=True)
class Stream:
    """Places one live stream by its sample count.

    Attributes:
        rate: Sampling rate in Hz.
        offset_ns: Wall clock minus monotonic clock.
        frontier: Everything before this position is placed or missing; None before the first block.
        origins: Where a count stands: (first count, position minus count), oldest first.
        placed_count: Samples of the tap's count that are placed or dropped.
        too_late: Samples dropped because their gap was final.
        origin_ns: Wall time of sample 0 of the count, as things stand; None before the first block.
        on_hold: Whether the host said that nothing is due.
        is_paused: Whether the host has paused the audio.
        fresh: Blocks held since they were last asked for, for the live gauges.
    """

    rate: int
    offset_ns: int
    frontier: int | None = None
    origins: deque[tuple[int, int]] = field(default_factory=deque)
    placed_count: int = 0
    too_late: int = 0
    origin_ns: int | None = None
    on_hold: bool = False
    is_paused: bool = False
    fresh: list[bytes] = field(default_factory=list)
    _origin: int = 0
    _base: int = 0
    _held: list[_Held] = field(default_factory=list)
    _lowest: int = 0
    _lowest_at: int = 0
    _last_arrival: int = 0
    _was_paused: bool = False

    def feed(self, drained: Drained, *, full: bool) -> list[Event]:
        """Place what a tap was handed, in order; ``full`` when its queue had overflowed."""
        events: list[Event] = []
        if self._take_steady(drained, events):
            return events
        for arrived, end, payload, elapsed in drained.items():
            if isinstance(payload, str):
                self._mark(payload, events)
            elif self.frontier is None and not isinstance(payload, bytes):
                self._turn(-1, payload, events)
            else:
                block = _Held(arrived, end, payload, elapsed)
                if self.frontier is None:
                    self._anchor(block)
                self._take(block, events, full=full)
        return events

    def _take_steady(self, drained: Drained, events: list[Event]) -> bool:
        """Place blocks that come one after the other in time, in one go: nearly all do.

        Returns:
            Whether they do; the others go the long way.
        """
        if self.frontier != self._origin + self.placed_count or self._held or self.on_hold:
            return False
        laid = going_on(drained, self.placed_count, self)
        if laid is None:
            return False
        placed, (lowest, highest) = laid
        base = min(self._base, lowest)
        if highest > base + TOLERANCE_S * self.rate:
            return False
        events.append(placed)
        self.placed_count, self.frontier = drained.ends[-1], placed.end
        self._base, self._last_arrival = base, drained.arrivals[-1]
        self._was_paused = self.is_paused
        return True

    def settle(self, now: int) -> list[Event]:
        """Decide what time has decided: held blocks after 2 s, a stall after 60 s, a hold."""
        events: list[Event] = []
        while self._held and now - self._lowest_at >= PATIENCE_NS:
            self._insert_gap(events)
        # Nothing is given up on that came so lately, whatever it came for.
        if self.frontier is not None and not self._held and now - self._last_arrival > _LATELY_NS:
            self._advance_idle(now, events)
        return events

    def finish(self, now: int | None) -> list[Event]:
        """Place what is held; with ``now``, what is due until then is missing."""
        events: list[Event] = []
        while self._held:
            self._insert_gap(events)
        if self.frontier is not None and now is not None:
            due = self._position(now) - self._base
            if due - self.frontier > TOLERANCE_S * self.rate:
                self._miss(due - self.frontier, self._idle_cause(), events)
        return events

    @property
    def held_samples(self) -> int:
        """Samples that wait for their place."""
        return sum(
            len(h.payload) // SAMPLE_BYTES for h in self._held if isinstance(h.payload, bytes)
        )

    def _position(self, mono: int) -> int:
        return to_position(mono + self.offset_ns, self.rate)

    def _anchor(self, block: _Held) -> None:
        """Let the first block end at its arrival."""
        self._set_origin(self._position(block.arrived) - block.end, block.end - _samples(block))
        self.frontier = self._origin + block.end - _samples(block)
        self.placed_count = block.end - _samples(block)

    def _set_origin(self, origin: int, count: int) -> None:
        self._origin, self.origin_ns = origin, to_ns(origin, self.rate)
        self.origins.append((count, origin))

    def _mark(self, mark: str, events: list[Event]) -> None:
        if mark == HOLD and self.frontier is not None:
            while self._held:
                self._insert_gap(events)
            self.on_hold = True
        elif mark == RESUME and self.on_hold:
            # What is due again begins with the next block, whose arrival says where it stands.
            self.on_hold = True

    def _take(self, block: _Held, events: list[Event], *, full: bool) -> None:
        if self.on_hold and isinstance(block.payload, bytes):
            self._end_hold(block, events)
        lag = self._position(block.arrived) - (self._origin + block.end)
        is_audio = isinstance(block.payload, bytes)
        if is_audio and lag > self._base + TOLERANCE_S * self.rate:
            self._hold(block, lag)
            return
        if not is_audio and self._held:
            self._held.append(block)
            return
        if is_audio:
            self._base = min(self._base, lag)
            self._last_arrival = block.arrived
            self._was_paused = self.is_paused
        was_held, self._held = self._held, []
        for earlier in was_held:
            self._place(earlier, events, full=full, held=True)
        self._place(block, events, full=full, held=False)

    def _hold(self, block: _Held, lag: int) -> None:
        if not self._held or lag < self._lowest:
            self._lowest, self._lowest_at = lag, block.arrived
        self._held.append(block)
        if isinstance(block.payload, bytes):
            self.fresh.append(block.payload)

    def _place(self, block: _Held, events: list[Event], *, full: bool, held: bool) -> None:
        start = block.end - _samples(block)
        if start > self.placed_count:
            cause = Cause.OVERRUN if full else Cause.NOT_RECEIVED
            self._skip(start, cause, events)
        position = self._origin + start
        if not isinstance(block.payload, bytes):
            self._turn(position, block.payload, events)
            return
        self.placed_count = block.end
        pcm, position = self._after_frontier(block.payload, position)
        if pcm:
            mark = (position, block.arrived, block.elapsed_ns)
            self.frontier = put(events, pcm, mark, held=held)

    def _turn(self, position: int, payload: KnobValues | Keep, events: list[Event]) -> None:
        if isinstance(payload, KnobValues):
            events.append(KnobsTurned(position, payload))
            return
        self.is_paused = payload.is_paused
        self._was_paused |= payload.is_paused
        # From another thread than the audio's: it counts from what is not placed yet.
        events.append(KeepTurned(max(position, self.frontier or -1), payload))

    def _skip(self, start: int, cause: Cause, events: list[Event]) -> None:
        """Pass over samples that the queue lost; POST may well have them."""
        first = max(self._origin + self.placed_count, self.frontier or 0)
        missing = self._origin + start - first
        if missing > 0:
            events.append(Missing(first, missing, cause, shared=False))
            self.frontier = first + missing
        self.placed_count = start

    def _after_frontier(self, pcm: bytes, position: int) -> tuple[bytes, int]:
        """Cut off what would fill a gap that is final."""
        late = min((self.frontier or 0) - position, len(pcm) // SAMPLE_BYTES)
        if late <= 0:
            return pcm, position
        self.too_late += late
        return pcm[late * SAMPLE_BYTES :], position + late

    def _insert_gap(self, events: list[Event]) -> None:
        """Put the time that the stream stood still before the first held block."""
        held, self._held = self._held, []
        first = held[0]
        gap = self._lowest - self._base
        silent = self._position(first.arrived) - self._position(self._last_arrival)
        cause = self._idle_cause() if 2 * (silent - _samples(first)) >= gap else Cause.SLOW
        count = first.end - _samples(first)
        if count > self.placed_count:
            self._skip(count, Cause.OVERRUN, events)
        self._set_origin(self._origin + gap, count)
        self._miss(self._origin + count - (self.frontier or 0), cause, events)
        for block in held:
            self._take(block, events, full=False)
            _was_held(events)

    def _miss(self, samples: int, cause: Cause, events: list[Event]) -> None:
        if samples > 0 and self.frontier is not None:
            events.append(Missing(self.frontier, samples, cause))
            self.frontier += samples

    def _end_hold(self, block: _Held, events: list[Event]) -> None:
        self.on_hold = False
        start = block.end - _samples(block)
        due = self._position(block.arrived) - self._base - _samples(block)
        gap = due - (self.frontier or 0)
        if gap > 0:
            self._set_origin(due - start, start)
            self._miss(gap, Cause.HOLD, events)

    def _advance_idle(self, now: int, events: list[Event]) -> None:
        """Give up on a stall after 60 s, and follow a hold; leave room for a block on its way."""
        idle = self._position(now) - self._base - (self.frontier or 0)
        margin = (MAX_BLOCK_SECONDS + 1) * self.rate
        patience = margin if self.on_hold else STALL_FINAL_S * self.rate
        if idle > patience:
            self._miss(idle - margin, self._idle_cause(), events)

    def _idle_cause(self) -> Cause:
        """Say why nothing comes: a host that has paused the audio may well stop sending it."""
        if self.on_hold:
            return Cause.HOLD
        return Cause.MASKED if self._was_paused else Cause.NOT_RECEIVED


def put(events: list[Event], pcm: bytes, mark: Mark, *, held: bool = False) -> int:
    """Add audio to what lies directly before it, or as an event of its own; return its end."""
    position, arrived, elapsed = mark
    end = position + len(pcm) // SAMPLE_BYTES
    last = events[-1] if events else None
    if (
        isinstance(last, Placed)
        and isinstance(last.starts, list)
        and (last.end, last.held) == (position, held)
    ):
        last.longest_ns = max(last.longest_ns, arrived - last.arrivals[-1])
        last.parts.append(pcm)
        last.starts.append(position)
        last.arrivals.append(arrived)
        last.elapsed.append(elapsed)
        last.end = end
    else:
        events.append(Placed(position, end, [pcm], [position], [arrived], [elapsed], held=held))
    return end


def going_on(drained: Drained, count: int, stream: Stream) -> tuple[Placed, tuple[int, int]] | None:
    """Place what is audio alone and goes on from a count, without a hole.

    Args:
        drained: Of one tap.
        count: Samples before it.
        stream: On whose newest timeline it is placed.

    Returns:
        The audio, and by how many samples blocks came after their end: the least and the most.
        None for anything else.
    """
    arrivals, ends, parts = drained.arrivals, drained.ends, drained.payloads
    if not ends:
        return None
    try:
        pcm = b"".join(parts)  # type: ignore[arg-type] # a mark may be among them
    except TypeError:
        return None
    numbers = np.fromiter(chain(arrivals, ends, map(len, parts)), np.int64, 3 * len(ends))
    size, lowest, highest, longest = _look(
        numbers.reshape(3, -1), count, stream.offset_ns, stream.rate
    )
    if size < 0:
        return None
    origin = stream.origins[-1][1]
    start, end = origin + count, origin + ends[-1]
    starts = range(start, end, size) if size else [start, *(origin + each for each in ends[:-1])]
    placed = Placed(start, end, [pcm], starts, arrivals, drained.elapsed, longest)
    return placed, (lowest - origin, highest - origin)


@compiled(Tuple((int64, int64, int64, int64))(int64[:, ::1], int64, int64, int64))
def _look(numbers: Numbers, count: int, offset_ns: int, rate: int) -> tuple[int, int, int, int]:
    """Look at blocks, the first of which should begin at a count.

    Args:
        numbers: int64 ``[3, blocks]``: when each came (monotonic ns), its last count, its bytes.
        count: Samples before them.
        offset_ns: Wall clock minus monotonic clock.
        rate: Sampling rate in Hz.

    Returns:
        Samples of each block, 0 where they differ, -1 where one does not begin where the one before
        it ends; the least and the most by which the position of an arrival is ahead of its count;
        the longest time between two arrivals.
    """
    arrivals, ends, sizes = numbers[0], numbers[1], numbers[2]
    size, lowest, highest, longest = sizes[0] // SAMPLE_BYTES, 1 << 62, -(1 << 62), 0
    before = arrivals[0]
    for block in range(ends.size):
        samples = sizes[block] // SAMPLE_BYTES
        if ends[block] - samples != count:
            return -1, 0, 0, 0
        count = ends[block]
        size = size if samples == size else 0
        # By seconds and the rest: the product of time and rate has more than 64 bits.
        wall = arrivals[block] + offset_ns
        seconds = wall // NS
        position = seconds * rate + ((wall - seconds * NS) * rate + NS // 2) // NS
        lowest, highest = min(lowest, position - count), max(highest, position - count)
        longest, before = max(longest, arrivals[block] - before), arrivals[block]
    return size, lowest, highest, longest


def _was_held(events: list[Event]) -> None:
    last = events[-1] if events else None
    if isinstance(last, Placed):
        last.held = True


def _samples(block: _Held) -> int:
    return len(block.payload) // SAMPLE_BYTES if isinstance(block.payload, bytes) else 0

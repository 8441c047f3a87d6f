"""POST of a ``process`` station on PRE's timeline: its sample n stands at PRE's sample n."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from exporter.model import SAMPLE_BYTES, Cause
from exporter.tap import UNTIMED, Drained, Item
from exporter.timeline import PATIENCE_NS, Event, Mark, Missing, Stream, going_on, put


@dataclass(slots=True)
class Follower:
    """Places POST of a ``process`` station on PRE's timeline.

    Attributes:
        leader: PRE.
        frontier: Everything before this position is placed or missing; None before PRE's anchor.
        too_late: Samples dropped because their gap was final.
        offered: Samples it was handed.
    """

    leader: Stream
    frontier: int | None = None
    too_late: int = 0
    offered: int = 0
    _pending: deque[Item] = field(default_factory=deque)
    _progress: deque[tuple[int, int]] = field(default_factory=deque)
    _count: int = 0

    def feed(self, drained: Drained, leader_events: list[Event], *, full: bool) -> list[Event]:
        """Place what a tap was handed, as far as PRE has its place."""
        events: list[Event] = []
        shared = [e for e in leader_events if isinstance(e, Missing) and e.shared]
        if not shared and self._place_steady(drained, events):
            return events
        self.offered += drained.samples
        self._pending.extend(drained.items())
        if self.frontier is None:
            if self.leader.frontier is None:
                return events
            first_count, origin = self.leader.origins[0]
            self.frontier = origin + first_count
        for gap in shared:
            self._place_until(gap.position, events, full=full)
            self._miss_until(gap.position, Cause.NOT_RECEIVED, events)
            self._miss_until(gap.position + gap.samples, gap.cause, events)
        self._place_until(None, events, full=full)
        return events

    def settle(self, now: int) -> list[Event]:
        """Give up on what PRE had 2 s ago."""
        events: list[Event] = []
        if self.frontier is None or self.leader.frontier is None:
            return events
        self._progress.append((now, self.leader.frontier))
        while self._progress and now - self._progress[0][0] >= PATIENCE_NS:
            self._miss_until(self._progress.popleft()[1], Cause.NOT_RECEIVED, events)
        return events

    def finish(self) -> list[Event]:
        """Give up on all that PRE has."""
        events: list[Event] = []
        if self.leader.frontier is not None and self.frontier is not None:
            self._miss_until(self.leader.frontier, Cause.NOT_RECEIVED, events)
        self._pending.clear()
        return events

    @property
    def held_samples(self) -> int:
        """Samples that wait for their place."""
        return sum(len(i[2]) // SAMPLE_BYTES for i in self._pending if isinstance(i[2], bytes))

    def _place_until(self, position: int | None, events: list[Event], *, full: bool) -> None:
        while self._pending:
            arrived, end, pcm, elapsed = self._pending[0]
            samples = len(pcm) // SAMPLE_BYTES
            start = end - samples
            if end > self.leader.placed_count or not isinstance(pcm, bytes):
                return
            if position is not None and self._origin_of(start) + start >= position:
                return
            self._pending.popleft()
            if full and start > self._count:
                self._miss_until(self._origin_of(start) + start, Cause.OVERRUN, events)
            self._count = end
            self._place(pcm, (start, arrived, elapsed), events)

    def _place_steady(self, drained: Drained, events: list[Event]) -> bool:
        """Place blocks that simply go on, in one go: nearly all do.

        Returns:
            Whether they do; the others go the long way.
        """
        if self.frontier is None or len(self.leader.origins) != 1 or self._pending:
            return False
        laid = going_on(drained, self._count, self.leader)
        if laid is None or drained.ends[-1] > self.leader.placed_count:
            return False
        placed, _ = laid
        if placed.position != self.frontier:
            return False
        events.append(placed)
        self._count, self.frontier = drained.ends[-1], placed.end
        self.offered += placed.end - placed.position
        return True

    def _place(self, pcm: bytes, mark: Mark, events: list[Event]) -> None:
        """Place a block; in parts when PRE's timeline moved inside it."""
        start, arrived, elapsed = mark
        while pcm:
            origin, samples = self._origin_of(start), len(pcm) // SAMPLE_BYTES
            room = min(samples, self._next_origin(start) - start)
            self._lay(pcm[: room * SAMPLE_BYTES], (origin + start, arrived, elapsed), events)
            pcm, start, elapsed = pcm[room * SAMPLE_BYTES :], start + room, UNTIMED

    def _lay(self, pcm: bytes, mark: Mark, events: list[Event]) -> None:
        position, arrived, elapsed = mark
        self._miss_until(position, Cause.NOT_RECEIVED, events)
        frontier = self.frontier or 0
        late = min(frontier - position, len(pcm) // SAMPLE_BYTES)
        if late > 0:
            self.too_late += late
            pcm, position = pcm[late * SAMPLE_BYTES :], position + late
        if pcm:
            self.frontier = put(events, pcm, (position, arrived, elapsed))

    def _miss_until(self, position: int, cause: Cause, events: list[Event]) -> None:
        if self.frontier is not None and position > self.frontier:
            events.append(Missing(self.frontier, position - self.frontier, cause))
            self.frontier = position

    def _origin_of(self, count: int) -> int:
        origins = self.leader.origins
        while len(origins) > 1 and origins[1][0] <= min(count, self._count):
            origins.popleft()
        # What a host hands over again is older than all: it is too late wherever it stood.
        oldest = origins[0][1]
        return next((origin for first, origin in reversed(origins) if first <= count), oldest)

    def _next_origin(self, count: int) -> int:
        later = (first for first, _ in self.leader.origins if first > count)
        return next(later, 1 << 62)

"""What every drain tells of a tap: how long the station took, and how much was waiting.

Each value goes into the tap's open bucket at once. For the live numbers, those of all calls at a
tap are gathered over a pass and told together: numpy costs the same for one value as for many.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from exporter.live import TapLive
from exporter.model import FRAMES_PER_SECOND
from exporter.runs import StationRun
from exporter.timeline import Placed
from exporter.track import Track

_LATENCY, _DEPTH = "pipe.processing_latency_ms", "pipe.queue_depth"


@dataclass(slots=True)
class _Gathered:
    """Values of one tap in this pass, over all calls, and where the newest latency stands."""

    latencies: list[float] = field(default_factory=list)
    depths: list[float] = field(default_factory=list)
    newest: tuple[StationRun, int] | None = None


class Noting:
    """Notes latencies and backlogs."""

    def __init__(self) -> None:
        self._gathered: dict[TapLive, _Gathered] = {}

    def latencies(self, run: StationRun, track: Track, placed: Placed, live: TapLive) -> None:
        """Take the latencies of the blocks that have one."""
        if max(placed.elapsed) < 0:
            return
        values = [ns / 1e6 for ns in placed.elapsed if ns >= 0]
        last = track.note_latencies(_LATENCY, placed, values)
        gathered = self._of(live)
        gathered.latencies += values
        gathered.newest = run, last

    def depth(self, track: Track, samples: int, live: TapLive) -> None:
        """Take what was drained as the backlog, in frames."""
        if samples and track.first is not None:
            depth = samples / (track.rate // FRAMES_PER_SECOND)
            track.note(_DEPTH, track.frontier, depth)
            self._of(live).depths.append(depth)

    def tell(self, second: int) -> None:
        """Let everything that was gathered count in the live numbers."""
        for live, gathered in self._gathered.items():
            if gathered.depths:
                live.see_values(_DEPTH, gathered.depths, second)
            if gathered.newest:
                run, position = gathered.newest
                live.see_values(_LATENCY, gathered.latencies, second)
                live.count_many(_LATENCY, gathered.latencies, run.exemplar_at(position))
            gathered.depths.clear()
            gathered.latencies.clear()
            gathered.newest = None

    def _of(self, live: TapLive) -> _Gathered:
        gathered = self._gathered.get(live)
        if gathered is None:
            gathered = self._gathered[live] = _Gathered()
        return gathered

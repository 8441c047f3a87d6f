"""Replay: recorded audio through a station, on a simulated clock, into the archive."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from archiver import Archiver
from deploy.recordings import read_all
from exporter import Clocks, Monitor
from exporter.config import Settings
from exporter.errors import ConfigError
from exporter.model import KnobValue
from exporter.processing import IMPLEMENTS, ReferenceChain

STEP_SAMPLES_S = 1.0
BACKLOG = 200
NS = 1_000_000_000


class SimulatedClock:
    """Time that moves when it is told to; wall and monotonic are the same."""

    def __init__(self, start_ns: int) -> None:
        self.now_ns = start_ns

    def __call__(self) -> int:
        """Return the simulated time."""
        return self.now_ns


@dataclass(frozen=True, slots=True)
class Plan:
    """What to replay, and how.

    Attributes:
        recordings: Files, one after the other.
        station_key: Station that hears them.
        started_at: Time of the first sample.
        src_extension: Who calls.
        dst_extension: Who is called.
        trace_id: Id of the call; made from time and extension unless given.
        knobs: Values for this call, all from its first sample.
        block_ms: Length of the blocks.
        is_realtime: Whether to take as long as the audio does.
    """

    recordings: tuple[Path, ...]
    station_key: str
    started_at: datetime
    src_extension: str = "3333"
    dst_extension: str | None = None
    trace_id: str | None = None
    knobs: dict[str, KnobValue] = field(default_factory=dict)
    block_ms: float = 20.0
    is_realtime: bool = False


def replay(
    plan: Plan,
    settings: Settings,
    archive: Archiver,
    *,
    report: Callable[[float], None] = lambda _: None,
) -> str:
    """Feed recordings through a station and end the call; return its id.

    Args:
        plan: What, where and when.
        settings: As for a host.
        archive: Started by the monitor; not stopped here.
        report: Called with the share that is done.

    Raises:
        RecordingError: A file cannot be used.
    """
    samples, rate = read_all(plan.recordings)
    step = round(plan.block_ms * rate / 1_000)
    if not 1 <= step <= 5 * rate:
        raise ConfigError(f"--block-ms {plan.block_ms:g}: a block has 1 sample to 5 s at {rate} Hz")
    start_ns = int(plan.started_at.timestamp() * 1_000_000) * 1_000
    clock = SimulatedClock(start_ns)
    monitor = Monitor(settings, archive=archive, clocks=Clocks(clock, clock), has_thread=False)
    monitor.start()
    trace = monitor.start_trace(plan.src_extension, plan.dst_extension, trace_id=plan.trace_id)
    station = trace.station(plan.station_key, rate=rate, implements=sorted(IMPLEMENTS))
    for key, value in plan.knobs.items():
        monitor.knobs.set(
            key,
            value,
            by="replay",
            reason="--knob",
            trace_id=trace.trace_id,
            station_key=plan.station_key,
        )
    chain = ReferenceChain(rate)
    begun, pending = time.monotonic(), 0
    for end, block in _blocks(samples, step):
        clock.now_ns = start_ns + end * NS // rate
        if plan.is_realtime:
            time.sleep(max(0.0, begun + end / rate - time.monotonic()))
        station.process(block, chain)
        pending += len(block) // 2
        if pending >= STEP_SAMPLES_S * rate:
            pending = 0
            monitor.step()
            report(end / len(samples))
            while archive.backlog > BACKLOG:
                time.sleep(0.01)
    trace.end()
    monitor.step()
    report(1.0)
    return trace.trace_id


def _blocks(samples: npt.NDArray[np.int16], step: int) -> Iterator[tuple[int, bytes]]:
    for start in range(0, len(samples), step):
        part = samples[start : start + step]
        yield start + len(part), part.astype("<i2").tobytes()

"""Cost of ``station.pre(bytes)``: in a hot loop, and at a 20 ms cadence with cold caches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from statistics import median
from threading import Event
from time import monotonic_ns, perf_counter_ns

import numpy as np

from benchmarks.naive import NaiveRegistry, NaiveTap
from benchmarks.timing import Contender, take_turns
from exporter.knobs import KnobValues
from exporter.station import Station

RATE = 16_000
TICK_NS = 20_000_000
BLOCKS = 50

Call = Callable[[bytes], object]


def blocks(count: int) -> list[bytes]:
    """Make frames of 20 ms of noise."""
    noise = np.random.default_rng(count).normal(0.0, 3000.0, (count, RATE // 50))
    return [row.tobytes() for row in noise.astype("<i2")]


def station(name: str = "St_1") -> Station:
    """Make a station that nobody reads."""
    return Station(name, RATE, KnobValues({}), monotonic_ns)


def hot(rounds: int = 40, calls: int = 1000) -> dict[str, float]:
    """Measure in a loop over one tap.

    Returns:
        ns per call of ``ours``, ``append`` (a bare ``deque.append``) and ``naive``.
    """
    frames = blocks(calls)
    queue: deque[bytes] = deque(maxlen=65_536)
    ours, naive = station(), NaiveTap(NaiveRegistry(), "St_1")
    sides: dict[str, tuple[Call, Callable[[], object]]] = {
        "ours": (ours.pre, ours.pre_tap.drain),
        "append": (queue.append, queue.clear),
        "naive": (naive.pre, lambda: None),
    }
    return take_turns(
        {name: Contender(_loop(call, frames), calls, tidy) for name, (call, tidy) in sides.items()},
        rounds,
    )


def _loop(call: Call, frames: Sequence[bytes]) -> Callable[[], None]:
    def run() -> None:
        for frame in frames:
            call(frame)

    return run


def cadence(seconds: float = 6.0, taps: int = 100, turns: int = 3) -> dict[str, float]:
    """Measure at a tick of 20 ms, every tap once a tick, the sides in turns.

    Each call is timed alone, the reading of the clock included. Naive taps that do not fit into a
    tick run on without a pause, which keeps their caches warm and favours them.

    Returns:
        Median ns per call of ``ours``, ``append`` and ``naive``.
    """
    frames = [blocks(BLOCKS) for _ in range(taps)]
    stations = [station(f"St_{index}") for index in range(taps)]
    queues: list[deque[bytes]] = [deque(maxlen=512) for _ in range(taps)]
    registry = NaiveRegistry()
    sides: dict[str, list[Call]] = {
        "ours": [each.pre for each in stations],
        "append": [each.append for each in queues],
        "naive": [NaiveTap(registry, each.key).pre for each in stations],
    }
    costs: dict[str, list[int]] = {name: [] for name in sides}
    for _ in range(turns):
        for name, calls in sides.items():
            costs[name] += _ticks(calls, frames, seconds=seconds / turns)
            for each in stations:
                each.pre_tap.drain()
    return {name: median(each) for name, each in costs.items()}


def _ticks(
    calls: Sequence[Call], frames: Sequence[Sequence[bytes]], *, seconds: float
) -> list[int]:
    costs: list[int] = []
    start = perf_counter_ns()
    pause = Event()
    for tick in range(int(seconds * 1e9) // TICK_NS):
        left = start + tick * TICK_NS - perf_counter_ns()
        if left > 0:
            pause.wait(left / 1e9)
        for call, blocks_ in zip(calls, frames, strict=True):
            block = blocks_[tick % BLOCKS]
            before = perf_counter_ns()
            call(block)
            costs.append(perf_counter_ns() - before)
    return costs

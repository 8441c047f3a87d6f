"""CPU time of the whole exporter thread: how many traces one core carries.

Calls run on a simulated clock, two stations with two taps each at 16 kHz, blocks of 20 ms. As in a
host, a pass begins 0.5 s after the one before it has ended, however long that took, and the page is
rendered once a second. What the host does is not counted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median
from time import thread_time

import numpy as np
import numpy.typing as npt

from benchmarks.speech import speech
from exporter import Clocks, Monitor
from exporter.analysis.pairs import Side
from exporter.analysis.pairs import compare as compare_taps
from exporter.config import load_settings
from exporter.model import BUCKET_SECONDS, Record
from exporter.station import Station
from exporter.worker import PASS_S

RATE = 16_000
BLOCK = 320
QUIET_DBFS = -50.0
START = 1_767_225_600 * 10**9
STATIONS = ("St_3_3333", "St_3_4444")


class Forget:
    """An archive that takes everything and keeps nothing."""

    def offer(self, record: Record) -> None:
        """Forget it."""


@dataclass
class Clock:
    """Simulated time in ns."""

    now: int = START

    def __call__(self) -> int:
        """Return it."""
        return self.now


def compare(traces: int = 400, seconds: float = 20.0) -> dict[str, float]:
    """Run so many calls, and compare one bucket again and again.

    Returns:
        ``traces`` that one core carries with pairs in all buckets, and ``sampled_traces`` as it is
        set up, where pairs are sampled above a load; of CPU time for a station and bucket
        ``pair_ms``, where the delay is that of the bucket before, and ``searched_ms``, where it is
        searched.
    """
    whole = run(traces, seconds)
    sampled = run(traces, seconds, warm_s=15.0, has_all_pairs=False)
    return {
        "traces": whole["traces"],
        "sampled_traces": sampled["traces"],
        "pair_ms": _pair_ms(160.0),
        "searched_ms": _pair_ms(None),
    }


def _pair_ms(known_delay: float | None, rounds: int = 30) -> float:
    """Compare one bucket of speech that is delayed by 160 samples."""
    size = BUCKET_SECONDS * RATE
    voice = speech(RATE)[: 2 * size]
    pre, post = voice[size // 2 :][:size], (voice[size // 2 - 160 :][:size] * 0.5).astype(np.int16)
    starts = np.arange(0, size, BLOCK)
    levels = 20 * np.log10(np.abs(pre.reshape(-1, BLOCK)).mean(axis=1) / 32_768 + 1e-6)
    before, after = (
        Side(each, ((0, size),), starts, levels > QUIET_DBFS, levels, levels)
        for each in (pre, post)
    )
    costs: list[float] = []
    for _ in range(rounds):
        begun = thread_time()
        compare_taps(before, after, RATE, silence_dbfs=QUIET_DBFS, known_delay=known_delay)
        costs.append(thread_time() - begun)
    return 1e3 * median(costs)


def run(
    traces: int, seconds: float, *, warm_s: float = 0.0, has_all_pairs: bool = True
) -> dict[str, float]:
    """Run calls and count.

    Args:
        traces: How many at a time.
        seconds: Simulated time that counts.
        warm_s: Simulated time before that, in which the sample of pairs finds its size.
        has_all_pairs: Whether no load is too high for pairs in all buckets.

    Returns:
        ``cpu_s`` of the exporter thread, and ``traces`` that fit into one core.
    """
    clock = Clock()
    settings = load_settings({})
    if has_all_pairs:
        settings = replace(settings, limits=replace(settings.limits, pair_load=1e9))
    monitor = Monitor(
        settings,
        archive=Forget(),
        clocks=Clocks(clock, clock),
        has_thread=False,
    )
    monitor.start()
    stations = [
        monitor.start_trace("3333", trace_id=f"call_{number}").station(key)
        if key == STATIONS[0]
        else monitor._traces[f"call_{number}"].station(key)  # noqa: SLF001 - the call just started
        for number in range(traces)
        for key in STATIONS
    ]
    cpu_s = play(monitor, clock, stations, warm_s + seconds, warm_s)
    monitor.stop()
    return {"cpu_s": cpu_s, "traces": traces * seconds / cpu_s}


def play(
    monitor: Monitor, clock: Clock, stations: list[Station], seconds: float, warm_s: float = 0.0
) -> float:
    """Play speech through stations; return the CPU time of the exporter's thread in s.

    What it does in the first ``warm_s`` is not counted.
    """
    voice = speech(RATE)
    quiet = (voice * 0.5).astype(np.int16)
    offsets = [number * 7_919 % (len(voice) - RATE) for number in range(len(stations))]
    cpu_s, pass_at, page_at = 0.0, PASS_S, 1.0
    for tick in range(int(seconds * RATE) // BLOCK):
        clock.now = START + (tick + 1) * BLOCK * 10**9 // RATE
        for station, offset in zip(stations, offsets, strict=True):
            heard = station.pre(_block(voice, offset + tick * BLOCK))
            station.post(_block(quiet, offset + tick * BLOCK), since=heard)
        now = (tick + 1) * BLOCK / RATE
        if now >= pass_at:
            begun = thread_time()
            monitor.step()
            if now >= page_at:
                monitor.render()
                page_at += 1.0
            spent = thread_time() - begun
            pass_at = now + spent + PASS_S
            cpu_s += spent if now > warm_s else 0.0
    begun = thread_time()
    monitor.step()
    return cpu_s + thread_time() - begun


def _block(pcm: npt.NDArray[np.int16], at: int) -> bytes:
    start = at % (len(pcm) - BLOCK)
    return pcm[start : start + BLOCK].tobytes()

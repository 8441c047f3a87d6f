"""What a running exporter does to the audio path: cost of the tap, lateness of a 20 ms loop.

One thread keeps 20 ms time and passes blocks through all stations, as a host does; the exporter
thread, the rendering and the endpoint run beside it. The same loop runs with monitoring disabled,
in turns, so that a noisy machine meets both. Once as the README advises, with ``favour_audio()``
before the calls come, once in a host that sets nothing for its process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from array import array
from dataclasses import replace
from time import perf_counter_ns
from typing import TypeAlias

import numpy as np

from benchmarks.exporter import BLOCK, RATE, STATIONS, Forget
from benchmarks.speech import speech
from deploy.postgres import free_port
from exporter import Monitor, favour_audio
from exporter.config import load_settings
from exporter.station import Station

TICK_NS = 20_000_000

Times: TypeAlias = "array[int]"


def in_process(seconds: float, *, favoured: bool) -> dict[str, float]:
    """Measure in a process of its own, as ``measure`` does.

    What other measurements leave behind is nothing that a host has: the garbage collector would
    walk through it while the loop waits.
    """
    command = [sys.executable, "-m", "benchmarks.lateness", str(seconds), str(int(favoured))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure(
    traces: int = 100,
    seconds: float = 120.0,
    turns: int = 4,
    *,
    warm_s: float = 10.0,
    favoured: bool = False,
) -> dict[str, float]:
    """Run the loop with monitoring and without.

    Args:
        traces: Calls at a time.
        seconds: Of each.
        turns: How often they take turns.
        warm_s: Seconds before each turn that do not count: they start threads, fill caches, set up
            all calls at once and close their first bucket.
        favoured: Whether the host calls ``favour_audio()``.

    Returns:
        In us: ``pre_p50``, ``pre_p999`` of ``station.pre`` with analysis running, and the lateness
        of the loop, ``with_p50``, ``with_p999``, ``without_p50``, ``without_p999``.
    """
    late = {True: array("q"), False: array("q")}
    costs = array("q")
    for _ in range(turns):
        for is_enabled in (False, True):
            found, spent = _loop(
                traces, warm_s + seconds / turns, is_enabled=is_enabled, favoured=favoured
            )
            warm = int(warm_s * 1e9) // TICK_NS
            late[is_enabled] += found[warm:]
            if is_enabled:
                costs += spent[warm * traces * len(STATIONS) :]
    result = {"pre_p50": _share(costs, 50), "pre_p999": _share(costs, 99.9)}
    for name, is_enabled in (("with", True), ("without", False)):
        for label, percent in (("p50", 50), ("p999", 99.9)):
            result[f"{name}_{label}"] = _share(late[is_enabled], percent)
    return result


def _loop(traces: int, seconds: float, *, is_enabled: bool, favoured: bool) -> tuple[Times, Times]:
    settings = replace(load_settings({}), enabled=is_enabled, metrics_ports=(free_port(),))
    voice = speech(RATE).tobytes()
    # No list of ints: the garbage collector would walk through a million of them.
    late, costs = array("q"), array("q")
    with Monitor(settings, archive=Forget()) as monitor:
        if favoured:
            favour_audio()
        calls = [monitor.start_trace("3333", trace_id=f"call_{n}") for n in range(traces)]
        stations = [call.station(key) for call in calls for key in STATIONS]
        start = perf_counter_ns()
        for tick in range(int(seconds * 1e9) // TICK_NS):
            due = start + tick * TICK_NS
            time.sleep(max(0.0, (due - perf_counter_ns()) / 1e9))
            late.append(perf_counter_ns() - due)
            _pass_blocks(stations, voice, tick, costs)
    return late, costs


def _pass_blocks(stations: list[Station], voice: bytes, tick: int, costs: Times) -> None:
    for number, station in enumerate(stations):
        at = (number * 7_919 + tick * BLOCK) * 2 % (len(voice) - 2 * BLOCK) // 2 * 2
        block = voice[at : at + 2 * BLOCK]
        before = perf_counter_ns()
        heard = station.pre(block)
        costs.append(perf_counter_ns() - before)
        station.post(block, since=heard)


def _share(values: Times, percent: float) -> float:
    return float(np.percentile(values, percent)) / 1e3


if __name__ == "__main__":
    print(json.dumps(measure(seconds=float(sys.argv[1]), favoured=sys.argv[2] == "1")))

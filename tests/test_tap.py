"""The tap as the audio thread sees it: no system call, no lock, nothing that is raised."""

from __future__ import annotations

import gc
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from time import monotonic_ns, perf_counter_ns, sleep

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.knobs import KnobValues
from exporter.model import Clock
from exporter.station import Station

SCRIPT = """
import os
from time import monotonic_ns
from exporter.knobs import KnobValues
from exporter.station import Station
station, block = Station("St_1", 16_000, KnobValues({}), monotonic_ns), bytes(640)
for mark in (b"warm", b"begin", b"end"):
    os.write(1, mark)
    for _ in range(5_000 if mark != b"end" else 0):
        station.post(block, since=station.pre(block))
        station.process(block, lambda pcm, _: pcm)
        station.observe("stt.confidence_score", 0.5)
    station.pre_tap.drain()
    station.post_tap.drain()
"""
MEMORY = {"brk", "madvise", "mmap", "mremap", "munmap"}


def test_the_tap_makes_no_system_call(tmp_path: Path) -> None:
    """Five thousand blocks through `pre`, `post`, `process` ask for memory at most."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: make test-tools")
    trace = tmp_path / "trace"
    command = ["strace", "-o", str(trace), "-f", sys.executable, "-c", SCRIPT]
    # numpy's library starts threads for matrices, which go to sleep whenever they like.
    alone = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, check=False, timeout=60, env=alone)
    if b"ptrace" in done.stderr:
        pytest.skip("strace is not allowed to trace here: run the tests where ptrace is permitted")

    assert b"warmbeginend" == done.stdout
    text = trace.read_text()
    between = text[text.index('"begin"') : text.index('"end"')]
    names = set(re.findall(r"^(?:\d+ +)?(\w+)\(", between, flags=re.MULTILINE))
    assert set() == names - MEMORY - {"write"}


@pytest.mark.parametrize("clock", [monotonic_ns, lambda: 5])
def test_a_latency_is_real_time_whatever_the_clock(clock: Clock) -> None:
    """From PRE to POST real time passes, on the real clock and on a simulated one."""
    station = Station("St_1", 16_000, KnobValues({}), clock)
    begun = perf_counter_ns()
    heard = station.pre(bytes(640))
    sleep(0.002)
    station.post(bytes(640), since=heard)
    passed = perf_counter_ns() - begun

    (elapsed,) = station.post_tap.drain()[0].elapsed
    assert 2_000_000 <= elapsed <= passed


def test_blocks_that_wait_give_the_garbage_collector_no_work() -> None:
    """However many blocks wait, the collector is not called: it would stop the audio thread."""
    station = Station("St_1", 16_000, KnobValues({}), monotonic_ns)
    begun: list[str] = []

    def note(phase: str, _: dict[str, int]) -> None:
        begun.append(phase)

    gc.callbacks.append(note)
    try:
        for _ in range(5_000):
            station.post(bytes(640), since=station.pre(bytes(640)))
    finally:
        gc.callbacks.remove(note)

    assert 2 >= len(begun)  # one, which what came before may have made due


@given(
    st.one_of(
        st.binary(max_size=64),
        st.binary(max_size=64).map(bytearray),
        st.integers(),
        st.none(),
        st.text(max_size=3),
        st.lists(st.integers(-5, 5), max_size=4),
        st.lists(st.floats(-1, 1), max_size=4).map(np.array),
        st.lists(st.integers(-5, 5), max_size=4).map(lambda x: np.array(x, np.int16)),
        st.lists(st.integers(-5, 5), max_size=4).map(lambda x: np.array([x, x], np.int16)),
        st.lists(st.integers(-5, 5), max_size=4).map(lambda x: np.array(x, ">i2")),
    )
)
def test_whatever_comes_is_taken_or_refused_and_never_raised(block: object) -> None:
    """Anything at all is either queued whole or counted as refused, at both taps."""
    station = Station("St_1", 16_000, KnobValues({}), monotonic_ns)

    heard = station.pre(block)  # type: ignore[arg-type] # anything may come
    station.post(block, since=heard)  # type: ignore[arg-type] # as above

    for tap in (station.pre_tap, station.post_tap):
        audio = [each for each in tap.drain()[0].payloads if isinstance(each, bytes)]
        assert 1 == len(audio) + sum(tap.rejected.values())

"""Cost of the analysis of frames: 64 taps, one second of speech at 16 kHz.

Run as a module, it prints the ns per sample of ours alone; that is how the measurement without
AVX-512 is taken: numpy and numba choose the processor's instructions when they are imported.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from statistics import median

import numpy as np
import numpy.typing as npt

from benchmarks.naive import SILENCE_DBFS, NaiveAnalysis, measure_frame
from benchmarks.speech import speech
from benchmarks.timing import Contender, take_turns
from exporter.analysis import timedomain
from exporter.analysis.analyzer import Analyzer
from exporter.analysis.frames import Stretch, TapMemory
from exporter.breath import Breath
from exporter.compiled import prepare

TAPS, FRAMES, SAMPLES, RATE = 64, 50, 320, 16_000
TRACE_SAMPLES = 4 * RATE
"""Samples a second of one trace: two stations, two taps each."""


def frames(taps: int = TAPS) -> npt.NDArray[np.int16]:
    """Return one second of speech for each tap, int16 ``[frames, samples]``."""
    voice = speech(RATE)
    parts = [np.roll(voice, -4_001 * tap)[: FRAMES * SAMPLES] for tap in range(taps)]
    return np.concatenate(parts).reshape(-1, SAMPLES)


def compare(rounds: int = 30, taps: int = TAPS) -> dict[str, float]:
    """Measure against memcpy and against numpy on every frame.

    Returns:
        ns per sample of ``time`` (the time domain), ``time_per_frame``, ``all`` (with spectrum,
        voice and loudness), ``all_per_frame`` and ``memcpy``. The sides that go frame by frame see
        one tap's second.
    """
    prepare()
    audio = frames(taps)
    copy, second, naive = np.empty_like(audio), audio[:FRAMES], NaiveAnalysis()
    contenders = {
        "time": Contender(lambda: timedomain.measure(audio, SILENCE_DBFS), audio.size),
        "all": Contender(_all(audio), audio.size),
        "memcpy": Contender(lambda: np.copyto(copy, audio), audio.size),
        "time_per_frame": Contender(lambda: [measure_frame(each) for each in second], second.size),
        "all_per_frame": Contender(lambda: [naive.measure(each) for each in second], second.size),
    }
    return take_turns(contenders, rounds)


def _all(audio: npt.NDArray[np.int16]) -> Callable[[], object]:
    """Return the whole analysis of the frames; each round goes on where the one before ended."""
    analyzer = Analyzer(SILENCE_DBFS, Breath(math.inf))
    seconds = audio.reshape(-1, FRAMES * SAMPLES)
    pcm, memories = [each.tobytes() for each in seconds], [TapMemory() for _ in seconds]
    position = 0

    def run() -> None:
        nonlocal position
        analyzer.measure(
            [
                Stretch(memory, RATE, position, [each], is_live=True, has_spectrum=True)
                for memory, each in zip(memories, pcm, strict=True)
            ]
        )
        position += FRAMES * SAMPLES

    return run


def avx512_features() -> list[str]:
    """List the AVX-512 groups that numpy uses on this machine."""
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    return [name for name in found if "AVX512" in name or name == "X86_V4"]


def without_avx512(turns: int = 5) -> dict[str, float]:
    """Measure ours in processes with and without AVX-512, in turns.

    Returns:
        ns per sample of ``with`` and ``without``; empty where there is no AVX-512.
    """
    features = avx512_features()
    if not features:
        return {}
    off = {
        "NPY_DISABLE_CPU_FEATURES": " ".join(features),
        "OPENBLAS_CORETYPE": "Haswell",
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "",
    }
    costs: dict[str, list[float]] = {"with": [], "without": []}
    for _ in range(turns):
        costs["with"].append(_in_process({}))
        costs["without"].append(_in_process(off))
    return {name: median(each) for name, each in costs.items()}


def _in_process(extra: dict[str, str]) -> float:
    command = [sys.executable, "-m", "benchmarks.analysis"]
    environment = os.environ | extra
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return float(done.stdout)


if __name__ == "__main__":
    prepare()
    whole = frames()
    print(take_turns({"all": Contender(_all(whole), whole.size)}, 30)["all"])

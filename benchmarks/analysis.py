"""Cost of the time-domain analysis: 64 taps, one second at 16 kHz.

Run as a module, it prints the ns per sample of ours alone; that is how the measurement without
AVX-512 is taken, because numpy chooses its loops when it is imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
from statistics import median

import numpy as np
import numpy.typing as npt

from benchmarks.naive import SILENCE_DBFS, measure_frame
from benchmarks.timing import Contender, take_turns
from exporter.analysis.timedomain import measure

TAPS, FRAMES, SAMPLES = 64, 50, 320


def frames(taps: int = TAPS) -> npt.NDArray[np.int16]:
    """Make one second of noise for each tap, int16 ``[frames, samples]``."""
    noise = np.random.default_rng(1).normal(0.0, 3000.0, (taps * FRAMES, SAMPLES))
    return noise.astype(np.int16)


def compare(rounds: int = 30, taps: int = TAPS) -> dict[str, float]:
    """Measure against memcpy and against numpy on every frame.

    Returns:
        ns per sample of ``ours``, ``memcpy`` and ``per_frame`` (which sees one tap's second).
    """
    audio = frames(taps)
    copy, second = np.empty_like(audio), audio[:FRAMES]
    contenders = {
        "ours": Contender(lambda: measure(audio, SILENCE_DBFS), audio.size),
        "memcpy": Contender(lambda: np.copyto(copy, audio), audio.size),
        "per_frame": Contender(lambda: [measure_frame(each) for each in second], second.size),
    }
    return take_turns(contenders, rounds)


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
    off = {"NPY_DISABLE_CPU_FEATURES": " ".join(features), "OPENBLAS_CORETYPE": "Haswell"}
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


def _print_ours() -> None:
    audio = frames()
    ours = {"ours": Contender(lambda: measure(audio, SILENCE_DBFS), audio.size)}
    print(take_turns(ours, 30)["ours"])


if __name__ == "__main__":
    _print_ours()

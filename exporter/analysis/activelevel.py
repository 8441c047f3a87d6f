"""Active speech level and activity factor: ITU-T P.56 (12/2011), clause 8, method B.

The level of the speech alone: the energy of the whole divided by the time in which somebody
speaks. Speech is where the envelope lies above a threshold 15.9 dB below that very level, or did so
within the last 200 ms; the threshold is found by measuring at powers of two and interpolating.

The recommendation takes the envelope at the sampling rate. Here it runs on sums over about 1 ms, 8
to 48 times fewer steps; the energy is exact. On speech, noise and tones the level differs from the
full-rate method by less than 0.01 dB (the tests allow 0.1 dB).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import float64, int16, int64
from numba.types import Tuple

from exporter.compiled import compiled, inlined, read_only

FULL_SCALE = 32_768.0
TIME_CONSTANT_S = 0.03
HANGOVER_S = 0.2
MARGIN_DB = 15.9
BLOCKS_PER_SECOND = 1_000
THRESHOLDS = 15
"""1, 2, 4 ... 16384, as for 16-bit samples in ITU-T G.191."""


def active_level(pcm: npt.NDArray[np.int16], rate: int) -> tuple[float, float]:
    """Measure the active speech level.

    Args:
        pcm: int16 ``[samples]``, mono, full scale 32768.
        rate: Samples per second, 8000 to 48000.

    Returns:
        Active speech level in dBFS and activity factor, 0 to 1. Both are NaN where the method finds
        no level: at digital silence, below about -74 dBFS (15.9 dB above the last bit), and where
        lone clicks carry the energy.
    """
    block = rate // BLOCKS_PER_SECOND
    decay = math.exp(-block / (rate * TIME_CONSTANT_S))
    long_term, level = _levels(pcm, block, decay, math.ceil(HANGOVER_S * rate / block))
    return level, 10.0 ** ((long_term - level) / 10.0)


@compiled(Tuple((float64, float64))(read_only(int16), int64, float64, int64))
def _levels(
    pcm: npt.NDArray[np.int16], block: int, decay: float, hangover: int
) -> tuple[float, float]:
    """Return the long-term and the active level in dBFS, NaN where there is none.

    Args:
        pcm: int16 ``[samples]``.
        block: Samples of a block.
        decay: Of the envelope from block to block: the rectified signal, smoothed twice.
        hangover: In blocks.
    """
    energy = _energy(pcm)
    if not energy:
        return math.nan, math.nan
    active = _active(pcm, block, decay, hangover)
    for threshold in range(THRESHOLDS):
        # The last block may be shorter.
        active[threshold] = min(block * active[threshold], pcm.size)
    return _decibels(energy / pcm.size), _level(energy, active)


@inlined
def _energy(pcm: npt.NDArray[np.int16]) -> int:
    """Return the sum of the squares."""
    energy = 0
    for i in range(pcm.size):
        sample = np.int32(pcm[i])
        energy += sample * sample
    return energy


@inlined
def _rectified(pcm: npt.NDArray[np.int16]) -> int:
    """Return the sum of the absolute samples."""
    total = np.int32(0)
    for i in range(pcm.size):
        total = np.int32(total + abs(np.int32(pcm[i])))
    return total


@inlined
def _active(
    pcm: npt.NDArray[np.int16], block: int, decay: float, hangover: int
) -> npt.NDArray[np.int64]:
    """Count the blocks in which the envelope lies above a threshold, or did so within the hangover.

    Returns:
        int64 ``[15]``, one count for each threshold.
    """
    # The smoothing leaves its factors out, and the thresholds have them.
    limits = 2.0 ** np.arange(THRESHOLDS + 1) * (block / (1.0 - decay) ** 2)
    limits[THRESHOLDS] = np.inf
    active = np.zeros(THRESHOLDS, np.int64)
    begun, until = np.zeros(THRESHOLDS, np.int64), np.zeros(THRESHOLDS, np.int64)
    blocks = -(-pcm.size // block)
    once = twice = 0.0
    above = 0
    for k in range(blocks):
        once = decay * once + _rectified(pcm[k * block : (k + 1) * block])
        twice = decay * twice + once
        while twice >= limits[above]:
            begun[above] = max(k, until[above])
            above += 1
        while above and twice < limits[above - 1]:
            above -= 1
            until[above] = k + hangover
            active[above] += until[above] - begun[above]
    for threshold in range(THRESHOLDS):
        if threshold < above:
            active[threshold] += blocks - begun[threshold]
        else:
            active[threshold] -= max(until[threshold] - blocks, 0)
    return active


@inlined
def _level(energy: int, active: npt.NDArray[np.int64]) -> float:
    """Spread the energy over the active samples of each threshold, and find the level.

    Returns:
        The level that lies 15.9 dB above its own threshold, in dBFS, interpolated between the
        neighbours on both sides; NaN where there is none.
    """
    lower = lower_excess = math.nan
    for threshold in range(THRESHOLDS):
        if not active[threshold]:
            break
        level = _decibels(energy / active[threshold])
        excess = level - _decibels(4.0**threshold) - MARGIN_DB
        if excess <= 0.0:
            return lower + lower_excess / (lower_excess - excess) * (level - lower)
        lower, lower_excess = level, excess
    return math.nan


@inlined
def _decibels(power: float) -> float:
    """Mean square of int16 samples in dBFS."""
    return 10.0 * math.log10(power / FULL_SCALE**2)

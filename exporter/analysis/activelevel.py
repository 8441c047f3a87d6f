"""Active speech level and activity factor: ITU-T P.56 (12/2011), clause 8, method B.

The level of the speech alone: the energy of the whole divided by the time in which somebody
speaks. Speech is where the envelope lies above a threshold 15.9 dB below that very level, or did so
within the last 200 ms; the threshold is found by measuring at powers of two and interpolating.

The recommendation takes the envelope at the sampling rate. Here it runs on sums over
1 ms or a little less, 8 to 32 times fewer steps; the energy is exact. On speech, noise and tones
the level differs from the full-rate method by less than 0.01 dB (the tests allow 0.1 dB).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import float64, int16, int64

from exporter.compiled import compiled, inlined, read_only

FULL_SCALE = 32_768.0
TIME_CONSTANT_S = 0.03
HANGOVER_S = 0.2
MARGIN_DB = 15.9
BLOCKS_PER_SECOND = 1_000
"""At least: a block is the largest power of two of samples that is no longer."""
THRESHOLDS = 15
"""1, 2, 4 ... 16384, as for 16-bit samples in ITU-T G.191."""
UNKNOWN = (math.nan, math.nan)

Samples = npt.NDArray[np.int16]


def active_level(pcm: Samples, rate: int) -> tuple[float, float]:
    """Measure the active speech level.

    Args:
        pcm: int16 ``[samples]``, mono, full scale 32768.
        rate: Samples per second, 8000 to 48000.

    Returns:
        Active speech level in dBFS and activity factor, 0 to 1. Both are NaN where the method finds
        no level: at digital silence, below about -74 dBFS (15.9 dB above the last bit), and where
        lone clicks carry the energy.
    """
    energy = _energy(pcm)
    if not energy:
        return UNKNOWN
    block = 1 << (rate // BLOCKS_PER_SECOND).bit_length() - 1
    decay = math.exp(-block / (rate * TIME_CONSTANT_S))
    level = _level(pcm, energy, block, decay, math.ceil(HANGOVER_S * rate / block))
    long_term = 10.0 * math.log10(energy / pcm.size / FULL_SCALE**2)
    return level, 10.0 ** ((long_term - level) / 10.0)


@compiled(int64(read_only(int16)))
def _energy(pcm: Samples) -> int:
    """Return the sum of the squares."""
    energy = 0
    for i in range(pcm.size):
        energy += int(np.int32(pcm[i]) * np.int32(pcm[i]))
    return energy


@compiled(float64(read_only(int16), int64, int64, float64, int64))
def _level(pcm: Samples, energy: int, block: int, decay: float, hangover: int) -> float:
    """Spread the energy over the active time of each threshold, and find the level.

    Args:
        pcm: int16 ``[samples]``.
        energy: Sum of their squares.
        block: Samples of a block, a power of two from 4 on.
        decay: Of the envelope from block to block.
        hangover: In blocks.

    Returns:
        The level that lies 15.9 dB above its own threshold, in dBFS, interpolated between the
        neighbours on both sides; NaN where there is none.
    """
    active = _active(_rectified(pcm, block), block, decay, hangover)
    lower = lower_excess = math.nan
    for threshold in range(THRESHOLDS):
        if not active[threshold]:
            break
        level = _decibels(energy / (block * active[threshold]))
        excess = level - _decibels(4.0**threshold) - MARGIN_DB
        if excess <= 0.0:
            return lower + lower_excess / (lower_excess - excess) * (level - lower)
        lower, lower_excess = level, excess
    return math.nan


@inlined
def _rectified(pcm: Samples, block: int) -> npt.NDArray[np.int32]:
    """Return the sum of the absolute samples of each block; what is no whole block is left out.

    Neighbours are added, then sums of neighbours, two of them read as one word: that has vector
    instructions, a loop over the few samples of a block has none.
    """
    samples = pcm[: pcm.size // block * block].view(np.int32)
    sums = np.empty(samples.size, np.int32)
    for i in range(samples.size):
        sums[i] = abs(np.int32(np.int16(samples[i]))) + abs(samples[i] >> 16)
    while block > 2:  # noqa: PLR2004 - two samples make a word
        block //= 2
        pairs = sums.view(np.int64)
        sums = np.empty(pairs.size, np.int32)
        for i in range(pairs.size):
            sums[i] = np.int32(pairs[i]) + np.int32(pairs[i] >> 32)
    return sums


@inlined
def _active(
    rectified: npt.NDArray[np.int32], block: int, decay: float, hangover: int
) -> npt.NDArray[np.int64]:
    """Count the blocks in which the envelope lies above a threshold, or did so within the hangover.

    The envelope is the rectified signal, smoothed twice.

    Returns:
        int64 ``[15]``, one count for each threshold.
    """
    # The smoothing leaves its factors out, and the thresholds have them.
    limits = 2.0 ** np.arange(THRESHOLDS + 1) * (block / (1.0 - decay) ** 2)
    limits[THRESHOLDS] = np.inf
    active = np.zeros(THRESHOLDS, np.int64)
    begun, until = np.zeros(THRESHOLDS, np.int64), np.zeros(THRESHOLDS, np.int64)
    once = twice = 0.0
    above = 0
    for k in range(rectified.size):
        once = decay * once + rectified[k]
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
            active[threshold] += rectified.size - begun[threshold]
        else:
            active[threshold] -= max(until[threshold] - rectified.size, 0)
    return active


@inlined
def _decibels(power: float) -> float:
    """Mean square of int16 samples in dBFS."""
    return 10.0 * math.log10(power / FULL_SCALE**2)

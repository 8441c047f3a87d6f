"""Active speech level and activity factor: ITU-T P.56 (12/2011), clause 8, method B.

The level of the speech alone: the energy of the whole divided by the time in which somebody
speaks. Speech is where the envelope lies above a threshold 15.9 dB below that very level, or did so
within the last 200 ms; the threshold is found by measuring at powers of two and interpolating.

The recommendation takes the envelope at the sampling rate. Here it runs on means over about 1 ms,
8 to 48 times fewer steps; the energy is exact. On speech, noise and tones the level differs from
the full-rate method by less than 0.01 dB (the tests allow 0.1 dB).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

FULL_SCALE = 32_768.0
TIME_CONSTANT_S = 0.03
HANGOVER_S = 0.2
MARGIN_DB = 15.9
BLOCKS_PER_SECOND = 1_000
PIECE = 100
"""Pairs of blocks that are read in one go: of more, OpenBLAS might wake its threads."""
THRESHOLDS = 15
"""1, 2, 4 ... 16384, as for 16-bit samples in ITU-T G.191."""

UNKNOWN = (math.nan, math.nan)


@dataclass(frozen=True, slots=True)
class _Recording:
    """What the thresholds are tried on.

    Attributes:
        samples: How many samples there are.
        energy: Sum of their squares.
        envelope: float32 ``[blocks]``, in units of the samples: at each block the highest of the
            last 200 ms, so that speech is where this lies above the threshold.
        block: Samples in a block.
    """

    samples: int
    energy: float
    envelope: npt.NDArray[np.float32]
    block: int

    def level(self, threshold: float) -> float | None:
        """Spread the energy over the active time at a threshold; dBFS, None without such time."""
        active = self.block * int(np.count_nonzero(self.envelope >= threshold))
        if not active:
            return None
        # The last block may have been filled up.
        return _decibels(self.energy / min(active, self.samples))


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
    recording = _read(pcm, rate)
    if recording.energy == 0.0:
        return UNKNOWN
    long_term = _decibels(recording.energy / recording.samples)
    level = _active_level(recording, long_term)
    return level, 10.0 ** ((long_term - level) / 10.0)


def _read(pcm: npt.NDArray[np.int16], rate: int) -> _Recording:
    """Take the energy, and the envelope: the rectified signal smoothed twice with 30 ms."""
    block = rate // BLOCKS_PER_SECOND
    blocks = -(-pcm.size // block)
    # Two blocks in a row: products with one column, or with shorter rows, take far longer.
    real = np.empty((-(-blocks // (2 * PIECE)), PIECE, 2 * block), np.float32)
    flat = real.reshape(-1)
    # The absolute of the lowest sample needs all 16 bits.
    flat[: pcm.size], flat[pcm.size :] = np.abs(pcm).view(np.uint16), 0
    pieces = real.reshape(len(real), -1)
    energy = float(np.vecdot(pieces, pieces).sum(dtype=np.float64))
    means = (real @ _average_of_two(block)).reshape(-1)[:blocks]
    decay = math.exp(-block / (rate * TIME_CONSTANT_S))
    envelope = lfilter([(1.0 - decay) ** 2], [1.0, -2.0 * decay, decay**2], means)
    held = _held(envelope.astype(np.float32), math.ceil(HANGOVER_S * rate / block))
    return _Recording(pcm.size, energy, held, block)


@lru_cache(maxsize=8)
def _average_of_two(block: int) -> npt.NDArray[np.float32]:
    """Return what takes two blocks to their means, float32 ``[2 * block, 2]``."""
    return np.repeat(np.eye(2, dtype=np.float32) / block, block, axis=0)


def _held(envelope: npt.NDArray[np.float32], hangover: int) -> npt.NDArray[np.float32]:
    """Return the highest value at each block and the ``hangover`` blocks before it."""
    held = np.concatenate([np.zeros(hangover, np.float32), envelope])
    seen = 1
    while seen <= hangover:
        more = min(seen, hangover + 1 - seen)
        held = np.maximum(held[more:], held[:-more])
        seen += more
    return held


def _active_level(recording: _Recording, long_term: float) -> float:
    """Find the level that lies 15.9 dB above its own threshold; dBFS, NaN where there is none.

    No active level lies below the long-term level. So a threshold more than 15.9 dB below the
    latter cannot be the answer, and only the last of them is tried, to interpolate from.
    """
    octave = _decibels(4.0) - _decibels(1.0)
    candidate = (long_term - MARGIN_DB - _decibels(1.0)) / octave
    below: tuple[float, float] | None = None
    for exponent in range(max(math.floor(candidate - 0.5), 0), THRESHOLDS):
        threshold = 2.0**exponent
        level = recording.level(threshold)
        if level is None:
            break
        excess = level - _decibels(threshold**2) - MARGIN_DB
        if excess <= 0.0:
            return _between(below, (level, excess))
        below = level, excess
    return math.nan


def _between(below: tuple[float, float] | None, above: tuple[float, float]) -> float:
    """Interpolate the level to where nothing exceeds the margin; pairs of level and excess."""
    if below is None:
        return math.nan
    share = below[1] / (below[1] - above[1])
    return below[0] + share * (above[0] - below[0])


def _decibels(power: float) -> float:
    """Mean square of int16 samples in dBFS."""
    return 10.0 * math.log10(power / FULL_SCALE**2)

"""Hann spectra of PRE and POST, frame by frame: how far apart they are, and how coherent.

The frames are the segments of Welch's method. Both taps are transformed as the parts of one complex
signal, as in ``exporter.analysis.alignment``.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numba import types
from scipy import fft

from exporter.analysis import alignment
from exporter.analysis.alignment import Signal, Spectra
from exporter.analysis.timedomain import FULL_SCALE, Column
from exporter.compiled import compiled, inlined
from exporter.model import FRAMES_PER_SECOND

_FLOOR_DB = -80.0
# 300 to 3400 Hz: bins are as far apart as there are frames in a second.
_FIRST_COHERENT, _LAST_COHERENT = 300 // FRAMES_PER_SECOND, 3_400 // FRAMES_PER_SECOND
# Signals that have nothing in common seem coherent by one over the number of segments.
_MIN_SEGMENTS = 16
# Keeps a division by a level finite; far below the square of one sample.
_TINY = 1e-6

_ONE = np.uint64(1)
_BINS, _ROWS = types.complex64[::1], types.complex64[:, ::1]


class PairSpectra:
    """Hann spectra of the sound.

    Attributes:
        fraction: The part of a sample that POST lies further behind.
    """

    def __init__(self, both: Spectra) -> None:
        """Transform frames of PRE and POST, the parts of ``[F, n]``, which is lost."""
        count, self._samples = both.shape
        bins = self._samples // 2 + 1
        self._power = np.empty((count, bins), np.complex64)
        self._sums, self._cross = np.zeros((2, bins), np.complex64)
        if count:
            _split(fft.fft(both, overwrite_x=True), self._power, self._sums, self._cross)
        level = self._sums[alignment.FIRST_BIN :].sum(dtype=np.complex128)
        self._pre_level, self._post_level = float(level.real), float(level.imag)
        self.fraction = alignment.fraction(self._cross, self._samples)

    def correlation(self) -> float:
        """Return the signed correlation, 0 where it is larger at another whole lag near."""
        energy = self._pre_level * self._post_level
        product = alignment.peak_product(self._cross, self._samples, self.fraction)
        return product / math.sqrt(energy) if energy else 0.0

    def distance_db(self) -> Column:
        """Return the RMS difference of the spectra in decibels, less that of the level, ``[F]``.

        The level is that of the bucket's speech without direct current; what lies below -80 dB re
        full scale counts as -80 dB.
        """
        gain = self._post_level / max(self._pre_level, _TINY)
        nepers = np.empty(self._power.shape, np.float32)
        _divide(self._power, gain, _floor(self._samples), nepers)
        # Numpy takes the logarithms of a whole array faster than a loop can.
        np.log(nepers, out=nepers)
        mean_square = np.vecdot(nepers, nepers) / self._cross.size
        return np.asarray(10.0 / math.log(10.0) * np.sqrt(mean_square), np.float64)

    def coherence(self) -> float:
        """Return the magnitude-squared coherence of 300 to 3400 Hz, the mean over bins.

        NaN where too few frames tell, or no bin has power.
        """
        if len(self._power) < _MIN_SEGMENTS:
            return math.nan
        return _coherence(self._sums, self._cross)


@lru_cache(maxsize=8)
def half_window(samples: int) -> Signal:
    """Return half of Hann's window, periodic: ``_split`` adds halves; read-only, all share it."""
    hann = (0.5 * np.hanning(samples + 1)[:-1]).astype(np.float32)
    hann.flags.writeable = False
    return hann


@lru_cache(maxsize=8)
def _floor(samples: int) -> float:
    """Return the power in a bin at -80 dB; the bins of a frame add up to its mean square."""
    unit = 2.0 * samples * float(np.square(half_window(samples)).sum())
    return unit * FULL_SCALE**2 * math.pow(10.0, _FLOOR_DB / 10.0)


@compiled(types.void(_ROWS, _ROWS, _BINS, _BINS))
def _split(both: Spectra, power: Spectra, sums: Spectra, cross: Spectra) -> None:
    """Tell the spectra of PRE and POST apart.

    Args:
        both: Transforms of PRE and POST as the parts of one signal, ``[F, n]``.
        power: Gets the squared magnitudes, PRE's as the real part, POST's as the imaginary one.
        sums: Gets the sums of these, added.
        cross: Gets ``conj(PRE) POST``, added.
    """
    for i in range(len(both)):
        powers, row = power[i], both[i]
        n = np.uint64(row.size)
        powers[0], product = _parts(row[0], row[0])
        cross[0] += product
        for k in range(_ONE, np.uint64(powers.size)):
            powers[k], product = _parts(row[k], row[n - k])
            cross[k] += product
        for k in range(powers.size):
            sums[k] += powers[k]


@inlined
def _parts(ahead: complex, behind: complex) -> tuple[complex, complex]:
    """Return powers and cross power of two signals in a bin of both, and the bin at minus that."""
    pre_real, pre_imag = ahead.real + behind.real, ahead.imag - behind.imag
    post_real, post_imag = ahead.imag + behind.imag, behind.real - ahead.real
    powers = complex(
        pre_real * pre_real + pre_imag * pre_imag, post_real * post_real + post_imag * post_imag
    )
    product = complex(
        pre_real * post_real + pre_imag * post_imag, pre_real * post_imag - pre_imag * post_real
    )
    return powers, product


@compiled(types.void(_ROWS, types.float64, types.float64, types.float32[:, ::1]))
def _divide(power: Spectra, gain: float, floor: float, ratios: Signal) -> None:
    """Divide PRE's powers under a gain by POST's, neither below the floor."""
    least = np.float32(floor)
    for i in range(len(power)):
        powers, row = power[i], ratios[i]
        for k in range(row.size):
            row[k] = max(powers[k].real * np.float32(gain), least) / max(powers[k].imag, least)


@compiled(types.float64(_BINS, _BINS))
def _coherence(sums: Spectra, cross: Spectra) -> float:
    """Return the mean over the bins that have power."""
    total, count = 0.0, 0
    for k in range(_FIRST_COHERENT, _LAST_COHERENT + 1):
        power = float(sums[k].real) * float(sums[k].imag)
        if power > 0.0:
            real, imag = float(cross[k].real), float(cross[k].imag)
            total += (real * real + imag * imag) / power
            count += 1
    return min(1.0, total / count) if count else math.nan

"""Harmonic ratio of 20 ms frames, many frames at a time.

The largest coefficient of correlation of the overlapping parts of a frame x and the one before it,
sum x[t] x[t+k] / sqrt(sum x[t]^2 sum x[t+k]^2), their mean removed, k from 1/400 s to 1/60 s. From
16 kHz on, x are the sums of 2, 3 .. adjacent samples, as many as leave 8 kHz or more: a low-pass
filter (-4 dB at half that rate), whose aliases keep their period.

All lags are looked at on sums of adjacent samples that leave 4 kHz or more, by FFT; then the lags
about the best of them closely. Where several lags are nearly as good, as in noise, the one that
is found may not be the very best.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.fft
from numpy.lib.stride_tricks import as_strided

from exporter.analysis.frames import largest_step
from exporter.model import FRAMES_PER_SECOND

TILE_ROWS = 256
FINE_RATE, COARSE_RATE = 8_000, 4_000
LOWEST_PITCH, HIGHEST_PITCH = 60, 400
# What rounding leaves correlates too. To the energy of either part come -50 dB of the whole, which
# is more than the rounding of a running sum takes away, and a tenth of a squared int16 step.
PART_FLOOR = 1e-5
ENERGY_FLOOR = 0.1
# From more in a matrix product on, OpenBLAS wakes its threads.
_MOST_PRODUCTS = 2**18

Real = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]


class Voicing:
    """Harmonic ratio of each row of a tile with the row before it.

    The working arrays are made once for a measurement.

    Args:
        samples: Of a frame.
    """

    def __init__(self, samples: int) -> None:
        self._step = largest_step(samples, samples * FRAMES_PER_SECOND // FINE_RATE)
        self._frame = samples // self._step
        rate = self._frame * FRAMES_PER_SECOND
        self._first, self._last = -(-rate // HIGHEST_PITCH), rate // LOWEST_PITCH
        self._reduced = np.empty((TILE_ROWS, self._frame), np.float32)
        self._half_mean = np.full(self._frame, 0.5 / self._frame, np.float32)
        # Two frames between zeros: from there, each lag's overlap is a stretch of one length.
        self._coarse = _Coarse(self._frame, self._first, self._last)
        self._margin = self._last + self._coarse.step
        width = 2 * (self._frame + self._margin)
        self._laid = np.zeros((TILE_ROWS - 1, width), np.float32)
        self._pairs = self._laid[:, self._margin : self._margin + 2 * self._frame]
        self._starts = np.arange(TILE_ROWS - 1) * width + self._margin

    def read(self, real: Real) -> Real:
        """Return the ratio of each row but the first.

        Args:
            real: Samples of a tile, float32 ``[256, samples]``.
        """
        reduced = self._reduced
        _add_up(real, self._step, reduced)
        half_mean = np.vecdot(reduced, self._half_mean)
        mean = half_mean[1:] + half_mean[:-1]
        return self._closely(_pair_up(reduced, mean, self._pairs), self._coarse.lags(reduced, mean))

    def _closely(self, pairs: Real, lags: Places) -> Real:
        """Return the largest ratio at the lags that round to the given ones."""
        step, size = self._coarse.step, 2 * self._frame
        lags = np.clip(lags * step - (step - 1), self._first, self._last - 2 * (step - 1))
        later = self._stretches(lags, size + 2 * (step - 1))
        earlier = self._stretches(-lags, size)
        behind: Real = np.vecdot(later[:, :size], later[:, :size])
        before: Real = np.vecdot(earlier, earlier)
        floor = np.float32(PART_FLOOR) * np.vecdot(pairs, pairs) + np.float32(ENERGY_FLOOR)
        best = np.zeros(len(pairs), np.float32)
        for further in range(2 * step - 1):
            if further:
                # One lag more, and either part loses a sample.
                behind -= np.square(later[:, further - 1])
                before -= np.square(earlier[:, size - further])
            product = np.vecdot(later[:, further : further + size], pairs)
            product /= np.sqrt((behind + floor) * (before + floor))
            np.maximum(best, product, out=best)
        return np.minimum(best, 1)

    def _stretches(self, offsets: Places, length: int) -> Real:
        """Copy from each row what begins so far behind the first of its two frames."""
        flat = self._laid.reshape(-1)
        (step,) = flat.strides
        shape = (flat.size - length + 1, length)
        return np.asarray(as_strided(flat, shape, (step, step))[self._starts + offsets])


class _Coarse:
    """Looks at all lags, at a low rate."""

    def __init__(self, frame: int, first: int, last: int) -> None:
        self.step = largest_step(frame, frame * FRAMES_PER_SECOND // COARSE_RATE)
        size = 2 * frame // self.step
        self._lags = slice(first // self.step, -(-last // self.step) + 1)
        half = scipy.fft.next_fast_len((size + self._lags.stop) // 2 + 1, real=True)
        self._reduced = np.empty((TILE_ROWS, frame // self.step), np.float32)
        self._laid = np.zeros((TILE_ROWS, 2 * half), np.float32)
        self._pairs = self._laid[:-1, :size]
        bins, lags = np.arange(half + 1), np.arange(self._lags.start, self._lags.stop)
        cosines = np.cos(np.pi / half * np.outer(bins, lags))
        cosines[1:-1] *= 2
        # The overlap grows shorter: as if both parts had the energy of their share of the whole.
        self._to_products = (cosines / (size - lags)).astype(np.float32)
        abreast = TILE_ROWS
        while abreast * cosines.size > _MOST_PRODUCTS:
            abreast //= 2
        self._power_shape = -1, abreast, half + 1

    def lags(self, frames: Real, mean: Real) -> Places:
        """Return the best lag of each row but the first, in coarse samples."""
        _add_up(frames, self.step, self._reduced)
        _pair_up(self._reduced, self.step * mean, self._pairs)
        power: Real = np.abs(scipy.fft.rfft(self._laid))
        np.multiply(power, power, out=power)
        # The inverse transform of a real spectrum is one of cosines; for few lags, this is faster.
        products = power.reshape(self._power_shape) @ self._to_products
        best = products.reshape(TILE_ROWS, -1)[:-1].argmax(axis=1)
        return np.asarray(best) + self._lags.start


def _pair_up(frames: Real, mean: Real, pairs: Real) -> Real:
    """Lay out each row but the first behind the one before, less the mean of both."""
    length = frames.shape[1]
    np.subtract(frames[:-1], mean[:, None], out=pairs[:, :length])
    np.subtract(frames[1:], mean[:, None], out=pairs[:, length:])
    return pairs


def _add_up(values: Real, step: int, sums: Real) -> None:
    """Add up each ``step`` adjacent values of a row."""
    np.copyto(sums, values[:, ::step])
    for first in range(1, step):
        sums += values[:, first::step]

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

from functools import cache

import numpy as np
import numpy.typing as npt
import scipy.fft

from exporter.analysis.frames import largest_step
from exporter.model import FRAMES_PER_SECOND

# Rows of a tile are a multiple of this: whole groups for what takes several rows at a time.
ROWS_ABREAST = 16
LAGS_ABREAST = 16
FINE_RATE, COARSE_RATE = 8_000, 4_000
LOWEST_PITCH, HIGHEST_PITCH = 60, 400
# What rounding leaves correlates too. To the energy of either part come -50 dB of the whole, which
# is more than the rounding of a running sum takes away, and a tenth of a squared int16 step.
PART_FLOOR = 1e-5
ENERGY_FLOOR = 0.1
# From more in a matrix product on, OpenBLAS wakes its threads.
MOST_PRODUCTS = 2**18

Real = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]


class Voicing:
    """Harmonic ratio of each row of a tile with the frame before it.

    The working arrays are made once for a measurement. numpy computes quickly in arrays without
    holes, and copies quickly: so what is computed is copied to its place among zeros.

    Args:
        samples: Of a frame.
        height: Rows of a tile, a multiple of 16.
    """

    def __init__(self, samples: int, height: int) -> None:
        self._step = largest_step(samples, samples * FRAMES_PER_SECOND // FINE_RATE)
        self._frame = samples // self._step
        rate = self._frame * FRAMES_PER_SECOND
        self._first, self._last = -(-rate // HIGHEST_PITCH), rate // LOWEST_PITCH
        self._reduced = np.empty((height, self._frame), np.float32)
        self._half_mean = np.full(self._frame, 0.5 / self._frame, np.float32)
        pairs = height - 1
        self._halves = np.empty((2, pairs, self._frame), np.float32)
        self._coarse = _Coarse(self._frame, self._first, self._last, height)
        # Two frames before zeros: from there, each lag's overlap is a stretch of one length.
        self._laid = np.zeros((pairs, 2 * self._frame + self._last), np.float32)
        self._starts = np.arange(pairs) * self._laid.shape[1]
        lags = 2 * self._coarse.step - 1
        self._product, self._early, self._late = np.empty((3, lags, pairs), np.float32)

    def read(self, real: Real, places: Places, before: Real) -> Real:
        """Return the ratio of each row but the first.

        Args:
            real: Samples of a tile, float32 ``[height, samples]``.
            places: Rows that do not follow the row above.
            before: float32 ``[as many, samples]``, what they follow.
        """
        reduced = self._reduced
        _add_up(real, self._step, reduced)
        reduced_before = np.empty((len(before), self._frame), np.float32)
        _add_up(before, self._step, reduced_before)
        half_mean = np.vecdot(reduced, self._half_mean)
        half_before = half_mean[:-1].copy()
        half_before[places - 1] = np.vecdot(reduced_before, self._half_mean)
        mean = (half_mean[1:] + half_before)[:, None]
        earlier, later = self._halves
        np.subtract(reduced[:-1], mean, out=earlier)
        earlier[places - 1] = reduced_before - mean[places - 1]
        np.subtract(reduced[1:], mean, out=later)
        self._laid[:, : self._frame] = earlier
        self._laid[:, self._frame : 2 * self._frame] = later
        return self._closely(self._coarse.lags(earlier, later))

    def _closely(self, lags: Places) -> Real:
        """Return the largest ratio at the given lags and at the next that round to the same."""
        size, more = 2 * self._frame, 2 * (self._coarse.step - 1)
        pairs = self._laid[:, :size]
        late = self._stretches(lags, size + more)
        for further, product in enumerate(self._product):
            np.vecdot(late[:, further : further + size], pairs, out=product)
        end = self._stretches(size - more - lags, self._last)
        self._product /= np.sqrt(self._energies(np.vecdot(pairs, pairs), late[:, :size], end))
        best = np.maximum.reduce(self._product)
        return np.asarray(np.minimum(np.maximum(best, 0, out=best), 1, out=best))

    def _energies(self, whole: Real, late: Real, end: Real) -> Real:
        """Return the product of both parts' energies for each lag; the early part lacks the end."""
        early_energy, late_energy = self._early, self._late
        more = len(early_energy) - 1
        np.vecdot(late, late, out=late_energy[0])
        np.subtract(whole, np.vecdot(end[:, more:], end[:, more:]), out=early_energy[0])
        for lag in range(more):
            # One lag more, and either part loses a sample.
            np.subtract(late_energy[lag], np.square(late[:, lag]), out=late_energy[lag + 1])
            lost = np.square(end[:, more - 1 - lag])
            np.subtract(early_energy[lag], lost, out=early_energy[lag + 1])
        floor = np.float32(PART_FLOOR) * whole + np.float32(ENERGY_FLOOR)
        early_energy += floor
        late_energy += floor
        return np.multiply(early_energy, late_energy, out=early_energy)

    def _stretches(self, offsets: Places, length: int) -> Real:
        """Copy from each row what begins at such a place of it: items that overlap."""
        item = np.dtype((np.void, length * self._laid.itemsize))
        count = self._laid.size - length + 1
        items = np.ndarray(count, item, self._laid.data, strides=self._laid.itemsize)
        return np.asarray(items[self._starts + offsets].view(np.float32).reshape(-1, length))


class _Coarse:
    """Looks at all lags, at a low rate."""

    def __init__(self, frame: int, first: int, last: int, height: int) -> None:
        self.step = largest_step(frame, frame * FRAMES_PER_SECOND // COARSE_RATE)
        self._frame = frame // self.step
        size = 2 * self._frame
        # In whole groups, the last one repeated: products and their largest are found faster.
        lags = np.arange(first // self.step, -(-last // self.step) + 1)
        lags = np.pad(lags, (0, -len(lags) % LAGS_ABREAST), mode="edge")
        # The first of the lags that round to each, at the rate of the frames.
        self._close = np.clip((lags - 1) * self.step + 1, first, last - 2 * (self.step - 1))
        half = scipy.fft.next_fast_len((size + int(lags[-1])) // 2 + 1, real=True)
        self._reduced = np.empty((height - 1, self._frame), np.float32)
        self._laid = np.zeros((height, 2 * half), np.float32)
        self._to_products = _inverse(size, half, tuple(lags.tolist()))
        abreast = ROWS_ABREAST
        while abreast * self._to_products.size > MOST_PRODUCTS:
            abreast //= 2
        self._power_shape = -1, abreast, half

    def lags(self, earlier: Real, later: Real) -> Places:
        """Return for each pair the first of the lags to look at closely, at the frames' rate."""
        for first, frames in ((0, earlier), (self._frame, later)):
            _add_up(frames, self.step, self._reduced)
            self._laid[:-1, first : first + self._frame] = self._reduced
        power: Real = np.abs(scipy.fft.rfft(self._laid))
        np.multiply(power, power, out=power)
        products = power[:, 1:].reshape(self._power_shape) @ self._to_products
        return np.asarray(self._close[products.reshape(-1, len(self._close))[:-1].argmax(axis=1)])


@cache
def _inverse(size: int, half: int, lags: tuple[int, ...]) -> Real:
    """Return the matrix from powers to products at some lags; for few, this beats the FFT.

    The inverse transform of a real spectrum is one of cosines; without a mean, bin 0 is 0. The
    overlap of ``size`` values grows shorter: as if both parts had the energy of their share of the
    whole.
    """
    cosines = np.cos(np.pi / half * np.outer(np.arange(1, half + 1), lags))
    cosines[:-1] *= 2
    return np.asarray(cosines / (size - np.array(lags)), np.float32)


def _add_up(values: Real, step: int, sums: Real) -> None:
    """Add up each ``step`` adjacent values of a row."""
    if step == 1:
        np.copyto(sums, values)
        return
    np.add(values[:, ::step], values[:, 1::step], out=sums)
    for first in range(2, step):
        sums += values[:, first::step]

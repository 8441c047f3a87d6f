"""Spectral metrics of 20 ms frames, many frames at a time.

One spectrum serves all but the harmonic ratio. The frame's mean is removed, the periodic Hann
window w[t] = (1 - cos(2 pi t / n)) / 2 applied, and P[k] is the one-sided power of bin k, at 50 k
Hz, for k = 1 .. n // 2: twice abs(X[k])^2, once at half the rate, over n sum w^2 32768^2, so that
the sum over a band is its mean square re full scale. Bin 0 is left out everywhere, half the rate
of the bands only. A frame of equal samples has no power: its metrics are unknown and its bands at
the floor, as at digital silence.

Frames go through in float32, in tiles that stay in the second-level cache. A tile begins with the
last row of the one before, so that each row finds the row that it follows; the last tile is
padded, so that a row's value does not depend on its neighbours. No matrix product over a tile is
so large that OpenBLAS would wake its threads: they wait for a core where audio comes first.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import scipy.fft

from exporter.analysis.voicing import TILE_ROWS, Voicing
from exporter.model import FRAMES_PER_SECOND

KEYS = (
    "fft.dominant_frequency",
    "fft.spectral_centroid",
    "fft.spectral_bandwidth",
    "fft.spectral_rolloff",
    "fft.spectral_flatness",
    "fft.spectral_flux",
    "fft.harmonic_ratio",
    "fft.low_band_energy",
    "fft.mid_band_energy",
    "fft.high_band_energy",
)
_DOMINANT, _CENTROID, _BANDWIDTH, _ROLLOFF, _FLATNESS, _FLUX, _HARMONIC = range(7)
_BANDS = slice(7, 10)

BIN_HZ = float(FRAMES_PER_SECOND)
FULL_SCALE = 32_768.0
FLOOR_DB = -120.0
ROLLOFF_SHARE = 0.85
# For flatness, a bin counts as no weaker than a tenth of what rounding to int16 leaves in it:
# between the lines of a computed signal there may be nothing at all.
FLATNESS_FLOOR = 1e-13
# Bins are summed in blocks of 500 Hz: the borders of the bands are borders of blocks.
BLOCK_BINS = 10
BAND_BLOCKS = (slice(0, 1), slice(1, 4), slice(4, 16))

Frames = npt.NDArray[np.int16]
Real = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
Values = npt.NDArray[np.float64]


def measure(frames: Frames, follows: Flags, rate: int) -> Values:
    """Measure frames.

    Args:
        frames: int16 ``[rows, rate / 50]``, mono, full scale 32768.
        follows: bool ``[rows]``: row i - 1 is the frame directly before row i of the same stream;
            False for row 0. Rows that are there for this alone are the caller's to drop.
        rate: Samples per second, 8000 to 48000, divisible by 50.

    Returns:
        float64 ``[rows, 10]``, columns as ``KEYS``; NaN where a metric is unknown.
    """
    rows, samples = len(frames), rate // FRAMES_PER_SECOND
    values = np.zeros((rows + TILE_ROWS, len(KEYS)), np.float64)
    # One reader after the other: the arrays of either fill the cache.
    spectra, voicing = _Spectra(samples), Voicing(samples)
    for start, real in _tiles(frames):
        spectra.read(real, values[start : start + TILE_ROWS])
    for start, real in _tiles(frames):
        values[start + 1 : start + TILE_ROWS, _HARMONIC] = voicing.read(real)
    return _finish(values[:rows], _has_power(frames), follows)


def _tiles(frames: Frames) -> Iterator[tuple[int, Real]]:
    """Yield the first row of each tile and its samples, float32, the reader's to overwrite."""
    real = np.empty((TILE_ROWS, frames.shape[1]), np.float32)
    for start in range(0, max(len(frames) - 1, 1), TILE_ROWS - 1):
        tile = frames[start : start + TILE_ROWS]
        real[: len(tile)] = tile
        real[len(tile) :] = 0
        yield start, real


def _has_power(frames: Frames) -> Flags:
    """Tell which rows hold samples that differ; a few samples of each answer for most rows."""
    known = (frames[:, ::BLOCK_BINS] != frames[:, :1]).any(axis=1)
    doubtful = np.flatnonzero(~known)
    known[doubtful] = (frames[doubtful] != frames[doubtful, :1]).any(axis=1)
    return np.asarray(known)


def _finish(values: Values, known: Flags, follows: Flags) -> Values:
    """Turn mean squares into decibels, and what cannot be known into NaN."""
    bands = 10 * np.log10(np.maximum(values[:, _BANDS], 10 ** (FLOOR_DB / 10)))
    pair = follows & known
    values[~pair, _HARMONIC] = np.nan
    pair[1:] &= known[:-1]
    values[~pair, _FLUX] = np.nan
    values[~known] = np.nan
    values[:, _BANDS] = np.where(known[:, None], bands, FLOOR_DB)
    return values


class _Spectra:
    """Spectra of one tile; the working arrays are made once for a measurement."""

    def __init__(self, samples: int) -> None:
        self.bins = samples // 2
        self.blocks = self.bins // BLOCK_BINS + 1
        self.half_rate_in_band = samples % 2 == 0 and self.blocks <= BAND_BLOCKS[-1].stop
        self.average = np.full(samples, 1 / samples, np.float32)
        window = _hann(samples)
        self.leak = np.fft.rfft(window)[1].real.astype(np.float32)
        # In full: numpy multiplies two matrices in half the time that a row and a matrix take.
        self.window = np.tile(window, (TILE_ROWS, 1))
        # Bin k stands in column k; bin 0 and what fills the last block stay 0.
        self.magnitude = np.zeros((TILE_ROWS, self.blocks * BLOCK_BINS), np.float32)
        self.power = np.empty_like(self.magnitude)
        step = np.arange(BLOCK_BINS) - (BLOCK_BINS - 1) / 2
        self.weights = np.stack([step**0, step, step**2], axis=1).astype(np.float32)
        self.sums = _sums(self.blocks)
        self.twice_mean = np.full(self.bins, 2 / self.bins, np.float32)

    def read(self, real: Real, place: Values) -> None:
        """Fill the columns of a tile, bands as mean squares; row 0 keeps its flux."""
        self._transform(real)
        moments = (self.power.reshape(-1, BLOCK_BINS) @ self.weights).astype(np.float64)
        sums = moments.reshape(TILE_ROWS, -1) @ self.sums
        total = np.where(sums[:, 0] > 0, sums[:, 0], 1)
        centroid, square = sums[:, 1] / total, sums[:, 2] / total
        place[:, _DOMINANT] = BIN_HZ * self.power.argmax(axis=1)
        place[:, _CENTROID] = BIN_HZ * centroid
        place[:, _BANDWIDTH] = BIN_HZ * np.sqrt(np.maximum(square - centroid**2, 0))
        place[:, _ROLLOFF] = BIN_HZ * self._rolloff(moments[:, 0].reshape(TILE_ROWS, -1))
        place[1:, _FLUX] = self._flux()
        place[:, _FLATNESS] = np.minimum(self.bins * self._geometric_mean() / total, 1)
        place[:, _BANDS] = sums[:, 3:]
        if self.half_rate_in_band:
            place[:, _BANDS.stop - 1] -= self.power[:, self.bins]

    def _transform(self, real: Real) -> None:
        """Fill magnitude and power. Behind the window, the mean is in bins 0 and 1 only."""
        mean = np.vecdot(real, self.average)
        real *= self.window
        spectrum = scipy.fft.rfft(real)
        spectrum[:, 1] -= mean * self.leak
        spectrum[:, 0] = 0
        self.magnitude[:, self.bins + 1 :] = 0
        magnitude = self.magnitude[:, : self.bins + 1]
        np.abs(spectrum, out=magnitude)
        if real.shape[1] % 2 == 0:
            magnitude[:, -1] *= np.float32(np.sqrt(0.5))
        np.multiply(self.magnitude, self.magnitude, out=self.power)

    def _rolloff(self, energy: Values) -> npt.NDArray[np.int64]:
        """Find the bin where the power from below reaches the share: its block, then itself."""
        below = np.cumsum(energy, axis=1)
        target = ROLLOFF_SHARE * below[:, -1:]
        block = (below >= target).argmax(axis=1)
        row = np.arange(TILE_ROWS)
        inside = self.power.reshape(TILE_ROWS, -1, BLOCK_BINS)[row, block].astype(np.float64)
        inside[:, 0] += below[row, block] - energy[row, block]
        reached = np.cumsum(inside, axis=1) >= target
        reached[:, -1] = True  # the block's own sum, in float32, may be a little more
        return np.asarray(block * BLOCK_BINS + reached.argmax(axis=1))

    def _flux(self) -> Values:
        """Distance of each row but the first from the row before: of unit vectors, 2 - 2 cos."""
        magnitude = self.magnitude
        energy = np.vecdot(magnitude, magnitude).astype(np.float64)
        common = np.vecdot(magnitude[1:], magnitude[:-1]).astype(np.float64)
        norm = np.sqrt(energy[1:] * energy[:-1])
        cosine = common / np.where(norm > 0, norm, 1)
        return np.asarray(np.sqrt(np.maximum(2 - 2 * cosine, 0)))

    def _geometric_mean(self) -> Values:
        """Geometric mean of the power over the bins; spends the magnitudes."""
        magnitude = self.magnitude
        np.maximum(magnitude, np.float32(np.sqrt(FLATNESS_FLOOR)), out=magnitude)
        np.log(magnitude, out=magnitude)
        logarithm = np.vecdot(magnitude[:, 1 : self.bins + 1], self.twice_mean)
        return np.asarray(np.exp(logarithm.astype(np.float64)))


def _hann(samples: int) -> Real:
    """Periodic Hann window, scaled so that squared magnitudes are one-sided mean squares."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(samples) / samples)
    scale = np.sqrt(2 / (samples * np.sum(window**2))) / FULL_SCALE
    return np.asarray(window * scale, np.float32)


def _sums(blocks: int) -> Values:
    """Matrix from the moments of each block, of order 0, 1, 2 about its centre, in bins.

    Returns:
        float64 ``[3 blocks, 6]``: to the total power, its moments of order 1 and 2 about bin 0,
        and the power of each band.
    """
    centre = np.arange(blocks) * BLOCK_BINS + (BLOCK_BINS - 1) / 2
    sums = np.zeros((blocks, 3, 6))
    sums[:, 0, 0] = 1
    sums[:, 0, 1], sums[:, 1, 1] = centre, 1
    sums[:, 0, 2], sums[:, 1, 2], sums[:, 2, 2] = centre**2, 2 * centre, 1
    for band, part in enumerate(BAND_BLOCKS, 3):
        sums[part, 0, band] = 1
    return sums.reshape(-1, 6)

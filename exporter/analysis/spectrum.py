"""Spectral metrics of 20 ms frames, many frames at a time.

One spectrum serves all but the harmonic ratio. The frame's mean is removed, the periodic Hann
window w[t] = (1 - cos(2 pi t / n)) / 2 applied, and P[k] is the one-sided power of bin k, at 50 k
Hz, for k = 1 .. n // 2: twice abs(X[k])^2, once at half the rate, over n sum w^2 32768^2, so that
the sum over a band is its mean square re full scale. Bin 0 is left out everywhere, half the rate
of the bands only. A frame of equal samples has no power: its metrics are unknown and its bands at
the floor, as at digital silence.

Mean and window are dealt with behind the transform, which the loudness needs without them: bin 0
is set to 0, and from twice each bin go the two beside it.

Frames go through in float32, in tiles that stay in the second-level cache. A tile begins with the
last row of the one before, the first one with a row of zeros, so that each row finds the row that
it follows; tiles are padded to whole groups of rows, so that a row's value does not depend on its
neighbours. No matrix product is so large that OpenBLAS would wake its threads: they wait for a
core where audio comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.fft

from exporter.analysis.voicing import MOST_PRODUCTS, ROWS_ABREAST, Voicing
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
# Of equal samples, rounding leaves much less than this.
DOUBTFUL_DB = -110.0
# For flatness, a bin counts as no weaker than a tenth of what rounding to int16 leaves in it:
# between the lines of a computed signal there may be nothing at all.
FLATNESS_FLOOR = 1e-13
# Bins are summed in blocks of 500 Hz: the borders of the bands are borders of blocks.
BLOCK_BINS = 10
BAND_BLOCKS = (0, 1, 4, 16)
TILE_ROWS = 320

Frames = npt.NDArray[np.int16]
Real = npt.NDArray[np.float32]
Lines = npt.NDArray[np.complex64]
Reader = Callable[[int, Real, Lines], None]
Places = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]
Values = npt.NDArray[np.float64]


class Before(NamedTuple):
    """Frames before rows that do not follow the row above.

    Attributes:
        rows: Which rows these are, rising.
        frames: int16 ``[as many, rate / 50]``.
    """

    rows: Places
    frames: Frames


def measure(
    frames: Frames,
    follows: Flags,
    rate: int,
    before: Before | None = None,
    also: Reader | None = None,
) -> Values:
    """Measure frames.

    Args:
        frames: int16 ``[rows, rate / 50]``, mono, full scale 32768.
        follows: bool ``[rows]``: the frame directly before row i of the same stream is known: row
            i - 1, or what ``before`` has.
        rate: Samples per second, 8000 to 48000, divisible by 50.
        before: Frames before the first ones of streams.
        also: Is shown each tile: its first row, -1 at first; its samples, float32 ``[height, rate /
            50]``; their spectra, complex64 ``[height, rate / 100 + 1]``. Row -1 and what lies
            behind the last row are none.

    Returns:
        float64 ``[rows, 10]``, columns as ``KEYS``; NaN where a metric is unknown.
    """
    samples = rate // FRAMES_PER_SECOND
    if before is None:
        before = Before(np.empty(0, np.intp), np.empty((0, samples), np.int16))
    tiles, earlier = _Tiles(frames, before.rows), _padded(before.frames)
    spectra = _Spectra(samples, tiles, scipy.fft.rfft(earlier))
    voicing = Voicing(samples, tiles.height)
    ratios = np.empty(tiles.rows + tiles.height, np.float32)
    for start, real in tiles:
        lines = scipy.fft.rfft(real)
        if also is not None:
            also(start, real, lines)
        which, places = tiles.begun(start)
        spectra.read(lines, start, places, which)
        ratios[start + 1 : start + tiles.height] = voicing.read(real, places, earlier[which])
    values = spectra.values()
    values[_HARMONIC] = ratios[: tiles.rows]
    known = _has_power(frames, values)
    return _known(values, known, follows, before).T


class _Tiles:
    """Cuts frames into tiles of about 320 rows, of which the last one is nearly full.

    Args:
        frames: int16 ``[rows, samples]``.
        begin: The rows that do not follow the row above.
    """

    def __init__(self, frames: Frames, begin: Places) -> None:
        self.rows = len(frames)
        count = max(round(self.rows / TILE_ROWS), 1)
        self.height = _whole_groups(-(-self.rows // count) + 1)
        self.begin = begin
        self._frames = frames

    def __iter__(self) -> Iterator[tuple[int, Real]]:
        """Yield the first row of each tile, known already or none, and its samples, float32."""
        real = np.zeros((self.height, self._frames.shape[1]), np.float32)
        for start in range(-1, self.rows - 1, self.height - 1):
            tile = self._frames[max(start, 0) : start + self.height]
            first = max(-start, 0)
            real[first : first + len(tile)] = tile
            real[first + len(tile) :] = 0
            yield start, real

    def begun(self, start: int) -> tuple[slice, Places]:
        """Return which rows begin in a tile, and their places there, without its first row."""
        first, last = self.begin.searchsorted((start + 1, start + self.height))
        return slice(first, last), self.begin[first:last] - start


def _whole_groups(rows: int) -> int:
    """Return the number of rows, rounded up."""
    return -(-rows // ROWS_ABREAST) * ROWS_ABREAST


def _padded(frames: Frames) -> Real:
    """Return frames as float32, and rows of zeros behind them."""
    real = np.zeros((_whole_groups(len(frames)), frames.shape[1]), np.float32)
    real[: len(frames)] = frames
    return real


def _has_power(frames: Frames, values: Values) -> Flags:
    """Tell which rows hold samples that differ; most have more power than could be rounding."""
    known = values[_BANDS].max(axis=0) > DOUBTFUL_DB
    doubtful = np.flatnonzero(~known)
    known[doubtful] = _differ(frames[doubtful])
    return np.asarray(known)


def _differ(frames: Frames) -> Flags:
    return np.asarray((frames != frames[:, :1]).any(axis=1))


def _known(values: Values, known: Flags, follows: Flags, before: Before) -> Values:
    """Make NaN of what cannot be known."""
    pair = follows & known
    values[_HARMONIC, ~pair] = np.nan
    known_before = np.roll(known, 1)
    known_before[before.rows] = _differ(before.frames)
    values[_FLUX, ~(pair & known_before)] = np.nan
    values[: _BANDS.start, ~known] = np.nan
    values[_BANDS, ~known] = FLOOR_DB
    return values


class _Spectra:
    """Spectra tile by tile; the working arrays are made once for a measurement.

    What a tile tells of its rows is kept and made into metrics of all rows at once: dozens of
    calls on a tile would cost as much as the spectra. Rows lie side by side there, so that
    what goes from bin to bin goes over all of them in one step.

    Magnitudes are those of integers through four times the window; ``scale`` is what they lack.

    Args:
        samples: Of a frame.
        tiles: That are to be read.
        before: Spectra of what is before the rows that begin there, which are spent.
    """

    def __init__(self, samples: int, tiles: _Tiles, before: Lines) -> None:
        self.samples, self.bins, self.tiles = samples, samples // 2, tiles
        height = tiles.height
        self.blocks = self.bins // BLOCK_BINS + 1
        self.scale = float(np.sqrt(1 / 3)) / (samples * FULL_SCALE)
        # Bin k stands in column k; bin 0 and what fills the last block are 0.
        self.before = np.zeros((len(before), self.blocks * BLOCK_BINS), np.float32)
        self._transform(before, self.before)
        self.magnitude = np.zeros((height, self.blocks * BLOCK_BINS), np.float32)
        self.power = np.empty_like(self.magnitude)
        step = np.arange(BLOCK_BINS) - (BLOCK_BINS - 1) / 2
        self.weights = np.stack([step**0, step, step**2], axis=1).astype(np.float32)
        self.sums = _sums(self.blocks)
        self.abreast = ROWS_ABREAST
        while self.abreast * self.sums.size > MOST_PRODUCTS:
            self.abreast //= 2
        self.up_to, self.row = np.tri(BLOCK_BINS), np.arange(height)
        self.twice_mean = np.full(self.bins, 2 / self.bins, np.float32)
        self.least = np.float32(np.sqrt(FLATNESS_FLOOR) / self.scale)
        # Row i stands in column i + 1.
        size = 1 + tiles.rows + height
        self.found = np.empty((len(self.sums), size), np.float64)
        self.peak, self.rolloff = np.empty((2, size), np.intp)
        self.energy, self.common, self.logarithm, self.half_rate = np.ones((4, size), np.float32)

    def read(self, lines: Lines, start: int, places: Places, which: slice) -> None:
        """Read a tile, but of its first row not the difference to the one before it.

        Args:
            lines: Spectra, complex64 ``[height, bins + 1]``, which are spent.
            start: First row of the tile.
            places: Rows of the tile that do not follow the row above.
            which: Of the rows that begin, those.
        """
        magnitude, power = self.magnitude, self.power
        self._transform(lines, magnitude)
        np.multiply(magnitude, magnitude, out=power)
        place = slice(start + 1, start + 1 + self.tiles.height)
        moments = power.reshape(len(power) // self.abreast, -1, BLOCK_BINS) @ self.weights
        moments = moments.reshape(len(moments), self.abreast, -1).transpose(0, 2, 1)
        found = self.found[:, place]
        split = found.reshape(len(found), -1, self.abreast).transpose(1, 0, 2)
        np.matmul(self.sums, moments.astype(np.float64), out=split)
        self.peak[place] = power.argmax(axis=1)
        self.rolloff[place] = self._rolloff(found[: self.blocks + 1])
        np.vecdot(magnitude, magnitude, out=self.energy[place])
        common = self.common[place]
        np.vecdot(magnitude[1:], magnitude[:-1], out=common[1:])
        common[places] = np.vecdot(magnitude[places], self.before[which])
        self.half_rate[place] = power[:, self.bins]
        self.logarithm[place] = self._logarithm()

    def values(self) -> Values:
        """Return the metrics, float64 ``[10, rows]``, as if known; the harmonic ratio is not."""
        rows = slice(1, 1 + self.tiles.rows)
        found = self.found[:, rows]
        below, (first, second) = found[: self.blocks + 1], found[self.blocks + 1 :]
        total = np.where(below[-1] > 0, below[-1], 1)
        centroid = first / total
        values = np.empty((len(KEYS), len(total)), np.float64)
        values[_DOMINANT] = BIN_HZ * self.peak[rows]
        values[_CENTROID] = BIN_HZ * centroid
        values[_BANDWIDTH] = BIN_HZ * np.sqrt(np.maximum(second / total - centroid**2, 0))
        values[_ROLLOFF] = BIN_HZ * self.rolloff[rows]
        values[_FLUX] = self._flux()[rows]
        mean = np.exp(self.logarithm[rows].astype(np.float64))
        values[_FLATNESS] = np.minimum(self.bins * mean / total, 1)
        borders = np.minimum(BAND_BLOCKS, self.blocks)
        bands = below[borders[1:]] - below[borders[:-1]]
        if self.samples % 2 == 0 and self.blocks <= BAND_BLOCKS[-1]:
            bands[-1] -= self.half_rate[rows]
        least = 10 ** (FLOOR_DB / 10)
        values[_BANDS] = 10 * np.log10(np.maximum(self.scale**2 * bands, least))
        return values

    def _transform(self, lines: Lines, magnitude: Real) -> None:
        """Fill magnitudes of windowed spectra, which take the place of the lines."""
        lines[:, 0] = 0
        flat, last = lines.view(np.float32).reshape(-1), self.bins
        # Beside the last bin is its mirror image; the rest in one go, over the borders of rows.
        mirrored = lines[:, self.samples - last - 1].conj()
        at_last = 2 * lines[:, last] - lines[:, last - 1] - mirrored
        rise = flat[2:] - flat[:-2]
        np.subtract(rise[:-2], rise[2:], out=flat[2:-2])
        lines[:, last] = at_last
        np.abs(lines, out=magnitude[:, : last + 1])
        magnitude[:, 0] = 0
        if self.samples % 2 == 0:
            magnitude[:, last] *= np.float32(np.sqrt(0.5))
        magnitude[:, last + 1 :] = 0

    def _rolloff(self, below: Values) -> Places:
        """Find the bin where the power from below reaches the share: its block, then itself."""
        target = ROLLOFF_SHARE * below[-1]
        block = np.add.reduce(below[1:] < target, axis=0)
        blocks = self.power.reshape(-1, BLOCK_BINS)
        inside = blocks.take(self.row * self.blocks + block, axis=0).astype(np.float64)
        # The block's own sum, in float32, may be a little more than that of its bins.
        reached = (self.up_to @ inside.T)[:-1]
        bins = np.add.reduce(reached < target - below[block, self.row], axis=0)
        return np.asarray(block * BLOCK_BINS + bins)

    def _logarithm(self) -> Real:
        """Mean logarithm of the power over the bins; spends the magnitudes."""
        magnitude = self.magnitude
        np.maximum(magnitude, self.least, out=magnitude)
        np.log(magnitude, out=magnitude)
        return np.asarray(np.vecdot(magnitude[:, 1 : self.bins + 1], self.twice_mean))

    def _flux(self) -> Values:
        """Distance of each row from the row before: of unit vectors, 2 - 2 cos."""
        energy = self.energy.astype(np.float64)
        before = np.roll(energy, 1)
        begin = self.tiles.begin
        before[begin + 1] = np.vecdot(self.before, self.before)[: len(begin)]
        norm = np.sqrt(energy * before)
        cosine = self.common / np.where(norm > 0, norm, 1)
        return np.asarray(np.sqrt(np.maximum(2 - 2 * cosine, 0)))


def _sums(blocks: int) -> Values:
    """Matrix from the moments of each block, of order 0, 1, 2 about its centre, in bins.

    Returns:
        float64 ``[blocks + 3, 3 blocks]``: to the power below each block, that of all of them, and
        its moments of order 1 and 2 about bin 0.
    """
    centre = np.arange(blocks) * BLOCK_BINS + (BLOCK_BINS - 1) / 2
    sums = np.zeros((blocks + 3, blocks, 3))
    sums[: blocks + 1, :, 0] = np.tri(blocks + 1, blocks, -1)
    sums[-2, :, 0], sums[-2, :, 1] = centre, 1
    sums[-1, :, 0], sums[-1, :, 1], sums[-1, :, 2] = centre**2, 2 * centre, 1
    return sums.reshape(len(sums), -1)

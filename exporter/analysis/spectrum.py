"""Spectral metrics of 20 ms frames.

One spectrum serves all but the harmonic ratio. The frame's mean is removed, the periodic Hann
window w[t] = (1 - cos(2 pi t / n)) / 2 applied, and P[k] is the one-sided power of bin k, at 50 k
Hz, for k = 1 .. n // 2: twice abs(X[k])^2, once at half the rate, over n sum w^2 32768^2, so that
the sum over a band is its mean square re full scale. Bin 0 is left out everywhere, half the rate
of the bands only. A frame of equal samples has no power: its metrics are unknown and its bands at
the floor, as at digital silence.

Mean and window are dealt with behind the transform, which the loudness needs without them: bin 0
counts as 0, and from twice each bin go the two beside it. Frames are transformed in float32, in
tiles that stay in the second-level cache; what follows is one loop over the frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.fft
from numba import complex64, float32, float64, int64, void

from exporter.analysis.voicing import ratios
from exporter.compiled import compiled, inlined
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
_LOW, _MID, _HIGH = range(7, 10)

BIN_HZ = 50.0
FULL_SCALE = 32_768.0
FLOOR_DB = -120.0
FLOOR = 10 ** (FLOOR_DB / 10)
ROLLOFF_SHARE = 0.85
# For flatness, a bin counts as no weaker than a tenth of what rounding to int16 leaves in it:
# between the lines of a computed signal there may be nothing at all.
FLATNESS_FLOOR = 1e-13
# Bins from which the bands begin, and behind the last.
LOW, MID, HIGH, END = 1, 10, 40, 160
# Where the roll-off lies is looked for in blocks of bins first.
BLOCK_BINS = 16
# Powers of integers' spectra lie between 2^3, for flatness, and 2^54: so scaled, the product of so
# many is a float64, and has one logarithm.
MIDDLE = np.float32(2.0**-30)
FACTORS = 32
TILE_SAMPLES, ROWS_ABREAST = 81_920, 16

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
        also: Is shown each tile: its first row; its samples, float32 ``[height, rate / 50]``; their
            spectra, complex64 ``[height, rate / 100 + 1]``. What lies behind the last row is none.

    Returns:
        float64 ``[rows, 10]``, columns as ``KEYS``; NaN where a metric is unknown.
    """
    samples = rate // FRAMES_PER_SECOND
    if before is None:
        before = Before(np.empty(0, np.intp), np.empty((0, samples), np.int16))
    none = len(before.rows)
    sources = np.where(follows, -1, none)
    sources[before.rows] = np.arange(none)
    earlier = _spectra_before(before.frames)
    units = np.full(samples // 2, np.nan, np.float32)
    values = np.empty((len(frames), len(KEYS)))
    height = TILE_SAMPLES // (samples * ROWS_ABREAST) * ROWS_ABREAST
    for start in range(0, len(frames), height):
        place = slice(start, start + height)
        real = _padded(frames[place])
        lines = scipy.fft.rfft(real)
        if also is not None:
            also(start, real, lines)
        _fill(real, lines, sources[place], earlier, units, values[place])
    sources[np.isnan(values[:, _CENTROID])] = none
    values[:, _HARMONIC] = ratios(frames, sources, before.frames)
    return values


def _padded(frames: Frames) -> Real:
    """Return frames as float32, and rows of zeros behind them.

    The transform takes a few rows at a time: in whole groups, a row's rounding does not depend on
    how many there are.
    """
    rows, samples = frames.shape
    real = np.empty((-(-rows // ROWS_ABREAST) * ROWS_ABREAST, samples), np.float32)
    real[:rows] = frames
    real[rows:] = 0
    return real


def _spectra_before(frames: Frames) -> Lines:
    """Return the spectra of frames, and NaN behind them and for those that have no power."""
    lines = np.empty((len(frames) + 1, frames.shape[1] // 2 + 1), np.complex64)
    lines[:-1] = scipy.fft.rfft(_padded(frames))[: len(frames)]
    lines[:-1][(frames == frames[:, :1]).all(axis=1)] = np.nan
    lines[-1] = np.nan
    return lines


@compiled(
    void(
        float32[:, ::1],
        complex64[:, ::1],
        int64[::1],
        complex64[:, ::1],
        float32[::1],
        float64[:, ::1],
    )
)
def _fill(  # noqa: PLR0913 - a loop takes plain arrays
    real: Real, lines: Lines, sources: Places, earlier: Lines, units: Real, values: Values
) -> None:
    """Measure a tile, but for the harmonic ratio.

    Args:
        real: Samples.
        lines: Their spectra.
        sources: int64 ``[rows]``: the frame before each row: -1 the row above, else which of
            ``earlier``.
        earlier: Spectra of frames before.
        units: float32 ``[n // 2]``: magnitudes of norm 1 of the row before the first one, then of
            the last one; NaN where there is none.
        values: Are filled.
    """
    samples = real.shape[1]
    power = np.empty(samples // 2, np.float32)
    for row in range(len(sources)):
        if sources[row] >= 0:
            _read(earlier[sources[row]], samples, power)
            _distance(power, units)
        if _differ(real[row]):
            _read(lines[row], samples, power)
            _describe(power, samples, values[row])
            values[row, _FLUX] = _distance(power, units)
        else:
            units[:] = np.nan
            values[row] = np.nan
            values[row, _LOW:] = FLOOR_DB


@inlined
def _differ(samples: Real) -> bool:
    place = 1
    while place < len(samples) and samples[place] == samples[0]:
        place += 1
    return place < len(samples)


@inlined
def _read(lines: Lines, samples: int, power: Real) -> None:
    """Fill the power of bins 1 .. n // 2, windowed: that of integers through four times the window.

    Below the first bin is none, above the last one its mirror image.
    """
    bins = len(power)
    below, middle, above = lines[1:], lines[2:], lines[3:]
    inner = power[1:]
    for index in range(bins - 2):
        inner[index] = _curved(below[index], middle[index], above[index])
    power[0] = _curved(np.complex64(0), lines[1], lines[2])
    mirrored = lines[samples - bins - 1].conjugate()
    power[bins - 1] = _curved(lines[bins - 1], lines[bins], mirrored)
    if samples % 2 == 0:
        power[bins - 1] *= np.float32(0.5)


@inlined
def _curved(below: np.complex64, middle: np.complex64, above: np.complex64) -> np.float32:
    real = middle.real + middle.real - below.real - above.real
    imaginary = middle.imag + middle.imag - below.imag - above.imag
    return real * real + imaginary * imaginary


@inlined
def _describe(power: Real, samples: int, values: Values) -> None:
    """Fill what a frame tells by itself."""
    scale = 1 / (3 * (samples * FULL_SCALE) ** 2)
    end = min(END, (samples + 1) // 2)
    low, mid = _sum(power[LOW - 1 : MID - 1]), _sum(power[MID - 1 : HIGH - 1])
    high, rest = _sum(power[HIGH - 1 : end - 1]), _sum(power[end - 1 :])
    total = low + mid + high + rest
    centroid = _moment(power) / total
    values[_DOMINANT] = BIN_HZ * _strongest(power)
    values[_CENTROID] = BIN_HZ * centroid
    values[_BANDWIDTH] = BIN_HZ * math.sqrt(_moment_about(power, centroid) / total)
    values[_ROLLOFF] = BIN_HZ * _rolloff(power, ROLLOFF_SHARE * total)
    values[_FLATNESS] = _flatness(power, np.float32(FLATNESS_FLOOR / scale), total)
    values[_LOW] = _decibels(scale * low)
    values[_MID] = _decibels(scale * mid)
    values[_HIGH] = _decibels(scale * high)


@inlined
def _decibels(power: np.float32) -> float:
    return 10 * math.log10(max(float(power), FLOOR))


@inlined
def _sum(power: Real) -> np.float32:
    total = np.float32(0)
    for index in range(len(power)):
        total += power[index]
    return total


@inlined
def _moment(power: Real) -> np.float32:
    """Return the sum of power times bin."""
    total = np.float32(0)
    for index in range(len(power)):
        total += power[index] * np.float32(np.int32(index + 1))
    return total


@inlined
def _moment_about(power: Real, centre: np.float32) -> np.float32:
    """Return the sum of power times squared distance from a place, in bins."""
    total = np.float32(0)
    for index in range(len(power)):
        distance = np.float32(np.int32(index + 1)) - centre
        total += power[index] * distance * distance
    return total


@inlined
def _strongest(power: Real) -> int:
    """Return the bin of most power. Positive floats and their bits, as integers, rise alike."""
    bits = power.view(np.int32)
    most = bits[0]
    for index in range(len(bits)):
        most = max(most, bits[index])
    place = 0
    while bits[place] != most:
        place += 1
    return place + 1


@inlined
def _rolloff(power: Real, target: np.float32) -> int:
    """Return the bin where the power from below reaches the target: its block, then itself."""
    below, place = np.float32(0), 0
    while place + BLOCK_BINS < len(power):
        block = _sum(power[place : place + BLOCK_BINS])
        if below + block >= target:
            break
        below += block
        place += BLOCK_BINS
    while place + 1 < len(power) and below + power[place] < target:
        below += power[place]
        place += 1
    return place + 1


@inlined
def _flatness(power: Real, least: np.float32, total: np.float32) -> float:
    """Return the geometric over the arithmetic mean."""
    bins, logarithm = len(power), 0.0
    for first in range(0, bins, FACTORS):
        some, product = power[first : first + FACTORS], 1.0
        for index in range(len(some)):
            product *= max(some[index], least) * MIDDLE
        logarithm += math.log(product)
    mean = float(total * MIDDLE) / bins
    return min(math.exp(logarithm / bins) / mean, 1.0)


@inlined
def _distance(power: Real, units: Real) -> float:
    """Return the distance of magnitudes, of norm 1, from those before, whose place they take."""
    norm = np.float32(1) / math.sqrt(_sum(power))
    squares = np.float32(0)
    for index in range(len(power)):
        unit = norm * math.sqrt(power[index])
        rise = unit - units[index]
        squares += rise * rise
        units[index] = unit
    return math.sqrt(squares)

"""Mains hum and hiss in one bucket of one tap.

Hum is looked for in what is always there: the signal is thinned out to 1 to 2 kHz, its spectrum
taken over windows of one second, half overlapping (Welch, but the least power of each bin over the
windows in the place of the mean), so that voices, which glide, and tones that end leave nothing.
Where the quietest window alone has no line that counts, the others are not looked at.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import scipy.fft

from exporter.analysis.frames import largest_step

FULL_SCALE = 32_768.0
MAINS_HZ = (50, 60)
# Lines are looked for up to 5 * 60 Hz; what the filter lets pass above half of this rate falls
# back below it, but not on them.
LEAST_RATE = 1_000
TAPS_PER_STEP = 8
PIECE = 32
"""Rows that are filtered in one go: of more, at 48 kHz, OpenBLAS wakes its threads."""
SPARSE = 50
MOST_HARMONICS = 5
BESIDE_HZ = 10
TINY = 1e-20

Samples = npt.NDArray[np.int16]
Real = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Bins = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class HumThresholds:
    """When hum counts as detected.

    Attributes:
        main_db: What the first or the second harmonic must have over the median of the bins
            beside it, in dB.
        line_db: What a harmonic must have to count as a line, in dB.
        lines: How many lines there must be.
        harmonics: How many multiples of 50 and of 60 Hz are looked at, 2 to 5.
        wander_hz: How far the mains may be from 50 or 60 Hz, 0 to 1.
        floor_dbfs: Level below which a line does not count, in dBFS.
    """

    main_db: float = 18.0
    line_db: float = 10.0
    lines: int = 2
    harmonics: int = MOST_HARMONICS
    wander_hz: float = 0.5
    floor_dbfs: float = -70.0


@dataclass(frozen=True, slots=True)
class HissThresholds:
    """When hiss counts as detected, in the frames that are neither speech nor digital silence.

    Attributes:
        frames: How many there must be, or it is unknown.
        level_dbfs: Median of their rms, in dBFS, from which on noise is heard.
        flatness: Median of their spectral flatness from which on noise is broadband.
        high_band_db: Median of their energy from 2 kHz on re that of the whole frame, in dB, from
            which on it hisses.
    """

    frames: int = 25
    level_dbfs: float = -60.0
    flatness: float = 0.4
    high_band_db: float = -10.0


HUM = HumThresholds()
HISS = HissThresholds()


def hum(pcm: Samples, rate: int, *, thresholds: HumThresholds = HUM) -> float:
    """Tell whether mains hum stands out.

    Args:
        pcm: int16 ``[samples]`` without a gap.
        rate: Samples per second, 8000 to 48000, divisible by 50.
        thresholds: When it does.

    Returns:
        1.0 or 0.0; NaN when there is less than a second.
    """
    if len(pcm) < rate:
        return np.nan
    step = largest_step(rate, rate // LEAST_RATE)
    size = rate // step
    quiet = _thin_out(_quietest(pcm, step, size), step)[:size]
    # Speech that stops for a moment ends here: what is always there is in its quietest second, too.
    if not _is_heard(quiet, thresholds):
        return 0.0
    return float(_detected(_least_power(_thin_out(pcm, step), size), thresholds))


def _quietest(pcm: Samples, step: int, size: int) -> Samples:
    """Return what the quietest window is made of, judged by a few of its samples."""
    hop = size // 2
    count = (len(pcm) // step - size % 2) // hop
    halves = pcm[: count * hop * step].reshape(count, -1)[:, ::SPARSE].astype(np.float32)
    energy = np.vecdot(halves, halves)
    first = hop * int((energy[1:] + energy[:-1]).argmin())
    return pcm[first * step : (first + size + TAPS_PER_STEP - 1) * step]


def _is_heard(signal: Real, thresholds: HumThresholds) -> bool:
    """Tell whether a window has a line that others could follow: a first or second harmonic."""
    parts = np.vecdot(_mains(len(signal), thresholds.wander_hz), signal)
    power = 2 * np.square(parts).sum(axis=0)
    return bool(power.max() >= 10 ** (thresholds.floor_dbfs / 10))


@lru_cache(maxsize=8)
def _mains(size: int, wander_hz: float) -> Real:
    """Return the windowed waves of the bins where first and second harmonics may be.

    Returns:
        float32 ``[2, bins, size]``, cosine and sine.
    """
    bins = np.unique(_places(2, wander_hz)[0])
    phase = 2 * np.pi / size * np.outer(bins, np.arange(size))
    return np.stack([np.cos(phase), np.sin(phase)]).astype(np.float32) * _hann(size)


@lru_cache(maxsize=8)
def _filter(step: int) -> Real:
    """Low-pass filter, -6 dB at half the reduced rate: a sinc behind a Hamming window.

    Returns:
        float32 ``[8 * step, 15]``: what so many samples add to eight samples of the reduced rate,
        and before them to the seven that began earlier.
    """
    taps = TAPS_PER_STEP * step
    impulse = np.sinc((np.arange(taps) - (taps - 1) / 2) / step) * np.hamming(taps)
    impulse /= impulse.sum() * FULL_SCALE
    result = np.zeros((TAPS_PER_STEP, step, 2 * TAPS_PER_STEP - 1), np.float32)
    for place, samples in enumerate(result):
        samples[:, place : place + TAPS_PER_STEP] = impulse.reshape(TAPS_PER_STEP, step)[::-1].T
    return result.reshape(taps, -1)


def _thin_out(pcm: Samples, step: int) -> Real:
    """Filter and take every ``step``-th sample, silence behind the last."""
    count = len(pcm) // step
    pieces = -(-count // (TAPS_PER_STEP * PIECE))
    real = np.empty((pieces, PIECE, TAPS_PER_STEP * step), np.float32)
    flat = real.reshape(-1)
    flat[: count * step], flat[count * step :] = pcm[: count * step], 0
    parts = (real @ _filter(step)).reshape(pieces * PIECE, -1)
    begun = TAPS_PER_STEP - 1
    signal = parts[:, begun:].copy()
    signal[:-1, 1:] += parts[1:, :begun]
    return signal.reshape(-1)[:count]


def _least_power(signal: Real, size: int) -> Values:
    """Return the least power of each bin, 1 Hz apart, over the windows of a second.

    Returns:
        float64 ``[311]``, mean square of the sine that would fill the bin.
    """
    starts = range(0, len(signal) - size + 1, size // 2)
    windows = np.stack([signal[start : start + size] for start in starts])
    windows *= _hann(size)
    looked_at = slice(max(MAINS_HZ) * MOST_HARMONICS + BESIDE_HZ + 1)
    spectra = np.abs(scipy.fft.rfft(windows)[:, looked_at])
    return np.asarray(2 * spectra.min(axis=0).astype(np.float64) ** 2)


@lru_cache(maxsize=8)
def _hann(size: int) -> Real:
    """Periodic Hann window of sum 1."""
    window = 1 - np.cos(2 * np.pi * np.arange(size) / size)
    return np.asarray(window / size, np.float32)


def _detected(power: Values, thresholds: HumThresholds) -> bool:
    """Tell whether harmonics of one mains frequency stand out over the bins beside them."""
    lines, beside = _places(thresholds.harmonics, thresholds.wander_hz)
    line = power[lines].max(axis=1)
    line[line < 10 ** (thresholds.floor_dbfs / 10)] = 0.0
    around = np.sort(np.append(power, [0.0, np.inf])[beside], axis=1)
    median = around[:, BESIDE_HZ - 1 : BESIDE_HZ + 1].mean(axis=1)
    ratio = (line / np.maximum(median, TINY)).reshape(len(MAINS_HZ), -1)
    main = ratio[:, :2].max(axis=1) >= 10 ** (thresholds.main_db / 10)
    lines_of = np.count_nonzero(ratio >= 10 ** (thresholds.line_db / 10), axis=1)
    return bool((main & (lines_of >= thresholds.lines)).any())


@lru_cache(maxsize=8)
def _places(harmonics: int, wander_hz: float) -> tuple[Bins, Bins]:
    """Return where lines are looked for, and their neighbours, a row for each harmonic.

    The window spreads a line over two bins either way: those are left out. The median of the rest,
    up to 10 Hz away, takes no notice of one more line. Neighbours are filled up with two bins more,
    nothing and infinity, with as many of both, so that their median stays.

    Returns:
        int64 ``[10, 21]`` and ``[10, 20]`` for five harmonics of two mains frequencies.
    """
    centres = [mains * order for mains in MAINS_HZ for order in range(1, harmonics + 1)]
    offsets = np.arange(-BESIDE_HZ, BESIDE_HZ + 1)
    lines = np.repeat(np.array(centres)[:, None], len(offsets), axis=1)
    beside = np.tile([-2, -1], (len(centres), BESIDE_HZ))
    for row, centre in enumerate(centres):
        reach = math.ceil((row % harmonics + 1) * wander_hz)
        lines[row, abs(offsets) <= reach] += offsets[abs(offsets) <= reach]
        outer = centre + offsets[abs(offsets) > reach + 2]
        beside[row, : len(outer)] = outer
    return lines, beside


def hiss(
    rms_dbfs: Values,
    flatness: Values,
    high_band: Values,
    is_speech: Flags,
    *,
    thresholds: HissThresholds = HISS,
) -> float:
    """Tell whether there is broadband noise where there is no speech.

    Args:
        rms_dbfs: float64 ``[frames]``, pcm.rms_dbfs of the frames of a bucket.
        flatness: float64 ``[frames]``, fft.spectral_flatness; NaN at digital silence.
        high_band: float64 ``[frames]``, fft.high_band_energy.
        is_speech: bool ``[frames]``.
        thresholds: What counts as hiss.

    Returns:
        1.0 or 0.0; NaN when too few frames are neither speech nor digital silence.
    """
    pause = ~is_speech & ~np.isnan(flatness)
    if np.count_nonzero(pause) < thresholds.frames:
        return np.nan
    return float(
        _median(rms_dbfs[pause]) >= thresholds.level_dbfs
        and _median(flatness[pause]) >= thresholds.flatness
        and _median(high_band[pause] - rms_dbfs[pause]) >= thresholds.high_band_db
    )


def _median(values: Values) -> float:
    """Return the median of known values, several times as fast as numpy's."""
    rising, half = np.sort(values), len(values) // 2
    return float(rising[half] + rising[~half]) / 2

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
from numba import boolean, float32, float64, int16, int64, void

from exporter.analysis.frames import largest_step
from exporter.compiled import compiled, inlined, read_only

FULL_SCALE = 32_768.0
MAINS_HZ = (50, 60)
# Lines are looked for up to 5 * 60 Hz; what the filter lets pass above half of this rate falls
# back below it, but not on them.
LEAST_RATE = 1_000
TAPS_PER_STEP = 8
SPARSE = 50
MOST_HARMONICS = 5
BESIDE_HZ = 10
LOOKED_AT = max(MAINS_HZ) * MOST_HARMONICS + BESIDE_HZ + 1
TINY = 1e-20
_MAIN = 2

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
    taps, floor = _filter(step), 10 ** (thresholds.floor_dbfs / 10)
    # Speech that stops for a moment ends here: what is always there is in its quietest second, too.
    if _strongest(pcm, step, taps, _mains(size, thresholds.wander_hz)) < floor:
        return 0.0
    windows = np.empty((_window_count(len(pcm) // step, size), size), np.float32)
    _lay_out(pcm, step, taps, _hann(size), windows)
    spectra = np.abs(scipy.fft.rfft(windows)[:, :LOOKED_AT])
    least = 2 * spectra.min(axis=0).astype(np.float64) ** 2
    reaches = [
        math.ceil(order * thresholds.wander_hz) for order in range(1, thresholds.harmonics + 1)
    ]
    main, line = 10 ** (thresholds.main_db / 10), 10 ** (thresholds.line_db / 10)
    has_hum = _stands_out(least, np.array(reaches), floor, main, line, thresholds.lines)
    return float(has_hum)


@lru_cache(maxsize=8)
def _filter(step: int) -> Real:
    """Low-pass filter, -6 dB at half the reduced rate: a sinc behind a Hamming window.

    Returns:
        float32 ``[8 * step]``.
    """
    taps = TAPS_PER_STEP * step
    impulse = np.sinc((np.arange(taps) - (taps - 1) / 2) / step) * np.hamming(taps)
    return np.asarray(impulse / (impulse.sum() * FULL_SCALE), np.float32)


@lru_cache(maxsize=8)
def _mains(size: int, wander_hz: float) -> Real:
    """Return the windowed waves of the bins where first and second harmonics may be.

    Returns:
        float32 ``[2 * bins, size]``, cosine and sine of each.
    """
    bins = sorted(
        {
            mains * order + offset
            for mains in MAINS_HZ
            for order in (1, 2)
            for reach in [math.ceil(order * wander_hz)]
            for offset in range(-reach, reach + 1)
        }
    )
    phase = 2 * np.pi / size * np.outer(bins, np.arange(size))
    waves = np.stack([np.cos(phase), np.sin(phase)], axis=1).reshape(-1, size)
    return waves.astype(np.float32) * _hann(size)


@lru_cache(maxsize=8)
def _hann(size: int) -> Real:
    """Periodic Hann window of sum 1."""
    window = 1 - np.cos(2 * np.pi * np.arange(size) / size)
    return np.asarray(window / size, np.float32)


@compiled(float64(read_only(int16), int64, float32[::1], float32[:, ::1]))
def _strongest(pcm: Samples, step: int, taps: Real, waves: Real) -> float:
    """Return the power of the strongest of some bins in the quietest second.

    Args:
        pcm: int16 ``[samples]``.
        step: How many samples become one.
        taps: Filter, float32 ``[8 * step]``.
        waves: Windowed cosine and sine of each bin, float32 ``[2 * bins, size]``.
    """
    size = waves.shape[1]
    hop = size // 2 * step
    quietest = _quietest(pcm, hop, _window_count(pcm.size // step, size))
    signal = _thinned(pcm[quietest * hop :], step, taps, size)
    strongest = 0.0
    for k in range(0, len(waves), 2):
        cosine, sine = _product(waves[k], signal), _product(waves[k + 1], signal)
        strongest = max(strongest, float(cosine * cosine + sine * sine))
    return 2 * strongest


@inlined
def _window_count(size: int, window: int) -> int:
    """Return how many windows, half overlapping, there are in so many samples."""
    return (size - window) // (window // 2) + 1


@inlined
def _quietest(pcm: Samples, hop: int, windows: int) -> int:
    """Return the window, two hops long, with the least energy, judged by a few of its samples."""
    quietest, least, before = 0, np.inf, 0.0
    for half in range(windows + 1):
        energy = 0.0
        for place in range(half * hop, (half + 1) * hop, SPARSE):
            energy += np.float64(pcm[place]) ** 2
        if half and before + energy < least:
            quietest, least = half - 1, before + energy
        before = energy
    return quietest


@inlined
def _thinned(pcm: Samples, step: int, taps: Real, count: int) -> Real:
    """Filter and take every ``step``-th sample, silence behind the last."""
    real = np.zeros(count * step + taps.size, np.float32)
    for i in range(min(real.size, pcm.size)):
        real[i] = pcm[i]
    thinned = np.empty(count, np.float32)
    for k in range(count):
        thinned[k] = _product(real[k * step : k * step + taps.size], taps)
    return thinned


@inlined
def _product(one: Real, other: Real) -> np.float32:
    total = np.float32(0)
    for i in range(other.size):
        total += one[i] * other[i]
    return total


@compiled(void(read_only(int16), int64, float32[::1], float32[::1], float32[:, ::1]))
def _lay_out(pcm: Samples, step: int, taps: Real, shape: Real, windows: Real) -> None:
    """Fill windows, float32 ``[windows, size]``, with the thinned signal in the shape of one."""
    hop = shape.size // 2
    signal = _thinned(pcm, step, taps, pcm.size // step)
    for k in range(len(windows)):
        part, window = signal[k * hop : k * hop + shape.size], windows[k]
        for i in range(shape.size):
            window[i] = part[i] * shape[i]


@compiled(boolean(float64[::1], int64[::1], float64, float64, float64, int64))
def _stands_out(  # noqa: PLR0913 - a loop takes plain values
    power: Values, reaches: Bins, floor: float, main: float, line: float, lines: int
) -> bool:
    """Tell whether harmonics of one mains frequency stand out over the bins beside them.

    Args:
        power: Of each bin, 1 Hz apart: mean square of the sine that would fill the bin.
        reaches: How far from its place each harmonic may be, in Hz.
        floor: Power below which a line does not count.
        main: What the first or second harmonic must have over its neighbours.
        line: What each harmonic must have.
        lines: How many must have that.
    """
    for mains in MAINS_HZ:
        highest, found = 0.0, 0
        for order in range(1, reaches.size + 1):
            reach = reaches[order - 1]
            strongest = power[mains * order - reach : mains * order + reach + 1].max()
            ratio = strongest / max(_beside(power, mains * order, reach), TINY)
            if strongest >= floor:
                found += ratio >= line
                highest = max(highest, ratio) if order <= _MAIN else highest
        if highest >= main and found >= lines:
            return True
    return False


@inlined
def _beside(power: Values, centre: int, reach: int) -> float:
    """Return the median of the bins beside a line.

    The window spreads a line over two bins either way: those are left out. The median of the rest,
    up to 10 Hz away, takes no notice of one more line.
    """
    rising = np.empty(2 * BESIDE_HZ)
    size = 0
    for offset in range(-BESIDE_HZ, BESIDE_HZ + 1):
        if abs(offset) > reach + 2:
            place = size
            while place and rising[place - 1] > power[centre + offset]:
                rising[place] = rising[place - 1]
                place -= 1
            rising[place] = power[centre + offset]
            size += 1
    return float(rising[(size - 1) // 2] + rising[size // 2]) / 2


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
    limits = thresholds.level_dbfs, thresholds.flatness, thresholds.high_band_db
    return _has_hiss(rms_dbfs, flatness, high_band, is_speech, thresholds.frames, *limits)


@compiled(float64(float64[:], float64[:], float64[:], boolean[:], int64, float64, float64, float64))
def _has_hiss(  # noqa: PLR0913 - a loop takes plain values
    rms_dbfs: Values,
    flatness: Values,
    high_band: Values,
    is_speech: Flags,
    fewest: int,
    least_level: float,
    least_flatness: float,
    least_high_band: float,
) -> float:
    """Return 1.0 where the medians over the pauses reach their limits; NaN in too few frames."""
    pauses = np.empty((3, rms_dbfs.size))
    found = 0
    for k in range(rms_dbfs.size):
        if not is_speech[k] and not math.isnan(flatness[k]):
            pauses[0, found] = rms_dbfs[k]
            pauses[1, found] = flatness[k]
            pauses[2, found] = high_band[k] - rms_dbfs[k]
            found += 1
    if found < fewest:
        return math.nan
    has_hiss = (
        _is_median_from(pauses[0, :found], least_level)
        and _is_median_from(pauses[1, :found], least_flatness)
        and _is_median_from(pauses[2, :found], least_high_band)
    )
    return 1.0 if has_hiss else 0.0


@inlined
def _is_median_from(values: Values, limit: float) -> bool:
    """Tell whether the median of known values, at least one, is no less than a limit."""
    reaching, above, below = 0, np.inf, -np.inf
    for value in values:
        if value >= limit:
            reaching += 1
            above = min(above, value)
        else:
            below = max(below, value)
    if 2 * reaching == values.size:
        return above + below >= 2 * limit
    return 2 * reaching > values.size

"""Mains hum and hiss in one bucket of one tap.

Hum is looked for in what is always there: the signal is thinned out to 1 to 2 kHz, its spectrum
taken over windows of one second, half overlapping (Welch, but the least power of each bin over the
windows in the place of the mean), so that voices, which glide, and tones that end leave nothing.
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
PIECE = 250
MOST_HARMONICS = 5
BESIDE_HZ = 10
TINY = 1e-20

Samples = npt.NDArray[np.int16]
Real = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


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
    power = _least_power(_thin_out(pcm, step), rate // step)
    return float(any(_detected(power, mains, thresholds) for mains in MAINS_HZ))


@lru_cache(maxsize=8)
def _filter(step: int) -> Real:
    """Low-pass filter, -6 dB at half the reduced rate: a sinc behind a Hamming window.

    Returns:
        float32 ``[step, TAPS_PER_STEP]``, the impulse response column by column.
    """
    taps = TAPS_PER_STEP * step
    impulse = np.sinc((np.arange(taps) - (taps - 1) / 2) / step) * np.hamming(taps)
    impulse /= impulse.sum() * FULL_SCALE
    return np.ascontiguousarray(impulse.reshape(TAPS_PER_STEP, step).T, np.float32)


def _thin_out(pcm: Samples, step: int) -> Real:
    """Filter and take every ``step``-th sample, silence behind the last."""
    count = len(pcm) // step
    pieces = np.zeros((-(-(count + TAPS_PER_STEP) // PIECE), PIECE, step), np.float32)
    pieces.reshape(-1)[: count * step] = pcm[: count * step]
    # In pieces, so that OpenBLAS does not wake its threads.
    parts = (pieces @ _filter(step)).reshape(-1, TAPS_PER_STEP)
    return np.asarray(sum(parts[k : k + count, k] for k in range(TAPS_PER_STEP)))


def _least_power(signal: Real, size: int) -> Values:
    """Return the least power of each bin, 1 Hz apart, over the windows of a second.

    Returns:
        float64 ``[311]``, mean square of the sine that would fill the bin.
    """
    window = _hann(size)
    windows = np.lib.stride_tricks.sliding_window_view(signal, size)[:: size // 2]
    looked_at = slice(max(MAINS_HZ) * MOST_HARMONICS + BESIDE_HZ + 1)
    spectra = np.abs(scipy.fft.rfft(windows * window)[:, looked_at])
    return np.asarray(2 * spectra.min(axis=0).astype(np.float64) ** 2)


@lru_cache(maxsize=8)
def _hann(size: int) -> Real:
    """Periodic Hann window of sum 1."""
    window = 1 - np.cos(2 * np.pi * np.arange(size) / size)
    return np.asarray(window / size, np.float32)


def _detected(power: Values, mains: int, thresholds: HumThresholds) -> bool:
    """Tell whether harmonics of one mains frequency stand out."""
    orders = range(1, thresholds.harmonics + 1)
    heights = [_height(power, mains, order, thresholds) for order in orders]
    lines = sum(height >= thresholds.line_db for height in heights)
    return max(heights[:2]) >= thresholds.main_db and lines >= thresholds.lines


def _height(power: Values, mains: int, order: int, thresholds: HumThresholds) -> float:
    """Height of a harmonic over the bins beside it, in dB; minus infinity below the floor.

    The window spreads a line over two bins either way: those are left out. The median of the rest,
    up to 10 Hz away, takes no notice of one more line.
    """
    centre, reach = mains * order, math.ceil(order * thresholds.wander_hz)
    line = power[centre - reach : centre + reach + 1].max()
    if line < 10 ** (thresholds.floor_dbfs / 10):
        return -math.inf
    below = power[centre - BESIDE_HZ : centre - reach - 2]
    above = power[centre + reach + 3 : centre + BESIDE_HZ + 1]
    beside = max(float(np.median(np.concatenate([below, above]))), TINY)
    return 10 * math.log10(line / beside)


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
        np.median(rms_dbfs[pause]) >= thresholds.level_dbfs
        and np.median(flatness[pause]) >= thresholds.flatness
        and np.median(high_band[pause] - rms_dbfs[pause]) >= thresholds.high_band_db
    )

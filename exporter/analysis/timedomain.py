"""Time-domain metrics of 20 ms frames; sums run over integers, which is exact."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import float64, int16, void

from exporter.compiled import compiled, inlined, read_only
from exporter.metrics import TIME_METRICS

FULL_SCALE = 32_768.0
CLIP_LEVEL = 32_760
FLOOR_DBFS = -120.0

COLUMNS = {metric.key: column for column, metric in enumerate(TIME_METRICS)}
_RMS_DBFS, _PEAK_DBFS, _PEAK, _PEAK_TO_PEAK, _AVERAGE_ABSOLUTE, _ENERGY, _CREST, _OFFSET = range(8)
_CLIPPED, _CLIPPING_RATIO, _LONGEST_CLIPPED, _IS_SILENT, _IS_MUTED, _IS_FROZEN = range(8, 14)
_ZERO_CROSSING_RATE = 14

Frames = npt.NDArray[np.int16]
Frame = npt.NDArray[np.int16]
Column = npt.NDArray[np.float64]
Values = npt.NDArray[np.float64]


def measure(frames: Frames, silence_dbfs: float) -> Values:
    """Measure frames.

    Args:
        frames: int16 ``[frames, samples]``, mono, full scale 32768.
        silence_dbfs: A frame whose level lies below is silent.

    Returns:
        float64 ``[frames, metrics]``, columns as ``TIME_METRICS``; NaN where a metric is unknown.
    """
    result = np.empty((len(frames), len(COLUMNS)), np.float64)
    _measure(np.ascontiguousarray(frames), silence_dbfs, result)
    return result


@inlined
def _sums(frame: Frame) -> tuple[np.int64, np.int64, np.int64]:
    """Sum squares, samples and absolutes."""
    square = total = absolute = np.int64(0)
    for place in range(len(frame)):
        sample = np.int64(frame[place])
        square += sample * sample
        total += sample
        absolute += abs(sample)
    return square, total, absolute


@inlined
def _extremes(frame: Frame) -> tuple[np.int64, np.int64]:
    """Return the highest and the lowest sample."""
    highest = lowest = frame[0]
    for place in range(len(frame)):
        highest = max(highest, frame[place])
        lowest = min(lowest, frame[place])
    return np.int64(highest), np.int64(lowest)


@inlined
def _sign_changes(frame: Frame) -> np.int16:
    """Count the samples that are negative where the one before is not, or the reverse."""
    before, after = frame[:-1], frame[1:]
    changes = np.int16(0)
    for place in range(len(before)):
        changes = np.int16(changes + np.int16((before[place] ^ after[place]) < 0))
    return changes


@inlined
def _clipping(frame: Frame) -> tuple[int, int]:
    """Count the clipped samples, and those of the longest run."""
    clipped = run = longest = 0
    for sample in frame:
        run = run + 1 if abs(np.int64(sample)) >= CLIP_LEVEL else 0
        clipped += run > 0
        longest = max(longest, run)
    return clipped, longest


@inlined
def _decibels(energy: float) -> float:
    """10 log10 of a mean square re full scale, floored at -120 dBFS."""
    return max(10.0 * math.log10(energy), FLOOR_DBFS) if energy > 0.0 else FLOOR_DBFS


@inlined
def _crest(peak: np.int64, mean_square: float, samples: int) -> float:
    """Peak over rms; the last bit of a root may lie beyond what a frame can have."""
    if peak == 0:
        return math.nan
    return min(max(peak / math.sqrt(mean_square), 1.0), math.sqrt(samples))


@compiled(void(read_only(int16, 2), float64, float64[:, ::1]))
def _measure(frames: Frames, silence_dbfs: float, result: Values) -> None:
    """Fill the row of each frame."""
    samples = frames.shape[1]
    for index in range(len(frames)):
        frame, row = frames[index], result[index]
        square, total, absolute = _sums(frame)
        highest, lowest = _extremes(frame)
        peak = max(highest, -lowest)
        clipped, longest = _clipping(frame) if peak >= CLIP_LEVEL else (0, 0)
        energy = square / (samples * FULL_SCALE**2)
        row[_RMS_DBFS] = _decibels(energy)
        row[_PEAK_DBFS] = _decibels((peak / FULL_SCALE) ** 2)
        row[_PEAK] = peak
        row[_PEAK_TO_PEAK] = highest - lowest
        row[_AVERAGE_ABSOLUTE] = absolute / samples
        row[_ENERGY] = energy
        row[_CREST] = _crest(peak, square / samples, samples)
        row[_OFFSET] = total / (samples * FULL_SCALE)
        row[_CLIPPED] = clipped
        row[_CLIPPING_RATIO] = clipped / samples
        row[_LONGEST_CLIPPED] = longest
        row[_IS_SILENT] = row[_RMS_DBFS] < silence_dbfs
        row[_IS_MUTED] = peak == 0
        row[_IS_FROZEN] = highest == lowest
        row[_ZERO_CROSSING_RATE] = _sign_changes(frame) / (samples - 1)

"""Time-domain metrics of 20 ms frames, many frames at a time.

Frames go through in tiles of 256 rows, which stay in the second-level cache; the last tile is
padded, so that a frame's value does not depend on its neighbours. Sums run over integers held in
float64, which is exact, whatever the order of summation: 960 * 2^30 is far below 2^53.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from exporter.metrics import TIME_METRICS

TILE_ROWS = 256
FULL_SCALE = 32_768.0
CLIP_LEVEL = 32_760
FLOOR_DBFS = -120.0

COLUMNS = {metric.key: column for column, metric in enumerate(TIME_METRICS)}

Frames = npt.NDArray[np.int16]
Column = npt.NDArray[np.float64]


class _Scratch:
    """Working arrays of one tile; made once for a measurement, used for every tile."""

    def __init__(self, samples: int) -> None:
        shape = (TILE_ROWS, samples)
        self.real = np.empty(shape, np.float64)
        self.negative = np.empty(shape, np.bool_)
        self.change = np.empty((TILE_ROWS, samples - 1), np.bool_)
        self.tile = np.zeros(shape, np.int16)
        self.ones = np.ones(samples, np.float64)


class _Sums:
    """What the samples are read for: exact numbers of each row, whole tiles of them.

    Everything else is computed from these for all rows at once: dozens of calls on 256 values
    would cost as much as reading the samples does.
    """

    def __init__(self, rows: int) -> None:
        size = -(-rows // TILE_ROWS) * TILE_ROWS
        self.square = np.empty(size, np.float64)
        self.total = np.empty(size, np.float64)
        self.absolute = np.empty(size, np.float64)
        self.highest = np.empty(size, np.int32)
        self.lowest = np.empty(size, np.int32)
        self.changes = np.empty(size, np.int64)
        self.clipped = np.zeros(size, np.int64)
        self.longest = np.zeros(size, np.int64)


def measure(frames: Frames, silence_dbfs: float) -> npt.NDArray[np.float64]:
    """Measure frames.

    Args:
        frames: int16 ``[frames, samples]``, mono, full scale 32768.
        silence_dbfs: A frame whose level lies below is silent.

    Returns:
        float64 ``[frames, metrics]``, columns as ``TIME_METRICS``; NaN where a metric is unknown.
    """
    rows, samples = frames.shape
    scratch, sums = _Scratch(samples), _Sums(rows)
    for start in range(0, rows, TILE_ROWS):
        tile = frames[start : start + TILE_ROWS]
        if len(tile) < TILE_ROWS:
            scratch.tile[: len(tile)] = tile
            tile = scratch.tile
        _read_tile(tile, scratch, sums, start)
    columns = _columns(sums, samples, silence_dbfs)
    result = np.empty((len(sums.square), len(COLUMNS)), np.float64)
    for key, column in COLUMNS.items():
        result[:, column] = columns[key]
    return result[:rows]


def _read_tile(tile: Frames, scratch: _Scratch, sums: _Sums, start: int) -> None:
    """Read the samples of a tile while they are in the cache."""
    place = slice(start, start + TILE_ROWS)
    real = scratch.real
    np.copyto(real, tile)
    sums.square[place] = np.vecdot(real, real)
    sums.total[place] = np.vecdot(real, scratch.ones)
    np.abs(real, out=real)
    sums.absolute[place] = np.vecdot(real, scratch.ones)
    highest, lowest = tile.max(axis=1), tile.min(axis=1)
    sums.highest[place], sums.lowest[place] = highest, lowest
    sums.changes[place] = _sign_changes(tile, scratch)
    rows = np.flatnonzero((highest >= CLIP_LEVEL) | (lowest <= -CLIP_LEVEL))
    if rows.size:
        sums.clipped[start + rows], sums.longest[start + rows] = _clipping(tile[rows])


def _columns(sums: _Sums, samples: int, silence_dbfs: float) -> dict[str, npt.NDArray[np.generic]]:
    """Compute every metric of all rows."""
    peak = np.maximum(sums.highest, -sums.lowest)
    energy = sums.square / (samples * FULL_SCALE**2)
    rms_dbfs = _decibels(np.sqrt(energy))
    with np.errstate(invalid="ignore"):
        crest = np.where(peak > 0, peak / np.sqrt(sums.square / samples), np.nan)
    # The last bit of a root may lie beyond what a frame can have.
    np.clip(crest, 1.0, np.sqrt(samples), out=crest)
    return {
        "pcm.rms_dbfs": rms_dbfs,
        "pcm.peak_dbfs": _decibels(peak / FULL_SCALE),
        "pcm.peak_amplitude": peak,
        "pcm.peak_to_peak": sums.highest - sums.lowest,
        "pcm.average_absolute": sums.absolute / samples,
        "pcm.energy": energy,
        "pcm.crest_factor": crest,
        "pcm.dc_offset": sums.total / (samples * FULL_SCALE),
        "pcm.clipped_samples": sums.clipped,
        "pcm.clipping_ratio": sums.clipped / samples,
        "pcm.consecutive_clipped": sums.longest,
        "pcm.silence_detected": rms_dbfs < silence_dbfs,
        "pcm.muted_signal": peak == 0,
        "pcm.frozen_signal": sums.highest == sums.lowest,
        "pcm.zero_crossing_rate": sums.changes / (samples - 1),
    }


def _decibels(ratio: Column) -> Column:
    """20 log10 of a ratio to full scale, floored at -120 dBFS."""
    with np.errstate(divide="ignore"):
        return np.maximum(20.0 * np.log10(ratio), FLOOR_DBFS)


def _sign_changes(tile: Frames, scratch: _Scratch) -> npt.NDArray[np.uint16]:
    """Count sign changes of each row; bytes are summed faster than truths are counted."""
    np.less(tile, 0, out=scratch.negative)
    negative = scratch.negative
    np.not_equal(negative[:, 1:], negative[:, :-1], out=scratch.change)
    return np.asarray(scratch.change.view(np.uint8).sum(axis=1, dtype=np.uint16))


def _clipping(tile: Frames) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Count clipped samples and the longest run of each row."""
    hot = (tile >= CLIP_LEVEL) | (tile <= -CLIP_LEVEL)
    return np.asarray(np.count_nonzero(hot, axis=1)), _longest_runs(hot)


def _longest_runs(hot: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Longest run of True in each row: distance to the last False, by a running maximum."""
    index = np.arange(1, hot.shape[1] + 1)
    last_false = np.maximum.accumulate(np.where(hot, 0, index), axis=1)
    return np.asarray((index - last_false).max(axis=1), np.int64)

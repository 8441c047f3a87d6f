"""What becomes of the rows of measurements, column by column: aggregates and histograms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import numpy.typing as npt
from numba import float64, int64, void

from exporter.compiled import compiled, inlined

STATISTICS = 5

Values = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
Counts = npt.NDArray[np.int64]


def aggregated(rows: Matrix) -> Matrix:
    """Aggregate every column; NaN is no value.

    Args:
        rows: float64 ``[frames, columns]``.

    Returns:
        float64 ``[5, columns]``: count, min, max, sum, last; without a value inf, -inf, 0 and NaN.
    """
    table = np.empty((STATISTICS, rows.shape[1]))
    _aggregate(rows, table)
    return table


@compiled(void(float64[:, ::1], float64[:, ::1]))
def _aggregate(rows: Matrix, table: Matrix) -> None:
    count, low, high, total, last = table[0], table[1], table[2], table[3], table[4]
    count[:], low[:], high[:], total[:], last[:] = 0.0, np.inf, -np.inf, 0.0, math.nan
    # Loops that write one array each have vector instructions.
    for k in range(len(rows)):
        row = rows[k]
        for i in range(row.size):
            count[i] += 0.0 if math.isnan(row[i]) else 1.0
        for i in range(row.size):
            low[i] = min(low[i], np.inf if math.isnan(row[i]) else row[i])
        for i in range(row.size):
            high[i] = max(high[i], -np.inf if math.isnan(row[i]) else row[i])
        for i in range(row.size):
            total[i] += 0.0 if math.isnan(row[i]) else row[i]
        for i in range(row.size):
            last[i] = last[i] if math.isnan(row[i]) else row[i]


def aggregated_series(series: Sequence[Values]) -> Matrix:
    """Aggregate known values in the order of time, at least one in each series.

    Returns:
        float64 ``[series, 5]``: count, min, max, sum, last.
    """
    table = np.empty((len(series), STATISTICS))
    if series:
        ends = np.array([*accumulate(map(len, series))], np.int64)
        _aggregate_series(np.concatenate(series), ends, table)
    return table


@compiled(void(float64[::1], int64[::1], float64[:, ::1]))
def _aggregate_series(values: Values, ends: Places, table: Matrix) -> None:
    start = 0
    for k in range(ends.size):
        row, low, high, total = table[k], np.inf, -np.inf, 0.0
        for value in values[start : ends[k]]:
            low, high, total = min(low, value), max(high, value), total + value
        row[0], row[1], row[2], row[3] = ends[k] - start, low, high, total
        row[4] = values[ends[k] - 1]
        start = ends[k]


@compiled(void(float64[:, ::1], int64[::1], float64[:, ::1], int64[:, ::1]))
def count_places(rows: Matrix, columns: Places, borders: Matrix, counts: Counts) -> None:
    """Count between which borders the values of some columns lie; NaN lies nowhere.

    Args:
        rows: float64 ``[frames, columns]``.
        columns: Which ones, ``[n]``.
        borders: float64 ``[n, most]``, rising, filled up with infinity.
        counts: int64 ``[n, most + 1]``, of values up to each border and beyond the last; added to.
    """
    values = np.empty(len(rows))
    for one in range(columns.size):
        beyond = 0
        for k in range(len(rows)):
            values[beyond] = rows[k, columns[one]]
            beyond += not math.isnan(values[beyond])
        known = values[:beyond]
        for place in range(borders.shape[1]):
            above = _count_above(known, borders[one, place])
            counts[one, place] += beyond - above
            beyond = above
        counts[one, borders.shape[1]] += beyond


@inlined
def _count_above(values: Values, border: float) -> int:
    above = 0
    for i in range(values.size):
        above += values[i] > border
    return above

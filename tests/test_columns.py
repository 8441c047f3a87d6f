"""Aggregates and histograms of columns against numpy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from exporter.analysis.columns import aggregated, aggregated_series, count_places

Values = npt.NDArray[np.float64]

NUMBERS = st.floats(-1e6, 1e6) | st.just(np.nan)
ROWS = arrays(np.float64, st.tuples(st.integers(0, 40), st.integers(1, 35)), elements=NUMBERS)


@given(ROWS)
def test_columns_are_aggregated_without_what_is_unknown(rows: Values) -> None:
    """Count, min, max, sum and last are those of the known values of each column."""
    table = aggregated(rows)

    for column, (count, low, high, total, last) in zip(rows.T, table.T, strict=True):
        known = column[~np.isnan(column)]
        assert len(known) == count
        assert known.sum() == pytest.approx(total, abs=1e-6)
        if len(known):
            assert (known.min(), known.max(), known[-1]) == (low, high, last)
        else:
            assert np.isnan(last)


@given(st.lists(arrays(np.float64, st.integers(1, 40), elements=st.floats(-1e6, 1e6)), max_size=5))
def test_series_are_aggregated(series: list[Values]) -> None:
    """So are series of several lengths, and none at all."""
    table = aggregated_series(series)

    assert (len(series), 5) == table.shape
    for values, (count, low, high, total, last) in zip(series, table.tolist(), strict=True):
        assert (len(values), values.min(), values.max(), values[-1]) == (count, low, high, last)
        assert values.sum() == pytest.approx(total, abs=1e-6)


@given(arrays(np.float64, st.tuples(st.integers(0, 60), st.just(3)), elements=NUMBERS))
def test_values_are_counted_between_borders(rows: Values) -> None:
    """A border belongs to what is below it; counts go on from what they were."""
    borders = np.array([[-1e3, 0.0, 1.0, 5e5], [0.0, 1.0, np.inf, np.inf]])
    columns, counts = np.array([2, 0]), np.ones((2, 5), np.int64)
    count_places(rows, columns, borders, counts)

    for column, edges, found in zip(columns, borders, counts - 1, strict=True):
        known = rows[~np.isnan(rows[:, column]), column]
        expected = np.bincount(edges.searchsorted(known), minlength=5)
        assert expected.tolist() == found.tolist()


def test_infinity_lies_beyond_all_borders_or_before() -> None:
    """Infinite values are values."""
    rows, counts = np.array([[np.inf], [-np.inf]]), np.zeros((1, 3), np.int64)
    count_places(rows, np.array([0]), np.array([[0.0, 1.0]]), counts)

    assert [[1, 0, 1]] == counts.tolist()

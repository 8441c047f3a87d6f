"""Harmonic ratio of 20 ms frames.

The largest coefficient of correlation of the overlapping parts of a frame x and the one before it,
sum x[t] x[t+k] / sqrt(sum x[t]^2 sum x[t+k]^2), their mean removed, k from 1/400 s to 1/60 s. From
16 kHz on, x are the sums of 2, 3 .. adjacent samples, as many as leave 8 kHz or more: a low-pass
filter (-4 dB at half that rate), whose aliases keep their period.

All lags are looked at on sums of adjacent samples that leave 4 kHz or more, as if both parts had
the energy of their share of the whole; then the lags about the best of them closely. Where several
lags are nearly as good, as in noise, the one that is found may not be the very best.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import float32, int16, int64, types, void

from exporter.analysis.frames import largest_step
from exporter.compiled import compiled, inlined, read_only
from exporter.model import FRAMES_PER_SECOND

FINE_RATE, COARSE_RATE = 8_000, 4_000
LOWEST_PITCH, HIGHEST_PITCH = 60, 400
# What rounding leaves correlates too. To the energy of either part come -50 dB of the whole, which
# is more than the rounding of a sum takes away, and a tenth of a squared int16 step.
PART_FLOOR = np.float32(1e-5)
ENERGY_FLOOR = np.float32(0.1)
PAIR = 2
# So many lags are looked at in one go, which share what they read. Their sums are of so many values
# or a multiple of it, the last ones 0: vector instructions then leave no rest.
ABREAST, WHOLE = 4, 32

Frames = npt.NDArray[np.int16]
Real = npt.NDArray[np.float32]
Sources = npt.NDArray[np.int64]


class _Search(NamedTuple):
    """How the lags of a rate are searched.

    Attributes:
        fine: Samples that are added up.
        coarse: Of these sums, as many are added up for a first look.
        first: Shortest lag, in sums.
        last: Longest lag.
    """

    fine: int
    coarse: int
    first: int
    last: int


def ratios(frames: Frames, sources: Sources, before: Frames) -> Real:
    """Measure frames.

    Args:
        frames: int16 ``[rows, rate / 50]``.
        sources: int64 ``[rows]``: the frame before each: -1 the row above, else which of
            ``before``; beyond those there is none.
        before: int16 ``[as many, rate / 50]``.

    Returns:
        float32 ``[rows]``, NaN where there is no frame before.
    """
    samples = frames.shape[1]
    fine = largest_step(samples, samples * FRAMES_PER_SECOND // FINE_RATE)
    rate = samples // fine * FRAMES_PER_SECOND
    coarse = largest_step(samples // fine, rate // COARSE_RATE)
    search = _Search(fine, coarse, -(-rate // HIGHEST_PITCH), rate // LOWEST_PITCH)
    result = np.full(len(frames), np.nan, np.float32)
    _fill(frames, sources, before, search, result)
    return result


@compiled(
    void(
        read_only(int16, 2),
        int64[::1],
        read_only(int16, 2),
        types.NamedUniTuple(int64, 4, _Search),  # type: ignore[no-untyped-call]
        float32[::1],
    )
)
def _fill(frames: Frames, sources: Sources, before: Frames, search: _Search, result: Real) -> None:
    size = frames.shape[1] // search.fine
    earlier, later = np.empty(size, np.float32), np.empty(size, np.float32)
    pair = np.zeros(2 * size + WHOLE + ABREAST, np.float32)
    coarse = np.zeros_like(pair)
    products = np.empty(search.last + 2 * ABREAST, np.float32)
    for row in range(len(frames)):
        earlier, later = later, earlier
        _add_up(frames[row], search.fine, later)
        if sources[row] >= len(before):
            continue
        if sources[row] >= 0:
            _add_up(before[sources[row]], search.fine, earlier)
        _join(earlier, later, pair)
        lag = _likely(pair[: 2 * size], search, coarse, products)
        result[row] = _best(pair, 2 * size, lag, 2 * search.coarse - 1, products)


@inlined
def _add_up(values: Frames, step: int, sums: Real) -> None:
    """Add up each ``step`` adjacent samples; what is usual has vector instructions."""
    if step == 1:
        _each(values, 1, sums)
    elif step == PAIR:
        _each(values, PAIR, sums)
    else:
        _each(values, step, sums)


@inlined
def _each(values: Frames | Real, step: int, sums: Real) -> None:
    for index in range(len(sums)):
        total = np.float32(0)
        for offset in range(step):
            # What is unsigned is not negative.
            total += values[np.uint64(index * step + offset)]
        sums[index] = total


@inlined
def _join(earlier: Real, later: Real, pair: Real) -> None:
    """Lay frames one behind the other, without the mean of both."""
    size = len(earlier)
    total = np.float32(0)
    for index in range(size):
        total += earlier[index] + later[index]
    mean = total / np.float32(2 * size)
    behind = pair[size:]
    for index in range(size):
        pair[index] = earlier[index] - mean
        behind[index] = later[index] - mean


@inlined
def _likely(pair: Real, search: _Search, coarse: Real, products: Real) -> int:
    """Return the first of the lags that are worth a close look."""
    step, size = search.coarse, len(pair) // search.coarse
    if step == PAIR:
        _each(pair, PAIR, coarse[:size])
    else:
        _each(pair, step, coarse[:size])
    first, end = search.first // step, -(-search.last // step) + 1
    _multiply(coarse, size, first, end - first, products)
    means = products[: end - first]
    for index in range(len(means)):
        means[index] /= np.float32(np.int32(size - first - index))
    best = first + _largest(means)
    return min(max((best - 1) * step + 1, search.first), search.last - 2 * (step - 1))


@inlined
def _largest(values: Real) -> int:
    """Return the place of the largest value, if any is positive: then their bits rise alike."""
    bits = values.view(np.int32)
    most = bits[0]
    for index in range(len(bits)):
        most = max(most, bits[index])
    place = 0
    while bits[place] != most:
        place += 1
    return place


@inlined
def _multiply(values: Real, size: int, first: int, count: int, products: Real) -> None:
    """Sum the products at some lags, and at a few more; behind the values are zeros."""
    for index in range(0, count, ABREAST):
        lag = first + index
        overlap = -(-(size - lag) // WHOLE) * WHOLE
        a, b, c, d = values[lag:], values[lag + 1 :], values[lag + 2 :], values[lag + 3 :]
        at_a = at_b = at_c = at_d = np.float32(0)
        for place in range(overlap):
            value = values[place]
            at_a += value * a[place]
            at_b += value * b[place]
            at_c += value * c[place]
            at_d += value * d[place]
        products[index], products[index + 1] = at_a, at_b
        products[index + 2], products[index + 3] = at_c, at_d


@inlined
def _best(pair: Real, size: int, first: int, count: int, products: Real) -> np.float32:
    """Return the largest ratio at some lags, at least 0."""
    _multiply(pair, size, first, count, products)
    whole = _energy(pair[:size])
    floor = PART_FLOOR * whole + ENERGY_FLOOR
    early = whole - _energy(pair[size - first : size]) + floor
    late = whole - _energy(pair[:first]) + floor
    best = np.float32(0)
    for index in range(count):
        best = max(best, products[index] / math.sqrt(early * late))
        # One lag more, and either part loses a sample.
        early -= pair[size - first - index - 1] ** 2
        late -= pair[first + index] ** 2
    return min(best, np.float32(1))


@inlined
def _energy(values: Real) -> np.float32:
    total = np.float32(0)
    for index in range(len(values)):
        total += values[index] * values[index]
    return total

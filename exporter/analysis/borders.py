"""Clicks at the borders of blocks: what a filter that forgets its state leaves in the sound."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

SHORTEST_S, LONGEST_S = 0.005, 0.1
FEWEST_BORDERS = 20
_PERCENT = 99
_STEP = 4

Offsets = npt.NDArray[np.int64]


def click_ratio(
    pcm: npt.NDArray[np.int16],
    borders: Offsets,
    *,
    speech: Sequence[tuple[int, int]],
    rate: int,
) -> float:
    """Return the share of block borders that stick out of the curvature inside blocks.

    Curvature is the absolute second difference of the samples; at a border it is that of the last
    sample before it, the first one that both blocks take part in.

    Args:
        pcm: int16 ``[samples]``.
        borders: Where blocks begin, rising.
        speech: Where speech is, as first sample and end; nothing else is looked at.
        rate: Sampling rate in Hz.

    Returns:
        0 to 1, about 0.01 when nothing clicks; NaN for blocks that are not 5 to 100 ms long and
        where fewer than 20 borders lie in speech.
    """
    lengths = np.diff(borders)
    fits = (lengths >= SHORTEST_S * rate) & (lengths <= LONGEST_S * rate)
    heard = np.zeros(len(pcm), np.bool_)
    for start, end in speech:
        heard[start:end] = True
    places = borders[1:][fits]
    places = places[(places >= 2) & (places < len(pcm))]  # noqa: PLR2004 - the curvature's reach
    places = places[heard[places]]
    if len(places) < FEWEST_BORDERS:
        return math.nan
    curvature = np.abs(np.diff(pcm.astype(np.int32), n=2))
    inside = heard[1:-1].copy()
    inside[places - 2] = False
    # Every fourth sample tells the percentile as well, in a quarter of the time.
    others = curvature[::_STEP][inside[::_STEP]]
    rank = len(others) * _PERCENT // 100
    limit = np.partition(others, rank)[rank]
    return float(np.count_nonzero(curvature[places - 2] > limit) / len(places))

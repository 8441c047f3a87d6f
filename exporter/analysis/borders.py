"""Clicks at the borders of blocks: what a filter that forgets its state leaves in the sound."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from exporter.model import FRAMES_PER_SECOND

SHORTEST_S, LONGEST_S = 0.005, 0.1
FEWEST_BORDERS = 20
_PERCENT = 99
_STEP = 7

Offsets = npt.NDArray[np.int64]


def click_ratio(
    pcm: npt.NDArray[np.int16], borders: Offsets, *, speech: Offsets, rate: int
) -> float:
    """Return the share of block borders that stick out of the curvature inside blocks.

    Curvature is the absolute second difference of the samples; at a border it is that of the last
    sample before it, the first one that both blocks take part in.

    Args:
        pcm: int16 ``[samples]``.
        borders: Where blocks begin, rising, within ``pcm``.
        speech: Where frames of speech begin, rising; nothing else is looked at.
        rate: Sampling rate in Hz.

    Returns:
        0 to 1, about 0.01 when nothing clicks; NaN for blocks that are not 5 to 100 ms long and
        where fewer than 20 borders lie in speech.
    """
    lengths = borders[1:] - borders[:-1]
    fits = (lengths >= SHORTEST_S * rate) & (lengths <= LONGEST_S * rate)
    heard = _heard(pcm.size, speech, rate // FRAMES_PER_SECOND)
    places = borders[1:][fits] - 1
    places = places[heard[places]]
    if len(places) < FEWEST_BORDERS:
        return math.nan
    heard[places] = False
    # Every seventh sample tells the percentile as well; blocks are rarely multiples of it.
    others = _curvature(pcm[:-2:_STEP], pcm[1:-1:_STEP], pcm[2::_STEP])[heard[1:-1:_STEP]]
    rank = len(others) * _PERCENT // 100
    limit = np.partition(others, rank)[rank]
    here = _curvature(pcm[places - 1], pcm[places], pcm[places + 1])
    return float(np.count_nonzero(here > limit) / len(places))


def _heard(size: int, speech: Offsets, step: int) -> npt.NDArray[np.bool_]:
    """Mark the samples that lie in frames of speech."""
    # The last frame of a bucket may reach into the next one.
    heard = np.zeros(size + step, np.bool_)
    frames = np.ndarray((size + 1, step), np.bool_, heard, strides=(1, 1))
    frames[speech] = True
    return heard[:size]


def _curvature(
    before: npt.NDArray[np.int16], here: npt.NDArray[np.int16], behind: npt.NDArray[np.int16]
) -> npt.NDArray[np.int32]:
    """Return the absolute second difference."""
    change = here.astype(np.int32)
    change *= -2
    change += before.astype(np.int32)
    change += behind.astype(np.int32)
    return np.abs(change, out=change)

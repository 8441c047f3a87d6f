"""Clicks at the borders of blocks: what a filter that forgets its state leaves in the sound."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import float64, int16, int64

from exporter.compiled import compiled, inlined, read_only
from exporter.model import FRAMES_PER_SECOND

SHORTEST_S, LONGEST_S = 0.005, 0.1
FEWEST_BORDERS = 20
_PERCENT = 99
_STEP = 7

Samples = npt.NDArray[np.int16]
Offsets = npt.NDArray[np.int64]
Curvatures = npt.NDArray[np.int32]


def click_ratio(pcm: Samples, borders: Offsets, *, speech: Offsets, rate: int) -> float:
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
    return _share(
        pcm, borders, speech, rate // FRAMES_PER_SECOND, SHORTEST_S * rate, LONGEST_S * rate
    )


@compiled(float64(read_only(int16), int64[::1], int64[::1], int64, float64, float64))
def _share(  # noqa: PLR0913 - a loop takes plain values
    pcm: Samples, borders: Offsets, speech: Offsets, frame: int, shortest: float, longest: float
) -> float:
    """Return the share; frames have so many samples, blocks of a shortest and longest count."""
    places = _places(borders, speech, frame, shortest, longest)
    if places.size < FEWEST_BORDERS:
        return math.nan
    limit = _percentile(pcm, places, speech, frame)
    clicks = 0
    for place in places:
        clicks += int(_curvature(pcm[place - 1], pcm[place], pcm[place + 1]) > limit)
    return clicks / places.size


@inlined
def _places(
    borders: Offsets, speech: Offsets, frame: int, shortest: float, longest: float
) -> Offsets:
    """Return the last samples before borders, of blocks that fit, in speech."""
    places = np.empty(borders.size, np.int64)
    found = index = 0
    for k in range(1, borders.size):
        place = borders[k] - 1
        while index < speech.size and speech[index] + frame <= place:
            index += 1
        is_heard = index < speech.size and speech[index] <= place
        if is_heard and shortest <= borders[k] - borders[k - 1] <= longest:
            places[found] = place
            found += 1
    return places[:found]


@inlined
def _percentile(pcm: Samples, places: Offsets, speech: Offsets, frame: int) -> int:
    """Return the 99th percentile of the curvature in speech outside of the places.

    Every seventh sample tells it as well; blocks are rarely multiples of it.
    """
    values = np.empty(speech.size * (frame // _STEP + 1), np.int32)
    size = left_out = index = 0
    for start in speech:
        first = start + (1 - start) % _STEP
        # The last frame of a bucket may reach into the next one.
        end = min(start + frame, pcm.size - 1)
        before, here = pcm[first - 1 : end - 1 : _STEP], pcm[first:end:_STEP]
        behind = pcm[first + 1 : end + 1 : _STEP]
        inside = values[size : size + here.size]
        for i in range(inside.size):
            inside[i] = _curvature(before[i], here[i], behind[i])
        while index < places.size and places[index] < end:
            if places[index] % _STEP == 1:
                inside[places[index] // _STEP - first // _STEP] = -1
                left_out += 1
            index += 1
        size += inside.size
    return _ranked(values[:size], left_out + (size - left_out) * _PERCENT // 100)


@inlined
def _ranked(values: Curvatures, rank: int) -> int:
    """Return the value of a rank, from 0 on: the least that more values than this do not exceed."""
    low, high = 0, int(_highest(values))
    while low < high:
        middle = (low + high) // 2
        if _count_up_to(values, middle) > rank:
            high = middle
        else:
            low = middle + 1
    return low


@inlined
def _highest(values: Curvatures) -> np.int32:
    highest = np.int32(0)
    for i in range(values.size):
        highest = max(highest, values[i])
    return highest


@inlined
def _count_up_to(values: Curvatures, limit: int) -> np.int32:
    # A sum of two int32 is an int64 to numba.
    count, narrow = np.int32(0), np.int32(limit)
    for i in range(values.size):
        count = np.int32(count + (values[i] <= narrow))
    return count


@inlined
def _curvature(before: np.int16, here: np.int16, behind: np.int16) -> np.int32:
    """Return the absolute second difference."""
    return np.int32(abs(np.int32(before) - 2 * np.int32(here) + np.int32(behind)))

"""Frames of PRE beside those of POST, sample by sample, as ``exporter.analysis.pairs`` lays them.

``starts`` are the first samples of a tap's frames, int64 ``[F]``, in order; ``ranges`` says where
its audio is, int64 ``[pieces, 2]``; POST stands ``shift`` samples later. What is *seen* of PRE's
frames is float32 ``[F, 3]``: the largest magnitudes of PRE and of POST and POST's energy, each -1
where the frame is not counted. What is *heard* are the first samples of those that are speech and
at neither tap digital silence. Where PRE is delayed by part of a sample, ``delayed`` are its frames
that are heard, float32 ``[heard, samples]``, and else nothing.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import types

from exporter.analysis.alignment import Places, Samples, Signal, Spectra
from exporter.analysis.timedomain import FLOOR_DBFS, FULL_SCALE, Column
from exporter.compiled import compiled, inlined, read_only

_LEAST_SNR_DB, _MOST_SNR_DB = -10.0, 35.0
_LIMITED_RATIO = 10.0 ** (0.5 / 20.0)
_LIMITED_FLOOR = np.float32(FULL_SCALE * 10.0 ** (-50.0 / 20.0))
# The usual gain is a median over every eighth sample: as good, and far cheaper.
_MEDIAN_STEP = 8
# Keeps the logarithm of an energy finite; far below the square of one sample.
_TINY = 1e-6

_ZERO = np.float32(0.0)
# Columns of what is seen, and of the sums.
_PRE_PEAK, _POST_PEAK, _POST_ENERGY = range(3)
_PRE, _POST, _PRODUCT = range(3)

Truths = npt.NDArray[np.bool_]

_PCM, _PLACES, _MARKS = read_only(types.int16), read_only(types.int64), read_only(types.boolean)
_RANGES, _COLUMN = read_only(types.int64, 2), read_only(types.float64)
_FRAMES, _INT, _REAL = types.float32[:, ::1], types.int64, types.float64


@inlined
def _is_there(start: int, samples: int, ranges: Places) -> bool:
    """Tell whether a stretch lies within audio; pieces that touch are one."""
    there = start
    for i in range(len(ranges)):
        if ranges[i, 0] <= there < ranges[i, 1]:
            there = ranges[i, 1]
    return there >= start + samples


@compiled(_INT(_PLACES, _MARKS, _RANGES, _INT, types.int64[::1]))
def spoken(starts: Places, speech: Truths, ranges: Places, samples: int, places: Places) -> int:
    """Gather the speech frames that are there; return how many."""
    count = 0
    for i in range(starts.size):
        if speech[i] and _is_there(starts[i], samples, ranges):
            places[count] = starts[i]
            count += 1
    return count


@compiled(
    _INT(
        *(_PCM, _RANGES, _PLACES, _MARKS, _COLUMN, _PCM, _RANGES, _INT, _INT),
        *(_FRAMES, types.int64[::1]),
    )
)
def look(  # noqa: PLR0913 - loops take arrays
    pre: Samples,
    pre_ranges: Places,
    starts: Places,
    speech: Truths,
    rms_dbfs: Column,
    post: Samples,
    post_ranges: Places,
    samples: int,
    shift: int,
    seen: Signal,
    heard: Places,
) -> int:
    """Fill ``seen`` and ``heard`` from PRE's frames beside POST's; return how many are heard."""
    count = 0
    for i in range(starts.size):
        start = starts[i]
        beside = start + shift
        seen[i] = -1.0
        if _is_there(start, samples, pre_ranges) and _is_there(beside, samples, post_ranges):
            x, y = pre[start : start + samples], post[beside : beside + samples]
            seen[i, _PRE_PEAK], seen[i, _POST_PEAK] = _peak(x), _peak(y)
            seen[i, _POST_ENERGY] = _energy(y)
            if speech[i] and seen[i, _POST_PEAK] > 0 and rms_dbfs[i] > FLOOR_DBFS:
                heard[count] = start
                count += 1
    return count


@inlined
def _peak(frame: Samples) -> np.int64:
    """Return the largest magnitude."""
    high = low = frame[0]
    for i in range(frame.size):
        high, low = max(high, frame[i]), min(low, frame[i])
    return max(np.int64(high), -np.int64(low))


@inlined
def _energy(frame: Samples) -> np.float32:
    """Sum the squares."""
    total = _ZERO
    for i in range(frame.size):
        total += np.float32(frame[i]) * np.float32(frame[i])
    return total


@compiled(
    _REAL(
        *(_PCM, _FRAMES, _PCM, _PLACES, _INT, read_only(types.float32)),
        *(_FRAMES, types.complex64[:, ::1]),
    )
)
def lay(  # noqa: PLR0913 - loops take arrays
    pre: Samples,
    delayed: Signal,
    post: Samples,
    heard: Places,
    shift: int,
    window: Signal,
    sums: Signal,
    both: Spectra,
) -> float:
    """Lay what is heard of PRE and of POST into the two parts of rows, under a window.

    The window is float32 ``[samples]``, the rows, ``both``, are complex64 ``[heard, samples]``, and
    ``sums``, float32 ``[heard, 3]``, get the squares of PRE, of POST, and their products.

    Returns:
        The signed correlation of all, a direct current being part of it.
    """
    samples = window.size
    pre_sum = post_sum = product = 0.0
    for i in range(heard.size):
        start = heard[i]
        y = post[start + shift : start + shift + samples]
        if len(delayed):
            _lay_frame(delayed[i], y, window, sums[i], both[i])
        else:
            _lay_frame(pre[start : start + samples], y, window, sums[i], both[i])
        pre_sum, post_sum = pre_sum + sums[i, _PRE], post_sum + sums[i, _POST]
        product += sums[i, _PRODUCT]
    energy = pre_sum * post_sum
    return product / math.sqrt(energy) if energy else 0.0


@inlined
def _lay_frame(
    pre: Samples | Signal, post: Samples, window: Signal, sums: Signal, both: Spectra
) -> None:
    """Lay a frame under the window, and sum the squares of both taps and their products."""
    pre_sum = post_sum = product_sum = _ZERO
    for i in range(window.size):
        x, y = np.float32(pre[i]), np.float32(post[i])
        pre_sum += x * x
        post_sum += y * y
        product_sum += x * y
        both[i] = complex(x * window[i], y * window[i])
    sums[_PRE], sums[_POST], sums[_PRODUCT] = pre_sum, post_sum, product_sum


@compiled(types.void(_FRAMES, types.float64[:, ::1]))
def gain_and_snr(sums: Signal, gain_and_snr: Column) -> None:
    """Compute gain and SNR in decibels from sums of squares and products."""
    product = energy = 0.0
    for i in range(len(sums)):
        product += sums[i, _PRODUCT]
        energy += max(sums[i, _PRE], _TINY)
    gain = product / energy
    for i in range(len(sums)):
        pre, post = max(sums[i, _PRE], _TINY), np.float64(sums[i, _POST])
        signal = gain * gain * pre
        noise = max(post + signal - 2.0 * gain * sums[i, _PRODUCT], _TINY)
        snr_db = 10.0 * math.log10(max(signal, _TINY) / noise)
        gain_and_snr[0, i] = 10.0 * math.log10(post / pre)
        gain_and_snr[1, i] = max(_LEAST_SNR_DB, min(snr_db, _MOST_SNR_DB))


@compiled(_REAL(_MARKS, _COLUMN, _FRAMES, _REAL, _REAL))
def lost(
    speech: Truths, rms_dbfs: Column, seen: Signal, silence_dbfs: float, silence: float
) -> float:
    """Return the share of PRE's speech whose energy is below ``silence`` at POST, NaN of none."""
    lost = spoken = 0
    for i in range(speech.size):
        if speech[i] and seen[i, _POST_PEAK] >= 0:
            spoken += 1
            is_lost = seen[i, _POST_ENERGY] < silence and rms_dbfs[i] >= silence_dbfs
            lost += 1 if is_lost else 0
    return lost / spoken if spoken else math.nan


@compiled(_REAL(_PCM, _RANGES, _PCM, _RANGES, _PLACES, _COLUMN, _INT, _INT))
def added_silence(  # noqa: PLR0913 - loops take arrays
    pre: Samples,
    pre_ranges: Places,
    post: Samples,
    post_ranges: Places,
    starts: Places,
    rms_dbfs: Column,
    samples: int,
    shift: int,
) -> float:
    """Return the share of POST's frames that are digital silence where PRE is not, NaN of none."""
    added = counted = 0
    for i in range(starts.size):
        start = starts[i]
        beside = start - shift
        if _is_there(start, samples, post_ranges) and _is_there(beside, samples, pre_ranges):
            counted += 1
            if rms_dbfs[i] <= FLOOR_DBFS and _peak(post[start : start + samples]) == 0:
                added += 1 if _peak(pre[beside : beside + samples]) > 0 else 0
    return added / counted if counted else math.nan


@compiled(
    _INT(*(_PLACES, _MARKS, _COLUMN, _FRAMES, _PLACES, _COLUMN, _INT, _INT), types.float64[::1])
)
def loudness_delta(  # noqa: PLR0913 - loops take arrays
    starts: Places,
    speech: Truths,
    pre: Column,
    seen: Signal,
    post_starts: Places,
    post: Column,
    whole: int,
    half: int,
    delta: Column,
) -> int:
    """Gather POST less PRE at the speech frames where both are known; return how many."""
    count = at = 0
    for i in range(starts.size):
        target = starts[i] + whole
        while at < post_starts.size and post_starts[at] < target - half:
            at += 1
        if at < post_starts.size and post_starts[at] <= target + half:
            delta[count] = post[at] - pre[i]
            count += speech[i] and seen[i, _POST_PEAK] >= 0 and not math.isnan(delta[count])
    return count


@compiled(_REAL(_PCM, _FRAMES, _PCM, _PLACES, _PLACES, _INT, _INT, _FRAMES))
def limited(  # noqa: PLR0913 - loops take arrays
    pre: Samples,
    delayed: Signal,
    post: Samples,
    starts: Places,
    heard: Places,
    samples: int,
    shift: int,
    seen: Signal,
) -> float:
    """Return the share of PRE's counted samples that the usual gain would carry above POST's peak.

    Where POST is digital silence, a packet is missing, and nothing was limited. NaN where most
    gains are 0, or none is known.
    """
    most, peak = _ZERO, _ZERO
    for i in range(len(seen)):
        most, peak = max(most, seen[i, _PRE_PEAK]), max(peak, seen[i, _POST_PEAK])
    gains = np.empty(heard.size * (1 + samples // _MEDIAN_STEP), np.float32)
    known = 0
    for i in range(heard.size):
        start = heard[i]
        y = post[start + shift : start + shift + samples]
        if len(delayed):
            known += _gather_gains(delayed[i], y, peak, gains[known:])
        else:
            known += _gather_gains(pre[start : start + samples], y, peak, gains[known:])
    zeros = low = 0
    for i in range(known):
        zeros += gains[i] <= 0.0
        low += gains[i] <= peak * _LIMITED_RATIO / most
    if not known or 2 * zeros > known:
        return math.nan
    # Whether the median is more than that which limits nothing is told without it.
    if 2 * low > known:
        return 0.0
    usual = _selected(gains[:known], known // 2)
    return _share_above(pre, starts, samples, seen, float(peak * _LIMITED_RATIO / usual))


@inlined
def _gather_gains(pre: Samples | Signal, post: Samples, peak: np.float32, gains: Signal) -> int:
    """Gather POST / PRE of some samples, away from POST's peak and where PRE is not faint."""
    known = 0
    for i in range(np.uint64(0), np.uint64(post.size), np.uint64(_MEDIAN_STEP)):
        x, y = abs(np.float32(pre[i])), abs(np.float32(post[i]))
        if x > _LIMITED_FLOOR and y < 0.5 * peak:
            gains[known] = y / x
            known += 1
    return known


@inlined
def _selected(values: Signal, place: int) -> np.float32:
    """Return what would stand at a place if ``values`` were sorted; they are, in part."""
    first, last = 0, values.size - 1
    while first < last:
        pivot, low, high = values[(first + last) // 2], first, last
        while low <= high:
            while values[low] < pivot:
                low += 1
            while values[high] > pivot:
                high -= 1
            if low <= high:
                values[low], values[high] = values[high], values[low]
                low, high = low + 1, high - 1
        if place <= high:
            last = high
        elif place >= low:
            first = low
        else:  # what stands between them is the pivot
            break
    return np.float32(values[place])


@inlined
def _share_above(pre: Samples, starts: Places, samples: int, seen: Signal, loud: float) -> float:
    """Return the share of PRE's counted samples above ``loud`` where POST is no silence."""
    above = counted = 0
    for i in range(starts.size):
        counted += seen[i, _POST_PEAK] >= 0
        if seen[i, _POST_PEAK] > 0 and seen[i, _PRE_PEAK] > loud:
            frame = pre[starts[i] : starts[i] + samples]
            for j in range(samples):
                above += 1 if abs(np.float32(frame[j])) > loud else 0
    return above / (counted * samples)

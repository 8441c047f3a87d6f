"""Noise floor, signal-to-noise ratio and voice activity of many taps at once.

The noise floor is a percentile of the levels of the last 3 s. The voice decision is a logistic
function of five features of a frame, each relative to a noise and a peak level that it tracks
itself; docs/voice.md explains it and reports how often it errs. It looks only backwards.

What a tap remembers is a row of float32, and every frame leaves it rounded: a frame's values depend
on the frames of its own tap alone, however they are cut.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import float32, float64, int64, types, void

from exporter.analysis.remembered import apart, joined
from exporter.compiled import compiled, inlined
from exporter.model import FRAMES_PER_SECOND

Real = npt.NDArray[np.float64]
Single = npt.NDArray[np.float32]
Counts = npt.NDArray[np.int64]
Level = float | np.float32
Bands = tuple[float, float, float]
Features = tuple[Real, ...]

WINDOW = 3 * FRAMES_PER_SECOND
FEWEST = 50
PERCENTILE = 0.1
NO_LEVEL = np.float32(np.inf)
"""Stands for a frame that does not count for the noise floor; sorts behind those that do."""
FEATURES: Any = types.UniTuple(float64[:], 7)  # type: ignore[no-untyped-call]

# Tracking, in dB per frame. The noise level follows every dip and rises from there at 2.5 dB/s, or
# faster to 4 dB below a level that does not dip. The peak level sinks at 1.5 dB/s.
SLOW_RISE, FAST_RISE, PEAK_FALL = 0.05, 2.0, 0.03
FAST_MARGIN_DB = 4.0
QUIET_DB, SILENT_DB, LEAST_DB = -60.0, -119.99, -120.0
"""In silence and gaps the noise level goes to -60 dB; the peak level never falls below that."""
ABOVE_NOISE_DB, BELOW_PEAK_DB, CLEAR_DB = 6.0, 28.0, 10.0
HARMONIC_FRAMES, SMOOTH_FRAMES, HOLD_FRAMES = 10, 3, 4

# Weights by logistic regression (L-BFGS; a frame by the best of its last four scores, as in use;
# classes and kinds of noise weighted alike) on 2.2 h of frames at 8 and 16 kHz, active level -45 to
# -10 dBFS: recorded prompts in two languages, also shifted in pitch, clean and in white, pink,
# brown, babble, speech-shaped and hum noise of 5 to 25 dB; noises, tones and clicks alone. The
# recordings that docs/voice.md reports on were kept apart.
BIAS, MARGIN_WEIGHT, HARMONIC_WEIGHT, FLATNESS_WEIGHT, RANGE_WEIGHT = -10.6, 0.33, 8.8, 0.7, 0.92
LOWEST_FLATNESS, WIDEST_RANGE_DB = math.exp(-4.0), 8.0
DROP_DB, DROP_SCORE = (0.0, 10.0, 20.0, 40.0), (0.0, 1.04, -1.01, -1.56)
SILENCE_SCORE = -16.0
SPEECH_FROM = 0.5

# What a tap remembers: levels of the last 3 s, the oldest first; the same in rising order; slow and
# fast noise and peak of each band and of the loudest of them; and what goes into means and maxima
# over a few frames, the oldest first.
_ORDERED = WINDOW
_TRACKED = _ORDERED + WINDOW
_HARMONIC = _TRACKED + 4 * 3
_SCORE = _HARMONIC + HARMONIC_FRAMES - 1
_SMOOTH = _SCORE + SMOOTH_FRAMES - 1
_SIZE = _SMOOTH + HOLD_FRAMES - 1
_NO_GAP = -1


@dataclass(frozen=True, slots=True)
class Columns:
    """Metrics of all rows, float64 ``[rows]`` each; NaN where unknown.

    Attributes:
        rms_dbfs: Level of the frame.
        peak_amplitude: 0 at digital silence.
        flatness: Spectral flatness.
        harmonic_ratio: Periodicity, 0 to 1.
        low_band: Level below 500 Hz in dB; without a spectrum NaN or -120 in all bands.
        mid_band: Level of 500 to 2000 Hz in dB.
        high_band: Level above 2000 Hz in dB.
    """

    rms_dbfs: Real
    peak_amplitude: Real
    flatness: Real
    harmonic_ratio: Real
    low_band: Real
    mid_band: Real
    high_band: Real


class VoiceMemory:
    """What one tap remembers from frame to frame.

    Attributes:
        state: float32 as bytes: the numbers named above.
        missing: Frames that are missing before the next one; -1 without a gap.
    """

    __slots__ = ("missing", "state")

    def __init__(self) -> None:
        self.state = _START
        self.missing = _NO_GAP

    def restart(self, missing_frames: int) -> None:
        """Say that a gap was here.

        The frames on both sides of it do not count for the noise floor. Its duration passes:
        older frames leave the last 3 s, the tracked levels go on as in silence.

        Args:
            missing_frames: Whole frames that are missing, 0 or more.
        """
        self.missing = max(self.missing, 0) + missing_frames


def _start() -> bytes:
    """Return what is remembered of nothing but silence."""
    state = np.full(_SIZE, NO_LEVEL, np.float32)
    state[_TRACKED:_HARMONIC] = QUIET_DB
    state[_HARMONIC:_SCORE] = 0.0
    state[_SCORE:] = SILENCE_SCORE
    return state.tobytes()


_START = _start()


def measure(columns: Columns, counts: Sequence[int], memories: Sequence[VoiceMemory]) -> Real:
    """Measure frames.

    Args:
        columns: Metrics of all frames, one stretch behind the other.
        counts: Frames of each stretch, 1 or more, one directly after the other.
        memories: Of each stretch, every one once; they go on to its end.

    Returns:
        float64 ``[rows, 3]``: noise floor in dBFS, SNR in dB (NaN without speech), probability of
        voice; NaN where unknown.
    """
    result = np.empty((len(columns.rms_dbfs), 3), np.float64)
    features = tuple(getattr(columns, field.name) for field in fields(Columns))
    # Of each stretch its frames, and those that are missing before it.
    stretches = np.array([counts, [memory.missing for memory in memories]], np.int64)
    states = joined([memory.state for memory in memories], np.float32, _SIZE)
    _measure(features, stretches, states, result)
    for memory, state in zip(memories, apart(states), strict=True):
        memory.state = state
        memory.missing = _NO_GAP
    return result


@inlined
def _shift(values: Single, count: int, fill: Level) -> None:
    """Drop the oldest values and append ``fill`` as often."""
    kept = max(len(values) - count, 0)
    for place in range(kept):
        values[place] = values[place + count]
    values[kept:] = fill


@inlined
def _exchange(ordered: Single, old: Level, new: Level, rest: Single) -> None:
    """Replace one of the values in rising order.

    Args:
        ordered: Of a window.
        old: One of them.
        new: What comes instead.
        rest: Room for the other values, between -inf and inf.
    """
    above, others = ordered[1:], rest[1:]
    for place in range(WINDOW - 1):
        value, higher = ordered[place], above[place]
        others[place] = value if value < old else higher
    for place in range(WINDOW):
        ordered[place] = max(rest[place], min(new, others[place]))


@inlined
def _remember(level: Level, state: Single, rest: Single) -> None:
    """Let a level take the place of the oldest."""
    levels = state[:_ORDERED]
    _exchange(state[_ORDERED:_TRACKED], levels[0], level, rest)
    _shift(levels, 1, level)


@inlined
def _noise_floor(ordered: Single) -> float:
    """10th percentile of the levels that count; NaN with fewer than 50."""
    known = 0
    for index in range(WINDOW):
        known += ordered[index] < NO_LEVEL
    if known < FEWEST:
        return math.nan
    place = PERCENTILE * (known - 1)
    lower = int(place)
    below, above = float(ordered[lower]), float(ordered[lower + 1])
    return below + (place - lower) * (above - below)


@inlined
def _pass(missing: int, state: Single, rest: Single) -> None:
    """Let a gap pass: the frame before it does not count, and silence follows."""
    _exchange(state[_ORDERED:_TRACKED], state[_ORDERED - 1], NO_LEVEL, rest)
    state[_ORDERED - 1] = NO_LEVEL
    for _ in range(min(missing, WINDOW)):
        _remember(NO_LEVEL, state, rest)
    if missing:
        for band in range(4):
            tracked = state[_TRACKED + 3 * band :]
            tracked[0] = min(tracked[0] + missing * SLOW_RISE, QUIET_DB)
            tracked[1] = min(tracked[1] + missing * FAST_RISE, QUIET_DB)
            tracked[2] = max(tracked[2] - missing * PEAK_FALL, QUIET_DB)
    _shift(state[_HARMONIC:_SCORE], missing, 0.0)
    _shift(state[_SCORE:_SMOOTH], missing, SILENCE_SCORE)
    _shift(state[_SMOOTH:], missing, SILENCE_SCORE)


@inlined
def _track(level: float, tracked: Single) -> tuple[float, float]:
    """Let noise and peak of a band go on by a frame, and return them."""
    sound = level if level > SILENT_DB else QUIET_DB
    slow = min(tracked[0] + SLOW_RISE, sound)
    fast = min(tracked[1] + FAST_RISE, sound)
    peak = max(tracked[2] - PEAK_FALL, level, QUIET_DB)
    tracked[0], tracked[1], tracked[2] = slow, fast, peak
    return max(slow, fast - FAST_MARGIN_DB), peak


@inlined
def _margin(level: float, tracked: Single) -> float:
    """By how much a band exceeds both its noise and what its peak masks, dB."""
    noise, peak = _track(level, tracked)
    return level - max(noise + ABOVE_NOISE_DB, peak - BELOW_PEAK_DB)


@inlined
def _drop_score(drop: float) -> float:
    """Interpolate what it counts that the level is so far below the peak, dB."""
    for place in range(3):
        low, high = DROP_DB[place], DROP_DB[place + 1]
        if drop < high:
            rise = (DROP_SCORE[place + 1] - DROP_SCORE[place]) / (high - low)
            return DROP_SCORE[place] + (drop - low) * rise
    return DROP_SCORE[3]


@inlined
def _voice(bands: Bands, harmonic: float, flatness: float, state: Single) -> float:
    """Probability of voice; the highest of the last few frames, which bridges short closures."""
    low, mid, high = bands
    loudest = max(low, mid, high)
    tracked = state[_TRACKED:_HARMONIC]
    margin = max(_margin(low, tracked), _margin(mid, tracked[3:]), _margin(high, tracked[6:]))
    noise, peak = _track(loudest, tracked[9:])
    ratios, scores, means = state[_HARMONIC:_SCORE], state[_SCORE:_SMOOTH], state[_SMOOTH:]
    score = BIAS + MARGIN_WEIGHT * min(max(margin, -CLEAR_DB), CLEAR_DB)
    score += HARMONIC_WEIGHT / HARMONIC_FRAMES * (ratios.sum() + harmonic)
    score += FLATNESS_WEIGHT * math.log(flatness)
    score += RANGE_WEIGHT * min(max(peak - noise, 0.0), WIDEST_RANGE_DB)
    score += _drop_score(peak - loudest)
    is_silent = loudest <= SILENT_DB
    if is_silent:
        score = SILENCE_SCORE
    mean = (scores.sum() + score) / SMOOTH_FRAMES
    held = mean
    for place in range(len(means)):
        held = max(held, means[place])
    _shift(ratios, 1, harmonic)
    _shift(scores, 1, score)
    _shift(means, 1, mean)
    return 0.0 if is_silent else 1.0 / (1.0 + math.exp(-held))


@compiled(void(FEATURES, int64[:, ::1], float32[:, ::1], float64[:, ::1]))
def _measure(features: Features, stretches: Counts, states: Single, result: Real) -> None:
    """Go through the frames of one stretch after the other."""
    rms, peak, flatness, harmonic, low, mid, high = features
    rest = np.full(WINDOW + 1, NO_LEVEL)
    rest[0] = -NO_LEVEL
    row = 0
    for index in range(len(states)):
        count, missing, state = stretches[0, index], stretches[1, index], states[index]
        if missing != _NO_GAP:
            _pass(missing, state, rest)
        for frame in range(count):
            counts = peak[row] > 0.0 and (frame > 0 or missing == _NO_GAP)
            _remember(np.float32(rms[row]) if counts else NO_LEVEL, state, rest)
            floor = _noise_floor(state[_ORDERED:_TRACKED])
            # Of two numbers the first is returned where the other is NaN.
            bands = max(LEAST_DB, low[row]), max(LEAST_DB, mid[row]), max(LEAST_DB, high[row])
            tone, shape = max(0.0, harmonic[row]), max(LOWEST_FLATNESS, flatness[row])
            voice = _voice(bands, tone, shape, state)
            result[row, 0] = floor
            result[row, 1] = max(rms[row] - floor, 0.0) if voice >= SPEECH_FROM else math.nan
            result[row, 2] = voice
            row += 1

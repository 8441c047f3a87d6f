"""Noise floor, signal-to-noise ratio and voice activity of many taps at once.

The noise floor is a percentile of the levels of the last 3 s. The voice decision is a logistic
function of five features of a frame, each relative to a noise and a peak level that it tracks
itself; docs/voice.md explains it and reports how often it errs. It looks only backwards.

Stretches of one length go through together as ``[stretches, frames]``, for the noise floor at most
``PIECE`` frames at a time. A frame's values depend on the frames of its own tap alone, however they
are cut.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided
from scipy.special import expit

from exporter.analysis.remembered import apart, joined
from exporter.model import FRAMES_PER_SECOND

Real = npt.NDArray[np.float64]
Single = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]

PIECE = 25
WINDOW = 3 * FRAMES_PER_SECOND
FEWEST = 50
PERCENTILE = 0.1
LOWEST = int(PERCENTILE * (WINDOW - 1)) + 2
"""The percentile lies among the 16 lowest levels of a window."""
NO_LEVEL = np.float32(np.inf)
"""Stands for a frame that does not count for the noise floor; sorts behind those that do."""

# Tracking, in dB per frame. The noise level follows every dip and rises from there at 2.5 dB/s, or
# faster to 4 dB below a level that does not dip. The peak level sinks at 1.5 dB/s.
SLOW_RISE, FAST_RISE, PEAK_FALL = 0.05, 2.0, 0.03
FAST_MARGIN_DB = 4.0
RISE = np.repeat([SLOW_RISE, FAST_RISE, PEAK_FALL], 4)[:, None].astype(np.float32)
QUIET_DB, SILENT_DB = -60.0, -119.99
QUIET_INPUT = np.repeat([QUIET_DB, QUIET_DB, -QUIET_DB], 4).astype(np.float32)
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

# State of the decision. Tracked are slow and fast noise and, upside down, peak level; of the three
# bands and of the loudest of them each.
_TRACKED = slice(0, 12)
_HARMONIC = slice(12, 12 + HARMONIC_FRAMES - 1)
_SCORE = slice(_HARMONIC.stop, _HARMONIC.stop + SMOOTH_FRAMES - 1)
_SMOOTH = slice(_SCORE.stop, _SCORE.stop + HOLD_FRAMES - 1)
_HISTORIES = ((_HARMONIC, 0.0), (_SCORE, SILENCE_SCORE), (_SMOOTH, SILENCE_SCORE))


@dataclass(frozen=True, slots=True)
class Columns:
    """Metrics of all rows, float64 ``[rows]`` each; NaN where unknown.

    Attributes:
        rms_dbfs: Level of the frame.
        peak_amplitude: 0 at digital silence.
        flatness: Spectral flatness.
        harmonic_ratio: Periodicity, 0 to 1.
        low_band: Level below 500 Hz in dB; -120 in all bands where there is no spectrum.
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
        levels: float32 ``[149]`` as bytes, rms of the last frames in dBFS, the newest last.
        state: float32 as bytes, tracked levels and short histories of the voice decision.
        beside_gap: Whether the next frame follows a gap.
    """

    __slots__ = ("beside_gap", "levels", "state")

    def __init__(self) -> None:
        self.levels = np.full(WINDOW - 1, NO_LEVEL, np.float32).tobytes()
        self.state = np.full(_SMOOTH.stop, np.inf, np.float32).tobytes()
        self.beside_gap = False
        self._pass(WINDOW)

    def restart(self, missing_frames: int) -> None:
        """Say that a gap was here.

        The frames on both sides of it do not count for the noise floor. Its duration passes:
        older frames leave the last 3 s, the tracked levels go on as in silence.

        Args:
            missing_frames: Whole frames that are missing, 0 or more.
        """
        levels = np.frombuffer(self.levels, np.float32).copy()
        levels[-1] = NO_LEVEL
        _shift(levels, missing_frames, float(NO_LEVEL))
        self.levels = levels.tobytes()
        self.beside_gap = True
        self._pass(missing_frames)

    def _pass(self, frames: int) -> None:
        """Let frames of silence pass through the state."""
        state = np.frombuffer(self.state, np.float32).copy()
        if frames:
            tracked = state[_TRACKED] + frames * RISE[:, 0]
            state[_TRACKED] = np.minimum(tracked, QUIET_INPUT)
        for part, value in _HISTORIES:
            _shift(state[part], frames, value)
        self.state = state.tobytes()


def _shift(values: npt.NDArray[np.floating], count: int, fill: float) -> None:
    """Drop the oldest values in place and append ``fill`` as often."""
    kept = max(len(values) - count, 0)
    values[:kept] = values[len(values) - kept :]
    values[kept:] = fill


def measure(columns: Columns, counts: Sequence[int], memories: Sequence[VoiceMemory]) -> Real:
    """Measure frames.

    Args:
        columns: Metrics of all frames, one stretch behind the other.
        counts: Frames of each stretch, one directly after the other.
        memories: Of each stretch, every one once; they go on to its end.

    Returns:
        float64 ``[rows, 3]``: noise floor in dBFS, SNR in dB (NaN without speech), probability of
        voice; NaN where unknown.
    """
    sizes = np.asarray(counts, np.intp)
    result = np.empty((len(columns.rms_dbfs), 3), np.float64)
    floor, snr, voice = result.T
    for rows, chosen in _pieces(sizes, PIECE):
        floor[rows] = _noise_floor(columns, rows, [memories[index] for index in chosen])
    for rows, chosen in _pieces(sizes, len(result)):
        voice[rows] = _voice(columns, rows, [memories[index] for index in chosen])
    above = np.maximum(columns.rms_dbfs - floor, 0.0)
    snr[:] = np.where(voice >= SPEECH_FROM, above, np.nan)
    return result


def _pieces(counts: Rows, longest: int) -> Iterator[tuple[Rows, list[int]]]:
    """Cut stretches into pieces and yield those of one length together.

    Yields:
        Row numbers ``[stretches, frames]``, and which stretches these are.
    """
    first = np.cumsum(counts) - counts
    for start in range(0, int(counts.max(initial=0)), longest):
        lengths = np.clip(counts - start, 0, longest)
        for length in np.unique(lengths[lengths > 0]):
            chosen = np.flatnonzero(lengths == length)
            yield (first[chosen] + start)[:, None] + np.arange(length), chosen.tolist()


def _noise_floor(columns: Columns, rows: Rows, memories: list[VoiceMemory]) -> Real:
    """10th percentile of the levels that count in the 3 s up to each frame; NaN with too few."""
    new = np.where(columns.peak_amplitude[rows] > 0, columns.rms_dbfs[rows], NO_LEVEL)
    new[[memory.beside_gap for memory in memories], 0] = NO_LEVEL
    past = joined([memory.levels for memory in memories], np.float32)
    levels = np.concatenate([past, new.astype(np.float32)], axis=1)
    for memory, newest in zip(memories, apart(levels[:, rows.shape[1] :]), strict=True):
        memory.levels = newest
        memory.beside_gap = False
    return _percentile(*_windows(levels, rows.shape[1]))


def _windows(levels: Single, frames: int) -> tuple[Single, npt.NDArray[np.intp]]:
    """Lowest 16 levels of each window in rising order, and how many of its levels count.

    The windows of a piece have all but ``frames - 1`` of their levels in common. So the lowest 16
    of the common part, and those few levels, hold the lowest 16 of a window.

    Args:
        levels: float32 ``[stretches, 149 + frames]``.
        frames: How many windows end in this piece.

    Returns:
        Levels ``[stretches, frames, 16 or more]`` and numbers ``[stretches, frames]``.
    """
    few = frames - 1
    common = levels[:, few:WINDOW]
    others = np.concatenate([levels[:, :few], levels[:, WINDOW:]], axis=1)
    candidates = np.empty((len(levels), frames, LOWEST + few), np.float32)
    candidates[:, :, :LOWEST] = np.partition(common, LOWEST - 1, axis=1)[:, None, :LOWEST]
    row, step = others.strides
    candidates[:, :, LOWEST:] = as_strided(others, (len(levels), frames, few), (row, step, step))
    candidates.sort(axis=2)
    counting = np.zeros((len(levels), 2 * few + 1), np.intp)
    np.cumsum(others < NO_LEVEL, axis=1, out=counting[:, 1:])
    own = counting[:, few:] - counting[:, : few + 1]
    return candidates, np.count_nonzero(common < NO_LEVEL, axis=1)[:, None] + own


def _percentile(lowest: Single, valid: npt.NDArray[np.intp]) -> Real:
    """Interpolate between the ordered levels; NaN where fewer than 50 count."""
    place = PERCENTILE * (np.maximum(valid, FEWEST) - 1)
    lower = place.astype(np.intp)
    ordered = np.arange(valid.size).reshape(valid.shape) * lowest.shape[2] + lower
    below = lowest.take(ordered).astype(np.float64)
    above = lowest.take(ordered + 1)
    with np.errstate(invalid="ignore"):
        floor = below + (place - lower) * (above - below)
    return np.where(valid >= FEWEST, floor, np.nan)


def _voice(columns: Columns, rows: Rows, memories: list[VoiceMemory]) -> Single:
    """Probability of voice; the highest of the last few frames, which bridges short closures.

    Arrays are float32 ``[frames, stretches]`` from here on, so that a frame of all stretches lies
    in one piece of memory; the state is ``[values, stretches]``.
    """
    state = joined([memory.state for memory in memories], np.float32).T.copy()
    score, silent = _score(columns, rows.T.copy(), state)
    smooth = np.add.reduce(_trailing(state, _SCORE, score)) / np.float32(SMOOTH_FRAMES)
    held = np.maximum.reduce(_trailing(state, _SMOOTH, smooth))
    for memory, now in zip(memories, apart(state.T), strict=True):
        memory.state = now
    return np.where(silent, np.float32(0.0), expit(held)).T


def _score(columns: Columns, rows: Rows, state: Single) -> tuple[Single, npt.NDArray[np.bool_]]:
    """Weigh the features of each frame; also tell which frames are silent."""
    bands = columns.low_band, columns.mid_band, columns.high_band
    low, mid, high = (band[rows].astype(np.float32) for band in bands)
    harmonic = np.fmax(columns.harmonic_ratio[rows].astype(np.float32), 0.0)
    flatness = np.fmax(columns.flatness[rows].astype(np.float32), LOWEST_FLATNESS)
    loudest = np.maximum(np.maximum(low, mid), high)
    silent = loudest <= SILENT_DB
    levels = np.stack([low, mid, high, loudest], axis=1)
    noise, peak = _track(levels, state)
    threshold = np.maximum(noise + ABOVE_NOISE_DB, peak - BELOW_PEAK_DB)
    margin = np.maximum.reduce((levels - threshold)[:, :3], axis=1)
    score = BIAS + MARGIN_WEIGHT * np.clip(margin, -CLEAR_DB, CLEAR_DB)
    harmonics = np.add.reduce(_trailing(state, _HARMONIC, harmonic))
    score += HARMONIC_WEIGHT / HARMONIC_FRAMES * harmonics
    score += FLATNESS_WEIGHT * np.log(flatness)
    score += RANGE_WEIGHT * np.clip(peak[:, 3] - noise[:, 3], 0.0, WIDEST_RANGE_DB)
    score += np.interp(peak[:, 3] - loudest, DROP_DB, DROP_SCORE).astype(np.float32)
    return np.where(silent, SILENCE_SCORE, score), silent


def _track(levels: Single, state: Single) -> tuple[Single, Single]:
    """Noise and peak level of each frame, ``[frames, 4, stretches]``; the state goes on.

    A peak that sinks is a floor that rises, upside down: all three are tracked in one.
    """
    sound = np.where(levels[:, 3:] <= SILENT_DB, QUIET_DB, levels)
    inputs = np.concatenate([sound, sound, -np.maximum(levels, QUIET_DB)], axis=1)
    tracked = np.empty_like(inputs)
    now = state[_TRACKED]
    for frame, newest in zip(tracked, inputs, strict=True):
        np.add(now, RISE, out=frame)
        np.minimum(frame, newest, out=frame)
        now = frame
    state[_TRACKED] = now
    slow, fast, peak = np.split(tracked, 3, axis=1)
    return np.maximum(slow, fast - FAST_MARGIN_DB), -peak


def _trailing(state: Single, part: slice, new: Single) -> list[Single]:
    """Values of each frame and of those before it, the oldest first; the state goes on."""
    values = np.concatenate([state[part], new])
    state[part] = values[len(new) :]
    return [values[lag : lag + len(new)] for lag in range(part.stop - part.start + 1)]

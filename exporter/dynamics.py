"""Gate, compressor and limiter of the reference chain.

Each has ``turn(knobs)`` and ``run(x)``; x is float64, full scale 1.0. The envelopes are loops over
plain floats: their state depends on every sample before, and so does not on where a block ends.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy.ndimage import minimum_filter1d

from exporter.model import KnobValue

FLOOR_DB = -120.0
UNITY = 1 << 30

Signal = npt.NDArray[np.float64]
Knobs = Mapping[str, KnobValue]


def to_amplitude(decibels: float) -> float:
    """Return the factor of a level."""
    return float(10.0 ** (decibels / 20.0))


def coefficient(milliseconds: float, rate: int) -> float:
    """Return the step of a one-pole smoother that covers 63 % in the given time."""
    return 1.0 - math.exp(-1.0 / (milliseconds * 1e-3 * rate))


class Gate:
    """Lets sound through while its level is above the threshold, and for the hold time after.

    The level follows the magnitude at once and falls with 10 ms; the gain opens with the attack
    time and closes with the release time, to silence. A gate that is turned on starts open.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._fall = coefficient(10.0, rate)
        self._is_on = False
        self._level = 0.0
        self._gain = 1.0
        self._left = 0
        self._threshold = self._attack = self._release = 0.0
        self._hold = 0

    def turn(self, knobs: Knobs) -> None:
        """Take the knobs ``noise_gate.*``."""
        self._is_on = bool(knobs["noise_gate.enabled"])
        if not self._is_on:
            self._level, self._gain, self._left = 0.0, 1.0, 0
        self._threshold = to_amplitude(float(knobs["noise_gate.threshold_dbfs"]))
        self._attack = coefficient(float(knobs["noise_gate.attack_ms"]), self._rate)
        self._release = coefficient(float(knobs["noise_gate.release_ms"]), self._rate)
        self._hold = round(float(knobs["noise_gate.hold_ms"]) * 1e-3 * self._rate)

    def run(self, x: Signal) -> Signal:
        """Apply the gain of each sample."""
        if not self._is_on:
            return x
        level, gain, left = self._level, self._gain, self._left
        gains: list[float] = []
        for magnitude in np.abs(x).tolist():
            level = max(magnitude, level - self._fall * level)
            is_loud = level >= self._threshold
            gain += self._attack * (1.0 - gain) if is_loud or left else -self._release * gain
            left = self._hold if is_loud else max(left - 1, 0)
            gains.append(gain)
        self._level, self._gain, self._left = level, gain, left
        return np.asarray(x * np.array(gains), np.float64)


class Compressor:
    """Turns down what is above the threshold: there, ``ratio`` decibels in make one out.

    The gain wanted by each sample's magnitude is followed with the attack time when it falls and
    with the release time when it rises.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._is_on = False
        self._reduction = 0.0
        self._threshold = self._slope = self._attack = self._release = 0.0
        self._makeup = 1.0

    def turn(self, knobs: Knobs) -> None:
        """Take the knobs ``compressor.*``."""
        self._is_on = bool(knobs["compressor.enabled"])
        if not self._is_on:
            self._reduction = 0.0
        self._threshold = float(knobs["compressor.threshold_dbfs"])
        self._slope = 1.0 - 1.0 / float(knobs["compressor.ratio"])
        self._attack = coefficient(float(knobs["compressor.attack_ms"]), self._rate)
        self._release = coefficient(float(knobs["compressor.release_ms"]), self._rate)
        self._makeup = to_amplitude(float(knobs["compressor.makeup_gain_db"]))

    def run(self, x: Signal) -> Signal:
        """Apply the gain of each sample."""
        if not self._is_on:
            return x
        level = 20.0 * np.log10(np.maximum(np.abs(x), to_amplitude(FLOOR_DB)))
        wanted = np.maximum(level - self._threshold, 0.0) * self._slope
        reduction = self._reduction
        followed: list[float] = []
        for target in wanted.tolist():
            step = self._attack if target > reduction else self._release
            reduction += step * (target - reduction)
            followed.append(reduction)
        self._reduction = reduction
        return x * (10.0 ** (np.array(followed) / -20.0)) * self._makeup


class Limiter:
    """Keeps every sample at or below the threshold, and delays the stream by a constant time.

    The gain that each sample needs recovers with the release time; over the look-ahead it is taken
    at its smallest and then averaged, which is a ramp that is down when the peak comes. It is held
    in integers (2^30 is unity), whose sums are exact however the stream is cut.

    Args:
        rate: Sampling rate in Hz.
        delay: Delay of the stream in samples.
    """

    def __init__(self, rate: int, delay: int) -> None:
        self._rate = rate
        self._delay = delay
        self._is_on = False
        self._threshold = 1.0
        self._release = 0.0
        self._ahead = 0
        self._gain = 1.0
        self._audio = np.zeros(delay)
        self._needed = np.full(2 * delay, UNITY, np.int64)

    def turn(self, knobs: Knobs) -> None:
        """Take the knobs ``limiter.*``."""
        self._is_on = bool(knobs["limiter.enabled"])
        self._threshold = to_amplitude(float(knobs["limiter.threshold_dbfs"]))
        self._release = coefficient(float(knobs["limiter.release_ms"]), self._rate)
        ahead = round(float(knobs["limiter.lookahead_ms"]) * 1e-3 * self._rate)
        self._ahead = min(ahead, self._delay)

    def run(self, x: Signal) -> Signal:
        """Delay, and apply the gain of each sample."""
        count, delay, ahead = len(x), self._delay, self._ahead
        audio = np.concatenate([self._audio, x])
        needed = np.concatenate([self._needed, self._gains(x)])
        self._audio = audio[count:]
        self._needed = needed[count:]
        out = audio[:count]
        # Sample i of the output stands at delay + i of ``needed``.
        span = needed[delay - ahead : delay + count + ahead]
        if int(span.min(initial=UNITY)) == UNITY:
            return out
        width = ahead + 1
        lowest = minimum_filter1d(span, width, origin=-(width // 2))[: count + ahead]
        sums = np.concatenate([[0], np.cumsum(lowest)])
        average = (sums[width:] - sums[:-width]) // width
        return np.asarray(out * (average / UNITY), np.float64)

    def _gains(self, x: Signal) -> npt.NDArray[np.int64]:
        """Return the gain that each sample needs, with release."""
        magnitude = np.abs(x)
        if not self._is_on or (self._gain == 1.0 and not (magnitude > self._threshold).any()):
            self._gain = 1.0 if not self._is_on else self._gain
            return np.full(len(x), UNITY, np.int64)
        # Not threshold / magnitude: the tail of a filter is small enough to overflow it.
        wanted = self._threshold / np.maximum(magnitude, self._threshold)
        gain = self._gain
        gains: list[float] = []
        for target in wanted.tolist():
            gain = min(target, gain + self._release * (1.0 - gain))
            gain = gain if gain < 1.0 - 1e-9 else 1.0
            gains.append(gain)
        self._gain = gain
        return np.asarray(np.floor(np.array(gains) * UNITY), np.int64)

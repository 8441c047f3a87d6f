"""The reference chain: processing that obeys its knobs, for hosts without one and for the demo.

Order: input gain, high-pass, low-pass, gate, compressor, limiter, output gain, maximum level and
clipping protection, mute. The state goes on across blocks and the output is the same, bit by bit,
for any size of the blocks: filters and envelopes go sample by sample, and what is summed over
several samples is summed in integers. The delay is constant, 10 ms; ``limiter.lookahead_ms`` moves
inside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import signal

from exporter.dynamics import Compressor, Gate, Limiter, to_amplitude
from exporter.knobs import SHIPPED_KNOBS
from exporter.model import KnobValue

FULL_SCALE = 32_768.0
LOWPASS_ORDER = 4
SOFT_DB = 1.0

_PREFIXES = ("highpass.", "lowpass.", "noise_gate.", "compressor.", "limiter.")
_SINGLE = {
    "pcm.input_gain_db",
    "pcm.output_gain_db",
    "safety.max_output_level_dbfs",
    "safety.clipping_protection",
    "safety.emergency_mute",
}
IMPLEMENTS = frozenset(
    knob.key for knob in SHIPPED_KNOBS if knob.key.startswith(_PREFIXES) or knob.key in _SINGLE
)
"""The knobs that the chain obeys, for ``implements=``."""

Signal = npt.NDArray[np.float64]
Knobs = Mapping[str, KnobValue]


def bypassed(knobs: Knobs, rate: int) -> dict[str, str]:
    """Return the filters that a cut-off takes out of the chain, with the reason."""
    found: dict[str, str] = {}
    for name in ("highpass", "lowpass"):
        cutoff = float(knobs[f"{name}.cutoff_hz"])
        if knobs[f"{name}.enabled"] and not 0 < cutoff < rate / 2:
            found[f"{name}.cutoff_hz"] = (
                f"bypassed: {cutoff:g} Hz is 0 or not below {rate / 2:g} Hz"
            )
    return found


class _Filter:
    """A Butterworth filter whose state survives a change of its cut-off."""

    def __init__(self, name: str, kind: Literal["highpass", "lowpass"], rate: int) -> None:
        self._name = name
        self._kind = kind
        self._rate = rate
        self._sos: npt.NDArray[np.float64] | None = None
        self._state = np.zeros((0, 2))

    def turn(self, knobs: Knobs) -> None:
        """Design anew as the knobs say; bypassed when disabled or out of range."""
        cutoff = float(knobs[f"{self._name}.cutoff_hz"])
        if not knobs[f"{self._name}.enabled"] or not 0 < cutoff < self._rate / 2:
            self._sos = None
            # Kept, it would sound as a click of old audio when the filter comes back.
            self._state = np.zeros((0, 2))
            return
        order = int(knobs.get(f"{self._name}.order", LOWPASS_ORDER))
        self._sos = signal.butter(order, cutoff, self._kind, fs=self._rate, output="sos")
        if len(self._state) != len(self._sos):
            self._state = np.zeros((len(self._sos), 2))

    def run(self, x: Signal) -> Signal:
        """Filter; sample by sample, so that blocks make no difference."""
        if self._sos is None:
            return x
        y, self._state = signal.sosfilt(self._sos, x, zi=self._state)
        return np.asarray(y, np.float64)


class ReferenceChain:
    """Processes one stream: ``chain(block, knobs)``, as ``Station.process`` calls it.

    Args:
        rate: Sampling rate in Hz.
    """

    def __init__(self, rate: int) -> None:
        self.delay_samples = rate // 100
        self._knobs: Knobs | None = None
        self._input_gain = self._output_gain = self._ceiling = 1.0
        self._is_soft = self._is_mute = False
        self._highpass = _Filter("highpass", "highpass", rate)
        self._lowpass = _Filter("lowpass", "lowpass", rate)
        self._gate = Gate(rate)
        self._compressor = Compressor(rate)
        self._limiter = Limiter(rate, self.delay_samples)

    def __call__(self, block: bytes, knobs: Knobs) -> bytes:
        """Process a block.

        Args:
            block: Mono samples, signed 16 bit little endian.
            knobs: What is in force; the same object while nothing changes.

        Returns:
            As many samples, 10 ms later.
        """
        if not block:  # before the knobs: what counts for no sample must change no sample
            return block
        if knobs is not self._knobs:
            self._turn(knobs)
        x = np.frombuffer(block, dtype="<i2").astype(np.float64) / FULL_SCALE
        x = self._lowpass.run(self._highpass.run(x * self._input_gain))
        x = self._limiter.run(self._compressor.run(self._gate.run(x)))
        x = self._limit_level(x * self._output_gain)
        if self._is_mute:
            x = np.zeros_like(x)
        return np.clip(np.rint(x * FULL_SCALE), -32_768, 32_767).astype("<i2").tobytes()

    def _turn(self, knobs: Knobs) -> None:
        self._knobs = knobs
        self._input_gain = to_amplitude(float(knobs["pcm.input_gain_db"]))
        self._output_gain = to_amplitude(float(knobs["pcm.output_gain_db"]))
        # A whole sample value, so that rounding to 16 bits does not step over it.
        ceiling = to_amplitude(float(knobs["safety.max_output_level_dbfs"]))
        self._ceiling = math.floor(ceiling * FULL_SCALE) / FULL_SCALE
        self._is_soft = bool(knobs["safety.clipping_protection"])
        self._is_mute = bool(knobs["safety.emergency_mute"])
        stages = (self._highpass, self._lowpass, self._gate, self._compressor, self._limiter)
        for stage in stages:
            stage.turn(knobs)

    def _limit_level(self, x: Signal) -> Signal:
        """Keep below the maximum level: bent in its last decibel when protected, else cut."""
        if not self._is_soft:
            return np.clip(x, -self._ceiling, self._ceiling)
        knee = self._ceiling * to_amplitude(-SOFT_DB)
        room = self._ceiling - knee
        excess = np.abs(x) - knee
        over = excess > 0
        if not over.any():
            return x
        # x / (1 + x) leaves the knee with slope 1 and never reaches the ceiling.
        bent = knee + room * (excess / (room + np.abs(excess)))
        return np.where(over, np.copysign(bent, x), x)

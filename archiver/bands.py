"""Levels by frequency: the power of short frames of sound in bands of equal width, and as bytes."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

FRAME_S = 0.032
"""Least length of a frame."""
FRAMES_PER_COLUMN = 4
"""How many frames at most stand for a column of a picture."""
FLOOR_DB = 100.0
_FULL_SCALE = 32_768.0

Frames = npt.NDArray[np.int16]
Powers = npt.NDArray[np.float32]
Levels = npt.NDArray[np.uint8]


def frame_size(rate: int) -> int:
    """Return the samples of a frame at a rate in Hz: the next power of two from 32 ms on."""
    return 1 << int(np.ceil(np.log2(FRAME_S * rate)))


def band_power(frames: Frames, bands: int) -> Powers:
    """Return the power re full scale squared of frames: ``[frames, bands]``, lowest band first."""
    size = frames.shape[1]
    spectrum = np.fft.rfft(frames * _window(size))[:, : size // 2]
    edges = np.arange(bands) * (size // 2) // bands
    return np.asarray(np.add.reduceat(spectrum.real**2 + spectrum.imag**2, edges, axis=1))


def to_levels(powers: Powers) -> Levels:
    """Return powers as bytes: 0 is -100 dB or less, 255 is 0 dB."""
    decibels = 10 * np.log10(np.maximum(powers, 10 ** (-FLOOR_DB / 10)))
    return np.rint(255 * (1 + decibels / FLOOR_DB)).clip(0, 255).astype(np.uint8)


def to_powers(levels: Levels) -> Powers:
    """Return the powers that bytes stand for; 0 is none."""
    return _POWERS[levels]


@lru_cache(maxsize=8)
def _window(size: int) -> Powers:
    window = np.hanning(size + 1)[:-1]
    # Parseval: the sum over both halves of the spectrum is the mean square under the window.
    scale = np.sqrt(2 / (size * np.sum(window**2))) / _FULL_SCALE
    return np.asarray(window * scale, np.float32)


def _all_powers() -> Powers:
    powers = 10 ** ((np.arange(256) / 255 - 1) * FLOOR_DB / 10)
    powers[0] = 0
    return powers.astype(np.float32)


_POWERS = _all_powers()

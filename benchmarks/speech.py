"""Speech for the measurements: the demo's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
from scipy.signal import resample_poly

import deploy.speech

_PATH = Path(deploy.speech.__file__).with_name(deploy.speech.SPOKEN[0])


def speech(rate: int) -> npt.NDArray[np.int16]:
    """Return the demo's English caller at a rate in Hz, int16."""
    samples, own = soundfile.read(_PATH, dtype="int16")
    if own == rate:
        return np.asarray(samples)
    return np.asarray(resample_poly(samples, rate, own)).astype(np.int16)

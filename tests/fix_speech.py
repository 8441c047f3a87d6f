"""Speech for the tests: the demo's own, and recordings of people where Debian's are installed."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

import deploy

_DEMO = Path(deploy.__file__).parent / "speech" / "caller_en.flac"
_PROMPTS = Path("/usr/share/asterisk/sounds")
_LONG_PROMPTS = ("demo-congrats.wav", "demo-echotest.wav")


class Speech(NamedTuple):
    """Mono speech: int16 samples of shape (n,), and their rate in Hz."""

    samples: npt.NDArray[np.int16]
    rate: int


@pytest.fixture(scope="session")
def speech() -> Speech:
    """Return the English caller of the demo: 28 s at 16 kHz."""
    return read(_DEMO)


@pytest.fixture(scope="session")
def real_speech() -> list[Speech]:
    """Return recorded telephone prompts at 8 kHz, in English and in French, 10 s and longer."""
    paths = [path for name in _LONG_PROMPTS for path in sorted(_PROMPTS.glob(f"*/{name}"))]
    if not paths:
        pytest.skip(f"no recordings in {_PROMPTS}: make test-tools installs them")
    return [read(path) for path in paths]


def read(path: Path) -> Speech:
    """Read a mono file of 16-bit samples; read-only, for all tests share them."""
    samples, rate = soundfile.read(path, dtype="int16")
    samples.flags.writeable = False
    return Speech(samples, rate)

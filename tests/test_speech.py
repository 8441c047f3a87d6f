"""The speech that the demo and the tests feed is what they take it for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import deploy
from tests.fix_speech import Speech, read


def dbfs(amplitude: float) -> float:
    """Return the level of `amplitude` (1.0 is full scale)."""
    return 20 * float(np.log10(amplitude))


@pytest.mark.parametrize("language", ["en", "fr"])
def test_demo_speech_is_level_and_unclipped(language: str) -> None:
    """Each language is 20 to 30 s of mono at 16 kHz, -20 dBFS, with pauses, unclipped."""
    samples, rate = read(Path(deploy.__file__).parent / "speech" / f"caller_{language}.flac")
    scaled = samples / 32_768
    tenths = scaled[: len(scaled) // 1_600 * 1_600].reshape(-1, 1_600)
    quiet = np.sqrt(np.mean(tenths**2, axis=1)) < 0.001

    assert (rate, samples.ndim) == (16_000, 1)
    assert 20 <= len(samples) / rate <= 30
    assert dbfs(np.sqrt(np.mean(scaled**2))) == pytest.approx(-20, abs=1)
    assert dbfs(np.max(np.abs(scaled))) < -1
    assert 0.1 < quiet.mean() < 0.5


def test_real_speech_is_there_in_two_languages(real_speech: list[Speech]) -> None:
    """Debian's prompts come in English and in French, and are mono speech that is not silent."""
    assert len(real_speech) >= 2
    for samples, rate in real_speech:
        assert (rate, samples.ndim, samples.dtype.name) == (8_000, 1, "int16")
        assert len(samples) > 5 * rate
        assert np.abs(samples).max() > 3_000

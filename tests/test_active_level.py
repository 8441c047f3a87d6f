"""Active speech level against ITU-T P.56 written out sample by sample."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from exporter.analysis.activelevel import active_level
from tests.fix_speech import Speech

Samples = npt.NDArray[np.int16]


def by_recommendation(pcm: Samples, rate: int) -> tuple[float, float]:
    """Method B at the full rate, as clause 8.2 tells it: counters per sample and threshold."""
    decay, hangover = math.exp(-1 / (rate * 0.03)), math.ceil(0.2 * rate)
    thresholds = [2.0**exponent for exponent in range(15)]
    activity, since = [0] * 15, [hangover] * 15
    first = second = energy = 0.0
    for sample in pcm.tolist():
        energy += sample * sample
        first = decay * first + (1 - decay) * abs(sample)
        second = decay * second + (1 - decay) * first
        for j, threshold in enumerate(thresholds):
            since[j] = 0 if second >= threshold else since[j] + 1
            activity[j] += since[j] <= hangover
    return interpolated(energy, activity, len(pcm))


def interpolated(energy: float, activity: list[int], size: int) -> tuple[float, float]:
    """Find where level and threshold are 15.9 dB apart, between the neighbours on both sides."""
    below = None
    for j, active in enumerate(activity):
        if not active:
            break
        level = 10 * math.log10(energy / active / 2**30)
        excess = level - 20 * math.log10(2**j / 2**15) - 15.9
        if excess <= 0 and below:
            level = float(np.interp(0, [excess, below[1]], [level, below[0]]))
            return level, energy / size / 2**30 / 10 ** (level / 10)
        if excess <= 0:
            break
        below = level, excess
    return math.nan, math.nan


def rms_dbfs(pcm: Samples) -> float:
    """Level of the whole."""
    return 10 * math.log10(np.mean(pcm.astype(np.float64) ** 2) / 2**30)


def sound(name: str, rate: int, level: float = -25.0) -> Samples:
    """Return two seconds of a steady sound."""
    rng, time = np.random.default_rng(4), np.arange(2 * rate) / rate
    shapes = {
        "noise": rng.normal(size=time.size),
        "tone": math.sqrt(2) * np.sin(2 * np.pi * 1020 * time),
        "hum": math.sqrt(2) * np.sin(2 * np.pi * 50 * time),
    }
    return np.rint(2**15 * 10 ** (level / 20) * shapes[name]).astype(np.int16)


@pytest.mark.parametrize("rate", [8000, 11_050, 16_000, 24_000, 48_000])
def test_every_rate_has_the_level_of_the_recommendation(rate: int, speech: Speech) -> None:
    """Noise, hum and speech played at any rate are within 0.1 dB, and 1 % of activity."""
    for pcm in (sound("noise", rate), sound("hum", rate), speech.samples[: 2 * rate]):
        expected, factor = by_recommendation(pcm, rate)

        level, activity = active_level(pcm, rate)

        assert expected == pytest.approx(level, abs=0.1)
        assert factor == pytest.approx(activity, abs=0.01)


def test_recorded_speech_has_the_level_of_the_recommendation(real_speech: list[Speech]) -> None:
    """So have recorded prompts, 8 s of each."""
    for samples, rate in real_speech:
        pcm = samples[: 8 * rate]

        assert by_recommendation(pcm, rate) == pytest.approx(active_level(pcm, rate), abs=0.02)


ENOUGH = 2_400


@settings(max_examples=25, deadline=None)
@given(
    arrays(np.int16, st.integers(1, 600), elements=st.integers(-32_768, 32_767)),
    st.integers(1, 8),
)
def test_any_samples_have_the_level_of_the_recommendation(pcm: Samples, stretch: int) -> None:
    """Short and wild input, too; what is unknown here is unknown there, or nearly so."""
    pcm = np.repeat(pcm, stretch)

    level, activity = active_level(pcm, 8000)
    expected, _ = by_recommendation(pcm, 8000)

    # Of less than the envelope's rise and fall, a threshold more or less is a large part.
    if len(pcm) >= ENOUGH and not math.isnan(level) and not math.isnan(expected):
        assert expected == pytest.approx(level, abs=0.3)
    assert math.isnan(level) == math.isnan(activity)
    assert math.isnan(level) or (0 < activity <= 1 and level >= rms_dbfs(pcm) - 1e-9)


@pytest.mark.parametrize("name", ["noise", "tone", "hum"])
@pytest.mark.parametrize("level", [-60.0, -25.0, -4.0])
def test_a_steady_sound_has_its_rms_level(name: str, level: float) -> None:
    """Clause 11: without pauses, active and long-term level are the same."""
    pcm = np.clip(sound(name, 16_000, level), -32_767, 32_767)

    active, activity = active_level(pcm, 16_000)

    assert rms_dbfs(pcm) == pytest.approx(active, abs=0.3)
    assert activity > 0.98


def test_pauses_lower_the_rms_level_alone(speech: Speech) -> None:
    """Speech followed by silence of the same length keeps its active level within 1 dB."""
    pcm = np.concatenate([speech.samples, np.zeros_like(speech.samples)])

    level, activity = active_level(pcm, speech.rate)

    alone, factor = active_level(speech.samples, speech.rate)
    assert alone == pytest.approx(level, abs=0.1)
    assert factor / 2 == pytest.approx(activity, abs=0.01)
    assert rms_dbfs(speech.samples) - rms_dbfs(pcm) == pytest.approx(3.01, abs=0.01)


def test_pauses_between_words_do_not_count(speech: Speech) -> None:
    """One second of silence behind each second of speech moves the level by less than 1 dB."""
    seconds = speech.samples[: 20 * speech.rate].reshape(20, speech.rate)
    pcm = np.hstack([seconds, np.zeros_like(seconds)]).reshape(-1)

    level, _ = active_level(pcm, speech.rate)

    assert active_level(seconds.reshape(-1), speech.rate)[0] == pytest.approx(level, abs=1.0)


@pytest.mark.parametrize("gain_db", [-30.0, -17.3, -6.0, -1.5])
def test_gain_moves_the_level_by_itself(gain_db: float, speech: Speech) -> None:
    """The thresholds are powers of two, the interpolation hides it."""
    gained = np.rint(speech.samples * 10 ** (gain_db / 20)).astype(np.int16)

    level, activity = active_level(gained, speech.rate)

    expected, factor = active_level(speech.samples, speech.rate)
    assert expected + gain_db == pytest.approx(level, abs=0.05)
    assert factor == pytest.approx(activity, abs=0.02)


def test_what_has_no_level_is_unknown() -> None:
    """Digital silence, the last bit, a lone click."""
    click = np.zeros(16_000, np.int16)
    click[700] = 32_767
    last_bit = np.random.default_rng(1).integers(-1, 2, 16_000).astype(np.int16)

    for pcm in (np.zeros(16_000, np.int16), last_bit, click):
        assert all(math.isnan(value) for value in active_level(pcm, 16_000))


def test_the_loudest_input_is_at_full_scale() -> None:
    """A square wave of the largest samples, and a constant one, have 0 dBFS."""
    square = np.tile(np.repeat(np.array([-32_768, 32_767], np.int16), 40), 400)

    for pcm in (square, np.full(32_000, -32_768, np.int16)):
        assert 0.0 == pytest.approx(active_level(pcm, 16_000)[0], abs=0.06)

"""Spectral metrics against plain definitions, one frame at a time in float64; hum and hiss."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from exporter.analysis.hum import HissThresholds, HumThresholds, hiss, hum
from exporter.analysis.spectrum import KEYS, Before, measure
from tests.fix_speech import Speech

Samples = npt.NDArray[np.int16]
Values = npt.NDArray[np.float64]

RATES = (8_000, 8_050, 12_000, 16_000, 22_050, 24_000, 48_000)
COLUMN = {key.removeprefix("fft."): column for column, key in enumerate(KEYS)}
BANDS = ["low_band_energy", "mid_band_energy", "high_band_energy"]


def power_of(frame: Samples, rate: int) -> Values:
    """Mean square re full scale of each bin above 0 Hz, by scipy's periodogram."""
    x = frame / 32_768
    _, density = scipy.signal.periodogram(x, rate, "hann", detrend="constant")
    return np.asarray(density[1:] * 50)


def centroid(power: Values) -> float:
    """Power-weighted mean frequency."""
    return float(sum(50 * k * p for k, p in enumerate(power, 1)) / sum(power))


def bandwidth(power: Values) -> float:
    """Power-weighted standard deviation about the centroid."""
    mean = centroid(power)
    return math.sqrt(sum((50 * k - mean) ** 2 * p for k, p in enumerate(power, 1)) / sum(power))


def flatness(power: Values) -> float:
    """Geometric over arithmetic mean, no bin below 1e-13."""
    logs = [math.log(max(p, 1e-13)) for p in power]
    return min(math.exp(sum(logs) / len(logs)) / (sum(power) / len(power)), 1.0)


def flux(power: Values, before: Values) -> float:
    """Distance of the magnitude spectra, each of norm 1."""
    a, b = np.sqrt(power / power.sum()), np.sqrt(before / before.sum())
    return math.dist(a, b)


def harmonic_ratio(x: Values, rate: float) -> float:
    """Largest coefficient of correlation of the overlapping parts, lag by lag."""
    x = x - x.mean()
    best = 0.0
    for lag in range(math.ceil(rate / 400), math.floor(rate / 60) + 1):
        early, late = x[:-lag], x[lag:]
        norm = math.sqrt(early @ early * (late @ late))
        best = max(best, float(early @ late) / norm if norm else 0.0)
    return best


def step_of(rate: int) -> int:
    """How many samples the harmonic ratio takes together."""
    return {16_000: 2, 24_000: 3, 48_000: 6}.get(rate, 1)


def band(power: Values, low: float, high: float) -> float:
    """Level of the bins from ``low`` up to, not including, ``high`` Hz."""
    total = sum(p for k, p in enumerate(power, 1) if low <= 50 * k < high)
    return max(-120.0, 10 * math.log10(total)) if total else -120.0


def check(frames: Samples, rate: int) -> None:
    """Compare every value of every row but the first with its definition; no row is silent."""
    follows = np.arange(len(frames)) > 0
    values = measure(frames, follows, rate)
    powers = [power_of(frame, rate) for frame in frames]
    step = step_of(rate)
    for i in range(1, len(frames)):
        row, power = dict(zip(COLUMN, values[i], strict=True)), powers[i]
        pair = np.concatenate([frames[i - 1], frames[i]]).astype(np.float64)
        assert power[round(row["dominant_frequency"] / 50) - 1] >= power.max() * (1 - 1e-4)
        assert row["spectral_centroid"] == pytest.approx(centroid(power), rel=1e-4)
        assert row["spectral_bandwidth"] == pytest.approx(bandwidth(power), rel=1e-3, abs=0.5)
        share = np.concatenate([[0], np.cumsum(power)]) / power.sum()
        rolloff = round(row["spectral_rolloff"] / 50)
        assert share[rolloff - 1] < 0.85 + 1e-5
        assert share[rolloff] >= 0.85 - 1e-5
        assert row["spectral_flatness"] == pytest.approx(flatness(power), rel=1e-3, abs=1e-6)
        assert row["spectral_flux"] == pytest.approx(flux(power, powers[i - 1]), abs=1e-3)
        expected = harmonic_ratio(pair.reshape(-1, step).sum(axis=1), rate / step)
        # Where no lag stands out, another one than the best may be found.
        assert row["harmonic_ratio"] < expected + 3e-3
        assert row["harmonic_ratio"] > expected - (0.1 if expected > 0.9 else 0.4)
        edges = (0.0, 500.0, 2_000.0, min(8_000.0, rate / 2))
        for key, low, high in zip(BANDS, edges, edges[1:], strict=False):
            level = band(power, low, high)
            assert row[key] == pytest.approx(level, abs=1e-3 if level > -70 else 0.05), key


def times(rate: int, frames: int) -> Values:
    """Time in seconds of each sample of some frames."""
    return np.asarray(np.arange(frames * rate // 50) / rate)


def frames_of(signal: Values | Samples, rate: int) -> Samples:
    """Cut a signal into whole frames of int16."""
    samples = rate // 50
    whole = np.rint(signal[: len(signal) // samples * samples])
    return np.clip(whole, -32_768, 32_767).astype(np.int16).reshape(-1, samples)


def sine(rate: int, hertz: float, amplitude: float = 32_767, frames: int = 6) -> Samples:
    """Frames of a sine."""
    return frames_of(amplitude * np.sin(2 * np.pi * hertz * times(rate, frames)), rate)


def noise(rate: int, frames: int, rms: float = 3_000, seed: int = 1) -> Samples:
    """Frames of white Gaussian noise."""
    return frames_of(np.random.default_rng(seed).normal(0, rms, frames * rate // 50), rate)


def column(frames: Samples, rate: int, key: str) -> Values:
    """One metric of frames that follow one another; without the first, which follows none."""
    return measure(frames, np.arange(len(frames)) > 0, rate)[1:, COLUMN[key]]


@pytest.mark.parametrize("rate", RATES)
def test_speech_has_the_values_of_the_definitions(speech: Speech, rate: int) -> None:
    """Every metric of speech, as if it had been sampled at each rate, is what it is defined as."""
    check(frames_of(speech.samples[20_000:40_000], rate)[:15], rate)


def test_recorded_speech_has_the_values_of_the_definitions(real_speech: list[Speech]) -> None:
    """So it is for telephone prompts."""
    for recording in real_speech:
        frames = frames_of(recording.samples, recording.rate)[20:60]
        loud = frames[np.ptp(frames, axis=1) > 0]
        check(loud, recording.rate)


@pytest.mark.parametrize("rate", RATES)
def test_computed_signals_have_the_values_of_the_definitions(rate: int) -> None:
    """So it is for noise, dither, tones, impulses, a full-scale square wave and steps of level."""
    rng, t = np.random.default_rng(2), times(rate, 4)
    impulses = np.where(np.arange(len(t)) % (rate // 50) == 50, 1.0, 0.0)
    alternating = np.where(np.arange(len(t)) % 2, 32_767, -32_768)
    square = np.where(np.arange(len(t)) // 7 % 2, 32_767, -32_768)
    bursts = np.where(t % 0.04 < 0.02, rng.normal(0, 8_000, len(t)), rng.integers(-1, 2, len(t)))
    signals = [
        impulses,
        20_000 * impulses,
        alternating,
        square,
        bursts,
        rng.integers(-1, 2, len(t)),
    ]
    signals += [20_000 * np.sin(2 * np.pi * hertz * t) for hertz in (75, 1_000, 0.49 * rate)]
    signals += [8_000 + rng.normal(0, 300, len(t))]
    for signal in signals:
        check(frames_of(signal, rate), rate)


@settings(max_examples=40, deadline=None)
@given(arrays(np.int16, (4, 160), elements=st.integers(-32_768, 32_767)))
def test_any_frames_are_in_range(frames: Samples) -> None:
    """Whatever the samples are, values are finite and in range, or unknown where they may be."""
    values = measure(frames, np.arange(4) > 0, 8_000)
    highest = [4_000, 4_000, 4_000, 4_000, 1, 1.415, 1, 0, 0, 0]

    varied = np.ptp(frames.astype(int), axis=1) > 0
    pair = varied & (np.arange(4) > 0)
    assert np.array_equal(~np.isnan(values[:, COLUMN["spectral_centroid"]]), varied)
    assert np.array_equal(~np.isnan(values[:, COLUMN["harmonic_ratio"]]), pair)
    known = ~np.isnan(values)
    assert (values <= highest)[known].all()
    assert (values >= [0] * 7 + [-120] * 3)[known].all()


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("level", [0, 1, -32_768, 32_767])
def test_without_power_only_the_bands_are_known(rate: int, level: int) -> None:
    """Digital silence and equal samples leave all unknown but the bands, which are at -120 dB."""
    frames = np.concatenate([noise(rate, 2), np.full((2, rate // 50), level), noise(rate, 2)])

    values = measure(frames.astype(np.int16), np.arange(6) > 0, rate)

    assert np.isnan(values[2:4, : COLUMN["low_band_energy"]]).all()
    assert (values[2:4, COLUMN["low_band_energy"] :] == -120).all()
    after = values[4]
    assert np.isnan(after[COLUMN["spectral_flux"]])
    assert not np.isnan(np.delete(after, COLUMN["spectral_flux"])).any()


def test_a_frame_that_follows_none_has_neither_flux_nor_harmonic_ratio() -> None:
    """After a gap, and in the first row, both are unknown, and nothing else is."""
    values = measure(noise(16_000, 600), np.arange(600) % 3 > 0, 16_000)

    unknown = np.isnan(values)
    expected = np.zeros_like(unknown)
    expected[::3, [COLUMN["spectral_flux"], COLUMN["harmonic_ratio"]]] = True
    assert np.array_equal(unknown, expected)


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
def test_a_frame_does_not_depend_on_its_neighbours(rate: int) -> None:
    """The same pair of frames has the same values alone and anywhere in several tiles."""
    frames = noise(rate, 600)
    whole = measure(frames, np.arange(600) > 0, rate)
    for row in range(1, 600):
        alone = measure(frames[row - 1 : row + 1], np.array([False, True]), rate)

        assert whole[row] == pytest.approx(alone[1], rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
def test_a_frame_before_may_stand_elsewhere(rate: int) -> None:
    """Beside the frames or among them: what a row follows gives it the same values."""
    frames = noise(rate, 1_000)
    frames[[0, 332]] = 700
    rows = np.array([1, 330, 333, 998])
    kept = np.delete(np.arange(1_000), rows - 1)
    before = Before(kept.searchsorted(rows), frames[rows - 1])

    among = measure(frames, np.arange(1_000) > 0, rate)[kept]
    beside = measure(frames[kept], np.ones(len(kept), np.bool_), rate, before)

    np.testing.assert_allclose(beside, among, rtol=1e-6, atol=1e-6)


def test_no_frames_have_no_values() -> None:
    """An empty batch gives an empty matrix."""
    empty = measure(np.zeros((0, 320), np.int16), np.zeros(0, np.bool_), 16_000)

    assert (0, len(KEYS)) == empty.shape


@pytest.mark.parametrize("rate", RATES)
def test_a_full_scale_sine_lies_3_db_below_full_scale(rate: int) -> None:
    """A sine of 1 kHz has -3.01 dB in the middle band, and its frequency is the dominant one."""
    values = measure(sine(rate, 1_000), np.arange(6) > 0, rate)

    assert values[:, COLUMN["mid_band_energy"]] == pytest.approx(-3.01, abs=0.01)
    assert (values[:, COLUMN["dominant_frequency"]] == 1_000).all()
    assert values[:, COLUMN["spectral_centroid"]] == pytest.approx(1_000, abs=1)
    assert (values[:, COLUMN["spectral_flatness"]] < 1e-3).all()


@settings(max_examples=30, deadline=None)
@given(st.floats(-55, -5), st.integers(0, 1_000))
def test_bands_move_with_the_gain(level: float, seed: int) -> None:
    """A gain of g dB moves each band by g."""
    unit = np.random.default_rng(seed).normal(0, 1, 320)
    unit /= max(np.sqrt(np.mean(unit**2)), np.abs(unit).max() / 10 ** (3 / 20))
    bands = [
        measure(frames_of(32_768 * 10 ** (db / 20) * unit, 16_000), np.array([False]), 16_000)[
            0, 7:
        ]
        for db in (level, -5.0)
    ]

    clear = bands[0] > -65
    assert bands[1][clear] - bands[0][clear] == pytest.approx(-5 - level, abs=0.05)


@pytest.mark.parametrize("rate", RATES)
def test_flux_of_a_steady_tone_is_0_and_of_two_tones_the_root_of_2(rate: int) -> None:
    """Whole periods in each frame: the spectrum does not change, until the tone does."""
    tones = np.concatenate([sine(rate, 500, frames=3), sine(rate, 3_000, frames=3)])

    flux_of_tones = column(tones, rate, "spectral_flux")

    assert flux_of_tones == pytest.approx([0, 0, math.sqrt(2), 0, 0], abs=2e-3)


@pytest.mark.parametrize("rate", RATES)
def test_harmonic_ratio_tells_pulses_from_noise(rate: int) -> None:
    """A pulse train of 100 Hz is periodic, white noise is not."""
    pulses = frames_of(np.where(np.arange(rate) % (rate // 100) < 3, 10_000.0, 0.0), rate)

    assert (column(pulses, rate, "harmonic_ratio") > 0.95).all()
    assert (column(noise(rate, 200), rate, "harmonic_ratio") < 0.35).all()


@pytest.mark.parametrize("hertz", [60, 75, 100, 133, 200, 399])
def test_harmonic_ratio_of_a_tone_is_1(hertz: int) -> None:
    """From 60 to 400 Hz, whole periods in a frame or not, and on a large offset."""
    tone = sine(16_000, hertz, amplitude=2_000) + np.int16(20_000)

    assert (column(tone, 16_000, "harmonic_ratio") > 0.98).all()


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
def test_harmonic_ratio_of_voiced_speech_is_that_of_all_lags(speech: Speech, rate: int) -> None:
    """Where the best lag has 0.5 or more, looking closely about one is enough in 97 % of frames."""
    frames = frames_of(
        scipy.signal.resample_poly(speech.samples[16_000:80_000], rate, 16_000), rate
    )
    actual, step = column(frames, rate, "harmonic_ratio"), step_of(rate)
    pairs = np.concatenate([frames[:-1], frames[1:]], axis=1).astype(np.float64)
    reduced = pairs.reshape(len(pairs), -1, step).sum(axis=2)
    expected = np.array([harmonic_ratio(pair, rate / step) for pair in reduced])
    voiced = expected > 0.5

    assert voiced.sum() > 50
    assert np.mean(np.abs(actual - expected)[voiced] < 3e-3) > 0.97


def test_harmonic_ratio_at_the_reduced_rate_is_near_that_of_the_full_rate(speech: Speech) -> None:
    """On voiced frames of 16 kHz speech, taking samples two at a time hardly matters."""
    frames = frames_of(speech.samples[16_000:80_000], 16_000)
    actual = column(frames, 16_000, "harmonic_ratio")
    pairs = np.concatenate([frames[:-1], frames[1:]], axis=1).astype(np.float64)
    rows = np.flatnonzero(actual > 0.7)[::4]
    full = np.array([harmonic_ratio(pairs[row], 16_000) for row in rows])

    assert len(rows) > 10
    assert np.median(np.abs(actual[rows] - full)) < 0.02


def mains(hertz: float, rate: int, dbfs: float, seconds: float = 5) -> Values:
    """Hum: five harmonics, each weaker than the one before, of a total level."""
    t = np.arange(int(seconds * rate)) / rate
    wave = sum(np.sin(2 * np.pi * hertz * k * t + k**2) / k for k in range(1, 6))
    return np.asarray(wave / np.sqrt(np.mean(wave**2)) * 32_768 * 10 ** (dbfs / 20))


def bucket(speech: Speech, start: int) -> Values:
    """Five seconds of speech at -26 dBFS."""
    part = speech.samples[start : start + 5 * speech.rate].astype(np.float64)
    return np.asarray(part / np.sqrt(np.mean(part**2)) * 32_768 * 10 ** (-26 / 20))


def voice(pitch: Values, rate: int) -> Values:
    """Pulses through a low-pass filter, as a voice of this pitch (Hz, of each sample) has them."""
    phase = np.cumsum(pitch) / rate
    pulses = np.diff(np.floor(phase), prepend=0)
    return np.asarray(20_000 * scipy.signal.lfilter([1], [1, -0.9], pulses))


def to_pcm(signal: Values) -> Samples:
    """Round to int16."""
    return np.clip(np.rint(signal), -32_768, 32_767).astype(np.int16)


@pytest.mark.parametrize("hertz", [49.8, 50, 50.4, 59.6, 60, 60.2])
@pytest.mark.parametrize("below", [10, 20, 28])
def test_hum_below_speech_is_detected(speech: Speech, hertz: float, below: float) -> None:
    """Hum is found from 10 to 28 dB below the level of speech, in every bucket."""
    for start in range(0, len(speech.samples) - 5 * speech.rate, 5 * speech.rate):
        noisy = bucket(speech, start) + mains(hertz, speech.rate, -26 - below)

        assert hum(to_pcm(noisy), speech.rate) == 1.0


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("seconds", [1, 1.7, 5])
def test_hum_is_detected_at_every_rate(rate: int, seconds: float) -> None:
    """Weak hum in noise is found in as little as a second, at any rate."""
    hiss_of_line = noise(rate, 50 * 5, rms=30).ravel()[: int(seconds * rate)]

    assert hum(to_pcm(mains(50, rate, -50, seconds) + hiss_of_line), rate) == 1.0
    assert hum(hiss_of_line, rate) == 0.0


def test_hum_under_recorded_telephone_speech_is_detected(real_speech: list[Speech]) -> None:
    """So it is in prompts at 8 kHz, which have no hum of their own."""
    for recording in real_speech:
        for start in range(0, len(recording.samples) - 5 * recording.rate, 5 * recording.rate):
            clean = bucket(recording, start)

            assert hum(to_pcm(clean), recording.rate) == 0.0
            assert hum(to_pcm(clean + mains(50, recording.rate, -50)), recording.rate) == 1.0


def test_speech_is_no_hum(speech: Speech) -> None:
    """No bucket of speech, wherever it begins, counts as hum."""
    for start in range(0, len(speech.samples) - 5 * speech.rate, speech.rate):
        assert hum(to_pcm(bucket(speech, start)), speech.rate) == 0.0


@pytest.mark.parametrize("pitch", [100, 120])
@pytest.mark.parametrize("rate", [8_000, 16_000])
def test_a_gliding_voice_is_no_hum(pitch: int, rate: int) -> None:
    """A voice about 100 or 120 Hz does not count, for its pitch glides."""
    t = np.arange(5 * rate) / rate
    glide = pitch * (1 + 0.08 * np.sin(2 * np.pi * 0.7 * t) + 0.02 * np.sin(2 * np.pi * 4 * t))

    assert hum(to_pcm(voice(glide, rate)), rate) == 0.0


@pytest.mark.parametrize("chord", [[110, 220, 440], [146.8, 293.7], [350, 440], [100], [425]])
def test_steady_tones_are_no_hum(chord: list[float]) -> None:
    """Music, dial tones and a single line at a multiple of the mains do not count."""
    t = times(16_000, 250)
    tones = np.sum([6_000 * np.sin(2 * np.pi * hertz * t) for hertz in chord], axis=0)

    assert hum(to_pcm(tones), 16_000) == 0.0


@pytest.mark.parametrize("rate", RATES)
def test_hum_that_stops_for_a_second_is_none(rate: int) -> None:
    """Mains are always there: a second without them tells, wherever it is, half a one does not."""
    for start in range(0, 4 * rate + 1, rate // 2):
        pausing = mains(50, rate, -30) + noise(rate, 50 * 5, rms=30).ravel()
        pausing[start : start + rate // 2] *= 1e-3

        assert hum(to_pcm(pausing), rate) == 1.0

        pausing[start : start + rate] *= 1e-3

        assert hum(to_pcm(pausing), rate) == 0.0


def test_hum_in_extremes() -> None:
    """Silence, an offset, one sample and full scale have none; less than a second is unknown."""
    one = np.zeros(80_000, np.int16)
    one[40_000] = 1
    alternating = np.where(np.arange(80_000) % 2, 32_767, -32_768).astype(np.int16)

    for pcm in (np.zeros(80_000, np.int16), np.full(80_000, -32_768, np.int16), one, alternating):
        assert hum(pcm, 16_000) == 0.0
    assert math.isnan(hum(to_pcm(mains(50, 16_000, -30, 0.99)), 16_000))


def test_thresholds_of_hum_can_be_set() -> None:
    """What counts as hum depends on the thresholds."""
    weak = to_pcm(mains(50, 16_000, -72))

    assert hum(weak, 16_000) == 0.0
    assert hum(weak, 16_000, thresholds=HumThresholds(floor_dbfs=-80)) == 1.0


def hiss_of(frames: Samples, rate: int, thresholds: HissThresholds | None = None) -> float:
    """Hiss of frames that are no speech."""
    values = measure(frames, np.zeros(len(frames), np.bool_), rate)
    rms = np.sqrt(np.mean(frames.astype(np.float64) ** 2, axis=1))
    level = 20 * np.log10(np.maximum(rms / 32_768, 1e-6))
    flat, high = values[:, COLUMN["spectral_flatness"]], values[:, COLUMN["high_band_energy"]]
    silent = np.zeros(len(frames), np.bool_)
    return hiss(level, flat, high, silent, thresholds=thresholds or HissThresholds())


@pytest.mark.parametrize("rate", RATES)
def test_hiss_is_white_noise_that_can_be_heard(rate: int) -> None:
    """White noise at -55 dBFS hisses; at -65 dBFS, dithered silence and a tone do not."""
    dither = np.random.default_rng(3).integers(-1, 2, (100, rate // 50)).astype(np.int16)

    assert hiss_of(noise(rate, 100, rms=32_768 * 10 ** (-55 / 20)), rate) == 1.0
    assert hiss_of(noise(rate, 100, rms=32_768 * 10 ** (-65 / 20)), rate) == 0.0
    assert hiss_of(dither, rate) == 0.0
    assert hiss_of(sine(rate, 3_000, frames=100), rate) == 0.0


@pytest.mark.parametrize("rate", RATES)
def test_pink_noise_is_no_hiss(rate: int) -> None:
    """Noise that falls by 3 dB an octave is not flat."""
    spectrum = np.fft.rfft(noise(rate, 100).ravel())
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    pink = np.fft.irfft(spectrum)

    assert hiss_of(frames_of(pink / pink.std() * 3_000, rate), rate) == 0.0


def test_hiss_is_looked_for_between_words() -> None:
    """Speech and digital silence do not count, and too few other frames leave it unknown."""
    level, flat, high = np.full(250, -40.0), np.full(250, 0.6), np.full(250, -42.0)
    is_speech = np.arange(250) >= 24
    silence = np.where(np.arange(250) == 0, np.nan, flat)

    assert math.isnan(hiss(level, flat, high, is_speech))
    assert hiss(level, flat, high, np.arange(250) >= 25) == 1.0
    assert math.isnan(hiss(level, silence, high, np.arange(250) >= 25))
    assert hiss(level, flat, high, is_speech, thresholds=HissThresholds(frames=20)) == 1.0
    assert hiss(level, flat, high, is_speech, thresholds=HissThresholds(24, level_dbfs=-30)) == 0.0

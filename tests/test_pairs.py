"""What is said of PRE and POST, against stations whose work on real and synthetic speech is known.

References are the definitions, written out plainly in float64, and scipy.signal.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from exporter.analysis.pairs import Comparison, Side, compare
from tests.fix_speech import Speech

Samples = npt.NDArray[np.int16]
Real = npt.NDArray[np.float64]

SECONDS = 5
RANGES = {"pair.delay_ms": (-500.0, 500.0), "pair.segmental_snr_db": (-10.0, 35.0)}


def at_rate(speech: Speech, rate: int, second: float = 0.0) -> Real:
    """Return six seconds of speech at another rate."""
    first = round(second * speech.rate)
    piece = speech.samples[first : first + 6 * speech.rate].astype(np.float64)
    return np.asarray(signal.resample_poly(piece, rate // 1_000, speech.rate // 1_000))


def shifted(x: Real, samples: float) -> Real:
    """Delay by any number of samples, exactly for what is band-limited."""
    size = 2 ** int(np.ceil(np.log2(2 * x.size)))
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(size) * samples)
    return np.asarray(np.fft.irfft(np.fft.rfft(x, size) * turn, size)[: x.size])


def pcm(x: Real) -> Samples:
    """Round to samples."""
    return np.asarray(np.clip(np.rint(x), -32_768, 32_767), np.int16)


def side(samples: Samples, rate: int, ranges: tuple[tuple[int, int], ...] | None = None) -> Side:
    """Make a tap: frames from the start of each piece of audio on; speech is above -40 dBFS."""
    size = SECONDS * rate
    ranges = ((0, min(size, samples.size)),) if ranges is None else ranges
    heard = np.zeros(size, np.int16)
    for first, stop in ranges:
        heard[first:stop] = samples[first:stop]
    heard.flags.writeable = False
    frame = rate // 50
    parts = [np.arange(first, stop - frame + 1, frame) for first, stop in ranges]
    starts = np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64)
    power = np.mean((heard[starts[:, None] + np.arange(frame)] / 32_768) ** 2, axis=1)
    rms = 10 * np.log10(np.maximum(power, 1e-12))
    return Side(heard, ranges, starts, rms > -40.0, rms, np.where(rms > -70.0, rms, np.nan))


def look(pre: Side, post: Side, known_delay: float | None = None) -> Comparison:
    """Compare, and check what holds of every comparison."""
    rate = pre.pcm.size // SECONDS
    result = compare(pre, post, rate, silence_dbfs=-50.0, known_delay=known_delay)
    for key, values in (result.frames | result.bucket).items():
        low, high = RANGES.get(key, (0.0, 1.0) if key in result.bucket else (-300.0, 300.0))
        assert np.all(np.isfinite(values)), key
        assert np.all((np.asarray(values) >= low) & (np.asarray(values) <= high)), key
        assert np.size(values) > 0, key
    assert all(type(value) is float for value in result.bucket.values())
    assert ("pair.delay_ms" in result.bucket) == (result.delay_samples is not None)
    return result


def framed(tap: Side, starts: npt.NDArray[np.int64]) -> Real:
    """Return the frames of a tap in float64."""
    return np.asarray(tap.pcm[starts[:, None] + np.arange(tap.pcm.size // 250)], np.float64)


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
@pytest.mark.parametrize(
    ("delay_ms", "part", "gain"),
    [(0.0, 0.0, 0.5), (7.3, 0.37, -0.5), (-31.2, 0.5, 0.9), (450.0, -0.25, -0.4)],
)
def test_gain_delay_and_polarity_are_what_the_station_did(
    speech: Speech, rate: int, delay_ms: float, part: float, gain: float
) -> None:
    """A station that only delays and scales is read so, and nothing else is said of it."""
    x = at_rate(speech, rate, 0.5)
    delay = round(delay_ms * rate / 1e3) + part
    pre, post = side(pcm(x), rate), side(pcm(gain * shifted(x, delay)), rate)

    result = look(pre, post)

    assert delay == pytest.approx(result.delay_samples, abs=0.02)
    assert 1e3 * delay / rate == pytest.approx(result.bucket["pair.delay_ms"], abs=0.005)
    assert float(gain < 0) == result.bucket["pair.polarity_inverted"]
    assert (result.correlation or 0.0) > 0.75
    counted = (pre.starts + delay >= 0) & (pre.starts + delay + rate // 50 <= pre.pcm.size)
    assert np.count_nonzero(pre.speech & counted) == result.frames["pair.gain_db"].size
    # One frame of a hiss that ends beside half the rate is off by a quarter of a decibel.
    off_db = np.abs(result.frames["pair.gain_db"] - 20 * np.log10(abs(gain)))
    assert np.percentile(off_db, 99) < 0.1
    assert off_db.max() < 0.3
    low, median = np.percentile(result.frames["pair.segmental_snr_db"], [10, 50])
    assert median > 34.5
    assert low > 30.0
    assert np.median(result.frames["pair.log_spectral_distance_db"]) < 0.5
    assert result.bucket["pair.coherence"] > 0.99
    for key in ("limited_ratio", "speech_lost_ratio", "added_silence_ratio"):
        assert 0.0 == result.bucket[f"pair.{key}"], key


def test_recorded_speech_is_read_as_well(real_speech: list[Speech]) -> None:
    """On recordings of people, at the telephone's rate, a delay of any fraction is found."""
    for number, (samples, rate) in enumerate(real_speech):
        x = samples[rate : 7 * rate].astype(np.float64)
        delay = 0.31 * rate + number / 7

        result = look(side(samples[rate:], rate), side(pcm(0.7 * shifted(x, delay)), rate))

        assert delay == pytest.approx(result.delay_samples, abs=0.02)
        assert np.percentile(result.frames["pair.segmental_snr_db"], 5) > 34.0


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
@pytest.mark.parametrize("delay_ms", [-500.0, -499.8, 499.5, 500.0])
def test_a_delay_is_found_up_to_500_ms(speech: Speech, rate: int, delay_ms: float) -> None:
    """The ends of the range are in it, to a tenth of a millisecond."""
    x = at_rate(speech, rate, 0.5)
    post = pcm(np.roll(x, round(delay_ms * rate / 1e3)))

    result = look(side(pcm(x), rate), side(post, rate))

    assert delay_ms == pytest.approx(result.bucket["pair.delay_ms"], abs=0.1)


@pytest.mark.parametrize("order", [1, 2])
def test_the_lag_is_that_of_the_largest_absolute_correlation(speech: Speech, order: int) -> None:
    """Where a filter turns phases, the lag is still the definition's, computed the long way."""
    rate = speech.rate
    band = signal.butter(order, [300, 3_400], "bandpass", fs=rate, output="sos")
    x = at_rate(speech, rate, 2.0)
    pre, post = side(pcm(x), rate), side(pcm(signal.sosfilt(band, shifted(x, 700.0))), rate)
    whole = signal.correlate(post.pcm.astype(float), pre.pcm.astype(float), method="fft")
    lags = np.arange(1 - pre.pcm.size, pre.pcm.size)
    within = np.abs(lags) <= rate // 2
    best = np.abs(whole[within]).argmax()

    result = look(pre, post)

    assert lags[within][best] == pytest.approx(result.delay_samples, abs=1.0)
    assert float(whole[within][best] < 0) == result.bucket["pair.polarity_inverted"]


@pytest.mark.parametrize("snr_db", [25.0, 10.0, 0.0])
def test_added_noise_is_the_snr_of_each_frame(speech: Speech, snr_db: float) -> None:
    """Noise of known power gives the ratio of the very frames, at a delay and a negative gain."""
    x = at_rate(speech, 16_000)
    noise = np.random.default_rng(1).standard_normal(x.size) * np.std(x) * 10 ** (-snr_db / 20)
    pre = side(pcm(x), 16_000)
    post = side(pcm(-0.5 * np.roll(pcm(x), 160) + noise), 16_000)

    result = look(pre, post)

    starts = pre.starts[pre.speech & (pre.starts + 480 <= pre.pcm.size)]
    before, after = framed(pre, starts), framed(post, starts + 160)
    gain = np.linalg.lstsq(before.reshape(-1, 1), after.reshape(-1), rcond=None)[0][0]
    power = np.sum((gain * before) ** 2, axis=1) / np.sum((after - gain * before) ** 2, axis=1)
    expected = np.clip(10 * np.log10(power), -10, 35)
    assert 160.0 == pytest.approx(result.delay_samples, abs=0.05)
    assert expected == pytest.approx(result.frames["pair.segmental_snr_db"], abs=0.1)
    assert 1.0 == result.bucket["pair.polarity_inverted"]


@pytest.mark.parametrize("kind", ["fade", "soft compression"])
def test_a_moving_gain_is_followed_frame_by_frame(speech: Speech, kind: str) -> None:
    """A fade over the bucket, or a curve that turns down what is loud, is read at each frame."""
    x = at_rate(speech, 16_000)
    faded = x * np.linspace(1.0, 0.25, x.size)
    y = faded if kind == "fade" else 8_000 * np.tanh(x / 8_000)
    pre, post = side(pcm(x), 16_000), side(pcm(y), 16_000)

    result = look(pre, post)

    expected = (post.rms_dbfs - pre.rms_dbfs)[pre.speech]
    assert expected == pytest.approx(result.frames["pair.gain_db"], abs=0.02)
    assert expected.min() < -3.0


@pytest.mark.parametrize(("gain", "ceiling"), [(1.0, 6_000), (0.5, 2_500), (4.0, 15_000)])
def test_limited_samples_are_counted(speech: Speech, gain: float, ceiling: int) -> None:
    """The share is that of the samples that were cut by more than half a decibel."""
    x = pcm(at_rate(speech, 16_000))[:80_000]
    post = pcm(np.clip(gain * x.astype(float), -ceiling, ceiling))
    cut = np.abs(gain * x.astype(float)) > ceiling * 10 ** (0.5 / 20)

    result = look(side(x, 16_000), side(post, 16_000))

    assert np.mean(cut) > 0.005
    assert np.mean(cut) == pytest.approx(result.bucket["pair.limited_ratio"], rel=0.01)


def test_where_most_samples_are_zero_there_is_no_usual_gain(speech: Speech) -> None:
    """A station that lets one sample of sixteen through has no gain that could limit."""
    x = pcm(at_rate(speech, 16_000))[:80_000]

    result = look(side(x, 16_000), side(np.where(np.arange(80_000) % 16 == 3, x, 0), 16_000))

    assert "pair.gain_db" in result.frames
    assert "pair.limited_ratio" not in result.bucket


@pytest.mark.parametrize("delay", [0, 117, 480])
def test_lost_packets_are_added_silence(speech: Speech, delay: int) -> None:
    """Each packet that is digital silence at POST counts, whatever the delay; gains ignore it."""
    x = pcm(at_rate(speech, 16_000))[:80_000]
    pre, late = side(x, 16_000), np.roll(x, delay).reshape(250, 320)
    is_lost = np.arange(250) % 7 == 3
    post = side(np.where(is_lost[:, None], 0, late).astype(np.int16).reshape(-1), 16_000)

    result = look(pre, post)

    is_counted = post.starts >= delay
    was_sound = late.any(axis=1)
    added = np.count_nonzero(is_lost & is_counted & was_sound) / np.count_nonzero(is_counted)
    assert added == result.bucket["pair.added_silence_ratio"]
    assert delay == pytest.approx(result.delay_samples, abs=0.05)
    assert 0.0 == pytest.approx(np.median(result.frames["pair.gain_db"]), abs=0.01)
    assert 0.0 == result.bucket["pair.limited_ratio"]
    if delay % 320 == 0:
        assert np.mean(is_lost[pre.speech]) == result.bucket["pair.speech_lost_ratio"]
        assert 0.0 == pytest.approx(result.frames["pair.gain_db"], abs=0.01)


def test_cut_syllable_endings_are_lost_speech(speech: Speech) -> None:
    """A gate that shuts 60 ms too early loses just those frames."""
    pre = side(pcm(at_rate(speech, 16_000)), 16_000)
    following = np.lib.stride_tricks.sliding_window_view(np.append(pre.speech, [False] * 3), 4)
    is_cut = pre.speech & ~following.all(axis=1)
    post = side(np.where(np.repeat(is_cut, 320), 0, pre.pcm).astype(np.int16), 16_000)

    result = look(pre, post)

    expected = np.mean(is_cut[pre.speech])
    assert expected > 0.02
    assert expected == pytest.approx(result.bucket["pair.speech_lost_ratio"])


def test_speech_that_was_silent_before_is_not_lost(speech: Speech) -> None:
    """A quiet caller behind a station that does nothing loses nothing."""
    pre = side(pcm(0.02 * at_rate(speech, 16_000)), 16_000)
    pre = dataclasses.replace(pre, speech=pre.rms_dbfs > -75.0)
    assert np.any(pre.rms_dbfs[pre.speech] < -50.0)

    assert 0.0 == look(pre, pre).bucket["pair.speech_lost_ratio"]


def test_total_mute_is_all_speech_lost(speech: Speech) -> None:
    """A dead POST has no delay, no gain and no resemblance; its loss is known."""
    pre = side(pcm(at_rate(speech, 16_000)), 16_000)

    result = look(pre, side(np.zeros(80_000, np.int16), 16_000), 160.4)

    assert {"pair.speech_lost_ratio", "pair.added_silence_ratio"} == result.bucket.keys()
    assert 1.0 == result.bucket["pair.speech_lost_ratio"]
    assert result.bucket["pair.added_silence_ratio"] > 0.95
    assert ({}, None, None) == (result.frames, result.correlation, result.delay_samples)


def test_without_speech_at_pre_nothing_is_known(speech: Speech) -> None:
    """Silence before the station says nothing about it."""
    post = side(pcm(at_rate(speech, 16_000)), 16_000)

    assert Comparison() == look(side(np.ones(80_000, np.int16), 16_000), post, 3.0)


def test_unrelated_speech_does_not_correlate(real_speech: list[Speech]) -> None:
    """Another's speech is told from processed speech by correlation and by coherence."""
    for (first, rate), (second, _) in itertools.pairwise(real_speech):
        result = look(side(first, rate), side(second[2 * rate :], rate))

        assert 0.0 < (result.correlation or 0.0) < 0.15
        assert result.delay_samples is None
        assert result.bucket["pair.coherence"] < 0.1
        assert np.median(result.frames["pair.segmental_snr_db"]) < 0.0


def test_where_nothing_correlates_the_last_known_delay_aligns(speech: Speech) -> None:
    """Noise has no delay; the known one says which frames have their POST, else none is taken."""
    pre = side(pcm(at_rate(speech, 16_000)), 16_000)
    pre = dataclasses.replace(pre, speech=np.ones(250, np.bool_))
    noise = pcm(np.random.default_rng(3).standard_normal(80_000) * 1_000)

    counts = [
        look(pre, side(noise, 16_000), known).frames["pair.gain_db"].size
        for known in (None, 0.4, 1_600.4, -640.0)
    ]

    audible = np.flatnonzero(pre.rms_dbfs > -120.0)
    ends = [(0, 250), (0, 250), (0, 245), (2, 250)]
    assert [np.count_nonzero((audible >= a) & (audible < b)) for a, b in ends] == counts


def test_a_direct_current_is_no_resemblance(speech: Speech) -> None:
    """An offset at both taps correlates at every lag, and counts at none."""
    first, second = at_rate(speech, 16_000), at_rate(speech, 16_000, 12.0)

    result = look(side(pcm(first + 8_000), 16_000), side(pcm(second + 8_000), 16_000))

    assert 0.0 < (result.correlation or 0.0) < 0.2


def test_gaps_and_ragged_frames_leave_the_rest_as_it_is(speech: Speech) -> None:
    """Frames that are missing at either tap, wholly or in part, are not counted; others are."""
    x = pcm(at_rate(speech, 16_000))[:80_000]
    pre_ranges = ((1_003, 20_000), (20_777, 80_000))
    post_ranges = ((0, 30_001), (33_333, 33_400), (36_000, 77_123))
    pre, post = side(x, 16_000, pre_ranges), side(np.roll(x, 200) // 2, 16_000, post_ranges)

    result = look(pre, post)

    is_there = np.zeros(90_000, np.bool_)
    for first, stop in post_ranges:
        is_there[first:stop] = True
    counted = [is_there[start + 200 : start + 520].all() for start in pre.starts[pre.speech]]
    assert 200.0 == pytest.approx(result.delay_samples, abs=0.05)
    assert np.count_nonzero(counted) == result.frames["pair.gain_db"].size
    assert -6.02 == pytest.approx(result.frames["pair.gain_db"], abs=0.1)
    assert 0.0 == result.bucket["pair.speech_lost_ratio"]


def test_pieces_that_touch_are_one_and_a_ragged_last_frame_is_left_out(speech: Speech) -> None:
    """Where audio was handed over in two does not matter; half a frame is in the next bucket."""
    tap = side(pcm(at_rate(speech, 16_000, 1.0)), 16_000, ((100, 80_000),))
    ragged = Side(
        tap.pcm,
        ((100, 12_345), (12_345, 80_000)),
        np.append(tap.starts, tap.starts[-1] + 320),
        np.append(tap.speech, True),
        np.append(tap.rms_dbfs, -20.0),
        np.append(tap.momentary, -20.0),
    )

    result = look(ragged, ragged)

    assert np.count_nonzero(tap.speech) == result.frames["pair.gain_db"].size
    assert look(tap, tap).bucket == result.bucket


@pytest.mark.parametrize(("delay", "frames"), [(0, 0), (150, 0), (170, 1), (-650, -2)])
def test_loudness_is_compared_at_the_nearest_frame(speech: Speech, delay: int, frames: int) -> None:
    """The delay is rounded to frames; a loudness that is unknown at either tap is left out."""
    x = pcm(at_rate(speech, 16_000))
    pre, post = side(x, 16_000), side(np.roll(x, delay), 16_000)
    loudness = np.random.default_rng(4).uniform(-40.0, -10.0, 250)
    loudness[100:110] = np.nan
    pre = dataclasses.replace(pre, momentary=loudness)
    post = dataclasses.replace(post, momentary=np.roll(loudness, frames) + 2.5)

    result = look(pre, post)

    starts = pre.starts + delay
    is_counted = pre.speech & (starts >= 0) & (starts + 320 <= 80_000) & ~np.isnan(loudness)
    is_counted &= (np.arange(250) + frames >= 0) & (np.arange(250) + frames < 250)
    assert np.count_nonzero(is_counted) == result.frames["pair.loudness_delta_lu"].size
    assert 2.5 == pytest.approx(result.frames["pair.loudness_delta_lu"], abs=1e-9)


def spectra(tap: Side, starts: npt.NDArray[np.int64]) -> Real:
    """Return what scipy finds in each bin of each frame, as a share of full scale: ``[bin, F]``."""
    line = framed(tap, starts).reshape(-1) / 32_768
    power = signal.spectrogram(line, 16_000, "hann", 320, 0, detrend=False)[2]
    return np.asarray(power * 50.0)


def test_spectral_distance_is_that_of_the_spectrograms(speech: Speech) -> None:
    """A low-pass at another level gives the distance of scipy's spectra, floored at -80 dB."""
    x = at_rate(speech, 16_000)
    taps = signal.firwin(101, 2_000, fs=16_000)
    pre = side(pcm(x), 16_000)
    post = side(pcm(0.6 * np.convolve(x, taps, "same")), 16_000)

    result = look(pre, post)

    before, after = (spectra(tap, pre.starts[pre.speech]) for tap in (pre, post))
    level = after[2:].sum() / before[2:].sum()
    decibels = [10 * np.log10(np.maximum(power, 1e-8)) for power in (before * level, after)]
    expected = np.sqrt(np.mean((decibels[1] - decibels[0]) ** 2, axis=0))
    assert expected == pytest.approx(result.frames["pair.log_spectral_distance_db"], abs=0.05)
    assert expected.mean() > 3.0


def test_coherence_is_that_of_welch(speech: Speech) -> None:
    """Noise gives what scipy.signal.coherence says of the speech frames laid end to end."""
    x = at_rate(speech, 16_000)
    noise = np.random.default_rng(2).standard_normal(x.size) * 500
    pre, post = side(pcm(x), 16_000), side(pcm(x + noise), 16_000)
    before, after = (framed(tap, pre.starts[pre.speech]).reshape(-1) for tap in (pre, post))
    f, whole = signal.coherence(before, after, 16_000, "hann", 320, 0, detrend=False)
    expected = whole[(f >= 300) & (f <= 3_400)].mean()

    assert expected == pytest.approx(look(pre, post).bucket["pair.coherence"], abs=0.002)


def test_too_little_speech_has_no_coherence(speech: Speech) -> None:
    """One segment is coherent with anything: fewer than sixteen are not enough to say so."""
    x = pcm(at_rate(speech, 16_000))
    first = 320 * int(np.argmax(side(x, 16_000).speech))
    short = side(x, 16_000, ((first, first + 4_800),))

    result = look(short, short)

    assert "pair.coherence" not in result.bucket
    assert 0.0 == pytest.approx(result.bucket["pair.delay_ms"], abs=1e-3)


KINDS = ("zeros", "direct current", "square", "one sample", "last bit", "noise", "tone")


def strange(kind: str, size: int, rng: np.random.Generator) -> Samples:
    """Make a signal that speech never is."""
    n = np.arange(size)
    signals: dict[str, Callable[[], npt.NDArray[np.generic]]] = {
        "zeros": lambda: 0 * n,
        "direct current": lambda: 0 * n + rng.choice([-32_768, 32_767, 1, 1_000]),
        "square": lambda: np.where(n // rng.integers(1, 90) % 2, 32_767, -32_768),
        "one sample": lambda: (n == rng.integers(size)) * rng.choice([1, -32_768]),
        "last bit": lambda: rng.integers(-1, 2, size),
        "noise": lambda: rng.integers(-32_768, 32_768, size),
        "tone": lambda: np.rint(20_000 * np.sin(n * rng.uniform(0.001, 3.0))),
    }
    return np.asarray(signals[kind](), np.int16)


@settings(max_examples=50, deadline=None)
@given(
    kinds=st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)),
    rate=st.sampled_from([8_000, 8_050, 11_050, 16_000, 24_000, 44_100, 48_000]),
    seed=st.integers(0, 2**32 - 1),
    known_delay=st.none() | st.floats(-24_000, 24_000),
)
def test_any_signal_gives_finite_numbers(
    kinds: tuple[str, str], rate: int, seed: int, known_delay: float | None
) -> None:
    """Whatever the samples, gaps and marks are: no warning, no NaN, nothing out of range."""
    rng = np.random.default_rng(seed)
    taps = []
    for kind in kinds:
        edges = np.sort(rng.choice(SECONDS * rate, 2 * int(rng.integers(0, 4)), replace=False))
        ranges = tuple((int(a), int(b)) for a, b in edges.reshape(-1, 2))
        tap = side(strange(kind, SECONDS * rate, rng), rate, ranges)
        momentary = np.where(rng.random(tap.starts.size) < 0.5, np.nan, tap.momentary)
        marks = rng.random(tap.starts.size) < rng.choice([0.02, 0.6, 1.0])
        taps.append(dataclasses.replace(tap, speech=marks, momentary=momentary))

    look(taps[0], taps[1], known_delay)


@pytest.mark.parametrize("delay", [3.31, -100.4])
def test_a_fraction_that_is_still_right_need_not_be_found_again(
    speech: Speech, delay: float
) -> None:
    """With a part of a sample known from before, right or nearly, the comparison is the same."""
    x = at_rate(speech, 16_000)
    pre, post = side(pcm(x), 16_000), side(pcm(0.5 * shifted(x, delay)), 16_000)

    found = [look(pre, post, known) for known in (None, delay, delay + 0.3, delay - 0.6)]

    for other in found[1:]:
        assert found[0].delay_samples == pytest.approx(other.delay_samples, abs=1e-3)
        assert found[0].bucket == pytest.approx(other.bucket, rel=1e-4)
        for key, values in found[0].frames.items():
            assert values == pytest.approx(other.frames[key], abs=0.1), key


@pytest.mark.parametrize("delay", [0, 117, -240])
def test_a_lag_that_is_still_right_need_not_be_searched_for(speech: Speech, delay: int) -> None:
    """With the lag known from before, right or wrong, the comparison is what it is without."""
    pre = speech.samples[16_000:96_000]
    post = speech.samples[16_000 - delay : 96_000 - delay]

    found = [
        look(side(pre, 16_000), side(post, 16_000), known)
        for known in (None, float(delay), delay + 0.4, delay - 0.7, delay + 2.0, 3_000.0)
    ]

    for other in found[1:]:
        assert found[0].bucket == pytest.approx(other.bucket)
        assert found[0].delay_samples == pytest.approx(other.delay_samples, abs=1e-3)

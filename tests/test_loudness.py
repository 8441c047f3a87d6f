"""Loudness against the standard's own answers, a recursive filter, and two other programs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from exporter.analysis.integrated import Integrated
from exporter.analysis.loudness import Loudness, LoudnessMemory, k_weighting
from tests.fix_speech import Speech

Samples = npt.NDArray[np.int16]
Reals = npt.NDArray[np.float64]
Tone = tuple[float, float]  # peak in dBFS, seconds

RATES = [8_000, 11_050, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000]
ODD_RATES = [8_050, 8_150, 37_750, 47_950]
EBU_RATES = [8_000, 16_000, 24_000, 48_000]
SILENCE = -math.inf
# The signals of EBU Tech 3341 are stereo, with both channels alike: twice the energy of one.
MONO = 10 * math.log10(0.5)

# ITU-R BS.1770-5, Annex 1, Tables 1 and 2.
SHELF = [[1.53512485958697, -2.69169618940638, 1.19839281085285]]
SHELF += [[1.0, -1.69065929318241, 0.73248077421585]]
HIGH_PASS = [[1.0, -2.0, 1.0], [1.0, -1.99004745483398, 0.99007225036621]]
STANDARD = np.array([np.ravel(SHELF), np.ravel(HIGH_PASS)])


def int16(samples: Reals) -> Samples:
    """Round samples of full scale 32768; none may be too large."""
    rounded = np.rint(samples)
    assert np.abs(rounded + 0.5).max() <= 32_767.5
    return rounded.astype(np.int16)


def tones(rate: int, parts: Iterable[Tone], hertz: float = 1_000.0) -> Samples:
    """Make a sine whose level changes."""
    levels, seconds = zip(*parts, strict=True)
    lengths = [round(rate * each) for each in seconds]
    peaks = np.repeat(10.0 ** (np.array(levels) / 20), lengths) * 32_767
    return int16(peaks * np.sin(2 * np.pi * hertz / rate * np.arange(len(peaks))))


def framed(samples: Samples, rate: int) -> Samples:
    """Cut whole frames."""
    size = rate // 50
    return samples[: len(samples) // size * size].reshape(-1, size)


def measured(samples: Samples, rate: int, frames_per_call: int = 50) -> Reals:
    """Measure one tap, call after call: columns momentary, short-term, block energy."""
    frames, loudness, memory = framed(samples, rate), Loudness(rate), LoudnessMemory()
    cuts = np.split(frames, range(frames_per_call, len(frames), frames_per_call))
    return np.concatenate([loudness.measure(cut, [len(cut)], [memory]) for cut in cuts])


def integrated(values: Reals) -> float:
    """Return the integrated loudness of a measurement."""
    call = Integrated()
    call.add(values[:, 2])
    return call.value()


def by_recursion(samples: Samples, rate: int) -> tuple[Reals, Reals]:
    """Momentary and short-term loudness of every frame by the plain filter, NaN where unknown."""
    weighted = signal.sosfilt(k_weighting(rate), samples / 32_768)
    energies = (weighted[: len(samples) // (rate // 50) * (rate // 50)] ** 2).reshape(
        -1, rate // 50
    )
    windows = [np.full(len(energies), np.nan) for _ in range(2)]
    for window, size in zip(windows, (20, 150), strict=True):
        for end in range(size, len(energies) + 1):
            mean = energies[end - size : end].mean()
            level = -0.691 + 10 * math.log10(mean) if mean else -math.inf
            window[end - 1] = min(level, 5.0) if level >= -70 else np.nan
    return windows[0], windows[1]


def difference(expected: Reals, actual: Reals) -> float:
    """Return the largest difference in LU; both must be unknown at the same frames."""
    assert np.array_equal(np.isnan(expected), np.isnan(actual))
    known = ~np.isnan(expected)
    return float(np.abs(expected[known] - actual[known]).max(initial=0.0))


def noise(rate: int, seconds: float, rms: float) -> Reals:
    """Return Gaussian noise, the same each time."""
    return np.random.default_rng(7).normal(0.0, rms, round(rate * seconds))


def magnitude_error(rate: int) -> float:
    """Return the largest difference in dB from the 48 kHz filter, 20 Hz to 0.45 rate."""
    hertz = np.concatenate([np.geomspace(20, 0.45 * rate, 300), np.linspace(20, 0.45 * rate, 300)])
    expected = signal.freqz_sos(STANDARD, worN=hertz, fs=48_000)[1]
    actual = signal.freqz_sos(k_weighting(rate), worN=hertz, fs=rate)[1]
    return float(np.abs(20 * np.log10(np.abs(actual / expected))).max())


def test_filter_at_48_khz_is_the_standards() -> None:
    """The coefficients at 48 kHz are those of the standard's tables."""
    assert np.array_equal(STANDARD, k_weighting(48_000))


def test_filter_of_every_rate_has_the_standards_magnitude() -> None:
    """At all 801 rates the filter is within 0.05 dB of the 48 kHz one, and stable."""
    for rate in range(8_000, 48_001, 50):
        poles = np.concatenate([np.roots(section[3:]) for section in k_weighting(rate)])
        assert magnitude_error(rate) < 0.05, rate
        assert np.abs(poles).max() < 1.0, rate


@pytest.mark.parametrize("rate", [7_950, 8_001, 48_050, 0, -8_000])
def test_other_rates_are_refused(rate: int) -> None:
    """A rate out of range or without whole frames is an error that names it."""
    with pytest.raises(ValueError, match=str(rate)):
        Loudness(rate)


@pytest.mark.parametrize("rate", RATES + ODD_RATES)
def test_full_scale_tone_reads_minus_3_01(rate: int) -> None:
    """997 Hz at full scale reads -3.01 LUFS on every scale: the standard's calibration."""
    values = measured(tones(rate, [(0.0, 5.0)], hertz=997.0), rate)

    assert -3.01 == pytest.approx(integrated(values), abs=0.02)
    assert -3.01 == pytest.approx(np.nanmean(values[:, 0]), abs=0.02)
    assert -3.01 == pytest.approx(values[-1, 1], abs=0.02)


@pytest.mark.parametrize("rate", EBU_RATES)
@pytest.mark.parametrize("level", [-23.0, -33.0])
def test_ebu_1_and_2_steady_tone(rate: int, level: float) -> None:
    """EBU Tech 3341, cases 1 and 2: a steady tone has one loudness on all scales."""
    values = measured(tones(rate, [(level, 20.0)]), rate)

    assert level + MONO == pytest.approx(integrated(values), abs=0.1)
    for column, first in ((0, 19), (1, 149)):
        assert np.isnan(values[:first, column]).all()
        assert np.abs(values[first:, column] - level - MONO).max() < 0.1


@pytest.mark.parametrize("rate", EBU_RATES)
@pytest.mark.parametrize(
    "parts",
    [
        [(-36.0, 10.0), (-23.0, 60.0), (-36.0, 10.0)],
        [(-72.0, 10.0), (-36.0, 10.0), (-23.0, 60.0), (-36.0, 10.0), (-72.0, 10.0)],
        [(-26.0, 20.0), (-20.0, 20.1), (-26.0, 20.0)],
    ],
    ids=["3", "4", "5"],
)
def test_ebu_3_to_5_gates(rate: int, parts: list[Tone]) -> None:
    """EBU Tech 3341, cases 3 to 5: the gates leave -23 LUFS of tones of several levels."""
    values = measured(tones(rate, parts), rate)

    assert -23.0 + MONO == pytest.approx(integrated(values), abs=0.1)


@pytest.mark.parametrize("rate", EBU_RATES)
@pytest.mark.parametrize(
    ("parts", "times", "column", "full"),
    [([(-20.0, 1.34), (-30.0, 1.66)], 5, 1, 3.0), ([(-20.0, 0.18), (-30.0, 0.22)], 25, 0, 1.0)],
    ids=["9", "12"],
)
def test_ebu_9_and_12_constant(
    rate: int, parts: list[Tone], times: int, column: int, full: float
) -> None:
    """EBU Tech 3341, cases 9 and 12: a tone that repeats with the window reads constant -23."""
    values = measured(tones(rate, parts * times), rate)[round(full * 50) :, column]

    assert np.abs(values - (-23.0 + MONO)).max() < 0.1


@pytest.mark.parametrize("rate", EBU_RATES)
@pytest.mark.parametrize(
    ("seconds", "step", "column"), [(3.0, 0.15, 1), (0.4, 0.02, 0)], ids=["10", "13"]
)
def test_ebu_10_and_13_maximum(rate: int, seconds: float, step: float, column: int) -> None:
    """EBU Tech 3341, cases 10 and 13: wherever a tone as long as the window begins, it reads -23.

    The twenty files are twenty taps of one call.
    """
    files = [
        framed(tones(rate, [(SILENCE, step * i), (-23.0, seconds), (SILENCE, 1.0)]), rate)
        for i in range(20)
    ]
    counts, memories = [len(file) for file in files], [LoudnessMemory() for _ in files]

    values = Loudness(rate).measure(np.concatenate(files), counts, memories)

    for file in np.split(values[:, column], np.cumsum(counts[:-1])):
        assert -23.0 + MONO == pytest.approx(np.nanmax(file), abs=0.1)


@pytest.mark.parametrize("rate", EBU_RATES)
@pytest.mark.parametrize(
    ("seconds", "step", "column"), [(3.0, 0.15, 1), (0.4, 0.02, 0)], ids=["11", "14"]
)
def test_ebu_11_and_14_successive_maxima(
    rate: int, seconds: float, step: float, column: int
) -> None:
    """EBU Tech 3341, cases 11 and 14: of twenty tones in a row, each reads its own level."""
    parts: list[Tone] = []
    for i in range(20):
        parts += [(SILENCE, step * i), (-38.0 + i, seconds), (SILENCE, seconds - step * i)]
    values = measured(tones(rate, parts), rate)[:, column].reshape(20, -1)

    assert np.arange(-38.0, -18.0) + MONO == pytest.approx(np.nanmax(values, axis=1), abs=0.1)


@pytest.mark.parametrize("rate", [8_000, 8_150, 11_050, 16_000, 44_100, 48_000])
def test_any_signal_reads_what_a_recursive_filter_reads(rate: int) -> None:
    """Also at -60 dBFS beside direct current, drift, hum and jumps: within 0.001 dB."""
    time = np.arange(4 * rate) / rate
    quiet = noise(rate, 4.0, 33.0)
    signals = {
        "loud": np.clip(noise(rate, 4.0, 6_000.0), -32_768, 32_767),
        "quiet": quiet,
        "direct current": quiet + 30_000,
        "hum": quiet + 30_000 * np.sin(2 * np.pi * 50 * time),
        "drift": quiet + 10_000 * np.sin(2 * np.pi * 2 * time),
        "jumps": quiet + np.where(time % 1.3 < 0.7, 30_000, -10_000),
        "dying away": 30_000 * np.exp(-5 * time) * np.sin(2 * np.pi * 300 * time),
    }
    for name, samples in signals.items():
        expected = by_recursion(int16(samples), rate)
        values = measured(int16(samples), rate)
        assert difference(expected[0], values[:, 0]) < 0.001, name
        assert difference(expected[1], values[:, 1]) < 0.001, name


def test_speech_reads_what_a_recursive_filter_reads(speech: Speech) -> None:
    """On speech every frame's loudness is the plain filter's to 0.0001 LU."""
    expected = by_recursion(*speech)
    values = measured(*speech)

    assert difference(expected[0], values[:, 0]) < 1e-4
    assert difference(expected[1], values[:, 1]) < 1e-4


@pytest.mark.parametrize("rate", [8_000, 8_150, 48_000])
def test_cuts_do_not_matter(rate: int) -> None:
    """A stretch has the same values in calls of 1, 7 and 250 frames."""
    samples = int16(noise(rate, 5.0, 2_000.0) * np.linspace(0.0, 2.0, 5 * rate))
    whole = measured(samples, rate, 250)

    for frames_per_call in (1, 7):
        pieces = measured(samples, rate, frames_per_call)
        assert difference(whole[:, 0], pieces[:, 0]) < 1e-6
        assert difference(whole[:, 1], pieces[:, 1]) < 1e-6
        assert np.allclose(whole[:, 2], pieces[:, 2], rtol=1e-6, atol=0.0, equal_nan=True)


def test_neighbours_do_not_matter(speech: Speech) -> None:
    """A quiet tap reads the same beside loud ones, with stretches of different lengths."""
    samples, rate = speech
    quiet, loudness = framed(samples // 64, rate)[:400], Loudness(rate)
    loud = framed(int16(np.sign(noise(rate, 8.0, 1.0)) * 32_767), rate)
    memories = [LoudnessMemory() for _ in range(3)]
    alone = loudness.measure(quiet, [400], [LoudnessMemory()])

    beside = []
    for start in range(0, 400, 40):
        stack = [loud[: 100 - start // 8], quiet[start : start + 40], loud[:7]]
        counts = [len(stretch) for stretch in stack]
        values = loudness.measure(np.concatenate(stack), counts, memories)
        beside.append(values[counts[0] : counts[0] + 40])

    for column in range(3):
        assert difference(alone[:, column], np.concatenate(beside)[:, column]) < 1e-6


def test_gap_empties_the_windows() -> None:
    """After a restart a tap reads as a new one does: unknown until a window is full again."""
    frames = framed(tones(16_000, [(-20.0, 4.0)]), 16_000)
    loudness, memory = Loudness(16_000), LoudnessMemory()
    new = loudness.measure(frames, [200], [memory])
    memory.restart()

    again = loudness.measure(frames, [200], [memory])

    assert np.isnan(again[:19, 0]).all()
    assert np.isnan(again[:149, 1]).all()
    assert np.isfinite(again[19:, 0]).all()
    assert np.isfinite(again[149:, 1]).all()
    assert np.array_equal(new, again, equal_nan=True)


def test_gating_blocks_overlap_by_three_quarters() -> None:
    """Blocks end with the 20th frame since the gap and every fifth after it, also across calls."""
    values = measured(tones(8_000, [(-20.0, 2.0)]), 8_000, frames_per_call=7)
    ends = np.flatnonzero(~np.isnan(values[:, 2]))

    assert list(range(19, 100, 5)) == ends.tolist()
    assert values[ends, 0] == pytest.approx(-0.691 + 10 * np.log10(values[ends, 2]))


@pytest.mark.parametrize("rate", [8_000, 8_050, 16_000, 48_000])
def test_extremes(rate: int) -> None:
    """Silence, direct current and one sample are unknown; nothing is louder than +5 LUFS."""
    shape = (200, rate // 50)
    frames = {name: np.zeros(shape, np.int16) for name in ("silence", "direct", "one", "square")}
    frames["direct"][:] = -32_768
    frames["one"][30, 3] = 1
    frames["square"][:, ::2], frames["square"][:, 1::2] = 32_767, -32_768
    values = {name: measured(each.ravel(), rate) for name, each in frames.items()}

    assert np.isnan(values["silence"]).all()
    assert np.isnan(values["one"]).all()
    assert np.isnan(values["direct"][60:, 0]).all()
    assert np.isfinite(values["square"][19:, 0]).all()
    assert 3.0 < np.nanmax(values["square"][:, :2]) <= 5.0
    assert math.isnan(integrated(values["silence"]))


def test_nothing_measured_is_nothing() -> None:
    """A call without frames returns no rows."""
    assert (0, 3) == Loudness(8_000).measure(np.zeros((0, 160), np.int16), [], []).shape


@settings(max_examples=30, deadline=None)
@given(st.floats(-60.0, -3.0), st.floats(-60.0, -3.0), st.sampled_from([8_000, 16_000, 9_350]))
def test_gain_moves_the_loudness_by_itself(before: float, after: float, rate: int) -> None:
    """Whatever the level, a gain of g dB adds g LU to momentary and short-term loudness."""
    # Noise of little crest: it may be as loud as -3 dBFS, and rounding does not move its level.
    samples = np.sign(noise(rate, 3.2, 1.0)) * np.linspace(24_000, 32_000, round(3.2 * rate))
    samples *= 32_768 / np.sqrt(np.mean(samples**2))
    one, other = (measured(int16(samples * 10 ** (dbfs / 20)), rate) for dbfs in (before, after))

    assert after - before == pytest.approx(other[-1, 0] - one[-1, 0], abs=0.05)
    assert after - before == pytest.approx(other[-1, 1] - one[-1, 1], abs=0.05)


def by_both_gates(energies: Reals, shift: float) -> float:
    """Integrated loudness by the standard's text, with the relative gate shifted by LU."""
    levels = -0.691 + 10 * np.log10(energies)
    relative = -0.691 + 10 * math.log10(energies[levels > -70].mean()) - 10 + shift
    return -0.691 + 10 * math.log10(energies[(levels > -70) & (levels > relative)].mean())


LEVELS = st.floats(-75.0, 4.0).filter(lambda level: abs(level + 70.0) > 1e-6)


@settings(max_examples=50, deadline=None)
@given(st.lists(LEVELS, max_size=60), st.integers(1, 60))
def test_integrated_is_gated_twice(levels: Sequence[float], calls: int) -> None:
    """Any blocks, in any number of calls, read what both gates say, 0.1 LU about the second."""
    energies = 10 ** ((np.array([*levels, -30.0]) + 0.691) / 10)
    call = Integrated()
    for part in np.array_split(energies, calls):
        call.add(np.append(part, np.nan))

    assert by_both_gates(energies, -0.1) - 1e-9 <= call.value()
    assert by_both_gates(energies, 0.1) + 1e-9 >= call.value()


def test_integrated_without_blocks_is_unknown() -> None:
    """No block, only unknown blocks, and only blocks below -70 LUFS have no loudness."""
    call = Integrated()
    call.add(np.array([]))
    call.add(np.array([np.nan, np.nan]))
    call.add(np.array([1e-8, 0.0]))

    assert math.isnan(call.value())


def at_48_khz(recording: Speech) -> Samples:
    """Resample speech for programs that are exact at 48 kHz only."""
    factor = 48_000 // recording.rate
    samples = signal.resample_poly(recording.samples.astype(np.float64), factor, 1)
    return int16(np.clip(samples, -32_768, 32_767))


def test_speech_reads_what_pyloudnorm_reads(speech: Speech) -> None:
    """Integrated loudness at 16 and at 48 kHz is within 0.1 LU of pyloudnorm's at 48 kHz."""
    pyloudnorm = pytest.importorskip("pyloudnorm", reason="pyloudnorm is a reference for tests")
    samples = at_48_khz(speech)
    expected = pyloudnorm.Meter(48_000).integrated_loudness(samples / 32_768)

    assert expected == pytest.approx(integrated(measured(samples, 48_000)), abs=0.1)
    assert expected == pytest.approx(integrated(measured(*speech)), abs=0.1)


def libebur128(samples: Samples) -> tuple[float, float, float]:
    """Return integrated, momentary and short-term loudness at the end of 48 kHz samples."""
    ebur128 = pytest.importorskip("pyebur128", reason="pyebur128 has no wheel for Python 3.14")
    modes = ebur128.MeasurementMode
    state = ebur128.R128State(1, 48_000, modes.MODE_I | modes.MODE_M | modes.MODE_S)
    state.add_frames(samples, len(samples))
    return (
        ebur128.get_loudness_global(state),
        ebur128.get_loudness_momentary(state),
        ebur128.get_loudness_shortterm(state),
    )


def check_against_libebur128(recording: Speech) -> None:
    """Compare at 48 kHz and at the recording's own rate, up to the loudest frame after 3 s."""
    values = measured(*recording)
    end = 150 + int(np.nanargmax(values[149:, 0]))
    samples = at_48_khz(recording)[: end * 960]
    expected = libebur128(samples)

    for actual in (measured(samples, 48_000), values[:end]):
        assert expected[0] == pytest.approx(integrated(actual), abs=0.1)
        assert expected[1:] == pytest.approx(tuple(actual[-1, :2]), abs=0.1)


def test_speech_reads_what_libebur128_reads(speech: Speech) -> None:
    """All three scales are within 0.1 LU of libebur128's, at 16 and at 48 kHz."""
    check_against_libebur128(speech)


def test_real_speech_reads_what_libebur128_reads(real_speech: list[Speech]) -> None:
    """So they are on recordings of people, at 8 kHz."""
    for recording in real_speech:
        check_against_libebur128(recording)

"""All measurements of frames together: what a gain does, and that no input breaks them."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from exporter.analysis.analyzer import GATING_BLOCK, WIDTH, Analyzer
from exporter.analysis.frames import Matrix, Stretch, TapMemory
from exporter.breath import Breath
from exporter.metrics import COLUMNS, FRAME_METRICS
from tests.fix_speech import Speech

RATES = (8_000, 16_000, 24_000, 48_000)
ALWAYS = ("pcm.rms_dbfs", "pcm.silence_detected", "pcm.muted_signal", "pcm.frozen_signal")
LEVELS = (
    "pcm.rms_dbfs",
    "pcm.peak_dbfs",
    "advanced.lufs_momentary",
    "advanced.lufs_short_term",
    "fft.low_band_energy",
    "fft.mid_band_energy",
    "fft.high_band_energy",
)


def measure(
    pcm: npt.NDArray[np.int16], rate: int = 16_000, memory: TapMemory | None = None
) -> Matrix:
    """Measure one stretch of one tap from its beginning."""
    size = rate // 50
    whole = pcm[: len(pcm) // size * size].astype("<i2").tobytes()
    stretch = Stretch(memory or TapMemory(), rate, 0, [whole], is_live=True, has_spectrum=True)
    (rows,) = Analyzer(-50.0, Breath(math.inf)).measure([stretch])
    return rows


def noise(level_dbfs: float, seconds: float = 4.0) -> npt.NDArray[np.float64]:
    """Return uniform noise of a level re full scale, float, at 16 kHz."""
    sound = np.random.default_rng(5).uniform(-(3**0.5), 3**0.5, int(seconds * 16_000))
    return sound * 32_768 * 10 ** (level_dbfs / 20)


def level_of(rows: Matrix, key: str) -> float:
    """Return a level at the end; of a band, whose rounding in one frame is a few bins', of all."""
    column = rows[:, COLUMNS[key]]
    if "band" not in key:
        return float(column[-1])
    return float(10 * np.log10(np.mean(10 ** (column / 10))))


@settings(max_examples=30, deadline=None)
@given(level=st.floats(-60, -5), gain=st.floats(-50, 50))
def test_a_gain_moves_every_level_by_itself(level: float, gain: float) -> None:
    """Level, peak, loudness and bands of noise move by the gain, within 0.05 dB."""
    # Rounding to integers is noise of its own at -101 dBFS, and a peak may not be clipped.
    gain = max(-60.0 - level, min(gain, -5.0 - level))
    before, after = (
        measure(np.rint(noise(each)).astype(np.int16)) for each in (level, level + gain)
    )

    for key in LEVELS:
        moved = level_of(after, key) - level_of(before, key)
        tolerance = 0.05 if key != "pcm.peak_dbfs" else 0.05 + 8.7 / 32_768 * 10 ** (60 / 20)
        assert gain == pytest.approx(moved, abs=tolerance), key


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.int16, st.integers(960, 6_000), elements=st.integers(-32_768, 32_767)),
    st.sampled_from(RATES),
)
def test_no_input_breaks_a_measurement(pcm: npt.NDArray[np.int16], rate: int) -> None:
    """Whatever the samples are, values are finite or unknown, and within their range."""
    check(measure(pcm, rate))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", ["silence", "full", "square", "offset", "click", "one"])
def test_extreme_sounds_are_measured(rate: int, name: str) -> None:
    """Silence, full scale, a square wave, direct current, a click and one bit are no exception."""
    pcm = np.zeros(5 * rate, np.int16)
    if name == "full":
        pcm[:] = -32_768
    elif name == "square":
        pcm[:] = np.where(np.arange(len(pcm)) // 20 % 2, 32_767, -32_768)
    elif name == "offset":
        pcm[:] = 1_234
    elif name == "click":
        pcm[7] = 32_767
    elif name == "one":
        pcm[::3] = 1

    check(measure(pcm, rate))


def check(rows: Matrix) -> None:
    """Look at every value."""
    assert not np.isinf(rows).any()
    assert not np.isnan(rows[:, [COLUMNS[key] for key in ALWAYS]]).any()
    for metric in FRAME_METRICS:
        known = rows[:, COLUMNS[metric.key]]
        known = known[~np.isnan(known)]
        assert (known >= metric.low).all(), metric.key
        assert (known <= metric.high).all(), metric.key


def test_taps_do_not_disturb_each_other(speech: Speech) -> None:
    """A tap's rows are the same alone and among taps of other rates, lengths and states."""
    size, voice = 320, speech.samples
    pieces = [(0, 40), (40, 41), (41, 200)]
    alone, memory = [], TapMemory()
    crowd = [(TapMemory(), rate) for rate in (8_000, 16_000, 16_000, 48_000)]
    analyzer, mine = Analyzer(-50.0, Breath(math.inf)), TapMemory()
    together = []
    for first, last in pieces:
        pcm = voice[first * size : last * size].tobytes()
        stretch = Stretch(memory, 16_000, first * size, [pcm], is_live=True, has_spectrum=True)
        alone += Analyzer(-50.0, Breath(math.inf)).measure([stretch])
        others = [
            Stretch(
                each,
                rate,
                first,
                [voice[:1_920].tobytes()],
                is_live=True,
                has_spectrum=rate < 48_000,
            )
            for each, rate in crowd
        ]
        stretch = Stretch(mine, 16_000, first * size, [pcm], is_live=True, has_spectrum=True)
        together.append(analyzer.measure([*others[:2], stretch, *others[2:]])[2])

    expected, found = np.concatenate(alone), np.concatenate(together)
    assert (200, WIDTH) == found.shape
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_several_stretches_of_one_tap_are_measured_in_order(speech: Speech) -> None:
    """Handed over in one go, in two, or frame by frame: the rows are the same."""
    pcm = speech.samples[: 100 * 320]
    memory = TapMemory()
    frames = [
        Stretch(
            memory,
            16_000,
            n * 320,
            [pcm[n * 320 :][:320].tobytes()],
            is_live=True,
            has_spectrum=True,
        )
        for n in range(100)
    ]

    found = np.concatenate(Analyzer(-50.0, Breath(math.inf)).measure(frames))

    np.testing.assert_allclose(found, measure(pcm), rtol=1e-4, atol=1e-4)


def test_a_gap_makes_what_looks_back_unknown(speech: Speech) -> None:
    """After a gap, flux, periodicity and loudness windows begin anew; the frame itself is known."""
    memory, size = TapMemory(), 320
    measure(speech.samples[: 200 * size], memory=memory)
    pcm = speech.samples[: 30 * size].tobytes()
    stretch = Stretch(memory, 16_000, 300 * size, [pcm], is_live=True, has_spectrum=True)

    (rows,) = Analyzer(-50.0, Breath(math.inf)).measure([stretch])

    first = {key: rows[0, column] for key, column in COLUMNS.items()}
    unknown = {"fft.spectral_flux", "fft.harmonic_ratio", "advanced.lufs_momentary"}
    assert unknown <= {key for key, value in first.items() if np.isnan(value)}
    assert not np.isnan(first["fft.spectral_centroid"])
    assert np.isnan(rows[18, COLUMNS["advanced.lufs_momentary"]])
    assert not np.isnan(rows[19, COLUMNS["advanced.lufs_momentary"]])


def test_loudness_is_the_same_without_a_spectrum(speech: Speech) -> None:
    """Whether the spectrum is wanted of every tap, of some or of none, the loudness is the same."""
    pcm = [np.roll(speech.samples, 5_000 * n)[: 200 * 320].tobytes() for n in range(3)]
    keys = ("advanced.lufs_momentary", "advanced.lufs_short_term")
    columns = [*(COLUMNS[key] for key in keys), GATING_BLOCK]

    found = []
    for wanted in ((True, True, True), (True, False, True), (False, False, False)):
        stretches = [
            Stretch(TapMemory(), 16_000, 0, [each], is_live=True, has_spectrum=some)
            for each, some in zip(pcm, wanted, strict=True)
        ]
        found.append(
            np.concatenate(Analyzer(-50.0, Breath(math.inf)).measure(stretches))[:, columns]
        )

    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-6)

"""Time-domain metrics against plain definitions, computed one frame at a time in float64."""

from __future__ import annotations

import math
from itertools import groupby, pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from exporter.analysis.timedomain import COLUMNS, measure
from exporter.metrics import METRICS

Frame = npt.NDArray[np.int16]


def by_definition(frame: Frame) -> dict[str, float]:
    """Compute the metrics of one frame from their definitions, without numpy's reductions."""
    x = [int(sample) for sample in frame]
    n = len(x)
    mean_square = sum(sample * sample for sample in x) / n
    rms, peak = math.sqrt(mean_square), max(abs(sample) for sample in x)
    rms_dbfs = max(-120.0, 20 * math.log10(rms / 32_768)) if rms else -120.0
    clipped = [abs(sample) >= 32_760 for sample in x]
    runs = [len(list(group)) for is_clipped, group in groupby(clipped) if is_clipped]
    signs = [sample < 0 for sample in x]
    return {
        "pcm.rms_dbfs": rms_dbfs,
        "pcm.peak_dbfs": 20 * math.log10(peak / 32_768) if peak else -120.0,
        "pcm.peak_amplitude": peak,
        "pcm.peak_to_peak": max(x) - min(x),
        "pcm.average_absolute": sum(map(abs, x)) / n,
        "pcm.energy": mean_square / 32_768**2,
        "pcm.crest_factor": peak / rms if rms else math.nan,
        "pcm.dc_offset": sum(x) / n / 32_768,
        "pcm.clipped_samples": sum(clipped),
        "pcm.clipping_ratio": sum(clipped) / n,
        "pcm.consecutive_clipped": max(runs, default=0),
        "pcm.silence_detected": float(rms_dbfs < -50),
        "pcm.muted_signal": float(not any(x)),
        "pcm.frozen_signal": float(len(set(x)) == 1),
        "pcm.zero_crossing_rate": sum(a != b for a, b in pairwise(signs)) / (n - 1),
    }


def check(frames: npt.NDArray[np.int16]) -> None:
    """Compare every value of every frame."""
    values = measure(frames, -50.0)
    for row, frame in zip(values, frames, strict=True):
        for key, expected in by_definition(frame).items():
            actual = row[COLUMNS[key]]
            assert actual == pytest.approx(expected, rel=1e-6, abs=1e-9, nan_ok=True), key


@settings(max_examples=60, deadline=None)
@given(arrays(np.int16, (5, 160), elements=st.integers(-32_768, 32_767)))
def test_any_frame_has_the_values_of_the_definitions(frames: npt.NDArray[np.int16]) -> None:
    """Whatever the samples are, every metric is what its definition says."""
    check(frames)


def test_speech_has_the_values_of_the_definitions(
    speech: tuple[npt.NDArray[np.int16], int],
) -> None:
    """So it is on speech, in a batch of many frames."""
    samples, rate = speech
    frame = rate // 50
    check(samples[: len(samples) // frame * frame].reshape(-1, frame)[:600])


@pytest.mark.parametrize("samples", [160, 320, 480, 960])
def test_extremes_are_finite_and_in_range(samples: int) -> None:
    """Silence, full scale, direct current and one sample give no NaN but the crest of silence."""
    frames = np.zeros((5, samples), np.int16)
    frames[1], frames[2] = 32_767, -32_768
    frames[3, 7] = 1
    frames[4, ::2], frames[4, 1::2] = 32_767, -32_768

    values = measure(frames, -50.0)

    assert np.isnan(values[0, COLUMNS["pcm.crest_factor"]])
    assert np.isfinite(np.delete(values, COLUMNS["pcm.crest_factor"], axis=1)).all()
    for key, column in COLUMNS.items():
        known = values[~np.isnan(values[:, column]), column]
        assert (known >= METRICS[key].low).all(), key
        assert (known <= METRICS[key].high).all(), key
    assert 32_768 == values[2, COLUMNS["pcm.peak_amplitude"]]
    check(frames)


def test_crest_factor_of_a_full_scale_sine_is_the_root_of_two() -> None:
    """A known answer."""
    t = np.arange(320) / 16_000
    sine = np.rint(32_767 * np.sin(2 * np.pi * 1_000 * t)).astype(np.int16)

    crest = measure(sine[None], -50.0)[0, COLUMNS["pcm.crest_factor"]]

    assert crest == pytest.approx(math.sqrt(2), abs=1e-3)


def test_a_frame_does_not_depend_on_its_neighbours() -> None:
    """The same frame has the same bits alone and among others."""
    frames = np.random.default_rng(2).integers(-20_000, 20_000, (700, 320)).astype(np.int16)

    whole, alone = measure(frames, -50.0), measure(frames[431:432], -50.0)

    assert np.array_equal(whole[431], alone[0])

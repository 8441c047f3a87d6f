"""Spectrograms go on across the borders of segments: as if all the sound were one file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from archiver.audio import wav_header
from archiver.bands import FLOOR_DB, FRAMES_PER_COLUMN
from archiver.segments import SegmentRow
from archiver.times import BUCKET
from archiver.web.peaks import stretch
from archiver.web.sketches import Sketches
from archiver.web.spectrogram import spectrogram

RATE = 8_000
SIZE = 5 * RATE
FRAME = 256
BANDS = 32
START = datetime(2026, 1, 3, 18, 5, tzinfo=UTC)
ONE_STEP = 1
"""Of the picture's 255: both round."""

Samples = npt.NDArray[np.int16]


def store(root: Path, samples: Samples, skip: frozenset[int] = frozenset()) -> list[SegmentRow]:
    """Write segments of five seconds; return the rows of all that are not skipped."""
    rows = []
    for number in range(len(samples) // SIZE):
        name = f"{number}.wav"
        pcm = samples[number * SIZE : (number + 1) * SIZE].astype("<i2").tobytes()
        if number not in skip:
            (root / name).write_bytes(wav_header(SIZE, RATE) + pcm)
            rows.append(SegmentRow(START + number * BUCKET, RATE, name, ""))
    return rows


def chirp(seconds: int) -> Samples:
    """Return a tone that rises all the time, so that every column differs from the next."""
    t = np.arange(seconds * RATE) / RATE
    return (12_000 * np.sin(2 * np.pi * (300 * t + 100 * t**2))).astype(np.int16)


def reference(samples: Samples, since_s: float, until_s: float, columns: int) -> Samples:
    """Compute the picture of a sound that is one, frame by frame in float64."""
    first, last = round(since_s * RATE), round(until_s * RATE)
    window = np.hanning(FRAME + 1)[:-1]
    picture = np.zeros((BANDS, columns))
    for column in range(columns):
        for number in range(FRAMES_PER_COLUMN):
            frame = FRAMES_PER_COLUMN * column + number
            middle = first + (2 * frame + 1) * (last - first) // (2 * FRAMES_PER_COLUMN * columns)
            at = min(max(0, middle - FRAME // 2), len(samples) - FRAME)
            power = np.abs(np.fft.rfft(samples[at : at + FRAME] / 32_768 * window))[:-1] ** 2
            power *= 2 / (FRAME * np.sum(window**2))
            picture[:, column] += power.reshape(BANDS, -1).sum(axis=1) / FRAMES_PER_COLUMN
    decibels = 10 * np.log10(np.maximum(picture, 10 ** (-FLOOR_DB / 10)))
    return np.rint(255 * (1 + decibels / FLOOR_DB)).clip(0, 255).astype(np.int16)


@pytest.mark.parametrize(
    ("since_s", "until_s", "columns"),
    [(0, 15, 400), (4.9, 5.1, 200), (4.999, 5.001, 50), (9.9, 10.4, 1_100), (14.8, 15, 64)],
)
def test_a_chirp_across_borders_is_drawn_as_a_whole(
    tmp_path: Path, since_s: float, until_s: float, columns: int
) -> None:
    """Three segments give the picture of the fifteen seconds as one, at every zoom."""
    samples = chirp(15)
    rows = store(tmp_path, samples)
    since, until = (START + timedelta(seconds=each) for each in (since_s, until_s))

    picture = spectrogram(Sketches(), stretch(tmp_path, rows, since, until), columns, BANDS)

    expected = reference(samples, since_s, until_s, columns)
    assert np.abs(picture.astype(np.int16) - expected).max() <= ONE_STEP


def test_a_steady_tone_has_no_seam(tmp_path: Path) -> None:
    """All columns of a sine are alike, those at the borders too."""
    tone = (9_000 * np.sin(2 * np.pi * 1_000 * np.arange(15 * RATE) / RATE)).astype(np.int16)
    rows = store(tmp_path, tone)

    picture = spectrogram(
        Sketches(), stretch(tmp_path, rows, START, START + 3 * BUCKET), 1_500, BANDS
    )

    loud = picture[picture.mean(axis=1) > 100].astype(np.int16)
    assert len(loud) > 0
    assert np.ptp(loud, axis=1).max() <= ONE_STEP


def test_where_a_segment_is_missing_nothing_is_drawn_and_nothing_leaks(tmp_path: Path) -> None:
    """The columns of the hole are empty, and those beside it hold whole frames of sound."""
    tone = (9_000 * np.sin(2 * np.pi * 1_000 * np.arange(15 * RATE) / RATE)).astype(np.int16)
    rows = store(tmp_path, tone, frozenset({1}))

    picture = spectrogram(
        Sketches(), stretch(tmp_path, rows, START, START + 3 * BUCKET), 300, BANDS
    )

    assert not picture[:, 100:200].any()
    band = np.argmax(picture[:, 50])
    sound = np.delete(picture[band].astype(np.int16), np.s_[100:200])
    assert np.ptp(sound) <= ONE_STEP

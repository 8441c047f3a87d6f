"""Sketches: what their definition says, wherever a segment's row goes, and as good as the files."""

from __future__ import annotations

import uuid
from base64 import b64decode
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psycopg
import pytest
import soundfile

from archiver.audio import AudioStore
from archiver.audio_reader import AudioGoneError, SegmentReader
from archiver.batch import Batch, Entry, decode, encode, to_entry
from archiver.database import Database
from archiver.migrations import migrate
from archiver.segments import SegmentRow
from archiver.sketch import BANDS, SKETCH_BYTES, make_sketch, read_sketches
from archiver.times import BUCKET
from archiver.web.peaks import Stretch, peaks, stretch
from archiver.web.sketches import Sketches
from archiver.web.spectrogram import spectrogram
from benchmarks.speech import speech
from exporter.model import Tap
from tests.fix_archive import bucket
from tests.fix_drilldown import SMALL, STATION, Small

RATE = 16_000
SIZE = 5 * RATE
START = datetime(2026, 1, 3, 18, 5, tzinfo=UTC)
ONE_STEP = 1
"""Of 255: both round."""

Samples = npt.NDArray[np.int16]


def defined(samples: Samples, rate: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Compute pairs and levels of five seconds from their definition, one by one, in float64."""
    parts = np.split(samples.astype(np.int64), 50)
    pairs = np.array([(part.min() // 256, part.max() // 256) for part in parts])
    size = next(2**n for n in range(20) if 2**n >= 0.032 * rate)
    window = np.hanning(size + 1)[:-1]
    levels = np.zeros((5, BANDS))
    for second in range(5):
        mean = np.zeros(BANDS)
        for quarter in range(4):
            middle = (2 * (4 * second + quarter) + 1) * len(samples) // 40
            frame = samples[middle - size // 2 :][:size] / 32_768
            power = np.abs(np.fft.rfft(frame * window))[: size // 2] ** 2
            power *= 2 / (size * np.sum(window**2))
            mean += np.array([band.sum() for band in np.split(power, BANDS)]) / 4
        levels[second] = 255 * (1 + 10 * np.log10(np.maximum(mean, 1e-10)) / 100)
    return pairs, np.clip(levels, 0, 255)


def spoken(seconds: int) -> Samples:
    """Return so many seconds of the demo's speech, over and over."""
    return np.take(speech(RATE), np.arange(seconds * RATE), mode="wrap")


def kept(samples: Samples, root: Path | None, *, has_sketch: bool = True) -> list[SegmentRow]:
    """Return rows of segments with these samples; their files are written where there is a root."""
    rows = []
    for number, part in enumerate(np.split(samples, len(samples) // SIZE)):
        name = f"{number}.wav"
        if root:
            soundfile.write(root / name, part, RATE, subtype="PCM_16")
        sketch = make_sketch(part) if has_sketch else None
        rows.append(SegmentRow(START + number * BUCKET, RATE, name, str(number), sketch))
    return rows


def whole(root: Path, rows: list[SegmentRow]) -> Stretch:
    """Return all of the time of segments."""
    return stretch(root, rows, START, rows[-1].bucket_ts + BUCKET)


@pytest.mark.parametrize("rate", [8_000, 11_050, 16_000, 44_100, 48_000])
def test_a_sketch_is_what_its_definition_says(rate: int) -> None:
    """At every rate the pairs are exact, and the levels those of four frames a second."""
    chance = np.random.default_rng(rate)
    rising = np.linspace(0, 1, 5 * rate) ** 4
    samples = (chance.uniform(-32_768, 32_767, 5 * rate) * rising).astype(np.int16)
    samples[rate : 2 * rate] = 0

    data = make_sketch(samples)

    assert SKETCH_BYTES == len(data)
    found = read_sketches([data])
    pairs, levels = defined(samples, rate)
    assert np.array_equal(pairs, found.pairs)
    assert np.abs(levels - found.levels).max() <= ONE_STEP
    assert not found.levels[1].any()


def test_the_row_has_the_sketch_of_the_whole_file(database: str, tmp_path: Path) -> None:
    """It comes through a batch file; of two halves, whichever comes first, that of both counts."""
    migrate(database)
    store, batches = AudioStore(tmp_path), list[Batch]()
    for first in (0, 40_000):
        one = bucket(first=first)
        entry = to_entry(one, {Tap.PRE: (store.write(one, one.taps[0]), ())})
        batch = Batch(str(uuid.uuid4()), "boot", first, 0, 0, (entry,))
        batches.append(decode(b"".join(encode(batch))))
    apply(database, *reversed(batches))

    (path,) = tmp_path.rglob("*.wav")
    samples, _ = soundfile.read(path, dtype="int16")
    assert [make_sketch(samples)] == sketches_of(database)


def test_a_batch_of_an_earlier_version_has_none(database: str, tmp_path: Path) -> None:
    """Such a batch is applied; what was known of one half is not taken for the whole file."""
    migrate(database)
    store, entries = AudioStore(tmp_path), list[Entry]()
    for first in (0, 40_000):
        one = bucket(first=first)
        entries.append(to_entry(one, {Tap.PRE: (store.write(one, one.taps[0]), ())}))
    assert SKETCH_BYTES == len(b64decode(entries[1]["taps"][0]["segment"].pop("sketch")))
    batches = [Batch(str(uuid.uuid4()), "boot", n, 0, 0, (each,)) for n, each in enumerate(entries)]

    apply(database, batches[0])
    assert [None] != sketches_of(database)
    apply(database, batches[1])

    assert [None] == sketches_of(database)


def apply(conninfo: str, *batches: Batch) -> None:
    """Bring batches into the database, in this order."""
    writer = Database(conninfo, lambda: None)
    for batch in batches:
        assert [] == writer.apply(batch).refused
    writer.close()


def sketches_of(conninfo: str) -> list[object]:
    """Return the sketches of all rows."""
    with psycopg.connect(conninfo) as connection:
        return [row[0] for row in connection.execute("SELECT sketch FROM audio_segments_5s")]


def test_an_hour_opens_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waveform and spectrogram of 720 segments come from their rows alone."""
    wanted = whole(tmp_path, kept(spoken(3_600), None))
    opened: list[str] = []
    before = SegmentReader.open_file

    def counted(reader: SegmentReader, relative: str) -> int:
        opened.append(relative)
        return before(reader, relative)

    monkeypatch.setattr(SegmentReader, "open_file", counted)

    pairs = peaks(Sketches(), wanted, 1_000)
    picture = spectrogram(Sketches(), wanted, 1_000, 128)

    assert [] == opened
    assert (1_000, 2) == pairs.shape
    assert (pairs[:, 1] > pairs[:, 0]).mean() > 0.9
    assert (128, 1_000) == picture.shape
    assert (picture > 0).mean() > 0.9
    with pytest.raises(AudioGoneError):
        peaks(Sketches(), replace(wanted, last=wanted.first + SIZE), 1_000)
    assert ["0.wav"] == opened


@pytest.mark.parametrize(("columns", "since_s", "until_s"), [(40, 0, 40), (7, 3.3, 38.7)])
def test_without_a_sketch_the_file_gives_the_same(
    tmp_path: Path, columns: int, since_s: float, until_s: float
) -> None:
    """Rows that have none, or one of another version, are drawn from their files, alike, once."""
    samples = spoken(40)
    rows = kept(samples, tmp_path)
    since, until = (START + timedelta(seconds=each) for each in (since_s, until_s))
    expected = pictures(Sketches(), stretch(tmp_path, rows, since, until), columns)
    mixed = [
        replace(row, sketch=(None, b"?" * 99, row.sketch, None)[number % 4])
        for number, row in enumerate(rows)
    ]
    sketches, wanted = Sketches(), stretch(tmp_path, mixed, since, until)

    assert not sketches.has(wanted.rows)
    assert expected == pictures(sketches, wanted, columns)
    assert sketches.has(wanted.rows)
    for file in tmp_path.glob("*.wav"):
        file.unlink()
    assert expected == pictures(sketches, wanted, columns)


def pictures(sketches: Sketches, wanted: Stretch, columns: int) -> tuple[bytes, bytes]:
    """Draw both."""
    picture = spectrogram(sketches, wanted, columns, 128)
    return peaks(sketches, wanted, columns).tobytes(), picture.tobytes()


def test_only_some_are_kept(tmp_path: Path) -> None:
    """Of sketches that were made from files, the last ones stay in memory."""
    rows = kept(spoken(20), tmp_path, has_sketch=False)
    sketches = Sketches(kept=2)
    with SegmentReader(tmp_path) as reader:
        sketches.of(reader, rows)

    assert [False, False, True, True] == [sketches.has([row]) for row in rows]


@pytest.mark.parametrize("since_s", [0.0, 2.47])
def test_peaks_do_not_jump_where_sketches_begin(tmp_path: Path, since_s: float) -> None:
    """A column of 100 ms from sketches holds all that there is, and nothing from further away."""
    samples = spoken(60)
    rows = kept(samples, tmp_path)
    since, until = START + timedelta(seconds=since_s), START + timedelta(seconds=since_s + 50)

    wide = peaks(Sketches(), stretch(tmp_path, rows, since, until), 500)

    first = round(since_s * RATE)
    for column, (low, high) in enumerate(wide):
        at = first + column * RATE // 10
        exact = samples[at : at + RATE // 10] >> 8
        around = samples[max(0, at - RATE // 10) : at + RATE // 5] >> 8
        if since_s == 0:
            assert (exact.min(), exact.max()) == (low, high)
        assert around.min() <= low <= high <= around.max()


def test_the_spectrogram_does_not_jump_where_sketches_begin(tmp_path: Path) -> None:
    """From above to below a second a column, speech changes no more than from there on."""
    wanted = whole(tmp_path, kept(spoken(120), tmp_path))

    above, below, next_one = (
        spectrogram(Sketches(), wanted, columns, 128)[:, :120].astype(float)
        for columns in (120, 121, 122)
    )

    assert np.abs(above - below).mean() < 1.2 * np.abs(below - next_one).mean()
    assert abs(np.mean(above - below)) < 255 * 1 / 100  # a decibel


@pytest.mark.parametrize("rows", [16, 64, 100, 128, 256])
def test_power_is_the_same_in_any_number_of_rows(tmp_path: Path, rows: int) -> None:
    """However many rows a wide picture has, they add up to the power of the sound."""
    noise = np.random.default_rng(3).normal(0, 3_000, 60 * RATE).astype(np.int16)

    picture = spectrogram(Sketches(), whole(tmp_path, kept(noise, None)), 12, rows)

    power = (10 ** ((picture / 255 - 1) * 10)).sum(axis=0).mean()
    assert 10 * np.log10(power) == pytest.approx(20 * np.log10(3_000 / 32_768), abs=0.3)


def test_where_a_segment_is_missing_nothing_is_drawn(tmp_path: Path) -> None:
    """A hole between sketches stays one, to the column."""
    rows = kept(spoken(60), None)
    del rows[4:6]
    wanted = whole(tmp_path, rows)

    pairs, picture = peaks(Sketches(), wanted, 60), spectrogram(Sketches(), wanted, 60, 128)

    is_empty = (pairs == (127, -128)).all(axis=1)
    assert [*range(20, 30)] == np.flatnonzero(is_empty).tolist()
    assert not picture[:, 20:30].any()
    assert picture[:, 19].any()
    assert picture[:, 30].any()


def test_pictures_of_a_long_time_need_no_file(small: Small) -> None:
    """What an archiver wrote has sketches: pictures come without its files, and look like them."""
    wide = [f"{kind}?station={STATION}&tap=PRE&columns=15" for kind in ("peaks", "spectrogram")]

    def ask() -> list[tuple[int, bytes]]:
        answers = [small.client.get(f"/api/v1/traces/{SMALL}/{each}") for each in wide]
        return [(answer.status_code, answer.content) for answer in answers]

    found = ask()
    assert [200, 200] == [status for status, _ in found]
    small.settings.audio_path.rename(small.settings.audio_path.with_name("away"))
    small.settings.audio_path.mkdir()
    assert found == ask()

    small.run("UPDATE audio_segments_5s SET sketch = NULL")
    assert [410, 410] == [status for status, _ in ask()]
    small.settings.audio_path.rmdir()
    small.settings.audio_path.with_name("away").rename(small.settings.audio_path)
    assert found == ask()

"""Spectrograms: levels by frequency and time.

Of a long time they come from sketches, of a short one from frames across the borders of segments.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from archiver.audio_reader import SegmentReader
from archiver.bands import (
    FRAMES_PER_COLUMN,
    Frames,
    Levels,
    Powers,
    band_power,
    frame_size,
    to_levels,
    to_powers,
)
from archiver.sketch import BANDS, COLUMNS_PER_SECOND
from archiver.web.peaks import Stretch
from archiver.web.sketches import Sketches
from exporter.model import BUCKET_SECONDS

_AT_ONCE = 4_096

_Places = npt.NDArray[np.int64]


def spectrogram(sketches: Sketches, wanted: Stretch, columns: int, rows: int) -> Levels:
    """Return levels by frequency and time: uint8 ``[rows, columns]``, row 0 the lowest.

    A value is the mean power of frames of 32 ms, as of ``bands.to_levels``. Columns of a second and
    more have four frames a second, in the bands of sketches; narrower ones have up to four frames.
    Such a frame takes its samples from all segments that it touches; where the sound begins or
    ends, it keeps within.

    Raises:
        AudioGoneError: A file is not there; other errors as of ``audio_reader``.
    """
    with SegmentReader(wanted.root) as reader:
        if wanted.is_wide(columns, COLUMNS_PER_SECOND):
            powers = _in_rows(_from_sketches(sketches, wanted, reader, columns), rows)
        else:
            powers = _from_samples(wanted, reader, columns, rows)
    return to_levels(powers).T


def _from_sketches(
    sketches: Sketches, wanted: Stretch, reader: SegmentReader, columns: int
) -> Powers:
    """Return the mean power in the bands of sketches: ``[columns, BANDS]``."""
    mean = _Mean(columns, BANDS)
    column, is_heard = _seconds(wanted, columns)
    mean.add(column, to_powers(sketches.of(reader, wanted.rows).levels[is_heard]))
    return mean.powers()


def _from_samples(wanted: Stretch, reader: SegmentReader, columns: int, rows: int) -> Powers:
    """Return the mean power of frames: ``[columns, rows]``."""
    mean = _Mean(columns, rows)
    size = frame_size(wanted.rate)
    column, starts = _frames(wanted, columns, size)
    for first in range(0, len(starts), _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        mean.add(column[part], band_power(_gather(wanted, reader, starts[part], size), rows))
    return mean.powers()


class _Mean:
    """Mean power of what is in each column of a picture."""

    def __init__(self, columns: int, rows: int) -> None:
        self._sum = np.zeros((columns, rows), np.float32)
        self._count = np.zeros(columns, np.int64)

    def add(self, column: _Places, powers: Powers) -> None:
        """Add powers to their columns, which are in order."""
        if len(column) == 0:
            return
        firsts = np.flatnonzero(np.r_[True, np.diff(column) > 0])
        self._sum[column[firsts]] += np.add.reduceat(powers, firsts, axis=0)
        self._count += np.bincount(column, minlength=len(self._count))

    def powers(self) -> Powers:
        """Return the means; 0 where nothing is."""
        return self._sum / np.maximum(self._count, 1).astype(np.float32)[:, None]


def _seconds(wanted: Stretch, columns: int) -> tuple[_Places, npt.NDArray[np.bool_]]:
    """Return the columns of the seconds of sketches, and which seconds have their middle in one."""
    seconds = np.arange(BUCKET_SECONDS * COLUMNS_PER_SECOND)
    offsets = (seconds * 2 + 1) * wanted.rate // (2 * COLUMNS_PER_SECOND)
    middles = (_begins(wanted)[:, None] + offsets).ravel() - wanted.first
    span = wanted.last - wanted.first
    is_heard = (middles >= 0) & (middles < span)
    return middles[is_heard] * columns // span, is_heard


def _in_rows(powers: Powers, rows: int) -> Powers:
    """Return the bands of sketches as rows of a picture: added up, or in equal parts."""
    if rows <= BANDS:
        return np.asarray(np.add.reduceat(powers, np.arange(rows) * BANDS // rows, axis=1))
    band = np.arange(rows) * BANDS // rows
    return powers[:, band] / np.bincount(band).astype(np.float32)[band]


def _frames(wanted: Stretch, columns: int, size: int) -> tuple[_Places, _Places]:
    """Return the column of each frame in whose middle there is sound, and its first sample."""
    count = FRAMES_PER_COLUMN * columns
    span = wanted.last - wanted.first
    middles = wanted.first + (np.arange(count) * 2 + 1) * span // (2 * count)
    length = BUCKET_SECONDS * wanted.rate
    begins = _begins(wanted)
    numbers = np.arange(len(begins))
    place = np.searchsorted(begins, middles, "right") - 1
    is_heard = (place >= 0) & (middles < begins[place] + length)
    # Segments that follow each other without a hole are one sound.
    is_joined = np.diff(begins) == length
    first = begins[np.maximum.accumulate(np.where(np.r_[False, is_joined], 0, numbers))]
    holes = np.where(np.r_[is_joined, False], len(begins), numbers)
    last = begins[np.minimum.accumulate(holes[::-1])[::-1]] + length
    at = place[is_heard]
    starts = np.clip(middles[is_heard] - size // 2, first[at], last[at] - size)
    return np.flatnonzero(is_heard) // FRAMES_PER_COLUMN, starts


def _begins(wanted: Stretch) -> _Places:
    return np.fromiter(map(wanted.begin, wanted.rows), np.int64, len(wanted.rows))


def _gather(wanted: Stretch, reader: SegmentReader, starts: _Places, size: int) -> Frames:
    """Return the samples of frames, ``[frames, size]``; of the files, only what they need."""
    length = BUCKET_SECONDS * wanted.rate
    begins = _begins(wanted)
    frames = np.empty((len(starts), size), np.int16)
    borders = [*np.searchsorted(starts, begins).tolist(), len(starts)]
    window = np.arange(size)
    for number, row in enumerate(wanted.rows):
        if borders[number] == borders[number + 1]:
            continue
        part = slice(borders[number], borders[number + 1])
        offsets = starts[part] - begins[number]
        first, last = int(offsets[0]), int(offsets[-1]) + size
        pcm = reader.samples(row, first, min(last, length) - first)
        if last > length:
            pcm += reader.samples(wanted.rows[number + 1], 0, last - length)
        samples = np.frombuffer(pcm, "<i2")
        frames[part] = samples[(offsets - first)[:, None] + window]
    return frames

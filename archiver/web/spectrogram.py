"""Spectrograms: levels by frequency and time, of short frames that pass the borders of segments."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from archiver.audio_reader import SegmentReader
from archiver.web.peaks import Stretch
from exporter.model import BUCKET_SECONDS

FRAME_S = 0.032
"""Least length of a frame; a picture needs the sound of so much more on both sides."""
FLOOR_DB = 100.0
FRAMES_PER_COLUMN = 4
_FULL_SCALE = 32_768.0
_AT_ONCE = 4_096

Picture = npt.NDArray[np.uint8]
_Places = npt.NDArray[np.int64]


def spectrogram(wanted: Stretch, columns: int, rows: int) -> Picture:
    """Return levels by frequency and time: uint8 ``[rows, columns]``, row 0 the lowest.

    A value is the mean power of up to four frames of 32 ms in the column, re full scale squared:
    0 is -100 dB or nothing, 255 is 0 dB. A frame takes its samples from all segments that it
    touches; where the sound begins or ends, it keeps within.

    Raises:
        AudioGoneError: A file is not there; other errors as of ``audio_reader``.
    """
    size = 1 << int(np.ceil(np.log2(FRAME_S * wanted.rate)))
    column, starts = _frames(wanted, columns, size)
    power = np.zeros((columns, rows), np.float32)
    with SegmentReader(wanted.root) as reader:
        for first in range(0, len(starts), _AT_ONCE):
            part = slice(first, first + _AT_ONCE)
            frames = _gather(wanted, reader, starts[part], size)
            np.add.at(power, column[part], _band_power(frames, rows))
    power /= np.maximum(np.bincount(column, minlength=columns), 1)[:, None]
    decibels = 10 * np.log10(np.maximum(power, 10 ** (-FLOOR_DB / 10)))
    return np.rint(255 * (1 + decibels / FLOOR_DB)).clip(0, 255).astype(np.uint8).T


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


def _gather(
    wanted: Stretch, reader: SegmentReader, starts: _Places, size: int
) -> npt.NDArray[np.int16]:
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


def _band_power(samples: npt.NDArray[np.int16], rows: int) -> npt.NDArray[np.float32]:
    """Return the power of frames in ``rows`` bands of equal width: ``[frames, rows]``."""
    size = samples.shape[1]
    window = np.hanning(size + 1)[:-1]
    # Parseval: the sum over both halves of the spectrum is the mean square under the window.
    scale = np.sqrt(2 / (size * np.sum(window**2))) / _FULL_SCALE
    spectrum = np.fft.rfft(samples * (window * scale).astype(np.float32))[:, : size // 2]
    edges = np.arange(rows) * (size // 2) // rows
    return np.asarray(np.add.reduceat(spectrum.real**2 + spectrum.imag**2, edges, axis=1))

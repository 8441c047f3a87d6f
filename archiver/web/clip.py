"""Stretches of sound: of a tap across its segments, and of what a station took away."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import soundfile

from archiver.audio import wav_header
from archiver.audio_reader import HEADER_BYTES, check_segment, read_samples
from archiver.segments import Alignment, SegmentRow
from archiver.times import EARLIEST, sample_index
from exporter.errors import MonitoringError
from exporter.model import BUCKET_SECONDS, SAMPLE_BYTES

PIECE_S = 5
_MARGIN = 16  # of the interpolator, in samples to both sides
_HIGHEST = 32_767


class RateChangeError(MonitoringError):
    """A stretch of time has segments of several sampling rates."""


class Clip(Protocol):
    """A stretch of sound that can be read in any order.

    Attributes:
        rate: Samples a second.
        first: First sample, counted from 1970.
        samples: How many.
        tag: Names this sound: another one has another.
    """

    rate: int
    first: int
    samples: int
    tag: str

    def check(self) -> None:
        """Make sure that all of it can be read; errors as of ``audio_reader``."""

    def pcm(self, start: int, count: int) -> bytes:
        """Return 16-bit samples from ``start`` on, counted from the first of the clip."""


class TapClip:
    """What was heard at a tap; silence where there is no segment.

    Args:
        root: Audio root.
        rows: The segments of that time, at least one.
        since: Start.
        until: End.

    Raises:
        RateChangeError: The segments have several rates.
    """

    def __init__(
        self, root: Path, rows: Sequence[SegmentRow], since: datetime, until: datetime
    ) -> None:
        rates = {row.rate for row in rows}
        if len(rates) != 1:
            raise RateChangeError(
                f"the sampling rate changes in this time ({', '.join(map(str, sorted(rates)))} "
                "Hz): ask for a part of it"
            )
        self.rate = rates.pop()
        self.first = sample_index(since, self.rate)
        self.samples = sample_index(until, self.rate) - self.first
        self._root = root
        self._rows = {_number(row): row for row in rows}
        text = f"{self.first} {self.samples} {[row.sha256 for row in rows]}"
        self.tag = hashlib.sha256(text.encode()).hexdigest()[:32]

    def check(self) -> None:
        """Make sure that every segment is there; errors as of ``audio_reader``."""
        for row in self._rows.values():
            check_segment(self._root, row)

    def pcm(self, start: int, count: int) -> bytes:
        """Return samples of the clip; also from before its start and after its end."""
        parts = []
        position = self.first + start
        end = position + count
        while position < end:
            number, offset = divmod(position, BUCKET_SECONDS * self.rate)
            size = min(BUCKET_SECONDS * self.rate - offset, end - position)
            row = self._rows.get(number)
            silence = bytes(size * SAMPLE_BYTES)
            parts.append(read_samples(self._root, row, offset, size) if row else silence)
            position += size
        return b"".join(parts)


class DeltaClip:
    """What a station took away: PRE minus POST, aligned in gain, delay and polarity.

    Args:
        pre: What was heard before; sets the time.
        post: What was heard after, also a second before and after that time.
        alignments: By bucket; what is unknown is as nearest before, else as first known.
    """

    def __init__(self, pre: TapClip, post: TapClip, alignments: Sequence[Alignment]) -> None:
        if pre.rate != post.rate:
            raise RateChangeError(f"PRE has {pre.rate} Hz and POST {post.rate}")
        self.rate, self.first, self.samples = pre.rate, pre.first, pre.samples
        self.tag = hashlib.sha256(f"{pre.tag} {post.tag} {alignments}".encode()).hexdigest()[:32]
        self._pre, self._post = pre, post
        self._alignments = list(alignments) or [Alignment(EARLIEST)]
        self._starts = [sample_index(each.bucket_ts, self.rate) for each in self._alignments]

    def check(self) -> None:
        """Make sure that all of it can be read; errors as of ``audio_reader``."""
        self._pre.check()
        self._post.check()

    def pcm(self, start: int, count: int) -> bytes:
        """Return samples of the difference, bucket by bucket."""
        parts = []
        position, end = self.first + start, self.first + start + count
        while position < end:
            border = (position // (BUCKET_SECONDS * self.rate) + 1) * BUCKET_SECONDS * self.rate
            size = min(border, end) - position
            parts.append(self._difference(position, size))
            position += size
        return b"".join(parts)

    def _difference(self, position: int, size: int) -> bytes:
        nearest = max(0, int(np.searchsorted(self._starts, position, side="right")) - 1)
        alignment = self._alignments[nearest]
        before = _floats(self._pre.pcm(position - self._pre.first, size))
        delay = alignment.delay_ms * self.rate / 1_000
        whole = round(delay)
        start = position + whole - _MARGIN - self._post.first
        after = np.correlate(
            _floats(self._post.pcm(start, size + 2 * _MARGIN)), _interpolator(delay - whole)
        )
        gain = 10 ** (alignment.gain_db / 20) * (-1 if alignment.is_inverted else 1)
        difference = np.rint(before - after / gain).clip(-_HIGHEST - 1, _HIGHEST)
        return difference.astype("<i2").tobytes()


def wav_size(clip: Clip) -> int:
    """Return the bytes of a clip as WAV."""
    return HEADER_BYTES + clip.samples * SAMPLE_BYTES


def wav_pieces(clip: Clip, first_byte: int, last_byte: int) -> Iterator[bytes]:
    """Yield these bytes of a clip as WAV, both ends included, in pieces of five seconds at most."""
    if first_byte < HEADER_BYTES:
        yield wav_header(clip.samples, clip.rate)[first_byte : last_byte + 1]
    start = max(0, first_byte - HEADER_BYTES)
    end = last_byte + 1 - HEADER_BYTES
    while start < end:
        sample, odd = divmod(start, SAMPLE_BYTES)
        count = min(PIECE_S * clip.rate, -(-end // SAMPLE_BYTES) - sample)
        stop = min(end, (sample + count) * SAMPLE_BYTES)
        yield clip.pcm(sample, count)[odd : odd + stop - start]
        start = stop


def flac(clip: Clip) -> bytes:
    """Return a clip as a FLAC file; about 2 s and 60 MB for an hour at 16 kHz."""
    target = io.BytesIO()
    with soundfile.SoundFile(target, "w", clip.rate, 1, "PCM_16", format="FLAC") as file:
        for start in range(0, clip.samples, PIECE_S * clip.rate):
            count = min(PIECE_S * clip.rate, clip.samples - start)
            file.write(np.frombuffer(clip.pcm(start, count), "<i2"))
    return target.getvalue()


def _number(row: SegmentRow) -> int:
    return int(row.bucket_ts.timestamp()) // BUCKET_SECONDS


def _floats(pcm: bytes) -> npt.NDArray[np.float64]:
    return np.frombuffer(pcm, "<i2").astype(np.float64)


def _interpolator(fraction: float) -> npt.NDArray[np.float64]:
    """Return the taps that read a signal a part of a sample later: a sinc under a window."""
    at = np.arange(-_MARGIN, _MARGIN + 1) - fraction
    return np.asarray(np.sinc(at) * np.cos(np.pi * at / (2 * _MARGIN + 2)) ** 2)

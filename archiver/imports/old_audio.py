"""Recordings of an earlier installation: what their path tells, and how they are cut."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import IO

import soundfile

from archiver.imports.accounts import UnkeptError
from archiver.imports.fields import Notes, Reading
from archiver.imports.old_ids import call_of, station_of, time_of
from archiver.imports.source import OldFile
from archiver.times import bucket_start, parse_time, sample_index
from exporter.config import check_rate
from exporter.errors import MonitoringError
from exporter.model import BUCKET_SECONDS, SAMPLE_BYTES

_OVERHANG_S = 0.1
_WIDTH = "int16"
_DIGITS = re.compile(r"\d{10}|\d{13}")
_STAMP = r"(?P<time>\d{13}|\d{10}|\d{4}-?\d\d-?\d\dT\d\d[-:]?\d\d[-:]?\d\d([-.]\d{3})?(?P<z>Z?))"
_TAP = r"(?P<tap>PRE|POST)"
LAYOUTS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(.*/)?(?P<trace>[^/]+)/(?P<station>[^/]+)/{_TAP}/([a-z]+[_-])?{_STAMP}\.wav",
        rf"(.*/)?(?P<trace>[^/]+)/(?P<station>[^/]+)/{_TAP}[_-]{_STAMP}\.wav",
        rf"(.*/)?(?P<trace>[^/]+)_(?P<station>St_[^/]+)_{_TAP}_{_STAMP}\.wav",
        rf"(.*/)?(?P<trace>[^/]+)/(?P<station>[^/]+)_{_TAP}_{_STAMP}\.wav",
        # All of a call in one file: it begins when the call's id says.
        rf"(.*/)?(?P<trace>[^/]+)/(?P<station>[^/]+)/{_TAP}\.wav",
        rf"(.*/)?(?P<trace>[^/]+)/(?P<station>[^/]+)_{_TAP}\.wav",
    )
)


@dataclass(frozen=True, slots=True)
class Piece:
    """The part of a recording that lies in one bucket.

    Attributes:
        bucket_ts: Start of the bucket.
        first: Offset of its first sample in the bucket.
        begin: Offset in the recording.
        samples: How many.
    """

    bucket_ts: datetime
    first: int
    begin: int
    samples: int


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording that can be kept.

    Attributes:
        raw_trace: The call's id in the export.
        trace_id: The call's id here.
        station_key: Station.
        tap: ``PRE`` or ``POST``.
        start: Time of its first sample.
        rate: Samples a second.
        samples: How many are kept.
        notes: What was changed or assumed.
    """

    raw_trace: str
    trace_id: str
    station_key: str
    tap: str
    start: datetime
    rate: int
    samples: int
    notes: tuple[tuple[str, str], ...]

    @property
    def end(self) -> datetime:
        """Time after its last sample."""
        return self.start + timedelta(seconds=self.samples / self.rate)

    def pieces(self) -> Iterator[Piece]:
        """Yield what lies in each bucket."""
        size = BUCKET_SECONDS * self.rate
        position, done = sample_index(self.start, self.rate), 0
        while done < self.samples:
            bucket, first = divmod(position + done, size)
            samples = min(size - first, self.samples - done)
            at = datetime.fromtimestamp(bucket * BUCKET_SECONDS, UTC)
            yield Piece(at, first, done, samples)
            done += samples


class Sound:
    """The samples of an opened recording."""

    def __init__(self, stream: IO[bytes]) -> None:
        try:
            self._file = soundfile.SoundFile(stream)
        except (soundfile.SoundFileError, TypeError) as error:
            raise UnkeptError("audio_unreadable", str(error).partition(": ")[2]) from None

    @property
    def form(self) -> tuple[int, int, int, str]:
        """Rate, channels, samples, and the form of a sample."""
        file = self._file
        return file.samplerate, file.channels, file.frames, file.subtype

    def read(self, begin: int, samples: int) -> bytes:
        """Return samples as signed 16 bit little endian."""
        try:
            self._file.seek(begin)
            pcm: bytes = self._file.read(samples, dtype=_WIDTH).astype("<i2").tobytes()
        except soundfile.SoundFileError as error:
            raise UnkeptError("audio_unreadable", str(error)) from None
        if len(pcm) != samples * SAMPLE_BYTES:
            raise UnkeptError("audio_unreadable", f"it ends before sample {begin + samples}")
        return pcm

    def close(self) -> None:
        """Let go of the stream."""
        self._file.close()


@contextmanager
def opened(file: OldFile, reading: Reading) -> Iterator[tuple[Recording, Sound]]:
    """Yield a recording and its samples.

    Raises:
        UnkeptError: It cannot be kept.
    """
    with file.seekable() as stream, closing(Sound(stream)) as sound:
        yield _recording(file.name, sound, reading), sound


def _recording(name: str, sound: Sound, reading: Reading) -> Recording:
    notes: Notes = []
    found = next(filter(None, (layout.fullmatch(name) for layout in LAYOUTS)), None)
    if found is None:
        raise UnkeptError("no_place")
    start = _start(found, reading, notes)
    rate, channels, samples, subtype = sound.form
    if channels != 1:
        raise UnkeptError("bad_channels", f"{channels} channels")
    try:
        check_rate(rate)
    except (ValueError, MonitoringError):
        raise UnkeptError("bad_rate", f"{rate} Hz") from None
    if samples < 1:
        raise UnkeptError("empty")
    if subtype != "PCM_16":
        notes.append(("converted", subtype))
    trace_id = call_of(found["trace"], start, reading, notes)
    station = station_of(found["station"], notes)
    size, longest = BUCKET_SECONDS * rate, int((BUCKET_SECONDS + _OVERHANG_S) * rate)
    if start == bucket_start(start) and size < samples <= longest:
        # What hangs over would stand where the next segment begins.
        notes.append(("cut", f"{samples - size} samples"))
        samples = size
    return Recording(
        found["trace"], trace_id, station, found["tap"].upper(), start, rate, samples, tuple(notes)
    )


def _start(found: re.Match[str], reading: Reading, notes: Notes) -> datetime:
    text = found.groupdict().get("time")
    if text is None:
        named = time_of(found["trace"])
        if named is None:
            raise UnkeptError("no_place", "neither name nor call tells the time")
        notes.append(("time_assumed", ""))
        return named
    if _DIGITS.fullmatch(text):
        return parse_time(text)
    digits = re.sub(r"\D", "", text)
    try:
        naive = datetime.strptime(digits.ljust(17, "0") + "000", "%Y%m%d%H%M%S%f")  # noqa: DTZ007 - follows
    except ValueError:
        raise UnkeptError("bad_time", text) from None
    return naive.replace(tzinfo=UTC if found["z"] else reading.zone).astimezone(UTC)

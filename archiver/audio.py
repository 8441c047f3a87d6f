"""The audio store: one WAV file of exactly five seconds for each bucket and tap.

``YYYY-MM-DD/<trace_id>/<station_key>/<PRE|POST>/segment_<bucket start in ms>.wav`` below the root.
Audio stands at its true offset; where there is a gap there is silence, and the gap is a row.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import struct
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from archiver.files import make_folders, write_whole
from archiver.sketch import make_sketch
from exporter.model import (
    BUCKET_SECONDS,
    KEY_PATTERN,
    SAMPLE_BYTES,
    Bucket,
    Clock,
    Run,
    TapBucket,
)

FORMAT = "WAV_PCM_S16LE_MONO"
_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")


@dataclass(frozen=True, slots=True)
class Segment:
    """A written file.

    Attributes:
        file_path: Path below the root.
        file_bytes: Size.
        sha256: Hash of the whole file, in hex.
        written_ns: When; of two halves the later one knows the hash of the whole.
        sketch: What pictures of a long time show of it.
    """

    file_path: str
    file_bytes: int
    sha256: str
    written_ns: int
    sketch: bytes


def wav_header(samples: int, rate: int) -> bytes:
    """Return the 44 bytes before mono 16-bit PCM (RIFF WAVE, format tag 1)."""
    size = samples * SAMPLE_BYTES
    return _HEADER.pack(
        b"RIFF",
        36 + size,
        b"WAVE",
        b"fmt ",
        16,
        1,
        1,
        rate,
        rate * SAMPLE_BYTES,
        SAMPLE_BYTES,
        8 * SAMPLE_BYTES,
        b"data",
        size,
    )


class AudioStore:
    """Writes segments below one root folder."""

    def __init__(self, root: Path, clock: Clock = time.time_ns) -> None:
        self.root = root
        self._clock = clock

    def write(self, bucket: Bucket, tap: TapBucket) -> Segment:
        """Write the audio of one tap; what a segment of that name holds already stays in it.

        Raises:
            OSError: Nothing was changed; FileExistsError when other audio stands there already.
            ValueError: A key is no safe file name.
        """
        path = self.root / self._relative(bucket, tap)
        make_folders(self.root, path.parent)
        # Another process may write the other half of the same bucket.
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            before = path.read_bytes() if path.exists() else None
            audio = _laid_out(tap, before)
            header = wav_header(BUCKET_SECONDS * tap.rate, tap.rate)
            write_whole(path, [header, *audio])
            written_ns = self._clock()
        finally:
            os.close(folder)
        digest = hashlib.sha256(header)
        for part in audio:
            digest.update(part)
        size = len(header) + sum(map(len, audio))
        sketch = make_sketch(np.frombuffer(b"".join(audio), "<i2"))
        name = str(path.relative_to(self.root))
        return Segment(name, size, digest.hexdigest(), written_ns, sketch)

    def remove_call(self, trace_id: str) -> int:
        """Remove all segments of a call; return how many there were.

        Raises:
            OSError: Some of them are still there.
        """
        if not KEY_PATTERN.fullmatch(trace_id):
            return 0  # nothing was ever written under such a name
        removed = 0
        for folder in self.root.glob(f"????-??-??/{trace_id}"):
            removed += sum(1 for _ in folder.glob("*/*/segment_*.wav"))
            shutil.rmtree(folder)
        return removed

    @staticmethod
    def _relative(bucket: Bucket, tap: TapBucket) -> Path:
        for key in (bucket.trace_id, bucket.station_key):
            if not KEY_PATTERN.fullmatch(key):
                raise ValueError(f"{key!r} is no safe file name")
        day = datetime.fromtimestamp(bucket.bucket_ns / 1e9, UTC).strftime("%Y-%m-%d")
        name = f"segment_{bucket.bucket_ns // 1_000_000}.wav"
        return Path(day, bucket.trace_id, bucket.station_key, tap.tap, name)


def _laid_out(tap: TapBucket, before: bytes | None) -> list[bytes]:
    """Return the five seconds in parts: runs at their offsets, between them silence."""
    size = BUCKET_SECONDS * tap.rate
    if before is not None:
        return [_laid_in(tap, before, size)]
    parts: list[bytes] = []
    position = 0
    for run in (*tap.runs, Run(size, b"")):
        parts += [bytes((run.first_sample - position) * SAMPLE_BYTES), run.pcm]
        position = run.first_sample + run.samples
    return [part for part in parts if part]


def _laid_in(tap: TapBucket, before: bytes, size: int) -> bytes:
    """Return what a segment holds with the runs in its silence."""
    if len(before) != _HEADER.size + size * SAMPLE_BYTES:
        raise FileExistsError(f"the segment there is not one of {tap.rate} Hz")
    merged = bytearray(before[_HEADER.size :])
    for run in tap.runs:
        start = run.first_sample * SAMPLE_BYTES
        there = merged[start : start + len(run.pcm)]
        if there.strip(b"\0") and there != run.pcm:
            raise FileExistsError(f"other audio stands at sample {run.first_sample} already")
        merged[start : start + len(run.pcm)] = run.pcm
    return bytes(merged)

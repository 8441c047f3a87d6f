"""The track of one tap: placed audio and its measurements, gathered into buckets."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from exporter.analysis.frames import Grid, Matrix
from exporter.metrics import FRAME_METRICS
from exporter.model import (
    BUCKET_NS,
    BUCKET_SECONDS,
    SAMPLE_BYTES,
    Aggregate,
    Cause,
    Gap,
    Run,
    Tap,
    TapBucket,
)
from exporter.timeline import to_ns


@dataclass(slots=True)
class Draft:
    """One bucket of one tap while it is open."""

    audio: list[tuple[int, bytes]] = field(default_factory=list)
    gaps: list[tuple[int, int, Cause]] = field(default_factory=list)
    rows: list[Matrix] = field(default_factory=list)
    last_frame: int = 0
    values: dict[str, list[tuple[int, float]]] = field(default_factory=dict)


@dataclass(slots=True)
class FrameJob:
    """Whole frames of one tap that wait to be measured."""

    track: Track
    position: int
    pcm: bytes
    is_live: bool
    is_final: bool


class Track:
    """Gathers one tap's audio, gaps and measurements by bucket.

    Attributes:
        tap: PRE or POST.
        rate: Sampling rate in Hz.
        first: Position of the first due sample; None before it is known.
        frontier: Everything before is audio or gap.
        received: Samples of audio kept so far.
        frames: Frames measured so far.
    """

    def __init__(self, tap: Tap, rate: int) -> None:
        self.tap = tap
        self.rate = rate
        self.first: int | None = None
        self.frontier = 0
        self.received = 0
        self.frames = 0
        self._size = BUCKET_SECONDS * rate
        self._grid = Grid(rate)
        self._drafts: dict[int, Draft] = {}

    @property
    def open_samples(self) -> int:
        """Samples of audio in open buckets."""
        return sum(
            len(pcm) // SAMPLE_BYTES for draft in self._drafts.values() for _, pcm in draft.audio
        )

    @property
    def complete_until(self) -> int:
        """Buckets that end here or before can be closed."""
        rest = self._grid.rest_position
        return self.frontier if rest is None else min(rest, self.frontier)

    def bucket_of(self, position: int) -> int:
        """Return the bucket's number, counted in buckets since the epoch."""
        return position // self._size

    def record(self, position: int, pcm: bytes) -> None:
        """Keep audio that stands at ``position``."""
        self._begin(position)
        while pcm:
            bucket, offset = divmod(position, self._size)
            part = pcm[: (self._size - offset) * SAMPLE_BYTES]
            self._draft(bucket).audio.append((offset, part))
            samples = len(part) // SAMPLE_BYTES
            self.received += samples
            position += samples
            pcm = pcm[len(part) :]
        self.frontier = max(self.frontier, position)

    def cut(self, position: int, pcm: bytes, *, is_live: bool) -> FrameJob | None:
        """Cut audio into whole frames to be measured."""
        first, whole = self._grid.cut(position, pcm)
        return FrameJob(self, first, whole, is_live, is_final=True) if whole else None

    def preview(self, pcm: bytes) -> FrameJob | None:
        """Cut audio that has no place yet, for the live gauges alone."""
        size = self._grid.frame_samples * SAMPLE_BYTES
        whole = pcm[: len(pcm) // size * size]
        return FrameJob(self, 0, whole, is_live=True, is_final=False) if whole else None

    def miss(self, position: int, samples: int, cause: Cause, *, cuts_grid: bool = True) -> None:
        """Write down samples that are missing."""
        self._begin(position)
        if cuts_grid:
            self._grid.restart()
        while samples:
            bucket, offset = divmod(position, self._size)
            part = min(samples, self._size - offset)
            self._draft(bucket).gaps.append((offset, part, cause))
            position, samples = position + part, samples - part
        self.frontier = max(self.frontier, position)

    def measured(self, position: int, values: Matrix) -> None:
        """Take the measurements of frames, the first of which stands at ``position``."""
        step = self._grid.frame_samples
        self.frames += len(values)
        while len(values):
            bucket = self.bucket_of(position)
            room = -((position - (bucket + 1) * self._size) // step)
            draft = self._draft(bucket)
            draft.rows.append(values[:room])
            position += step * min(room, len(values))
            draft.last_frame = position - step
            values = values[room:]

    def note(self, key: str, position: int, value: float) -> None:
        """Take one value of a metric that is not measured on frames."""
        draft = self._draft(self.bucket_of(max(position, self.first or 0)))
        draft.values.setdefault(key, []).append((position, value))

    def end(self) -> None:
        """Give up the rest that is no whole frame: nothing follows."""
        self._grid.restart()

    def open_buckets(self) -> list[int]:
        """Return the numbers of the open buckets, oldest first."""
        return sorted(self._drafts)

    def close(self, bucket: int) -> TapBucket | None:
        """Close a bucket and return it; None when nothing was due in it."""
        draft = self._drafts.pop(bucket, None)
        if draft is None or self.first is None:
            return None
        base = bucket * self._size
        first = max(self.first - base, 0)
        due = min(self.frontier - base, self._size) - first
        if due <= 0:
            return None
        start_ns = bucket * BUCKET_NS
        return TapBucket(
            tap=self.tap,
            rate=self.rate,
            first_sample=first,
            due_samples=due,
            runs=_runs(draft.audio),
            gaps=_gaps(draft.gaps),
            aggregates=tuple(self._aggregates(draft, start_ns)),
        )

    def _aggregates(self, draft: Draft, start_ns: int) -> list[Aggregate]:
        frames = sum(len(rows) for rows in draft.rows)
        found = [Aggregate("stream.frames", 1, frames, frames, frames, frames, start_ns)]
        if frames:
            found += _of_frames(np.concatenate(draft.rows), to_ns(draft.last_frame, self.rate))
        for key, notes in draft.values.items():
            values = [value for _, value in notes]
            last_ns = to_ns(notes[-1][0], self.rate)
            extremes = (min(values), max(values), sum(values), values[-1])
            found.append(Aggregate(key, len(values), *extremes, last_ns))
        return found

    def _begin(self, position: int) -> None:
        if self.first is None:
            self.first = self.frontier = position

    def _draft(self, bucket: int) -> Draft:
        return self._drafts.setdefault(bucket, Draft())


def _of_frames(rows: Matrix, last_ns: int) -> list[Aggregate]:
    """Aggregate the columns of frame measurements; a column without a value has no aggregate."""
    known = ~np.isnan(rows)
    count = known.sum(axis=0)
    low = np.where(known, rows, np.inf).min(axis=0)
    high = np.where(known, rows, -np.inf).max(axis=0)
    total = np.where(known, rows, 0.0).sum(axis=0)
    last = rows[len(rows) - 1 - known[::-1].argmax(axis=0), np.arange(rows.shape[1])]
    columns = zip(FRAME_METRICS, count, low, high, total, last, strict=True)
    return [
        Aggregate(metric.key, int(n), float(lo), float(hi), float(sum_), float(newest), last_ns)
        for metric, n, lo, hi, sum_, newest in columns
        if n
    ]


def _runs(audio: list[tuple[int, bytes]]) -> tuple[Run, ...]:
    """Join neighbours."""
    runs: list[tuple[int, list[bytes]]] = []
    expected = -1
    for offset, pcm in audio:
        if offset != expected:
            runs.append((offset, []))
        runs[-1][1].append(pcm)
        expected = offset + len(pcm) // SAMPLE_BYTES
    return tuple(Run(offset, b"".join(parts)) for offset, parts in runs)


def _gaps(gaps: list[tuple[int, int, Cause]]) -> tuple[Gap, ...]:
    """Join neighbours of one cause."""
    joined: list[Gap] = []
    for offset, samples, cause in gaps:
        last = joined[-1] if joined else None
        if last and last.cause == cause and last.first_sample + last.samples == offset:
            joined[-1] = Gap(last.first_sample, last.samples + samples, cause)
        else:
            joined.append(Gap(offset, samples, cause))
    return tuple(joined)

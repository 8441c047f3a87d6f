"""The track of one tap: placed audio and its measurements, gathered into buckets."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from exporter.analysis.analyzer import WIDTH
from exporter.analysis.frames import Grid, Matrix, Stretch, TapMemory
from exporter.analysis.voice import SPEECH_FROM
from exporter.closed import ClosedTap, Noted, Offsets
from exporter.metrics import COLUMNS
from exporter.model import BUCKET_NS, BUCKET_SECONDS, SAMPLE_BYTES, Cause, Gap, Run, Tap
from exporter.timeline import NS, Placed

# Longer without a block, and the sender is not active: it counts neither for nor against its pace.
_PAUSE_NS = NS
_VOICE = COLUMNS["pcm.vad_probability"]


@dataclass(slots=True)
class Notes:
    """Values of a metric that is not measured on frames, and when the newest was noted."""

    values: list[float] = field(default_factory=list)
    position: int = 0


@dataclass(slots=True)
class Draft:
    """One bucket of one tap while it is open; used again for a later one.

    What lives for seconds and then goes makes Python's garbage collector walk through all of the
    host's memory, and the audio threads wait for it.
    """

    audio: list[tuple[int, bytes]] = field(default_factory=list)
    gaps: list[tuple[int, int, Cause]] = field(default_factory=list)
    withheld: list[tuple[int, int, Cause]] = field(default_factory=list)
    rows: list[tuple[int, Matrix]] = field(default_factory=list)
    notes: dict[str, Notes] = field(default_factory=dict)
    borders: list[Sequence[int]] = field(default_factory=list)
    active_samples: int = 0
    active_ns: int = 0

    def note(self, key: str, values: list[float], position: int) -> None:
        """Take values of one metric; the newest was noted at ``position``."""
        notes = self.notes.get(key)
        if notes is None:
            notes = self.notes[key] = Notes()
        notes.values += values
        notes.position = position

    def clear(self) -> None:
        """Begin anew."""
        for part in (self.audio, self.gaps, self.withheld, self.rows, self.borders):
            part.clear()
        for notes in self.notes.values():
            notes.values.clear()
        self.active_samples = self.active_ns = 0


class Track:
    """Gathers one tap's audio, gaps and measurements by bucket.

    Attributes:
        tap: PRE or POST.
        rate: Sampling rate in Hz.
        first: Position of the first due sample; None before it is known.
        frontier: Everything before is audio or gap.
        received: Samples of audio kept so far.
        frames: Frames measured so far.
        pending: Frames that wait to be measured.
    """

    __slots__ = (
        "_drafts",
        "_grid",
        "_last_arrival",
        "_memory",
        "_open_from",
        "_size",
        "_spare",
        "_spare_drafts",
        "first",
        "frames",
        "frontier",
        "pending",
        "rate",
        "received",
        "tap",
    )

    def __init__(self, tap: Tap, rate: int) -> None:
        self.tap = tap
        self.rate = rate
        self.first: int | None = None
        self.frontier = 0
        self.received = 0
        self.frames = 0
        self.pending: list[Stretch] = []
        self._size = BUCKET_SECONDS * rate
        self._grid = Grid(rate)
        self._memory = TapMemory()
        self._spare: Stretch | None = None
        self._drafts: dict[int, Draft] = {}
        self._spare_drafts: list[Draft] = []
        self._last_arrival = 0
        self._open_from = 0

    @property
    def open_samples(self) -> int:
        """Samples of audio in open buckets."""
        return sum(
            len(pcm) // SAMPLE_BYTES for draft in self._drafts.values() for _, pcm in draft.audio
        )

    @property
    def complete_until(self) -> int:
        """Number of the first bucket that something can be added to; 0 before anything is due."""
        if self.first is None:
            return 0
        rest = self._grid.rest_position
        return (self.frontier if rest is None else min(rest, self.frontier)) // self._size

    def bucket_of(self, position: int) -> int:
        """Return the bucket's number, counted in buckets since the epoch."""
        return position // self._size

    def record(self, position: int, pcm: bytes, withheld: Cause | None = None) -> None:
        """Keep audio that stands at ``position``; with a cause, to measure it and no longer."""
        self._begin(position)
        while pcm:
            bucket, offset = divmod(position, self._size)
            part = pcm[: (self._size - offset) * SAMPLE_BYTES]
            draft, samples = self._draft(bucket), len(part) // SAMPLE_BYTES
            draft.audio.append((offset, part))
            if withheld is not None:
                draft.withheld.append((offset, samples, withheld))
            self.received += samples
            position += samples
            pcm = pcm[len(part) :]
        self.frontier = max(self.frontier, position)

    def see_blocks(self, placed: Placed) -> None:
        """Remember where blocks begin, and how fast they came."""
        for draft, base, starts in self._by_bucket(placed.starts):
            # Blocks of one size begin at a range: nearly all do.
            draft.borders.append(
                range(starts.start - base, starts.stop - base, starts.step)
                if isinstance(starts, range)
                else [position - base for position in starts]
            )
        self._see_pace(placed, self._draft(placed.position // self._size))

    def _by_bucket(
        self, starts: list[int] | range
    ) -> Iterator[tuple[Draft, int, list[int] | range]]:
        """Part positions that rise by bucket: its draft, where it begins, and what lies in it."""
        while starts:
            bucket = starts[0] // self._size
            base = bucket * self._size
            count = bisect_left(starts, base + self._size)
            yield self._draft(bucket), base, starts[:count]
            starts = starts[count:]

    def _see_pace(self, placed: Placed, draft: Draft) -> None:
        """Count audio and the time that it took to come, unless nothing came for long."""
        newest = placed.arrivals[-1]
        if max(placed.arrivals[0] - self._last_arrival, placed.longest_ns) <= _PAUSE_NS:
            draft.active_samples += placed.end - placed.position
            draft.active_ns += newest - self._last_arrival
            self._last_arrival = newest
            return
        ends = [*placed.starts[1:], placed.end]
        for position, end, arrived in zip(placed.starts, ends, placed.arrivals, strict=True):
            passed = arrived - self._last_arrival
            if self._last_arrival and passed <= _PAUSE_NS + (end - position) * NS // self.rate:
                draft.active_samples += end - position
                draft.active_ns += passed
            self._last_arrival = arrived

    def cut(self, position: int, pcm: bytes, *, is_live: bool, has_spectrum: bool) -> None:
        """Cut audio into whole frames, which wait to be measured."""
        first, whole = self._grid.cut(position, pcm)
        if not whole:
            return
        last = self.pending[-1] if self.pending else None
        if last and last.is_followed_by(first, is_live=is_live, has_spectrum=has_spectrum):
            last.pcm.append(whole)
            return
        stretch, self._spare = self._spare, None
        if stretch is None:
            stretch = Stretch(self._memory, self.rate, first, [], is_live, has_spectrum)
        stretch.position, stretch.is_live, stretch.has_spectrum = first, is_live, has_spectrum
        stretch.pcm.append(whole)
        self.pending.append(stretch)

    def whole_frames(self, pcm: bytes) -> bytes:
        """Return as much of audio as is whole frames."""
        size = self._grid.frame_samples * SAMPLE_BYTES
        return pcm[: len(pcm) // size * size]

    def miss(self, position: int, samples: int, cause: Cause) -> None:
        """Write down samples that are missing."""
        self._begin(position)
        self._grid.restart()
        while samples:
            bucket, offset = divmod(position, self._size)
            part = min(samples, self._size - offset)
            self._draft(bucket).gaps.append((offset, part, cause))
            position, samples = position + part, samples - part
        self.frontier = max(self.frontier, position)

    def measured(self, stretch: Stretch, values: Matrix) -> None:
        """Take the measurements of a stretch that was pending; it is used again."""
        step, done = self._grid.frame_samples, 0
        stretch.pcm.clear()
        self._spare = stretch
        self.frames += len(values)
        while done < len(values):
            position = stretch.position + step * done
            bucket, offset = divmod(position, self._size)
            room = -((offset - self._size) // step)
            self._draft(bucket).rows.append((position, values[done : done + room]))
            done += room

    def note(self, key: str, position: int, value: float) -> bool:
        """Take one value of a metric that is not measured on frames.

        Returns:
            Whether there was an open bucket with something due in it to take it.
        """
        if self.first is None:
            return False
        place = max(self.first, min(position, self.frontier - 1))
        if place // self._size < self._open_from:
            return False
        self._draft(place // self._size).note(key, [value], place)
        return True

    def note_latencies(self, key: str, placed: Placed, values: list[float]) -> int:
        """Take a value for each block that has one.

        Returns:
            Where the newest of these blocks begins.
        """
        starts, done = placed.starts, 0
        if len(values) < len(starts):
            starts = [at for at, ns in zip(starts, placed.elapsed, strict=True) if ns >= 0]
        for draft, _, timed in self._by_bucket(starts):
            draft.note(key, values[done : done + len(timed)], timed[-1])
            done += len(timed)
        return starts[-1]

    def end(self) -> None:
        """Give up the rest that is no whole frame: nothing follows."""
        self._grid.restart()

    def open_buckets(self) -> Collection[int]:
        """Return the numbers of the open buckets."""
        return self._drafts.keys()

    def close(self, bucket: int) -> ClosedTap | None:
        """Close a bucket and return it; None when nothing was due in it."""
        draft = self._drafts.pop(bucket, None)
        self._open_from = max(self._open_from, bucket + 1)
        if draft is None:
            return None
        closed = self._closed(draft, bucket)
        draft.clear()
        self._spare_drafts.append(draft)
        return closed

    def _closed(self, draft: Draft, bucket: int) -> ClosedTap | None:
        if self.first is None:
            return None
        base = bucket * self._size
        first = max(self.first - base, 0)
        due = min(self.frontier - base, self._size) - first
        if due <= 0:
            return None
        pace = (
            NS * draft.active_samples / self.rate / draft.active_ns if draft.active_ns else math.nan
        )
        rows = _rows(draft.rows)
        return ClosedTap(
            tap=self.tap,
            rate=self.rate,
            start_ns=bucket * BUCKET_NS,
            first_sample=first,
            due_samples=due,
            runs=_runs(draft.audio),
            gaps=_gaps(draft.gaps),
            withheld=_gaps(draft.withheld),
            rows=rows,
            starts=_starts(draft.rows, base, self._grid.frame_samples),
            speech=rows[:, _VOICE] >= SPEECH_FROM,
            notes={key: _noted(notes) for key, notes in draft.notes.items() if notes.values},
            borders=np.fromiter(chain.from_iterable(draft.borders), np.int64),
            pace=pace,
        )

    def _begin(self, position: int) -> None:
        if self.first is None:
            self.first = self.frontier = position

    def _draft(self, bucket: int) -> Draft:
        draft = self._drafts.get(bucket)
        if draft is None:
            draft = self._spare_drafts.pop() if self._spare_drafts else Draft()
            self._drafts[bucket] = draft
        return draft


def _rows(rows: list[tuple[int, Matrix]]) -> Matrix:
    return np.concatenate([values for _, values in rows]) if rows else np.empty((0, WIDTH))


def _starts(rows: list[tuple[int, Matrix]], base: int, step: int) -> Offsets:
    """Return where each frame begins in the bucket."""
    parts: list[Offsets] = []
    first = end = base
    for position, values in rows:
        if position != end:
            parts.append(np.arange(first - base, end - base, step))
            first = position
        end = position + step * len(values)
    parts.append(np.arange(first - base, end - base, step))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _noted(notes: Notes) -> Noted:
    # Of few numbers: making an array of them would take longer than reading them.
    values = notes.values
    return Noted(len(values), min(values), max(values), sum(values), values[-1], notes.position)


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

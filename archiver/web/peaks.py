"""Waveforms as peaks: of a long time from sketches, of a short one from the samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from archiver import sketch
from archiver.audio_reader import SegmentReader
from archiver.segments import SegmentRow
from archiver.sketch import Pairs, pairs_of
from archiver.times import BUCKET, sample_index
from archiver.web.sketches import Sketches, all_samples

EMPTY = (127, -128)
"""A column without sound: its smallest value is larger than its largest."""
_PAIRS_PER_SECOND = 50


@dataclass(frozen=True, slots=True)
class Stretch:
    """A time of a tap, on its grid of samples.

    Attributes:
        root: Audio root.
        rows: Its segments, at least one, all of one rate.
        first: First sample since 1970.
        last: The sample after the last.
    """

    root: Path
    rows: Sequence[SegmentRow]
    first: int
    last: int

    @property
    def rate(self) -> int:
        """Samples a second."""
        return self.rows[0].rate

    def begin(self, row: SegmentRow) -> int:
        """Return the first sample of one of its segments, since 1970."""
        return sample_index(row.bucket_ts, row.rate)

    def is_wide(self, columns: int, per_second: int) -> bool:
        """Tell whether ``columns`` of it are as long as parts of which a second has so many."""
        return (self.last - self.first) * per_second >= columns * self.rate


def stretch(root: Path, rows: Sequence[SegmentRow], since: datetime, until: datetime) -> Stretch:
    """Return the stretch between two moments; segments of another rate than its first are left.

    Args:
        root: Audio root.
        rows: Segments in order, one of them within; also neighbours on both sides.
        since: Start.
        until: End.
    """
    rate = next(row.rate for row in rows if row.bucket_ts > since - BUCKET)
    same = [row for row in rows if row.rate == rate]
    return Stretch(root, same, sample_index(since, rate), sample_index(until, rate))


def peaks(sketches: Sketches, wanted: Stretch, columns: int) -> Pairs:
    """Return smallest and largest sample of each column: int8 ``[columns, 2]``.

    Columns of 100 ms and more come from sketches, narrower ones from the samples; those of 20 ms
    and less to the sample. What a column shows begins less than one such unit before it.

    Raises:
        AudioGoneError: A file is not there; other errors as of ``audio_reader``.
    """
    unit = _unit(wanted, columns)
    start, stop = wanted.first // unit, -(-wanted.last // unit)
    line = np.tile(np.array(EMPTY, np.int8), (stop - start, 1))
    with SegmentReader(wanted.root) as reader:
        parts = _parts(sketches, reader, wanted, unit)
        for row, pairs in zip(wanted.rows, parts, strict=True):
            at = wanted.begin(row) // unit - start
            low, high = max(0, at), min(len(line), at + len(pairs))
            if low < high:
                line[low:high] = pairs[low - at : high - at]
    span = wanted.last - wanted.first
    edges = (wanted.first + np.arange(columns) * span // columns) // unit - start
    low_edge = np.minimum.reduceat(line[:, 0], edges)
    return np.stack((low_edge, np.maximum.reduceat(line[:, 1], edges)), axis=1)


def _unit(wanted: Stretch, columns: int) -> int:
    """Return how many samples a pair stands for."""
    for per_second in (sketch.PAIRS_PER_SECOND, _PAIRS_PER_SECOND):
        if wanted.is_wide(columns, per_second):
            return wanted.rate // per_second
    return 1


def _parts(
    sketches: Sketches, reader: SegmentReader, wanted: Stretch, unit: int
) -> Iterable[Pairs]:
    """Return the pairs of each segment."""
    if unit == wanted.rate // sketch.PAIRS_PER_SECOND:
        return sketches.of(reader, wanted.rows).pairs.reshape(len(wanted.rows), -1, 2)
    return (pairs_of(all_samples(reader, row).reshape(-1, unit)) for row in wanted.rows)

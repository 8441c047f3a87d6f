"""Waveforms as peaks.

Peaks of a segment, 50 pairs a second, are kept in memory by the file's path and hash: 500 bytes a
segment, the last 50,000. An hour is quick the first time (its files are read once) and at once
afterwards. Nothing is written beside the segments: this process only reads there.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from archiver.audio_reader import SegmentReader
from archiver.segments import SegmentRow
from archiver.times import BUCKET, sample_index
from exporter.model import BUCKET_SECONDS

PAIRS_PER_SECOND = 50
EMPTY = (127, -128)
"""A column without sound: its smallest value is larger than its largest."""
KEPT = 50_000
_PAIRS = PAIRS_PER_SECOND * BUCKET_SECONDS

Pairs = npt.NDArray[np.int8]


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


class PeakCache:
    """Peaks of the segments that were looked at last; for any thread.

    Args:
        kept: How many segments.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._lock = threading.Lock()
        self._pairs: OrderedDict[tuple[str, str], Pairs] = OrderedDict()

    def has(self, rows: Iterable[SegmentRow]) -> bool:
        """Tell whether no file has to be read for these segments."""
        with self._lock:
            return all((row.file_path, row.sha256) in self._pairs for row in rows)

    def pairs(self, reader: SegmentReader, row: SegmentRow) -> Pairs:
        """Return smallest and largest sample of each 20 ms of a segment: int8 ``[250, 2]``.

        Raises:
            AudioGoneError: The file is not there; other errors as of ``audio_reader``.
        """
        key = (row.file_path, row.sha256)
        with self._lock:
            found = self._pairs.get(key)
            if found is not None:
                self._pairs.move_to_end(key)
                return found
        made = _pairs_of(_samples(reader, row).reshape(_PAIRS, -1))
        with self._lock:
            self._pairs[key] = made
            while len(self._pairs) > self._kept:
                self._pairs.popitem(last=False)
        return made


def peaks(cache: PeakCache, wanted: Stretch, columns: int) -> Pairs:
    """Return smallest and largest sample of each column: int8 ``[columns, 2]``.

    Columns of 20 ms and more come from the kept peaks, narrower ones from the samples.
    """
    per_pair = wanted.rate // PAIRS_PER_SECOND
    is_fine = wanted.last - wanted.first < columns * per_pair
    unit = 1 if is_fine else per_pair
    start, stop = wanted.first // unit, -(-wanted.last // unit)
    line = np.tile(np.array(EMPTY, np.int8), (stop - start, 1))
    with SegmentReader(wanted.root) as reader:
        for row in wanted.rows:
            if is_fine:
                pairs = _pairs_of(_samples(reader, row).reshape(-1, 1))
            else:
                pairs = cache.pairs(reader, row)
            at = wanted.begin(row) // unit - start
            low, high = max(0, at), min(len(line), at + len(pairs))
            line[low:high] = pairs[low - at : high - at]
    edges = np.arange(columns) * len(line) // columns
    low_edge = np.minimum.reduceat(line[:, 0], edges)
    return np.stack((low_edge, np.maximum.reduceat(line[:, 1], edges)), axis=1)


def _pairs_of(groups: npt.NDArray[np.int16]) -> Pairs:
    """Return smallest and largest of each group, in the upper eight bits."""
    both = np.stack((groups.min(axis=1), groups.max(axis=1)), axis=1)
    return (both >> 8).astype(np.int8)


def _samples(reader: SegmentReader, row: SegmentRow) -> npt.NDArray[np.int16]:
    pcm = reader.samples(row, 0, BUCKET_SECONDS * row.rate)
    return np.frombuffer(pcm, "<i2")

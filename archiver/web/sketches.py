"""Sketches for pictures of a long time: of the database; where it has none, made from the file.

Those that were made are kept in memory by the file's path and hash: some hundred bytes a segment,
the last 50,000. Nothing is written: this process only reads.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from archiver.audio_reader import SegmentReader
from archiver.segments import SegmentRow
from archiver.sketch import Sketch, is_sketch, make_sketch, read_sketches
from exporter.model import BUCKET_SECONDS

KEPT = 50_000


class Sketches:
    """Sketches of segments; for any thread.

    Args:
        kept: How many made ones are kept.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._lock = threading.Lock()
        self._made: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    def has(self, rows: Iterable[SegmentRow]) -> bool:
        """Tell whether no file has to be read for these segments."""
        with self._lock:
            return all(is_sketch(row.sketch) or _key(row) in self._made for row in rows)

    def of(self, reader: SegmentReader, rows: Iterable[SegmentRow]) -> Sketch:
        """Return the sketches of segments, one behind the other.

        Raises:
            AudioGoneError: A file is not there; other errors as of ``audio_reader``.
        """
        return read_sketches([self._one(reader, row) for row in rows])

    def _one(self, reader: SegmentReader, row: SegmentRow) -> bytes:
        if row.sketch is not None and is_sketch(row.sketch):
            return row.sketch
        key = _key(row)
        with self._lock:
            found = self._made.get(key)
            if found is not None:
                self._made.move_to_end(key)
                return found
        made = make_sketch(all_samples(reader, row))
        with self._lock:
            self._made[key] = made
            while len(self._made) > self._kept:
                self._made.popitem(last=False)
        return made


def all_samples(reader: SegmentReader, row: SegmentRow) -> npt.NDArray[np.int16]:
    """Return all samples of a segment; errors as of ``audio_reader``."""
    pcm = reader.samples(row, 0, BUCKET_SECONDS * row.rate)
    return np.frombuffer(pcm, "<i2")


def _key(row: SegmentRow) -> tuple[str, str]:
    return row.file_path, row.sha256

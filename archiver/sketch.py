"""The sketch of a segment: what a picture of a long time needs of it, in a few hundred bytes.

It is made when the segment is written and stands beside it in the database, so that a call of an
hour is drawn without its files. Its definition is that of the pictures: the peaks of each 100 ms,
and a spectrogram with a column for each second.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from archiver.bands import FRAMES_PER_COLUMN, Levels, band_power, frame_size, to_levels
from exporter.model import BUCKET_SECONDS

PAIRS_PER_SECOND = 10
COLUMNS_PER_SECOND = 1
BANDS = 64
_PAIRS = PAIRS_PER_SECOND * BUCKET_SECONDS
_COLUMNS = COLUMNS_PER_SECOND * BUCKET_SECONDS
_PAIR_BYTES = 2 * _PAIRS
SKETCH_BYTES = _PAIR_BYTES + _COLUMNS * BANDS

Samples = npt.NDArray[np.int16]
Pairs = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Sketch:
    """Sketches of segments, one behind the other.

    Attributes:
        pairs: Smallest and largest sample of each 100 ms, the upper eight bits: ``[50 n, 2]``.
        levels: By second and frequency, as of ``bands.to_levels``: ``[5 n, 64]``.
    """

    pairs: Pairs
    levels: Levels


def make_sketch(samples: Samples) -> bytes:
    """Return the sketch of a segment's samples: five seconds, silence where there is a gap."""
    pairs = pairs_of(samples.reshape(_PAIRS, -1))
    size = frame_size(len(samples) // BUCKET_SECONDS)
    # Around the middles of equal parts, as a spectrogram takes them.
    count = _COLUMNS * FRAMES_PER_COLUMN
    starts = (np.arange(count) * 2 + 1) * len(samples) // (2 * count) - size // 2
    powers = band_power(samples[starts[:, None] + np.arange(size)], BANDS)
    columns = powers.reshape(_COLUMNS, FRAMES_PER_COLUMN, BANDS).mean(axis=1)
    return pairs.tobytes() + to_levels(columns).tobytes()


def is_sketch(data: bytes | None) -> bool:
    """Tell whether this is a sketch of this form: its length says so."""
    return data is not None and len(data) == SKETCH_BYTES


def read_sketches(sketches: list[bytes]) -> Sketch:
    """Return sketches as arrays."""
    table = np.frombuffer(b"".join(sketches), np.uint8).reshape(-1, SKETCH_BYTES)
    pairs = np.ascontiguousarray(table[:, :_PAIR_BYTES]).view(np.int8)
    return Sketch(pairs.reshape(-1, 2), table[:, _PAIR_BYTES:].reshape(-1, BANDS))


def pairs_of(groups: Samples) -> Pairs:
    """Return smallest and largest sample of each group, the upper eight bits: ``[groups, 2]``."""
    both = np.stack((groups.min(axis=1), groups.max(axis=1)), axis=1)
    return (both >> 8).astype(np.int8)

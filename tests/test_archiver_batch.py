"""A batch file is read as it was written, or refused as a whole."""

from __future__ import annotations

import uuid

import pytest

from archiver.batch import Batch, CorruptBatchError, decode, encode, to_entry
from exporter.model import Tap
from tests.fix_archive import bucket


def _batch() -> Batch:
    entry = to_entry(bucket(), {Tap.PRE: (None, ())})
    return Batch(str(uuid.UUID(int=7)), "boot", 3, 1_600, 0, (entry,))


def test_round_trip() -> None:
    """What was encoded is decoded."""
    assert _batch() == decode(b"".join(encode(_batch())))


def test_every_truncation_is_refused() -> None:
    """A file that ends too early, anywhere, is refused."""
    content = b"".join(encode(_batch()))
    for size in range(len(content)):
        with pytest.raises(CorruptBatchError):
            decode(content[:size])


def test_every_flipped_bit_is_refused() -> None:
    """A file with one wrong bit, anywhere, is refused."""
    content = b"".join(encode(_batch()))
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptBatchError):
            decode(bytes(damaged))

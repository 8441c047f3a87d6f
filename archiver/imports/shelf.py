"""Recordings of an old export into the audio store: segments of five seconds, each with its row."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path

from archiver.audio import AudioStore
from archiver.audio_reader import AudioGoneError, read_samples
from archiver.imports.loader import Loader, Stand, Verdict
from archiver.imports.old_audio import Piece, Recording, Sound
from exporter.aggregates import Aggregates
from exporter.model import Bucket, Run, Tap, TapBucket

_AT_ONCE = 100
_Place = tuple[str, str, str, datetime]
_NS = 10**9


class Shelf:
    """Puts recordings where they belong, beside what is there.

    Args:
        root: Root of the segments.
        loader: The database.
        is_dry: Find out what would become of recordings, and change nothing.
    """

    def __init__(self, root: Path, loader: Loader, *, is_dry: bool) -> None:
        self._root = root
        self._store = AudioStore(root)
        self._loader = loader
        self._is_dry = is_dry
        # What a real run would have put there, with the hash of its samples.
        self._dry: dict[_Place, list[tuple[int, int, bytes]]] = {}

    def put(self, recording: Recording, sound: Sound) -> Verdict:
        """Keep a recording; one that is there in part is completed.

        Raises:
            OSError: The disk does not take it.
            UnkeptError: It cannot be read to its end.
        """
        pieces = recording.pieces()
        verdicts = set()
        while some := list(islice(pieces, _AT_ONCE)):
            verdict = self._put(recording, sound, some)
            if verdict not in {Verdict.KEPT, Verdict.THERE}:
                return verdict
            verdicts.add(verdict)
        return Verdict.KEPT if Verdict.KEPT in verdicts else Verdict.THERE

    def _put(self, recording: Recording, sound: Sound, pieces: Sequence[Piece]) -> Verdict:
        with self._loader.sound_of(recording, pieces) as rows:
            if isinstance(rows, Verdict):
                return rows
            stands = self._loader.stands(recording, pieces)
            found = [self._state(recording, sound, each, stands) for each in pieces]
            if Verdict.CONFLICT in found:
                return Verdict.CONFLICT
            new = [each for each, state in zip(pieces, found, strict=True) if state != "there"]
            for piece in new:
                pcm = sound.read(piece.begin, piece.samples)
                if self._is_dry:
                    span = (piece.first, piece.first + piece.samples, _hash(pcm))
                    self._dry.setdefault(_place(recording, piece), []).append(span)
                    continue
                try:
                    segment = self._store.write(*_bucket(recording, piece, pcm))
                except FileExistsError:  # a file without a row, with other sound
                    return Verdict.CONFLICT
                rows.add(piece, segment)
        return Verdict.KEPT if new else Verdict.THERE

    def _state(
        self, recording: Recording, sound: Sound, piece: Piece, stands: dict[datetime, Stand]
    ) -> Verdict:
        """Return whether a piece is there, is new, or meets something else."""
        begin, end = piece.first, piece.first + piece.samples
        for first, last, digest in self._dry.get(_place(recording, piece), []):
            if begin < last and first < end:
                # A part of what is planned cannot be compared any more, and is taken to be one.
                is_same = first <= begin and end <= last
                if (first, last) == (begin, end):
                    is_same = digest == _hash(sound.read(piece.begin, piece.samples))
                return Verdict.THERE if is_same else Verdict.CONFLICT
        stand = stands.get(piece.bucket_ts)
        if stand is None or not any(begin < last and first < end for first, last in stand.ranges):
            is_fit = stand is None or stand.segment.rate == recording.rate
            return Verdict.KEPT if is_fit else Verdict.CONFLICT
        is_inside = any(first <= begin and end <= last for first, last in stand.ranges)
        is_same = is_inside and self._heard(stand, piece) == sound.read(piece.begin, piece.samples)
        return Verdict.THERE if is_same else Verdict.CONFLICT

    def _heard(self, stand: Stand, piece: Piece) -> bytes | None:
        """Return what the archive has in the place of a piece; None when its file is gone."""
        try:
            return read_samples(self._root, stand.segment, piece.first, piece.samples)
        except AudioGoneError:
            return None


def _place(recording: Recording, piece: Piece) -> _Place:
    return recording.trace_id, recording.station_key, recording.tap, piece.bucket_ts


def _hash(pcm: bytes) -> bytes:
    return hashlib.sha256(pcm).digest()


def _bucket(recording: Recording, piece: Piece, pcm: bytes) -> tuple[Bucket, TapBucket]:
    """Return a bucket that has this sound alone, for the store."""
    run = Run(piece.first, pcm)
    tap = TapBucket(
        Tap(recording.tap),
        recording.rate,
        piece.first,
        piece.samples,
        (run,),
        (),
        Aggregates.of(()),
    )
    ns = int(piece.bucket_ts.timestamp()) * _NS
    return Bucket(recording.trace_id, recording.station_key, ns, (tap,), {}), tap

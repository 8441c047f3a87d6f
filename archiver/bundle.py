"""One call as a zip file that explains itself: report, sound, rows, hashes.

Everything lies in one folder, named like the call. Names are made of checked keys and of times
alone. The sound is copied only when it is, bit by bit, what the row's hash says.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import numpy as np
import psycopg
import soundfile

from archiver.audio import wav_header
from archiver.audio_reader import AudioGoneError, AudioUnreadableError, read_samples
from archiver.buckets import Part
from archiver.bundle_data import TABLES, Contents, Sound, collect, copy_table, log_export
from archiver.bundle_page import Made, render
from archiver.outputs import Counted, own_version, whole_file
from archiver.pool import Connections, Row
from archiver.segments import Place
from archiver.times import BUCKET, iso
from exporter.errors import MonitoringError
from exporter.model import BUCKET_SECONDS, KEY_PATTERN, SAMPLE_BYTES, Tap

MANIFEST = "manifest.json"
REPORT = "report.html"
NOT_KEPT = "no sound was kept"
MOST_WHOLE = 120
"""Buckets of a tap up to which its sound is there in one piece, too: ten minutes."""

_FILE_MODE = 0o100640 << 16
Progress = Callable[[float], None]


class BundleError(MonitoringError):
    """The bundle cannot be made; the message says why."""


@dataclass(frozen=True, slots=True)
class BundleOrder:
    """What somebody wants.

    Attributes:
        part: The call, or which part of it.
        path: The zip file.
        audio_root: Root of the segments.
        is_flac: Whether the sound is packed as FLAC, without loss, instead of WAV.
        is_forced: Whether a file that is there is replaced.
        who: Who wants it, for the report and for the access log.
        now: The time.
    """

    part: Part
    path: Path
    audio_root: Path
    is_flac: bool
    is_forced: bool
    who: str
    now: datetime


def write_bundle(conninfo: str, order: BundleOrder, *, progress: Progress) -> dict[str, Any]:
    """Write the zip file; return its manifest.

    Args:
        conninfo: libpq connection string.
        order: What is wanted.
        progress: Told which share is done.

    Raises:
        BundleError: The file is there already, a key is no safe name, the login may not read, or
            the export cannot be logged: then no sound leaves.
        UnknownCallError: There is nothing to export.
        psycopg.Error: The server is not there or not able.
        OSError: The file cannot be written.
    """
    if order.path.exists() and not order.is_forced:
        raise BundleError(f"{order.path} is there already; --force replaces it")
    _check_keys(order.part)
    connections = Connections(conninfo, size=1)
    try:
        contents = _collect(connections, order.part)
        _log(connections, contents, order.who)
        with whole_file(order.path) as stream, ZipFile(stream, "w") as archive:
            pack = _Pack(archive, order, contents)
            with connections.reading() as connection:
                pack.add_tables(connection)
            pack.add_sounds(progress)
            return pack.finish()
    finally:
        connections.close()


def _check_keys(part: Part) -> None:
    for key in (part.trace_id, part.station):
        if key is not None and not KEY_PATTERN.fullmatch(key):
            raise BundleError(f"{key!r} is no key of the archive")


def _collect(connections: Connections, part: Part) -> Contents:
    try:
        with connections.reading() as connection:
            return collect(connection, part)
    except psycopg.errors.InsufficientPrivilege as error:
        reason = str(error).splitlines()[0]
        raise BundleError(f"{reason}; `monitoring db migrate` grants what is needed") from None


def _log(connections: Connections, contents: Contents, who: str) -> None:
    try:
        with connections.writing() as connection:
            log_export(connection, contents, who=who)
    except psycopg.Error as error:
        reason = str(error).splitlines()[0]
        raise BundleError(
            f"the export cannot be logged, so nothing is exported: {reason}"
        ) from None


class _Pack:
    """The zip file while it grows, and what is known of it for report and manifest."""

    def __init__(self, archive: ZipFile, order: BundleOrder, contents: Contents) -> None:
        self._archive = archive
        self._order = order
        self._contents = contents
        self._files: list[Row] = []
        self._missing: list[Row] = []
        self._audio: dict[tuple[str, str, datetime], str] = {}
        self._whole: dict[tuple[str, str], str] = {}
        self._versions: dict[str, object] = {"monitoring_v2": own_version()}

    def add_tables(self, connection: psycopg.Connection) -> None:
        """Stream the rows into the files that hold rows."""
        row = connection.execute("SELECT max(number) FROM schema_migrations").fetchone()
        self._versions["schema"] = row and row[0]
        self._versions["PostgreSQL"] = connection.info.parameter_status("server_version")
        connection.execute("SET LOCAL statement_timeout = '10min'; SET LOCAL datestyle = 'ISO'")
        for name in TABLES:
            with self._entry(name) as (out, entry):
                entry["rows"] = copy_table(connection, name, contents=self._contents, out=out)

    def add_sounds(self, progress: Progress) -> None:
        """Copy the segments that are what they should be; note the others."""
        done, sounds = 0, self._contents.sounds
        for place, group in groupby(sounds, key=lambda sound: sound.place):
            pieces: dict[datetime, bytes] = {}
            of_tap = list(group)
            for sound in of_tap:
                pcm = self._checked(sound)
                if pcm is not None:
                    self._add_segment(sound, pcm)
                    if len(of_tap) <= MOST_WHOLE:
                        pieces[sound.bucket_ts] = pcm
                done += 1
                progress(done / len(sounds))
            self._add_whole(place, of_tap, pieces)

    def finish(self) -> dict[str, Any]:
        """Write the report and, last of all, the manifest; return the manifest."""
        order = self._order
        made = Made(
            order.now, order.who, self._versions, self._audio, self._whole, tuple(self._missing)
        )
        with self._entry(REPORT) as (out, _):
            for piece in render(self._contents, made):
                out.write(f"{piece}\n".encode())
        manifest = self._manifest()
        text = json.dumps(manifest, indent=2, ensure_ascii=False, default=str) + "\n"
        with self._entry(MANIFEST) as (out, _):
            out.write(text.encode())
        return manifest

    def _manifest(self) -> dict[str, Any]:
        order, contents = self._order, self._contents
        times = [row["bucket_ts"] for row in contents.buckets]
        return {
            "format": "monitoring_v2 bundle",
            "trace_id": order.part.trace_id,
            "call_id": contents.call["call_id"],
            "stations": sorted({row["station_key"] for row in contents.buckets}),
            "from": iso(min(times)),
            "to": iso(max(times) + BUCKET),
            "exported_at": iso(order.now),
            "exported_by": order.who,
            "versions": self._versions,
            "audio": "flac" if order.is_flac else "wav",
            "missing": [
                entry | {"from": iso(entry["from"]), "to": iso(entry["to"])}
                for entry in self._missing
            ],
            "files": list(self._files),
        }

    @contextmanager
    def _entry(self, name: str) -> Iterator[tuple[Counted, Row]]:
        """Yield a stream into one file of the zip, and what the manifest will say of it."""
        info = ZipInfo(f"{self._order.part.trace_id}/{name}", self._order.now.timetuple()[:6])
        info.external_attr = _FILE_MODE
        # Sound hardly gets smaller.
        info.compress_type = ZIP_STORED if name.startswith("audio/") else ZIP_DEFLATED
        entry: Row = {"file": name}
        with self._archive.open(info, "w", force_zip64=True) as stream:
            counted = Counted(stream)
            yield counted, entry
        self._files.append(entry | {"bytes": counted.size, "sha256": counted.sha256})

    def _checked(self, sound: Sound) -> bytes | None:
        """Return the samples of a segment whose file is what its row says; else note why not."""
        if sound.row is None:
            if sound.received_samples:
                self._miss(sound, NOT_KEPT)
            return None
        samples = BUCKET_SECONDS * sound.row.rate
        try:
            pcm = read_samples(self._order.audio_root, sound.row, 0, samples)
        except (AudioGoneError, AudioUnreadableError) as error:
            self._miss(sound, str(error))
            return None
        digest = hashlib.sha256(wav_header(samples, sound.row.rate) + pcm).hexdigest()
        if digest != sound.row.sha256:
            self._miss(sound, "the file is not what was archived: its hash differs")
            return None
        return pcm

    def _miss(self, sound: Sound, reason: str) -> None:
        """Note a sound that is not there; one entry for buckets that follow each other."""
        place = {"station_key": sound.place.station, "tap": sound.place.tap, "reason": reason}
        last = self._missing[-1] if self._missing else {}
        if last == place | {"from": last.get("from"), "to": sound.bucket_ts}:
            last["to"] += BUCKET
        else:
            self._missing.append(place | {"from": sound.bucket_ts, "to": sound.bucket_ts + BUCKET})

    def _add_segment(self, sound: Sound, pcm: bytes) -> None:
        place, row = sound.place, sound.row
        if row is None or not KEY_PATTERN.fullmatch(place.station) or place.tap not in set(Tap):
            self._miss(sound, "its key is no safe file name")
            return
        name = f"segment_{int(row.bucket_ts.timestamp() * 1_000)}"
        path = self._add_audio(f"{place.station}/{place.tap}/{name}", pcm, row.rate)
        if self._order.is_flac:
            self._files[-1]["sha256_of_wav"] = row.sha256
        self._audio[place.station, place.tap, sound.bucket_ts] = path

    def _add_whole(
        self, place: Place, sounds: Sequence[Sound], pieces: dict[datetime, bytes]
    ) -> None:
        """Add the sound of a tap in one piece, when it is short enough to be handy."""
        rates = {sound.row.rate for sound in sounds if sound.row is not None}
        length = (sounds[-1].bucket_ts - sounds[0].bucket_ts) // BUCKET + 1
        if len(pieces) < 2 or len(rates) > 1 or length > MOST_WHOLE:  # noqa: PLR2004 - a piece is one
            return
        rate = rates.pop()
        silence = bytes(BUCKET_SECONDS * rate * SAMPLE_BYTES)
        grid = (sounds[0].bucket_ts + number * BUCKET for number in range(length))
        pcm = b"".join(pieces.get(at, silence) for at in grid)
        path = self._add_audio(f"{place.station}/{place.tap}/whole", pcm, rate)
        self._whole[place.station, place.tap] = path

    def _add_audio(self, name: str, pcm: bytes, rate: int) -> str:
        path = f"audio/{name}.{'flac' if self._order.is_flac else 'wav'}"
        with self._entry(path) as (out, _):
            if self._order.is_flac:
                out.write(_flac(pcm, rate))
            else:
                out.write(wav_header(len(pcm) // SAMPLE_BYTES, rate))
                out.write(pcm)
        return path


def _flac(pcm: bytes, rate: int) -> bytes:
    target = io.BytesIO()
    samples = np.frombuffer(pcm, "<i2")
    soundfile.write(target, samples, rate, format="FLAC", subtype="PCM_16")
    return target.getvalue()

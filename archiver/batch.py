"""The batch file: what one flush of the spool thread leaves for the database.

One header line (JSON), one checksum line, then zlib-compressed JSON lines, one record each. Records
are encoded one by one, so that no single call keeps the interpreter from the audio path for long.
A damaged file is refused as a whole: :class:`CorruptBatchError`. A later version may add kinds of
records or raise the format's version: an earlier one then leaves its files where they are
(:class:`UnknownBatchError`). So the first two lines are never to change.
"""

from __future__ import annotations

import json
import uuid
import zlib
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from archiver.audio import Segment
from exporter.errors import MonitoringError
from exporter.model import (
    Bucket,
    Cause,
    ConsentChanged,
    Gap,
    KnobChanged,
    Record,
    Tap,
    TapBucket,
    TraceEnded,
    TraceStarted,
)

MAGIC = "monitoring-batch"
FORMAT_VERSION = 1

KINDS: dict[type[object], str] = {
    Bucket: "bucket",
    TraceStarted: "trace_started",
    TraceEnded: "trace_ended",
    ConsentChanged: "consent_changed",
    KnobChanged: "knob_changed",
}
"""What each type of record is called, in batches and in counters."""

_NUMBERS = frozenset({"src_number", "dst_number"})

Entry = dict[str, Any]
"""A record as it stands in a batch: JSON types only, without the audio."""


class CorruptBatchError(MonitoringError):
    """A batch file cannot be read: it is damaged."""


class UnknownBatchError(CorruptBatchError):
    """A batch file cannot be read here: it is whole, and from a later version."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch.

    Attributes:
        batch_id: Unique; the database knows what it has by it.
        boot_id: The process that wrote it.
        seq: Rises by one with every batch of that process.
        cum_offered: Samples offered to the archive by that process so far.
        cum_dropped: Samples dropped by that process so far.
        entries: The records.
    """

    batch_id: str
    boot_id: str
    seq: int
    cum_offered: int
    cum_dropped: int
    entries: tuple[Entry, ...]

    @property
    def samples(self) -> int:
        """Samples of audio that it speaks of."""
        return sum(entry_samples(entry) for entry in self.entries)


def entry_samples(entry: Entry) -> int:
    """Return the samples of audio that an entry speaks of."""
    return int(entry.get("samples", 0))


def segment_paths(entries: Iterable[Entry]) -> Iterator[str]:
    """Yield the files that entries name, below the audio root."""
    for entry in entries:
        for tap in entry.get("taps", []):
            if tap.get("segment"):
                yield tap["segment"]["file_path"]


def remains(entry: Entry) -> Entry | None:
    """Return what is kept of an entry whose batch gives way: that it was, and gaps for its audio.

    None for what is such a rest already: it may not stand in the way of new data for ever. What
    callers agreed to is never given up.
    """
    if entry["kind"] == KINDS[ConsentChanged]:
        return entry
    if entry.get("is_rest"):
        return None
    if entry["kind"] != KINDS[Bucket]:
        return {**entry, "is_rest": True}
    taps = [{**tap, "aggregates": [], "health": {}} for tap in entry["taps"]]
    rest = without_audio({**entry, "taps": taps}, Cause.SPOOL_FULL)
    return {**rest, "is_rest": True, "samples": 0, "knob_values": {}, "changed": []}


def without_audio(entry: Entry, cause: Cause) -> Entry:
    """Return the entry of a bucket with gaps where its audio was."""
    taps = [
        {**tap, "received_samples": 0, "segment": None, "gaps": _all_gaps(tap, cause)}
        for tap in entry["taps"]
    ]
    return {**entry, "taps": taps}


def _all_gaps(tap: Entry, cause: Cause) -> list[list[Any]]:
    """Return the gaps of a tap with those that stand where its audio was."""
    gaps: list[list[Any]] = []
    position, end = tap["first_sample"], tap["first_sample"] + tap["due_samples"]
    for gap in tap["gaps"]:
        gaps += [[position, gap[0] - position, cause], gap]
        position = gap[0] + gap[1]
    gaps.append([position, end - position, cause])
    return [gap for gap in gaps if gap[1]]


def anonymous(entry: Entry) -> Entry:
    """Return an entry without the phone numbers that are for one column of SQL alone."""
    return {key: "withheld" if key in _NUMBERS and value else value for key, value in entry.items()}


def is_writable(entry: Entry) -> bool:
    """Return whether JSON can say all that is in an entry."""
    try:
        _line(entry)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def to_entry(record: Record, stored: Mapping[Tap, tuple[Segment | None, tuple[Gap, ...]]]) -> Entry:
    """Turn a record into JSON types.

    Args:
        record: What was offered.
        stored: For a bucket: what became of each tap's audio, and its gaps.
    """
    if isinstance(record, Bucket):
        return _bucket_entry(record, stored)
    entry = asdict(record)
    if isinstance(record, TraceStarted | TraceEnded):
        entry["attributes"] = dict(record.attributes)
    return {"kind": KINDS[type(record)], **entry}


def _bucket_entry(
    bucket: Bucket, stored: Mapping[Tap, tuple[Segment | None, tuple[Gap, ...]]]
) -> Entry:
    return {
        "kind": KINDS[Bucket],
        "trace_id": bucket.trace_id,
        "station_key": bucket.station_key,
        "bucket_ns": bucket.bucket_ns,
        "samples": bucket.received_samples,
        "knob_values": dict(bucket.knob_values),
        "changed": [asdict(step) for step in bucket.knob_steps],
        "taps": [_tap_entry(tap, *stored[tap.tap]) for tap in bucket.taps],
    }


def _tap_entry(tap: TapBucket, segment: Segment | None, gaps: tuple[Gap, ...]) -> Entry:
    return {
        "tap": tap.tap,
        "rate": tap.rate,
        "first_sample": tap.first_sample,
        "due_samples": tap.due_samples,
        "received_samples": tap.due_samples - sum(gap.samples for gap in gaps),
        "segment": _segment_entry(segment) if segment else None,
        "gaps": [[gap.first_sample, gap.samples, gap.cause] for gap in gaps],
        "health": dict(tap.health),
        "aggregates": [
            [a.metric_key, a.count, a.min, a.max, a.sum, a.last, a.last_ns] for a in tap.aggregates
        ],
    }


def _segment_entry(segment: Segment) -> Entry:
    return asdict(segment) | {"sketch": b64encode(segment.sketch).decode()}


def encode(batch: Batch) -> list[bytes]:
    """Return the file's content in parts."""
    packer = zlib.compressobj(level=1)
    parts = [packer.compress(_line(entry)) for entry in batch.entries]
    payload = b"".join((*parts, packer.flush()))
    header = _line(
        {
            "magic": MAGIC,
            "version": FORMAT_VERSION,
            "batch_id": batch.batch_id,
            "boot_id": batch.boot_id,
            "seq": batch.seq,
            "records": len(batch.entries),
            "samples": batch.samples,
            "cum_offered": batch.cum_offered,
            "cum_dropped": batch.cum_dropped,
            "payload_bytes": len(payload),
        }
    )
    check = zlib.crc32(payload, zlib.crc32(header))
    return [header, f"{check:08x}\n".encode(), payload]


def decode(content: bytes) -> Batch:
    """Read a batch file.

    Raises:
        CorruptBatchError: Anything is not as it was written.
        UnknownBatchError: A later version has written it.
    """
    head, _, rest = content.partition(b"\n")
    check, _, payload = rest.partition(b"\n")
    if (
        not payload
        or check != f"{zlib.crc32(payload, zlib.crc32(head + bytes([10]))):08x}".encode()
    ):
        raise CorruptBatchError("the checksum does not fit")
    try:
        header = json.loads(head)
        if header["magic"] != MAGIC:
            raise CorruptBatchError("not a batch file")
        if header["version"] > FORMAT_VERSION:
            raise UnknownBatchError(
                f"format {header['version']}, this version knows {FORMAT_VERSION}"
            )
        entries = tuple(json.loads(line) for line in zlib.decompress(payload).splitlines())
        batch_id = str(uuid.UUID(header["batch_id"]))
        counts = (header["seq"], header["cum_offered"], header["cum_dropped"])
        kinds = {entry["kind"] for entry in entries} - set(KINDS.values())
    except (ValueError, KeyError, TypeError, AttributeError, zlib.error) as error:
        raise CorruptBatchError(f"not a batch file: {error}") from error
    if len(entries) != header["records"] or len(payload) != header["payload_bytes"]:
        raise CorruptBatchError("records are missing")
    if kinds:
        raise UnknownBatchError(f"records of the kind {', '.join(sorted(map(str, kinds)))}")
    return Batch(batch_id, header["boot_id"], *counts, entries)


def _line(value: Entry) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode() + b"\n"

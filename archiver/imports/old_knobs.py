"""Rows of ``knob_snapshots.csv`` and ``knob_events.csv`` as rows of their tables."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from archiver.imports.accounts import UnkeptError
from archiver.imports.fields import Cells, Notes, Reading, bucket_of, is_text, moment_of, number
from archiver.imports.old_ids import GLOBAL, call_of, station_of
from archiver.rows import Row
from exporter.errors import KnobError
from exporter.knobs import KnobRegistry
from exporter.model import KnobValue, Scope

SNAPSHOT_NEEDED = ("trace_id", "station_key", "bucket_ts", "knobs_json")
EVENT_NEEDED = ("trace_id", "station_key", "knob_key", "old_value", "new_value", "occurred_at")
MOST_JSON = 64 * 1024
_MOST_INT = 1 << 63
# Rows with the same content are one event, whatever numbers an export gave them.
_EVENTS = uuid.UUID("6f1f6f62-52a9-5c0e-8f3d-0a4d6f5f3b11")


@dataclass(frozen=True, slots=True)
class OldSnapshot:
    """The knobs of one station in one bucket."""

    raw_trace: str
    trace_id: str
    station_key: str
    bucket_ts: datetime
    knobs: dict[str, KnobValue]
    notes: tuple[tuple[str, str], ...]

    @property
    def row(self) -> Row:
        """Columns of ``archiver.rows.SNAPSHOTS``; what changed inside is unknown."""
        return self.trace_id, self.station_key, self.bucket_ts, self.knobs, []


@dataclass(frozen=True, slots=True)
class OldEvent:
    """A knob that was turned; without a call or station where it reached further."""

    raw_trace: str
    event_id: uuid.UUID
    trace_id: str | None
    station_key: str | None
    knob_key: str
    old_value: KnobValue | None
    new_value: KnobValue | None
    changed_by: str
    created_at: datetime
    reason: str
    scope: Scope
    notes: tuple[tuple[str, str], ...]

    @property
    def row(self) -> Row:
        """Columns of ``archiver.imports.loader.EVENTS``."""
        values = (self.old_value, self.new_value)
        place = (self.event_id, self.trace_id, self.station_key, self.knob_key)
        return *place, *values, self.changed_by, self.created_at, self.reason, str(self.scope)


def parse_snapshot(cells: Cells, registry: KnobRegistry, reading: Reading) -> OldSnapshot:
    """Return the snapshot that is kept.

    Raises:
        UnkeptError: It cannot be kept.
    """
    notes: Notes = []
    bucket_ts, _ = bucket_of(cells, reading.zone, notes)
    trace_id = call_of(cells["trace_id"], bucket_ts, reading, notes)
    station = station_of(cells["station_key"], notes)
    knobs = {
        key: value
        for key, raw in _document(cells["knobs_json"]).items()
        if (value := _value(key, raw, registry, notes)) is not None
    }
    return OldSnapshot(cells["trace_id"], trace_id, station, bucket_ts, knobs, tuple(notes))


def parse_event(cells: Cells, registry: KnobRegistry, reading: Reading) -> OldEvent:
    """Return the event that is kept.

    Raises:
        UnkeptError: It cannot be kept.
    """
    notes: Notes = []
    at = moment_of(cells, "occurred_at", reading.zone)
    key = cells["knob_key"]
    if not key:
        raise UnkeptError("no_knob")
    raw_trace, raw_station = cells["trace_id"], cells["station_key"]
    is_of_call = raw_trace and raw_trace.upper() != GLOBAL
    is_of_station = raw_station and raw_station.upper() != GLOBAL
    trace_id = call_of(raw_trace, at, reading, notes) if is_of_call else None
    station = station_of(raw_station, notes) if is_of_station else None
    raw_values = (_scalar(cells[column]) for column in ("old_value", "new_value"))
    old, new = (_value(key, raw, registry, notes) for raw in raw_values)
    by, reason = cells.get("source") or "unknown", cells.get("reason", "")
    content = [trace_id, station, key, old, new, by, reason, at.isoformat()]
    return OldEvent(
        raw_trace,
        uuid.uuid5(_EVENTS, json.dumps(content)),
        trace_id,
        station,
        key,
        old,
        new,
        by,
        at,
        reason,
        _scope(trace_id, station),
        tuple(dict.fromkeys(note for note in notes if note[0] != "knob_dropped")),
    )


def _scope(trace_id: str | None, station: str | None) -> Scope:
    if trace_id:
        return Scope.TRACE_STATION if station else Scope.TRACE
    return Scope.STATION if station else Scope.GLOBAL


def _document(text: str) -> dict[str, object]:
    if len(text) > MOST_JSON:
        raise UnkeptError("too_large", f"knobs_json: {len(text)} characters")
    try:
        document = json.loads(text)
        if isinstance(document, dict):
            return _flat(document)
    except (ValueError, RecursionError) as error:
        raise UnkeptError("bad_json", f"knobs_json: {str(error)[:80]}") from None
    raise UnkeptError("bad_json", f"knobs_json: a {type(document).__name__}")


def _flat(document: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return the values of nested objects under keys with dots."""
    found: dict[str, object] = {}
    for key, value in document.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def _scalar(text: str) -> object:
    """Return what a cell holds: JSON where it is a number, truth or text in quotes."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(value, dict | list) else value


def _value(key: str, raw: object, registry: KnobRegistry, notes: Notes) -> KnobValue | None:
    """Return a knob's value as it was, in the registry's type where it fits; None is unknown."""
    if raw is None or raw == "" or isinstance(raw, list):
        notes.append(("knob_dropped", key[:64]))
        return None
    if not isinstance(raw, bool | int | float | str):  # nothing else is in JSON
        raise UnkeptError("bad_json", key[:64])
    if not is_text(key) or (isinstance(raw, str) and not is_text(raw)):
        raise UnkeptError("bad_text", "a knob")
    if isinstance(raw, int | float) and not abs(raw) < _MOST_INT:  # so is what is not finite
        raise UnkeptError("not_a_number", key[:64])
    if key not in registry:
        notes.append(("unknown_knob", key[:64]))
        return raw
    try:
        return registry[key].check(_typed(raw, registry[key].type))
    except KnobError as error:
        notes.append(("knob_odd", str(error)))
        return raw


def _typed(raw: KnobValue, kind: str) -> KnobValue:
    """Return a text, or a number that stands for a truth, in the type of its knob."""
    value = None if isinstance(raw, bool) else number(str(raw))
    if value is None:
        return raw
    if kind == "bool" and value in {0.0, 1.0}:
        return bool(value)
    if kind == "int" and value == int(value):
        return int(value)
    return value if kind == "float" else raw

"""Ids of calls and keys of stations of an earlier installation, as they are kept here."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime

from archiver.imports.accounts import UnkeptError
from archiver.imports.fields import Notes, Reading
from exporter.model import KEY_PATTERN

GLOBAL = "GLOBAL"
"""Call or station of what belonged to none."""
_PREFIX, _DIGITS = 48, 8
_ODD = re.compile(r"[^A-Za-z0-9_.-]")
_ID = re.compile(
    r"trace_(?P<day>\d{4}-\d\d-\d\d)T(?P<h>\d\d)[-:](?P<m>\d\d)[-:](?P<s>\d\d)"
    r"[-.](?P<ms>\d{3})Z_(?P<extension>[A-Za-z0-9.+-]{1,32})"
)
_OURS = "trace_{day}T{h}-{m}-{s}-{ms}Z_{extension}"


def call_of(raw: str, at: datetime, reading: Reading, notes: Notes) -> str:
    """Return the id under which a call is kept; ``at`` tells the day of what belongs to none."""
    if not raw:
        raise UnkeptError("no_trace")
    if raw.upper() == GLOBAL:
        notes.append(("global", ""))
        return f"{GLOBAL}_{at.astimezone(UTC):%Y-%m-%d}"
    found = _ID.fullmatch(raw)
    if found is None:
        return _noted(raw, safe_key(raw), notes)
    parts = found.groupdict() | {"extension": reading.mask(found["extension"])}
    return _noted(raw, safe_key(_OURS.format_map(parts)), notes)


def station_of(raw: str, notes: Notes) -> str:
    """Return the key under which a station is kept."""
    if not raw:
        raise UnkeptError("no_station")
    return _noted(raw, safe_key(raw), notes)


def safe_key(raw: str) -> str:
    """Return ``raw`` where it is a key; else its letters and digits with a hash of all of it."""
    if KEY_PATTERN.fullmatch(raw):
        return raw
    digest = hashlib.sha256(raw.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    readable = _ODD.sub("-", raw)[:_PREFIX].lstrip("_.-") or "x"
    return f"{readable}_{digest}"


def time_of(raw: str) -> datetime | None:
    """Return the start that an id such as trace_2026-01-03T18-05-01-272Z_3333 tells."""
    found = _ID.fullmatch(raw)
    if found is None:
        return None
    text = "{day}T{h}:{m}:{s}.{ms}".format_map(found.groupdict())
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        return None


def extension_of(raw: str) -> str:
    """Return who called, by the id; empty when it does not tell."""
    found = _ID.fullmatch(raw)
    return found["extension"] if found else ""


def _noted(raw: str, key: str, notes: Notes) -> str:
    if key != raw:
        notes.append(("renamed", "an id of other characters, or of more than 64"))
    return key

"""The calls of an old export, derived from its rows and recordings: it has no list of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

from archiver.times import BUCKET, SLACK
from exporter.model import KEY_PATTERN

IMPORTED = "imported"
"""Attribute of a call that was taken over from an earlier installation."""
_MOST_ATTRIBUTES, _MOST_TEXT = 64, 256
_ID = re.compile(
    r"(?P<stem>[A-Za-z]+_(?P<day>\d{4}-\d\d-\d\d)T(?P<h>\d\d)[-:](?P<m>\d\d)[-:](?P<s>\d\d)"
    r"[-.](?P<ms>\d{3})Z)_(?P<extension>[^_]+)"
)


@dataclass(slots=True)
class OldCall:
    """What is known of one call.

    Attributes:
        raw: Its id in the export.
        first: Start of its first bucket, or its first event.
        until: End of its last.
        rate: Sampling rate in Hz, where something tells it.
        facts: Values of each station's facts, such as its group.
    """

    raw: str
    first: datetime
    until: datetime
    rate: int | None = None
    facts: dict[str, set[str]] = field(default_factory=dict)

    @property
    def started_at(self) -> datetime:
        """The time in the id where it fits what there is, else the first of that."""
        named = time_of(self.raw)
        if named and self.first - SLACK <= named <= self.first + BUCKET:
            return named
        return self.first

    @property
    def src_extension(self) -> str:
        """Who called, by the id; empty when it does not tell."""
        found = _ID.fullmatch(self.raw)
        return found["extension"] if found else ""

    def attributes(self, trace_id: str) -> dict[str, object]:
        """Return the attributes that a call of the archive gets."""
        found: dict[str, object] = {IMPORTED: True}
        if trace_id != self.raw and self.raw.isprintable():
            found["imported.trace_id"] = self.raw[:_MOST_TEXT]
        for key in sorted(self.facts)[: _MOST_ATTRIBUTES - len(found)]:
            text = ",".join(sorted(self.facts[key]))[:_MOST_TEXT]
            if KEY_PATTERN.fullmatch(key) and text.isprintable():
                found[key] = text
        return found


class OldCalls:
    """All calls of an export by the id under which they are kept."""

    def __init__(self) -> None:
        self.by_id: dict[str, OldCall] = {}

    def add(self, trace_id: str, raw: str, first: datetime, until: datetime) -> OldCall:
        """Note that there is something of a call in a time."""
        call = self.by_id.get(trace_id)
        if call is None:
            call = self.by_id[trace_id] = OldCall(raw, first, until)
        call.first, call.until = min(call.first, first), max(call.until, until)
        return call


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


def stem_of(trace_id: str) -> str | None:
    """Return what the two directions of one call share: their ids without the extension."""
    found = _ID.fullmatch(trace_id)
    return found["stem"] if found else None

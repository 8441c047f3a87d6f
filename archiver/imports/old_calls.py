"""The calls of an old export, derived from its rows and recordings: it has no list of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from archiver.imports.old_ids import extension_of, time_of
from archiver.times import BUCKET, SLACK
from exporter.model import KEY_PATTERN

IMPORTED = "imported"
"""Attribute of a call that was taken over from an earlier installation."""
_MOST_ATTRIBUTES, _MOST_TEXT = 64, 256


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
    def extension(self) -> str:
        """Who called, by the id; empty when it does not tell."""
        return extension_of(self.raw)

    def attributes(self, trace_id: str) -> dict[str, object]:
        """Return the attributes that a call of the archive gets."""
        found: dict[str, object] = {IMPORTED: True}
        # An id of the common form tells no more than the columns, but may hold a phone number.
        if trace_id != self.raw and not self.extension and self.raw.isprintable():
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
        self._turned: dict[str, OldCall] = {}

    def add(self, trace_id: str, raw: str, first: datetime, until: datetime) -> OldCall:
        """Note that there is something of a call in a time."""
        return _widen(self.by_id, trace_id, OldCall(raw, first, until))

    def add_event(self, trace_id: str, raw: str, at: datetime) -> None:
        """Note that a knob of a call was turned; it bounds the call when nothing else does."""
        _widen(self._turned, trace_id, OldCall(raw, at, at))

    def finish(self) -> None:
        """Add the calls of which there is nothing but knobs that were turned."""
        self.by_id = self._turned | self.by_id


def _widen(calls: dict[str, OldCall], trace_id: str, part: OldCall) -> OldCall:
    call = calls.setdefault(trace_id, part)
    call.first, call.until = min(call.first, part.first), max(call.until, part.until)
    return call

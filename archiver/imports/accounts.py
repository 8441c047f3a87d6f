"""What became of everything that an old export offers: kept, already there, or why not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TextIO

from exporter.errors import MonitoringError

METRICS, SNAPSHOTS, EVENTS = "metrics", "knob_snapshots", "knob_events"
AUDIO, CONFIG, OTHER = "audio", "config", "other_files"
KINDS = (METRICS, SNAPSHOTS, EVENTS, AUDIO, CONFIG, OTHER)
"""What is counted: rows, recordings, settings, and files that are none of these."""

REASONS = {
    "audio_unreadable": "the recording cannot be read",
    "bad_cells": "the row has more or fewer cells than the header, or is no CSV",
    "bad_channels": "the recording is not mono",
    "bad_json": "the knobs are no JSON object",
    "bad_metric_key": "the metric's name is none, such as pcm.rms_dbfs",
    "bad_rate": "the sampling rate is not 8000 to 48000 Hz and divisible by 50",
    "bad_tap": "the tap is neither PRE nor POST, and cannot be told from the metric",
    "bad_text": "there is a NUL or half a character in it",
    "bad_time": "the time cannot be read, or is not between 2000 and 2200",
    "conflict": "the archive, or an earlier part of the export, has something else there",
    "contradiction": "count, min, max, sum, avg and last do not fit together",
    "damaged": "the file is damaged, or lacks a column that it needs",
    "empty": "the recording has no sample",
    "erased": "the call has been erased here, and stays so",
    "link": "a link or device, which is not followed",
    "no_consent": "nobody knows if the callers agreed; MONITORING_CONSENT_UNKNOWN keeps less",
    "no_count": "the count is missing or not above 0",
    "no_knob": "the knob has no name",
    "no_place": "the path does not tell call, station, tap and time",
    "no_station": "the station is missing",
    "no_trace": "the call is missing",
    "no_value": "a value is missing, and the others do not tell it",
    "not_a_number": "a value is no number, or not finite",
    "other_length": "the bucket is not five seconds long",
    "out_of_range": "a value that the metric cannot have",
    "recorded_here": "the archive has a call of that id that it recorded itself",
    "refused": "the callers have refused to be recorded",
    "secret": "a password; it is not copied",
    "too_large": "larger than any such file or value can be",
    "unknown_file": "neither CSV, configuration nor recording of the earlier installation",
    "unsafe_name": "the name leads out of the export",
    "untranslated": "no setting here means the same, or not this value",
}
"""Why something is not kept."""

NOTES = {
    "converted": "samples or values of another form, converted",
    "cut": "a segment a little longer than its bucket; its end is cut off",
    "derived": "avg or sum was missing, and follows from the others",
    "global": "belongs to no call: under one call for each day, GLOBAL_<day>",
    "knob_dropped": "an empty knob of a snapshot, left out",
    "knob_odd": "a knob's value that the registry does not allow, kept as it was",
    "moved": "the bucket began between two of ours, and counts for the earlier one",
    "renamed": "an id of other characters or too long got one of ours",
    "tap_assumed": "the tap was missing; POST, as for what a host reports",
    "time_assumed": "the time was missing in the name; that of the call's id",
    "unknown_knob": "a knob that the registry lacks, kept as it was",
    "unknown_metric": "a metric that the registry lacks, kept as it was",
}
"""What was changed or assumed of something that is kept."""


class SourceError(MonitoringError):
    """The export cannot be read, or not to its end; the message says where and what to do."""


class UnkeptError(Exception):
    """Something cannot be kept.

    Attributes:
        reason: Key of ``REASONS``.
        detail: Which column or value; without ids of calls, which hold extensions.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


@dataclass(slots=True)
class Account:
    """One kind: offered = kept + there + all that is rejected."""

    offered: int = 0
    kept: int = 0
    there: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        """Return the numbers as JSON has them."""
        return {
            "offered": self.offered,
            "kept": self.kept,
            "already_there": self.there,
            "rejected": dict(sorted(self.rejected.items())),
            "notes": dict(sorted(self.notes.items())),
        }


@dataclass(frozen=True, slots=True)
class Origin:
    """Where something stands in the export.

    Attributes:
        kind: One of ``KINDS``.
        file: Path in the export.
        line: Line, or 0 for the whole file.
    """

    kind: str
    file: str
    line: int = 0


class Ledger:
    """Counts by kind, and tells each thing that is not kept as it was.

    Args:
        tell: Called with one entry for each; none is kept in memory.
    """

    def __init__(self, tell: Callable[[dict[str, Any]], None] = lambda _: None) -> None:
        self.accounts = {kind: Account() for kind in KINDS}
        self.names = {name: Counter[str]() for name in ("unknown_metric", "unknown_knob")}
        self._tell = tell

    def keep(self, origin: Origin, notes: tuple[tuple[str, str], ...] = ()) -> None:
        """Count something that is in the archive now."""
        account = self.accounts[origin.kind]
        account.offered += 1
        account.kept += 1
        self._note(origin, notes)

    def find(self, origin: Origin) -> None:
        """Count something that was in the archive before, with the same content."""
        account = self.accounts[origin.kind]
        account.offered += 1
        account.there += 1

    def reject(self, origin: Origin, reason: str, detail: str = "") -> None:
        """Count and list something that is not kept."""
        account = self.accounts[origin.kind]
        account.offered += 1
        account.rejected[reason] += 1
        self._list(origin, reason, detail, is_kept=False)

    def as_json(self) -> dict[str, Any]:
        """Return all accounts, and the names that the registries lack."""
        kinds = {kind: account.as_json() for kind, account in self.accounts.items()}
        return {"kinds": kinds} | {name: dict(found) for name, found in self.names.items()}

    def _note(self, origin: Origin, notes: tuple[tuple[str, str], ...]) -> None:
        for note in dict.fromkeys(name for name, _ in notes):
            self.accounts[origin.kind].notes[note] += 1
        for note, detail in notes:
            if note in self.names:
                self.names[note][detail] += 1
            else:
                self._list(origin, note, detail, is_kept=True)

    def _list(self, origin: Origin, reason: str, detail: str, *, is_kept: bool) -> None:
        place = {"kind": origin.kind, "file": origin.file, "line": origin.line or None}
        self._tell(place | {"kept": is_kept, "reason": reason, "detail": detail})


class ReportFile:
    """A JSON document that is written while it grows: ``listed``, then what ``finish`` gives."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._before = '{"listed": ['

    def add(self, entry: dict[str, Any]) -> None:
        """Write one entry of the list."""
        self._stream.write(f"{self._before}\n{json.dumps(entry)}")
        self._before = ","

    def finish(self, summary: dict[str, Any]) -> None:
        """Write the rest."""
        head = '{"listed": [' if self._before != "," else ""
        self._stream.write(f"{head}\n]," + json.dumps(summary, indent=1)[1:] + "\n")

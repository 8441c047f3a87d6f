"""Consent in the database: written down, and obeyed whatever order the batches come in."""

from __future__ import annotations

from collections.abc import Iterable

import psycopg

from archiver.batch import Entry, without_audio
from archiver.rows import to_time
from exporter.model import Cause, Consent

# Consent goes forward only, so that the furthest word is the newest, in any order of batches.
_SET = """
INSERT INTO traces AS t (trace_id, started_at, src_extension, consent, consent_at)
VALUES (%(trace_id)s, %(at)s, '', %(consent)s, %(at)s)
ON CONFLICT (trace_id) DO UPDATE SET consent = excluded.consent, consent_at = excluded.consent_at
WHERE array_position(%(order)s, t.consent) < array_position(%(order)s, excluded.consent)
"""
_REFUSED = "SELECT trace_id FROM traces WHERE consent = 'refused' AND trace_id = ANY(%s)"


def write_consent(connection: psycopg.Connection, entry: Entry) -> None:
    """Write a change of consent; of a call that has refused, remove the segments."""
    trace_id, consent = entry["trace_id"], entry["consent"]
    at, order = to_time(entry["changed_ns"]), [str(each) for each in Consent]
    values = {"trace_id": trace_id, "at": at, "consent": consent, "order": order}
    connection.execute(_SET, values)
    if consent == Consent.REFUSED:
        connection.execute("SELECT withdraw_audio(%s)", [trace_id])


def write_numbers(connection: psycopg.Connection, entry: Entry) -> None:
    """Write the numbers for which the extensions of a call stand, where they are masked."""
    for side in ("src", "dst"):
        number = entry.get(f"{side}_number")  # a batch of an earlier version has none
        if number is not None:
            connection.execute(
                "INSERT INTO phone_numbers (trace_id, side, number) VALUES (%s, %s, %s) "
                "ON CONFLICT DO NOTHING",
                [entry["trace_id"], side, number],
            )


def without_refused(connection: psycopg.Connection, entries: Iterable[Entry]) -> list[Entry]:
    """Return entries with gaps for the audio of calls that have refused meanwhile."""
    found = list(entries)
    calls = {entry["trace_id"] for entry in found if _has_segment(entry)}
    if not calls:
        return found
    refused = {row[0] for row in connection.execute(_REFUSED, [sorted(calls)]).fetchall()}
    return [
        without_audio(entry, Cause.ERASED)
        if _has_segment(entry) and entry["trace_id"] in refused
        else entry
        for entry in found
    ]


def _has_segment(entry: Entry) -> bool:
    return any(tap["segment"] for tap in entry.get("taps", ()))

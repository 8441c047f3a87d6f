"""Legal hold: calls that are kept, whatever their age, the disk, or who asks to erase them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.rows import class_row

from archiver.deletion.ledger import connected, is_erased
from exporter.errors import MonitoringError

# Retention keeps this lock while it deletes an hour: who has placed a hold can rely on it.
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('monitoring_v2.holds'))"
_PATIENCE = "SET LOCAL lock_timeout = '30s'"
_IS_KNOWN = """
SELECT EXISTS (SELECT FROM traces WHERE trace_id = %(id)s)
    OR EXISTS (SELECT FROM call_totals WHERE trace_id = %(id)s)
"""
_HOLD = """
INSERT INTO trace_holds (trace_id, reason) VALUES (%s, %s)
ON CONFLICT (trace_id) DO UPDATE SET reason = excluded.reason, held_by = excluded.held_by,
    held_at = excluded.held_at
"""


class HoldError(MonitoringError):
    """A hold cannot be placed or released; the message says why."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A call that is kept.

    Attributes:
        trace_id: The call.
        reason: Why.
        held_by: Login that placed it.
        held_at: Since when.
    """

    trace_id: str
    reason: str
    held_by: str
    held_at: datetime


def hold(conninfo: str, trace_id: str, reason: str) -> None:
    """Keep a call; a second time, with the new reason.

    Raises:
        HoldError: The archive does not have it, it was erased, or retention is long at work.
    """
    with _changing(conninfo) as connection:
        if is_erased(connection, [trace_id]):
            raise HoldError(f"{trace_id!r} was erased: there is nothing to hold")
        row = connection.execute(_IS_KNOWN, {"id": trace_id}).fetchone()
        if row is None or not row[0]:
            raise HoldError(f"no trace {trace_id!r} in the archive")
        connection.execute(_HOLD, [trace_id, reason])


def release(conninfo: str, trace_id: str) -> None:
    """Let a call go: retention and erasure treat it as any other from now on.

    Raises:
        HoldError: It is not held.
    """
    with _changing(conninfo) as connection:
        gone = connection.execute("DELETE FROM trace_holds WHERE trace_id = %s", [trace_id])
        if not gone.rowcount:
            raise HoldError(f"trace {trace_id!r} is not held; `monitoring traces holds` lists them")


def list_holds(conninfo: str) -> list[Hold]:
    """Return all holds, the oldest first."""
    with connected(conninfo) as connection, connection.cursor(row_factory=class_row(Hold)) as rows:
        query = "SELECT trace_id, reason, held_by, held_at FROM trace_holds ORDER BY 4, 1"
        return rows.execute(query).fetchall()


def held(connection: psycopg.Connection) -> list[str]:
    """Return the calls that are held."""
    return [name for (name,) in connection.execute("SELECT trace_id FROM trace_holds").fetchall()]


@contextmanager
def unchanged(guard: psycopg.Connection) -> Iterator[None]:
    """Keep holds as they are for the time of the block; ``guard`` is in a transaction."""
    with guard.transaction():
        guard.execute(_LOCK)
        yield
        # Rolled back to where it began, a transaction lets go of the locks taken since.
        raise psycopg.Rollback


@contextmanager
def _changing(conninfo: str) -> Iterator[psycopg.Connection]:
    try:
        with connected(conninfo) as connection, connection.transaction():
            connection.execute(_PATIENCE)
            connection.execute(_LOCK)
            yield connection
    except psycopg.errors.LockNotAvailable:
        raise HoldError("retention is at work and waits for a reader; try again") from None

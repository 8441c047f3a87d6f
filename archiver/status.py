"""The SQL behind the status: how far the archive is complete, and what was lost."""

from __future__ import annotations

from datetime import datetime, timedelta

import psycopg

from archiver.calls import RUNNING_WITHIN
from archiver.pool import Row, fetch_one
from archiver.times import BUCKET

# Of each running call the end of its newest bucket: all of them have what lies before the least.
_RUNNING = """
SELECT count(*) AS calls, min(s.last_ts) AS until FROM traces t JOIN call_totals s USING (trace_id)
WHERE t.ended_at IS NULL AND s.last_ts >= %(since)s
"""
_ENDED = """
SELECT max(s.last_ts) AS until FROM (
    SELECT trace_id FROM traces ORDER BY started_at DESC, trace_id DESC LIMIT 50
) t JOIN call_totals s USING (trace_id)
"""
_LOST = """
SELECT coalesce(sum(samples), 0)::bigint AS lost FROM v_gaps
WHERE is_loss AND bucket_ts >= %(since)s
"""
_SCHEMA = "SELECT max(number) AS schema FROM schema_migrations"


def archive_status(connection: psycopg.Connection, now: datetime) -> Row:
    """Return how the archive is.

    Returns:
        ``schema``; ``complete_until``, the end of the newest bucket that all running calls have
        (of the newest calls, when none runs; None without calls); ``behind_s``, how long ago that
        is while calls run, otherwise None; ``lost_samples_1h``; ``active_calls``.
    """
    running = fetch_one(connection, _RUNNING, {"since": now - RUNNING_WITHIN}) or {}
    until = running["until"]
    behind_s = (now - until) / timedelta(seconds=1) if until else None
    if until is None:
        until = (fetch_one(connection, _ENDED, {}) or {"until": None})["until"]
    lost = fetch_one(connection, _LOST, {"since": now - timedelta(hours=1) - BUCKET})
    return {
        **(fetch_one(connection, _SCHEMA, {}) or {}),
        "complete_until": until,
        "behind_s": behind_s,
        "lost_samples_1h": lost["lost"] if lost else 0,
        "active_calls": running["calls"],
    }

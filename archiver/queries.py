"""What the command asks the archive: calls, and what is there of one call."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import psycopg


@dataclass(frozen=True, slots=True)
class Call:
    """One row of the list of calls."""

    trace_id: str
    started_at: datetime
    ended_at: datetime | None
    end_reason: str | None
    src_extension: str
    dst_extension: str | None
    due_samples: int | None
    received_samples: int | None
    consent: str


@dataclass(frozen=True, slots=True)
class TapSummary:
    """What the archive has of one station and tap of a call; None is unknown."""

    station_key: str
    tap: str
    buckets: int
    due_samples: int | None
    received_samples: int | None
    gap_samples: int
    segments: int
    metric_rows: int


_CALLS = """
SELECT trace_id, started_at, ended_at, end_reason, src_extension, dst_extension,
       due_samples::bigint, received_samples::bigint, consent
FROM archived_calls WHERE %(trace_id)s::text IS NULL OR trace_id = %(trace_id)s
ORDER BY started_at DESC LIMIT %(limit)s
"""
_TAPS = """
SELECT b.station_key, b.tap, count(*), sum(b.due_samples)::bigint, sum(b.received_samples)::bigint,
    (SELECT coalesce(sum(g.samples), 0)::bigint FROM gaps g
     WHERE (g.trace_id, g.station_key, g.tap) = (b.trace_id, b.station_key, b.tap)),
    (SELECT count(*) FROM audio_segments_5s a
     WHERE (a.trace_id, a.station_key, a.tap) = (b.trace_id, b.station_key, b.tap)),
    (SELECT count(*) FROM metrics_agg_5s m
     WHERE (m.trace_id, m.station_key, m.tap) = (b.trace_id, b.station_key, b.tap))
FROM tap_buckets_5s b WHERE b.trace_id = %s
GROUP BY b.trace_id, b.station_key, b.tap ORDER BY b.station_key, b.tap DESC
"""


def list_calls(conninfo: str, *, limit: int = 50, trace_id: str | None = None) -> list[Call]:
    """Return the newest calls, or the one that is asked for."""
    with psycopg.connect(conninfo, connect_timeout=5) as connection:
        found = connection.execute(_CALLS, {"limit": limit, "trace_id": trace_id})
        return [Call(*row) for row in found.fetchall()]


def summarise(conninfo: str, trace_id: str) -> list[TapSummary]:
    """Return what there is of one call, station by station and tap by tap."""
    with psycopg.connect(conninfo, connect_timeout=5) as connection:
        rows = connection.execute(_TAPS, [trace_id]).fetchall()
    return [TapSummary(*row) for row in rows]

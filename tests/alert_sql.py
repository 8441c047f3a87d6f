"""How Grafana asks what an alert searches for in SQL."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import psycopg

from dashboards.alert import Alert
from dashboards.thresholds import Direction

Rows = list[tuple[object, ...]]


def expanded(statement: str, now: datetime, span_s: int) -> str:
    """Return a statement with the macro of time replaced as Grafana does it."""
    since, until = now - timedelta(seconds=span_s), now
    stamps = [at.strftime("%Y-%m-%dT%H:%M:%SZ") for at in (since, until)]
    return re.sub(
        r"\$__timeFilter\(([^)]*)\)",
        lambda found: f"{found[1]} BETWEEN '{stamps[0]}' AND '{stamps[1]}'",
        statement,
    )


def ask(connection: psycopg.Connection, alert: Alert, now: datetime) -> tuple[Rows, Rows]:
    """Return what the two statements of a search find: the rows beyond the limit; the moments."""
    assert alert.search is not None
    search = alert.search(alert.window_s)
    values = connection.execute(expanded(search.value, now, search.span_s).encode()).fetchall()
    moments = connection.execute(expanded(search.moment, now, search.span_s).encode()).fetchall()
    is_above = alert.limit.direction is Direction.ABOVE
    over = [row for row in values if (row[-1] > alert.limit.value) is is_above]
    return over, moments

"""The doctor's look at the database: schema, release, clock, and whether retention works."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from archiver.database import AnyDatabaseError
from archiver.diagnosis import OLDEST_RELEASE, Diagnosis, diagnose
from archiver.migrations import shipped, version
from deploy.finding import Finding
from exporter.config import Settings

MOST_OFFSET_S = 1.0
LATE = timedelta(hours=2)


def database_findings(settings: Settings) -> Iterator[Finding]:
    """Look at the database."""
    wanted = shipped()[-1][0]
    try:
        found = version(settings.db)
        seen = diagnose(settings.db) if found else None
    except AnyDatabaseError as error:
        text = str(error).strip().splitlines()[0]
        yield Finding("database", False, f"{text}; set MONITORING_DB or start the server")
        return
    yield _schema(found, wanted)
    if seen is None:
        return
    yield Finding(
        "database release",
        seen.release >= OLDEST_RELEASE,
        f"PostgreSQL {seen.release}, {OLDEST_RELEASE} or newer is needed",
    )
    is_near = abs(seen.clock_offset_s) < MOST_OFFSET_S
    text = f"{seen.clock_offset_s:+.2f} s beside ours"
    hint = "" if is_near else "; let chrony keep both machines' clocks"
    yield Finding("database clock", is_near, text + hint)
    yield _retention(settings, seen, datetime.now(UTC))


def _schema(found: int, wanted: int) -> Finding:
    if found < wanted:
        hint = "run `monitoring db init`; until then what is heard waits in the spool"
        return Finding("database", False, f"schema {found}, need {wanted}: {hint}")
    if found > wanted:
        text = f"schema {found} of a later version, this one knows {wanted}"
        return Finding("database", True, f"{text}: uploads go on")
    return Finding("database", True, f"schema {found}")


def _retention(settings: Settings, seen: Diagnosis, now: datetime) -> Finding:
    limit, hour = timedelta(hours=settings.retention_hours), timedelta(hours=1)
    if seen.oldest_hour is None:
        return Finding("retention", True, "there is nothing to delete yet")
    age = now - seen.oldest_hour
    text = f"the oldest rows are {age / hour:.0f} h old, the limit is {limit / hour:g}"
    if age <= limit + hour + LATE:
        return Finding("retention", True, text)
    if seen.held:
        return Finding("retention", True, f"{text}; {seen.held} calls are held, whatever their age")
    return Finding("retention", False, f"{text}: run `monitoring retention`, and see what it says")

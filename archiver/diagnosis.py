"""What a look at the database from outside finds: release, clock, age of what it keeps."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg

OLDEST_RELEASE = 14
_ASK = "SELECT current_setting('server_version_num')::int, clock_timestamp()"
# Names of partitions say which hours there are, without a look at any row.
_OLDEST = """
SELECT min(right(c.relname, 10)) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'tap_buckets_5s'::regclass AND c.relname ~ '_[0-9]{10}$'
"""
_HOLDS = "SELECT to_regclass('trace_holds') IS NOT NULL"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found.

    Attributes:
        release: The server's, such as 15.
        clock_offset_s: Its clock minus ours.
        oldest_hour: Begin of the oldest hour that has rows of any call; None without.
        held: Calls that are kept whatever their age.
    """

    release: int
    clock_offset_s: float
    oldest_hour: datetime | None
    held: int


def diagnose(conninfo: str) -> Diagnosis:
    """Ask the database.

    Raises:
        psycopg.Error: It cannot be reached, or has no archive.
    """
    with psycopg.connect(conninfo, connect_timeout=5) as connection:
        before = time.time()
        release, clock = connection.execute(_ASK).fetchall()[0]
        between = (before + time.time()) / 2
        (oldest,) = connection.execute(_OLDEST).fetchall()[0]
        (can_hold,) = connection.execute(_HOLDS).fetchall()[0]
        held = "SELECT count(*) FROM trace_holds" if can_hold else "SELECT 0"
        (count,) = connection.execute(held).fetchall()[0]
    hour = datetime.strptime(oldest, "%Y%m%d%H").replace(tzinfo=UTC) if oldest else None
    return Diagnosis(release // 10_000, clock.timestamp() - between, hour, count)

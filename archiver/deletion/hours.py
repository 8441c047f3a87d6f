"""Partitions: one for each hour and table, found by name, dropped whole."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg import sql

from archiver.deletion.steps import Done, Step

HOUR = timedelta(hours=1)
AUDIO = "audio_segments_5s"
PARENTS = {
    "audio": (AUDIO,),
    "numbers": ("tap_buckets_5s", "metrics_agg_5s", "knob_snapshots_5s"),
}
"""The tables that go together."""

# Partitions by name: those of the table, and those that a kill left between detach and drop.
_PARTITIONS = """
SELECT c.relname, i.inhrelid IS NOT NULL, coalesce(i.inhdetachpending, false)
FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
    AND c.relname ~ ('^' || %s || '_[0-9]{10}$') ORDER BY 1
"""


@dataclass(slots=True)
class Partition:
    """The rows of one hour in one table.

    Attributes:
        parent: The table.
        name: The partition.
        is_attached: Whether it is one; a kill may have left it detached.
    """

    parent: str
    name: str
    is_attached: bool

    @property
    def table(self) -> sql.Identifier:
        """Its name, for a statement."""
        return sql.Identifier(self.name)


def partitions(connection: psycopg.Connection, kind: str) -> dict[datetime, list[Partition]]:
    """Return the partitions of a kind by hour, in order; none is half detached."""
    found: defaultdict[datetime, list[Partition]] = defaultdict(list)
    for parent in PARENTS[kind]:
        for part in _of(connection, parent):
            found[_hour_of(part.name)].append(part)
    return dict(sorted(found.items()))


def drop(connection: psycopg.Connection, part: Partition, on_step: Step) -> None:
    """Detach without stopping readers, then drop."""
    if part.is_attached:
        _detach(connection, part, "CONCURRENTLY")
        part.is_attached = False
        on_step(Done.DETACHED, part.name)
    connection.execute(sql.SQL("DROP TABLE {}").format(part.table))


def attach(connection: psycopg.Connection, hour: datetime) -> None:
    """Make partitions of the tables that a kill left detached."""
    connection.execute("SELECT ensure_partitions(ARRAY[%s])", [hour])


def start_of(moment: datetime) -> datetime:
    """Return the start of the hour of a moment."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _of(connection: psycopg.Connection, parent: str) -> list[Partition]:
    found = connection.execute(_PARTITIONS, [parent]).fetchall()
    pending = {name for name, _, is_pending in found if is_pending}
    for name in pending:  # while there is one, no other can be detached
        _detach(connection, Partition(parent, name, is_attached=True), "FINALIZE")
    return [Partition(parent, name, at and name not in pending) for name, at, _ in found]


def _detach(connection: psycopg.Connection, part: Partition, how: str) -> None:
    detach = sql.SQL("ALTER TABLE {} DETACH PARTITION {} {}")
    connection.execute(detach.format(sql.Identifier(part.parent), part.table, sql.SQL(how)))


def _hour_of(name: str) -> datetime:
    return datetime.strptime(name[-10:], "%Y%m%d%H").replace(tzinfo=UTC)

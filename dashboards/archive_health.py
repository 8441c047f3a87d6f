"""Archive health: does everything that was heard come into the archive, and for how long yet?"""

from __future__ import annotations

from dataclasses import replace

from dashboards import links, queries_archive, queries_sql, shared, variables
from dashboards._compat import data_link
from dashboards.grammar import NO_LIMITS, Look, column, of_unit, override
from dashboards.model import Board, Panel, PgTarget, PromTarget, Row
from dashboards.panels import bars, lines, table, tiles

_TABLE = Look({"thresholds": NO_LIMITS})


def board(public_url: str) -> Board:
    """Return the board."""
    return Board(
        uid=links.ARCHIVE_HEALTH,
        title="Monitoring: archive health",
        description="Queues, spool, database, disk, retention, and whether the books balance.",
        variables=(
            variables.PROMETHEUS,
            variables.POSTGRES,
            variables.public_url(public_url),
        ),
        rows=(
            shared.status(),
            Row("Now", 4, _now()),
            Row("On the way to SQL", 7, _way()),
            Row("Losses, by reason", 7, _losses()),
            Row("Do the books balance?", 8, _books()),
            Row("Disk and database", 8, _disk()),
            Row("The monitoring itself", 7, _itself()),
        ),
        time_from="now-1h",
        links=shared.MENU,
    )


def _tile(title: str, description: str, query: str, look: Look) -> Panel:
    return tiles(title, description, targets=(PromTarget(query),), look=look, width=4)


def _now() -> tuple[Panel, ...]:
    return (
        _tile(
            "Database",
            "1 while every process reaches PostgreSQL. 0: nothing is lost yet; the spool keeps it.",
            queries_archive.database_up(),
            of_unit("none", "archive.database_up"),
        ),
        _tile(
            "Archive lag",
            "From the newest closed five seconds to the newest in SQL.",
            queries_archive.lag(),
            of_unit("s", "archive.lag_seconds"),
        ),
        _tile(
            "Spool",
            "How full the spool of the worst process is. At 100 % the oldest batches are dropped, "
            "counted and written down.",
            queries_archive.spool_fill(),
            of_unit("percentunit", "spool.fill_ratio"),
        ),
        _tile(
            "Disk full in",
            "If it goes on as in the time you look at; a month at most. Below a day: lower "
            "MONITORING_RETENTION_HOURS, or make room.",
            queries_archive.disk_hours_to_full(),
            of_unit("h", "disk.hours_to_full"),
        ),
        _tile(
            "Since the last retention",
            "Retention runs every hour. Older than two hours: see the log of the process, and "
            "whether its login may delete.",
            queries_archive.retention_age(),
            of_unit("s", "retention.age_seconds"),
        ),
        _tile(
            "Unexplained samples",
            "Samples that the books of a process do not explain. Not 0 for minutes is an error of "
            "this software: report it.",
            f"sum({queries_archive.residual()})",
            of_unit("none", "archive.residual_samples"),
        ),
    )


def _graph(title: str, description: str, query: str, look: Look, legend: str = "") -> Panel:
    target = PromTarget(query, legend or title)
    return lines(title, description, targets=(target,), look=look, width=6)


def _way() -> tuple[Panel, ...]:
    return (
        _graph(
            "Lag",
            "Growing: the database is away or slow.",
            queries_archive.lag(),
            of_unit("s", "archive.lag_seconds"),
        ),
        _graph(
            "Queue in memory",
            "Share of its places that are taken. Above three quarters: the disk of the spool is "
            "too slow.",
            queries_archive.queue_fill(),
            of_unit("percentunit", "archive.queue_fill_ratio"),
            "{{queue}}",
        ),
        _graph(
            "Bytes in the spool",
            "Bytes of batches that wait for the database.",
            queries_archive.spool_bytes(),
            of_unit("bytes"),
        ),
        _graph(
            "Oldest batch in the spool",
            "How long the oldest one has waited.",
            queries_archive.spool_oldest(),
            of_unit("s", "spool.oldest_seconds"),
        ),
        _graph(
            "Batches in the spool",
            "How many wait. They go in the order in which they came.",
            queries_archive.spool_batches(),
            of_unit("short"),
        ),
        _graph(
            "Uploads",
            "A second, by result. Anything but ok repeats itself until it is ok.",
            queries_archive.uploads(),
            of_unit("short"),
            "{{result}}",
        ),
        _graph(
            "Records",
            "A second, that came into the database, by kind.",
            queries_archive.records(),
            of_unit("short"),
            "{{kind}}",
        ),
        lines(
            "Samples in SQL",
            "A second, as the database says.",
            targets=(PgTarget(queries_sql.arrivals(), is_series=True),),
            look=of_unit("short"),
            width=6,
        ),
    )


_LOST = of_unit("none", "archive.residual_samples")


def _lost(title: str, description: str, query: str, legend: str) -> Panel:
    target = PromTarget(query, legend)
    return lines(title, description, targets=(target,), look=_LOST, width=6)


def _losses() -> tuple[Panel, ...]:
    return (
        _lost(
            "Samples dropped",
            "Before the archive, in the time you look at. overrun: the machine is too slow; "
            "*_full: a limit was reached.",
            queries_archive.dropped_samples(),
            "{{reason}}",
        ),
        _lost(
            "Records dropped",
            "By kind and reason.",
            queries_archive.dropped_records(),
            "{{kind}} {{reason}}",
        ),
        _lost(
            "Records set aside",
            "Rows that the database refused. They lie in the spool's quarantine; see RUNBOOK.md.",
            queries_archive.quarantined(),
            "{{reason}}",
        ),
        _lost(
            "Errors",
            "Steps, writes and scrapes that failed. Each is in the log of its process.",
            queries_archive.errors(),
            "{{what}}",
        ),
    )


def _books() -> tuple[Panel, ...]:
    call = links.trace_board(links.field("call"), start="${__from}", end="${__to}")
    gaps = table(
        "Gaps, losses first",
        "What was due and is missing, in the time you look at. Click a call for its board.",
        targets=(PgTarget(queries_sql.gaps()),),
        look=_TABLE.plus(
            override("length", unit="s", decimals=3),
            override("call", links=[data_link("The call's board", call)]),
        ),
        width=12,
    )
    books = table(
        "Due = received + missing",
        "In the archive, at each tap. Unexplained has to be 0: `monitoring verify` finds which "
        "buckets are not.",
        targets=(PgTarget(queries_sql.reconciliation()),),
        look=_TABLE.plus(
            column("lost", "archive.residual_samples"),
            column("unexplained", "archive.residual_samples"),
        ),
        width=12,
    )
    processes = table(
        "What each process brought",
        "A missing batch is on its way, or lost with its disk. Dropped are samples that a process "
        "lost before they were in a batch.",
        targets=(PgTarget(queries_sql.processes()),),
        look=_TABLE.plus(
            column("missing batches", "archive.residual_samples"),
            column("dropped", "archive.residual_samples"),
        ),
        width=24,
    )
    return books, replace(gaps, may_be_empty="nothing is missing"), processes


def _disk() -> tuple[Panel, ...]:
    return (
        _graph(
            "Free space",
            "Where the sound and where the spool is.",
            queries_archive.disk_free(),
            of_unit("bytes"),
            "{{what}}",
        ),
        _graph(
            "Free share of the disk",
            "Below 20 %: make room, or lower MONITORING_RETENTION_HOURS.",
            queries_archive.disk_free_ratio(),
            of_unit("percentunit", "disk.free_ratio"),
        ),
        lines(
            "Sound of each hour",
            "Bytes of segments that are in the archive. Times the hours of retention is what the "
            "disk has to hold.",
            targets=(PgTarget(queries_sql.sound_growth(), is_series=True),),
            look=of_unit("bytes"),
            width=6,
        ),
        bars(
            "Database, by table",
            "Bytes of each table with its indexes.",
            targets=(PgTarget(queries_sql.sizes()),),
            look=of_unit("bytes"),
            width=6,
        ),
    )


def _itself() -> tuple[Panel, ...]:
    return (
        _graph(
            "Last sign of life",
            "Of each thread. Above 15 s it hangs: see the log, restart the process.",
            queries_archive.heartbeat_age(),
            of_unit("s", "archive.heartbeat_age_seconds"),
            "{{thread}}",
        ),
        _graph(
            "Load of the exporter",
            "Cores that it uses, of all processes. Near 1 in one process: fewer calls, or more "
            "processes.",
            queries_archive.worker_load(),
            of_unit("none"),
        ),
        _graph(
            "Series on the page",
            "Share of the limit. At 100 % stations are left out.",
            queries_archive.series_fill(),
            of_unit("percentunit"),
        ),
        _deleted(),
    )


def _deleted() -> Panel:
    panel = _graph(
        "Deleted by retention",
        "In the time you look at, by kind.",
        queries_archive.deleted(),
        of_unit("short"),
        "{{kind}}",
    )
    return replace(panel, may_be_empty="retention has not run yet")

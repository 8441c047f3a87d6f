"""For the tests of backup and restore: a second server, a writer that goes on, comparisons."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from archiver import Archiver
from archiver.deletion import ledger
from archiver.deletion.tree import Tree
from archiver.migrations import migrate
from archiver.reader import reader
from dashboards.boards import all_boards
from dashboards.expansion import View, expand
from dashboards.filling import fill
from dashboards.model import PgTarget
from deploy.config import postgres_bin_dir
from deploy.dashboards import Live
from deploy.postgres import EmbeddedPostgres
from exporter.model import TraceStarted
from tests import fix_seeded
from tests.fix_archive import START_NS, bucket, settings
from tests.fix_seeded import Seeded

ARCHIVE_TABLES = (
    "traces",
    "tap_buckets_5s",
    "metrics_agg_5s",
    "audio_segments_5s",
    "knob_snapshots_5s",
    "knob_events",
    "gaps",
    "applied_batches",
)
VIEWS = (
    "v_metrics",
    "v_tap_buckets",
    "v_segments",
    "v_gaps",
    "v_knob_snapshots",
    "v_knob_events",
    "v_health",
    "call_list",
    "bucket_wide",
)


@pytest.fixture
def other_server() -> Iterator[EmbeddedPostgres]:
    """Yield the PostgreSQL of a new machine: nothing in it, not even our roles."""
    with EmbeddedPostgres(bin_dir=postgres_bin_dir(), fsync=False) as server:
        yield server


@pytest.fixture(scope="module")
def backup(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a backup of the seeded archive, which is gone."""
    folder = tmp_path_factory.mktemp("source")
    name = f"source_{time.monotonic_ns()}"
    with psycopg.connect(postgres.conninfo("postgres"), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}".encode())
        try:
            seeded = seed(postgres.conninfo(name), folder)
            code, out, err = seeded.call("backup", "-o", str(folder / "backup.tar"))
            assert 0 == code, out + err
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
    return folder / "backup.tar"


@contextmanager
def databases(server: EmbeddedPostgres, *names: str) -> Iterator[list[str]]:
    """Yield connection strings of databases that need not be there; drop them afterwards."""
    try:
        yield [server.conninfo(name) for name in names]
    finally:
        with psycopg.connect(server.conninfo("postgres"), autocommit=True) as admin:
            for name in names:
                for each in (name, f"{name}_restoring", f"{name}_before_restore"):
                    admin.execute(f"DROP DATABASE IF EXISTS {each} WITH (FORCE)".encode())


def seed(conninfo: str, folder: Path) -> Seeded:
    """Fill a database and an audio root with the three calls, which ended a minute ago."""
    migrate(conninfo)
    start_ns = (time.time_ns() // 10**9 - 180) // 5 * 5 * 10**9
    return fix_seeded.fill(conninfo, folder, start_ns)


@contextmanager
def busy_writer(conninfo: str, folder: Path) -> Iterator[list[int]]:
    """Go on with a call, bucket after bucket, for the time of the block; yield what was offered."""
    archiver = Archiver(settings(folder, conninfo), has_retention=False)
    archiver.start()
    archiver.offer(TraceStarted("busy", START_NS, "3333", "4444", 16_000, None, {}))
    numbers: list[int] = []
    is_over = threading.Event()

    def write() -> None:
        number = 0
        while not is_over.wait(0.01):
            archiver.offer(bucket("busy", number))
            numbers.append(number)
            number += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield numbers
    finally:
        is_over.set()
        thread.join()
        assert archiver.flush(30)
        archiver.stop(5)


def rows_of(conninfo: str, relation: str, where: str = "true") -> set[str]:
    """Return all rows of a table or view as text."""
    query = sql.SQL("SELECT each::text FROM {} AS each WHERE {}").format(
        sql.Identifier(relation),
        sql.SQL(where),
    )
    with psycopg.connect(conninfo, options="-c timezone=UTC") as connection:
        return {text for (text,) in connection.execute(query)}


def panel_answers(seeded: Seeded, conninfo: str) -> dict[str, list[str]]:
    """Return what each query of each board finds in the time of the seeded calls, as the reader.

    Not that of the archive's own health, which is another one on another machine.
    """
    start = datetime.fromtimestamp(seeded.start_ns / 10**9, UTC)
    span = View(start, start + timedelta(minutes=5))
    answers = {}
    with reader(conninfo) as archive:
        live = Live(archive)
        for name, board in all_boards().items():
            if name == "archive_health":
                continue
            view = fill(board, span, live)
            for panel in board.panels:
                for number, target in enumerate(panel.targets):
                    # What is late now is not of the cut.
                    if isinstance(target, PgTarget) and "data_status" not in target.text:
                        found = live.columns(expand(target, view))[1]
                        if "worst_buckets" in target.text:
                            found = [row for row in found if 100.0 not in row]  # any of equals
                        answers[f"{name}: {panel.title}: {number}"] = sorted(map(str, found))
    return answers


def files_of(root: Path) -> dict[str, str]:
    """Return path and SHA-256 of every file below a folder."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def audio_rows(conninfo: str) -> dict[str, str]:
    """Return path and SHA-256 of every file that rows name."""
    with psycopg.connect(conninfo) as connection:
        return dict(
            connection.execute("SELECT file_path, sha256 FROM audio_segments_5s").fetchall()
        )


def database_names(server: EmbeddedPostgres) -> set[str]:
    """Return the databases of a server."""
    with psycopg.connect(server.conninfo("postgres")) as connection:
        return {name for (name,) in connection.execute("SELECT datname FROM pg_database")}


def erase(conninfo: str, audio: Path, trace_id: str) -> None:
    """Erase a call: into the ledger, then rows and files."""
    with ledger.connected(conninfo) as connection:
        with connection.transaction():
            erasure_id = ledger.begin(connection, [trace_id], "on request")
        ledger.wipe(connection, Tree(audio), [trace_id])
        with connection.transaction():
            ledger.finish(connection, erasure_id, {})

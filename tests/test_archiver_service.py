"""The archiver as a whole, while database, network, disk or process fail."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from archiver import Archiver
from archiver.deletion.retention import Retention
from archiver.migrations import migrate
from exporter.selfmetrics import Tally
from tests.fix_archive import bucket, settings
from tests.fix_proxy import TcpProxy

_NOWHERE = "host=127.0.0.1 port=1 dbname=none"
_CHILD = """
import sys, threading
from pathlib import Path
from archiver import Archiver
from exporter.model import TraceStarted
from tests.fix_archive import START_NS, bucket, settings
archiver = Archiver(settings(Path(sys.argv[1]), sys.argv[2]), has_retention=False)
archiver.start()
archiver.offer(TraceStarted("call-1", START_NS, "3333"))
for number in range(10):
    archiver.offer(bucket(number=number))
while archiver.accounting()["spooled"] != 16_000:
    threading.Event().wait(0.01)
print(archiver.accounting()["spooled"], flush=True)
threading.Event().wait()
"""


def _scalar(conninfo: str, query: str) -> object:
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(query.encode()).fetchone()
    return row and row[0]


def _check_identity(archiver: Archiver) -> None:
    counts = archiver.accounting()
    came = counts.pop("offered") + counts.pop("adopted")
    assert came == sum(counts.values())


def _check_whole(archiver: Archiver, conninfo: str, count: int) -> None:
    assert archiver.flush(20)
    assert count == _scalar(conninfo, "SELECT count(*) FROM tap_buckets_5s")
    assert 2 * count == _scalar(conninfo, "SELECT count(*) FROM metrics_agg_5s")
    _check_identity(archiver)


def test_database_away_and_back(database: str, proxy: TcpProxy, tmp_path: Path) -> None:
    """What is offered while the database is away is there once when it is back."""
    migrate(database)
    archiver = Archiver(settings(tmp_path, proxy.conninfo(database)), has_retention=False)
    archiver.start()
    for number in range(20):
        if number == 5:
            proxy.cut()
        archiver.offer(bucket(number=number))
    assert not archiver.flush(0.5)
    proxy.restore()

    _check_whole(archiver, database, 20)
    archiver.stop(5)


def test_never_reachable_then_adopted(database: str, tmp_path: Path) -> None:
    """Without a database all waits in the spool, and the next process uploads it."""
    migrate(database)
    first = Archiver(settings(tmp_path, _NOWHERE), has_retention=False)
    began = time.monotonic()
    first.start()
    assert time.monotonic() - began < 1
    for number in range(5):
        first.offer(bucket(number=number))
    first.stop(5)
    assert 8_000 == first.accounting()["spooled"]
    _check_identity(first)

    second = Archiver(settings(tmp_path, database), has_retention=False)
    second.start()
    assert second.wait_until_adopted()
    _check_whole(second, database, 5)
    second.stop(5)
    assert [] == list((tmp_path / "spool").iterdir())


def test_frozen_database_is_cut(
    database: str, proxy: TcpProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watchdog cuts a connection that hangs, and the rows arrive on the next one."""
    migrate(database)
    archiver = Archiver(settings(tmp_path, proxy.conninfo(database)), has_retention=False)
    archiver.start()
    archiver.offer(bucket())
    assert archiver.flush(10)
    monkeypatch.setattr("archiver.database.HANG_S", 0.3)
    proxy.blackhole()
    archiver.offer(bucket(number=1))
    deadline = time.monotonic() + 10
    while not archiver.tally.total("db_watchdog_kills_total"):
        assert time.monotonic() < deadline
    monkeypatch.undo()
    proxy.restore()

    _check_whole(archiver, database, 2)
    archiver.stop(5)


def test_lost_commit_reply(database: str, proxy: TcpProxy, tmp_path: Path) -> None:
    """A batch whose commit was not acknowledged is known the second time."""
    migrate(database)
    archiver = Archiver(settings(tmp_path, proxy.conninfo(database)), has_retention=False)
    archiver.start()
    archiver.offer(bucket())
    assert archiver.flush(10)
    proxy.cut_next_commit_reply()
    archiver.offer(bucket(number=1))

    _check_whole(archiver, database, 2)
    assert 1 == archiver.tally.total("batches_deduplicated_total")
    archiver.stop(5)


def test_unwritable_audio(database: str, tmp_path: Path) -> None:
    """Where no audio can be written, the numbers go on and a gap says why."""
    migrate(database)
    archiver = Archiver(settings(tmp_path, database), has_retention=False)
    archiver.start()
    archiver.audio_path.rmdir()
    archiver.audio_path.touch()
    archiver.offer(bucket())

    _check_whole(archiver, database, 1)
    assert "disk_full" == _scalar(database, "SELECT cause FROM gaps WHERE samples = 1600")
    assert 1_600 == archiver.accounting()["dropped"]
    archiver.stop(5)


def test_killed_process(database: str, tmp_path: Path) -> None:
    """After kill -9 nothing acknowledged is missing, and the open call ended by a crash."""
    migrate(database)
    command = [sys.executable, "-c", _CHILD, str(tmp_path), _NOWHERE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        acknowledged = child.stdout.readline()
        child.kill()
    assert "16000\n" == acknowledged

    archiver = Archiver(settings(tmp_path, database), has_retention=False)
    archiver.start()
    assert archiver.wait_until_adopted()
    _check_whole(archiver, database, 10)
    archiver.stop(5)
    assert "crash" == _scalar(database, "SELECT end_reason FROM traces")


def test_retention(database: str, tmp_path: Path) -> None:
    """What is older than the limit goes, rows, hours and files, to the bucket; the young stays."""
    migrate(database)
    archiver = Archiver(settings(tmp_path, database), has_retention=False)
    archiver.start()
    for number in (0, 720, 1_080):
        archiver.offer(bucket(number=number))
    assert archiver.flush(10)
    archiver.stop(5)
    now = datetime(2026, 1, 1, 1, 30, tzinfo=UTC) + timedelta(hours=72)

    deleted = Retention(settings(tmp_path, database), Tally()).run(archiver.audio_path, now)

    assert (4, 2) == (deleted["partitions"], deleted["files"])
    assert 1 == _scalar(database, "SELECT count(*) FROM tap_buckets_5s")
    assert 1 == len(list(archiver.audio_path.rglob("*.wav")))

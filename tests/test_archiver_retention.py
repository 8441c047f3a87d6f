"""Retention that was killed half way is mended by the next one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from archiver.batch import Batch, to_entry
from archiver.database import Database
from archiver.deletion.retention import Retention
from archiver.migrations import migrate
from exporter.model import Tap
from exporter.selfmetrics import Tally
from tests.fix_archive import bucket, settings

_LATER = datetime(2026, 1, 1, 1, 30, tzinfo=UTC) + timedelta(hours=72)
_PARTITION = "tap_buckets_5s_2026010100"


def _apply(conninfo: str, number: int = 0) -> None:
    entry = to_entry(bucket(number=number), {Tap.PRE: (None, ())})
    writer = Database(conninfo, lambda: None)
    writer.apply(Batch(f"{number:032x}", "boot", number, 0, 0, (entry,)))
    writer.close()


def _detach(conninfo: str) -> None:
    """Detach a partition, and do not drop it."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(f"ALTER TABLE tap_buckets_5s DETACH PARTITION {_PARTITION}".encode())


def _detach_half_way(conninfo: str) -> None:
    """Leave a detach pending, as a kill does while it waits for a reader."""
    with (
        psycopg.connect(conninfo) as reader,
        psycopg.connect(conninfo, autocommit=True) as worker,
    ):
        reader.execute("SELECT count(*) FROM tap_buckets_5s")
        worker.execute("SET statement_timeout = '200ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            worker.execute(
                f"ALTER TABLE tap_buckets_5s DETACH PARTITION {_PARTITION} CONCURRENTLY".encode()
            )


def _tables(conninfo: str) -> int:
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_class WHERE relname LIKE '%2026010100' AND relkind = 'r'"
        ).fetchone()
    return int(row[0]) if row else -1


def _is_detaching(conninfo: str) -> bool:
    with psycopg.connect(conninfo) as connection:
        row = connection.execute("SELECT bool_or(inhdetachpending) FROM pg_inherits").fetchone()
    return bool(row and row[0])


@pytest.mark.parametrize("stop_half_way", [_detach, _detach_half_way])
def test_an_interrupted_detach_is_finished(
    database: str, tmp_path: Path, stop_half_way: object
) -> None:
    """A partition that was detached, or half detached, is dropped by the next retention."""
    migrate(database)
    _apply(database)
    assert callable(stop_half_way)
    stop_half_way(database)
    assert 4 == _tables(database)

    Retention(settings(tmp_path, database), Tally()).run(tmp_path, _LATER)

    assert 0 == _tables(database)


@pytest.mark.parametrize("stop_half_way", [_detach, _detach_half_way])
def test_a_young_partition_comes_back(database: str, tmp_path: Path, stop_half_way: object) -> None:
    """A detached partition that is young, because the limit was raised, is attached again."""
    migrate(database)
    _apply(database)
    assert callable(stop_half_way)
    stop_half_way(database)

    Retention(settings(tmp_path, database), Tally()).run(tmp_path, _LATER - timedelta(hours=2))

    with psycopg.connect(database) as connection:
        assert [(1,)] == connection.execute("SELECT count(*) FROM tap_buckets_5s").fetchall()


def test_a_stop_does_not_wait_for_a_reader(database: str, tmp_path: Path) -> None:
    """Retention that waits for somebody's long query gives up when it is stopped."""
    migrate(database)
    _apply(database)
    retention = Retention(settings(tmp_path, database), Tally())
    with psycopg.connect(database) as reader, ThreadPoolExecutor(1) as pool:
        reader.execute("SELECT count(*) FROM tap_buckets_5s")
        running = pool.submit(retention.run, tmp_path, _LATER)
        while not _is_detaching(database):
            assert not running.done()
        retention.stop()
        assert isinstance(running.exception(timeout=10), psycopg.errors.QueryCanceled)


def test_rows_come_to_an_hour_that_was_detached(database: str) -> None:
    """A late batch for an hour that was detached and not dropped is not held up for ever."""
    migrate(database)
    _apply(database)
    _detach(database)

    _apply(database, number=1)

    with psycopg.connect(database) as connection:
        assert [(2,)] == connection.execute("SELECT count(*) FROM tap_buckets_5s").fetchall()


def test_half_written_files_are_swept(database: str, tmp_path: Path) -> None:
    """What a kill left of a segment goes with its hour, and so do its folders."""
    migrate(database)
    folder = tmp_path / "2026-01-01" / "call-1" / "St_3_3333" / "PRE"
    folder.mkdir(parents=True)
    (folder / "segment_1767225600000.wav.tmp").touch()

    Retention(settings(tmp_path, database), Tally()).run(tmp_path, _LATER)

    assert [] == list(tmp_path.iterdir())

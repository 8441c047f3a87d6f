"""The upload thread: slow servers, batches that nobody can apply, and what the counts say."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from archiver import Archiver
from archiver.audio import AudioStore
from archiver.batch import Batch, Entry, encode, to_entry
from archiver.database import Database
from archiver.migrations import migrate
from exporter.model import Tap
from tests.fix_archive import bucket, settings
from tests.fix_proxy import TcpProxy


@contextmanager
def _running(folder: Path, conninfo: str) -> Iterator[Archiver]:
    archiver = Archiver(settings(folder, conninfo), has_retention=False)
    archiver.start()
    try:
        yield archiver
    finally:
        archiver.stop(5)


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _scalar(conninfo: str, query: str) -> object:
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(query.encode()).fetchone()
    return row and row[0]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_hash_is_that_of_the_file(
    database: str, tmp_path: Path, order: tuple[int, int]
) -> None:
    """Whichever half of a bucket is uploaded first, the row has the hash of the whole file."""
    migrate(database)
    store, entries = AudioStore(tmp_path), list[Entry]()
    for first in (0, 40_000):
        one = bucket(first=first)
        entries.append(to_entry(one, {Tap.PRE: (store.write(one, one.taps[0]), ())}))
    writer = Database(database, lambda: None)
    for index in order:
        writer.apply(Batch(str(uuid.uuid4()), "boot", index, 0, 0, (entries[index],)))
    writer.close()

    (path,) = tmp_path.rglob("*.wav")
    expected = hashlib.sha256(path.read_bytes()).hexdigest()

    assert expected == _scalar(database, "SELECT sha256 FROM audio_segments_5s")


def test_a_slow_database_is_not_a_hung_one(
    database: str, proxy: TcpProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that needs longer than the watchdog's first patience gets its batch in the end."""
    migrate(database)
    monkeypatch.setattr("archiver.database.HANG_S", 0.4)
    proxy.delay_s = 0.02
    with _running(tmp_path, proxy.conninfo(database)) as archiver:
        archiver.offer(bucket())

        assert archiver.flush(20)
        assert archiver.tally.total("db_watchdog_kills_total") > 0


def test_a_batch_nobody_can_apply_is_set_aside(database: str, tmp_path: Path) -> None:
    """A whole file with an entry that makes no sense is set aside; the others go on."""
    migrate(database)
    folder = tmp_path / "spool" / "earlier"
    folder.mkdir(parents=True)
    entry: Entry = {"kind": "bucket", "samples": 7}
    batch = Batch(str(uuid.uuid4()), "earlier", 1, 7, 0, (entry,))
    (folder / "000000000001.batch").write_bytes(b"".join(encode(batch)))
    with _running(tmp_path, database) as archiver:
        assert archiver.wait_until_adopted()
        archiver.offer(bucket())

        assert archiver.flush(15)
        assert (7, 1_600) == (
            archiver.accounting()["quarantined"],
            archiver.accounting()["archived"],
        )
    assert [folder / "bad" / "000000000001.batch"] == list(tmp_path.rglob("*.batch"))


def test_an_idle_process_knows_that_the_database_is_up(database: str, tmp_path: Path) -> None:
    """Without anything to upload, db_up says whether the database answers."""
    migrate(database)
    with _running(tmp_path, database) as archiver:
        _wait(lambda: archiver.tally.get("db_up") == 1)


def test_records_are_counted_alike(database: str, tmp_path: Path) -> None:
    """Offered, archived and set aside: the same kinds, and each record once."""
    migrate(database)
    with _running(tmp_path, database) as archiver:
        archiver.offer(bucket())
        assert archiver.flush(10)
        archiver.offer(bucket("bad\0id"))
        assert archiver.flush(10)

        assert 2 == archiver.tally.get("records_total", "bucket")
        assert 1 == archiver.tally.get("records_archived_total", "bucket")
        assert 1 == archiver.tally.get("records_quarantined_total", "poison")


def test_no_room_at_the_stop_is_counted(database: str, tmp_path: Path) -> None:
    """What cannot be written before the process ends is dropped by name, not forgotten."""
    with _running(tmp_path, database) as archiver:
        assert archiver.wait_until_adopted()
        folder = next((tmp_path / "spool").iterdir())
        (folder / "000000000001.batch.tmp").mkdir()
        archiver.offer(bucket())
    assert 1_600 == archiver.tally.get("samples_dropped_total", "spool_full")
    assert 0 == archiver.accounting()["queued"]

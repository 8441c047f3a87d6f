"""The spool's limit: it counts the whole path, and never what the uploader has in hand."""

from __future__ import annotations

import os
import threading
import uuid
from dataclasses import replace
from pathlib import Path

import psycopg

from archiver import Archiver
from archiver.batch import Batch, encode, to_entry
from archiver.migrations import migrate
from archiver.spool import Spool
from exporter.model import Tap, TraceStarted
from exporter.selfmetrics import Tally
from tests.fix_archive import START_NS, bucket, settings


def _batch(seq: int) -> Batch:
    entry = to_entry(bucket(number=seq), {Tap.PRE: (None, ())})
    return Batch(str(uuid.uuid4()), "boot", seq, 1_600, 0, (entry,))


def _limit(batches: float) -> int:
    return int(batches * sum(map(len, encode(_batch(1)))))


def _spool(root: Path, name: str, batches: float, *, adopts: bool = True) -> tuple[Spool, Tally]:
    tally = Tally()
    spool = Spool(root, name, max_bytes=_limit(batches), tally=tally)
    spool.open()
    if adopts:
        spool.adopt()
    return spool, tally


def test_the_oldest_gives_way(tmp_path: Path) -> None:
    """Beyond the limit the oldest batch is dropped, and its samples are counted."""
    spool, tally = _spool(tmp_path, "one", 2.5)
    for seq in range(1, 5):
        spool.write(_batch(seq))

    kept = sorted(path.name for path in spool.folder.glob("*.batch"))

    assert ["000000000003.batch", "000000000004.batch"] == kept
    assert 3_200 == tally.get("samples_dropped_total", "spool_full")
    assert 3_200 == spool.waiting_samples
    spool.close()


def test_what_gave_way_is_a_gap(database: str, tmp_path: Path) -> None:
    """Of batches for which the full spool had no room, the archive has the call and the gaps."""
    migrate(database)
    away = replace(settings(tmp_path, "host=127.0.0.1 port=1"), spool_max_bytes=_limit(8))
    archiver = Archiver(away, has_retention=False)
    archiver.start()
    archiver.offer(TraceStarted("call-1", START_NS, "3333"))
    for number in range(25):
        archiver.offer(bucket(number=number))
        while archiver.backlog:
            threading.Event().wait(0.005)
    archiver.stop(5)
    counts = archiver.accounting()
    again = Archiver(settings(tmp_path, database), has_retention=False)
    again.start()
    assert again.wait_until_adopted()
    assert again.flush(20)
    again.stop(5)

    with psycopg.connect(database) as connection:
        query = "SELECT sum(due_samples), sum(received_samples), count(*) FROM tap_buckets_5s"
        due, received, taps = connection.execute(query).fetchall()[0]
        query = "SELECT sum(samples), min(cause), max(cause) FROM gaps"
        gaps = connection.execute(query).fetchall()[0]
    assert counts["dropped"] > 0
    assert (counts["spooled"], counts["offered"]) == (received, counts["dropped"] + received)
    assert (due - received, "spool_full", "spool_full") == gaps
    assert taps > received // 1_600


def test_the_limit_counts_other_processes(tmp_path: Path) -> None:
    """Two processes together stay within the limit of their common path."""
    first, _ = _spool(tmp_path, "one", 3.5)
    for seq in (1, 2):
        first.write(_batch(seq))
    second, tally = _spool(tmp_path, "two", 3.5)
    for seq in (1, 2, 3):
        second.write(_batch(seq))

    size = sum(path.stat().st_size for path in tmp_path.rglob("*.batch"))

    assert size <= _limit(3.5)
    assert 3_200 == tally.get("samples_dropped_total", "spool_full")
    second.close()
    first.close()


def test_a_batch_in_hand_is_not_dropped(tmp_path: Path) -> None:
    """What is on its way to the database is not dropped too: it would be counted twice."""
    spool, tally = _spool(tmp_path, "one", 1.5)
    spool.write(_batch(1))
    in_hand = spool.next()

    spool.write(_batch(2))

    assert in_hand is not None
    assert in_hand.exists()
    assert 0 == tally.get("samples_dropped_total", "spool_full")
    spool.close()


def test_a_crash_is_known_until_it_is_durable(tmp_path: Path) -> None:
    """When the process that adopts dies too, the next one still ends the open calls."""
    first, _ = _spool(tmp_path, "one", 9)
    first.write_life({"open_traces": ["call-1"], "heartbeat_ns": 5})
    _die(first)
    second, _ = _spool(tmp_path, "two", 9, adopts=False)
    assert ["call-1"] == [entry["trace_id"] for entry in second.adopt()]
    _die(second)

    third, _ = _spool(tmp_path, "three", 9, adopts=False)

    assert ["call-1"] == [entry["trace_id"] for entry in third.adopt()]
    third.settle()
    third.close()
    assert [] == list(tmp_path.iterdir())


def _die(spool: Spool) -> None:
    """Let go of the locks, as the end of a process does, and do nothing else."""
    for descriptor in spool._locks.values():
        os.close(descriptor)

"""Up, down and up again: what waits in the spool is never lost between two versions."""

from __future__ import annotations

import json
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from archiver import Archiver
from archiver.batch import Batch, CorruptBatchError, UnknownBatchError, decode, encode, to_entry
from archiver.migrations import MigrationError, migrate, shipped
from exporter.model import EndReason, KnobChanged, Record, Scope, Tap, TraceEnded, TraceStarted
from tests.fix_archive import START_NS, bucket, settings

GOLDEN = Path(__file__).with_name("golden")
EVENT = str(uuid.UUID(int=1))


def golden_batch() -> Batch:
    """Return a record of each kind; golden/format_1.batch is this as version 0.1.0 wrote it."""
    records: tuple[Record, ...] = (
        TraceStarted("call-1", START_NS, "3333", "4444", attributes={"lang": "en-fr"}),
        bucket(values=(-30.0, -20.0)),
        KnobChanged(
            event_id=EVENT,
            knob_key="pcm.input_gain_db",
            old_value=0.0,
            new_value=3.0,
            changed_by="anna",
            reason="too quiet",
            scope=Scope.TRACE_STATION,
            created_ns=START_NS,
            trace_id="call-1",
            station_key="St_3_3333",
        ),
        TraceEnded("call-1", START_NS + 10**9, EndReason.HOST),
    )
    entries = tuple(to_entry(record, {Tap.PRE: (None, ())}) for record in records)
    return Batch(str(uuid.UUID(int=7)), "boot", 3, 1_600, 0, entries)


@contextmanager
def running(folder: Path, conninfo: str) -> Iterator[Archiver]:
    """Run an archiver that has looked for what others left."""
    archiver = Archiver(settings(folder, conninfo), has_retention=False)
    archiver.start()
    try:
        assert archiver.wait_until_adopted()
        yield archiver
    finally:
        archiver.stop(5)


def leave(folder: Path, content: bytes) -> Path:
    """Put a batch file into the spool, as an earlier process of another version left it."""
    path = folder / "spool" / "earlier" / "000000000003.batch"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def rows(conninfo: str, query: str) -> list[tuple[object, ...]]:
    """Ask the database."""
    with psycopg.connect(conninfo) as connection:
        return connection.execute(query.encode()).fetchall()


def as_version(batch: Batch, change: Callable[[dict[str, object]], None]) -> bytes:
    """Return a whole batch file with another header."""
    head, _, payload = encode(batch)
    header = json.loads(head)
    change(header)
    line = json.dumps(header).encode() + b"\n"
    return line + f"{zlib.crc32(payload, zlib.crc32(line)):08x}\n".encode() + payload


def format_2() -> bytes:
    """Return a batch file of a format that does not exist yet."""
    return as_version(golden_batch(), lambda header: header.update(version=2))


def later_kind() -> bytes:
    """Return a batch file with a kind of record that does not exist yet."""
    batch = golden_batch()
    entries = (*batch.entries, {"kind": "moon_phase"})
    return b"".join(
        encode(Batch(batch.batch_id, "boot", 3, batch.cum_offered, batch.cum_dropped, entries))
    )


def test_the_first_format_is_read_for_ever(database: str, tmp_path: Path) -> None:
    """A spool that version 0.1.0 wrote is uploaded by this one, with every record."""
    content = (GOLDEN / "format_1.batch").read_bytes()
    migrate(database)
    leave(tmp_path, content)

    with running(tmp_path, database) as archiver:
        assert archiver.flush(10)
        assert 0 == archiver.accounting()["quarantined"]

    query = "SELECT src_extension, end_reason, received_samples FROM traces JOIN tap_buckets_5s "
    assert [("3333", "host", 1_600)] == rows(database, query + "USING (trace_id)")
    assert [(uuid.UUID(EVENT),)] == rows(database, "SELECT event_id::uuid FROM knob_events")


@pytest.mark.parametrize("later", [format_2, later_kind])
def test_a_batch_of_a_later_version_waits(
    database: str, tmp_path: Path, later: Callable[[], bytes]
) -> None:
    """After a downgrade, what the later version left stays as it is, and nothing waits for it."""
    migrate(database)
    path, content = leave(tmp_path, later()), later()

    with running(tmp_path, database) as archiver:
        archiver.offer(bucket("call-2"))
        assert archiver.flush(10)
        counts = archiver.accounting()

    assert content == path.read_bytes()
    assert counts["offered"] + counts["adopted"] == counts["archived"] == 1_600
    assert [("call-2",)] == rows(database, "SELECT trace_id FROM tap_buckets_5s")


def test_the_later_version_uploads_it(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once that version is back, the batch is in the archive."""
    migrate(database)
    leave(tmp_path, format_2())
    with running(tmp_path, database):
        pass
    monkeypatch.setattr("archiver.batch.FORMAT_VERSION", 2)

    with running(tmp_path, database) as archiver:
        assert archiver.flush(10)

    assert [("call-1",)] == rows(database, "SELECT trace_id FROM tap_buckets_5s")
    assert [] == list((tmp_path / "spool").iterdir())


def test_a_damaged_batch_of_a_later_version_is_damaged() -> None:
    """What is kept for later is whole: a flipped bit in it is found now."""
    with pytest.raises(UnknownBatchError):
        decode(format_2())
    with pytest.raises(CorruptBatchError, match="checksum"):
        decode(format_2()[:-1] + b"\0")


def test_an_older_schema_takes_nothing_and_loses_nothing(
    database: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A host that was upgraded before its database spools, says why, and uploads afterwards."""
    migrate(database)
    number, name, _ = shipped()[-1]
    with psycopg.connect(database) as connection:
        forget = "DELETE FROM schema_migrations WHERE number = %s RETURNING sha256"
        digest = connection.execute(forget, [number]).fetchone()
    with running(tmp_path, database) as archiver:
        archiver.offer(bucket())
        assert not archiver.flush(1.5)
        assert 1_600 == archiver.accounting()["spooled"]
        assert 0 == archiver.tally.get("db_up")
        with psycopg.connect(database) as connection:
            connection.execute(
                "INSERT INTO schema_migrations (number, name, sha256) VALUES (%s, %s, %s)",
                [number, name, digest and digest[0]],
            )

        assert archiver.flush(20)
        assert 1_600 == archiver.accounting()["archived"]
    assert "run `monitoring db init`" in caplog.text


def test_a_newer_schema_is_accepted(database: str, tmp_path: Path) -> None:
    """A host that has not been upgraded yet goes on uploading into a schema with more in it."""
    migrate(database)
    with psycopg.connect(database) as connection:
        connection.execute("ALTER TABLE traces ADD COLUMN moon text")
        connection.execute("ALTER TABLE tap_buckets_5s ADD COLUMN moon text NOT NULL DEFAULT ''")
        connection.execute(
            "INSERT INTO schema_migrations (number, name, sha256) VALUES (998, '998_moon.sql', '')"
        )

    with running(tmp_path, database) as archiver:
        archiver.offer(TraceStarted("call-1", START_NS, "3333"))
        archiver.offer(bucket())
        assert archiver.flush(10)
        assert 1_600 == archiver.accounting()["archived"]

    with pytest.raises(MigrationError, match="install the newer version"):
        migrate(database)

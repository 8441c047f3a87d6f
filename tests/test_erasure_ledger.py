"""The ledger of erased calls: it knows them, names nobody, and erases again what comes back."""

from __future__ import annotations

import hashlib
import hmac
import json

import psycopg
import pytest

from archiver.deletion import ledger
from archiver.migrations import migrate
from tests.fix_seeded import CALLS, Seeded

FIRST, SECOND = CALLS[0].trace_id, CALLS[1].trace_id
TABLES = (
    *("traces", "call_totals", "tap_buckets_5s", "metrics_agg_5s", "audio_segments_5s"),
    *("knob_snapshots_5s", "knob_events", "gaps"),
)


def put_down(conninfo: str, *trace_ids: str) -> None:
    """Put calls into the ledger, and do nothing else."""
    with psycopg.connect(conninfo) as connection:
        ledger.begin(connection, trace_ids, "test")


def erased(conninfo: str, *trace_ids: str) -> set[str]:
    """Ask which of these calls are erased, with the writer's rights."""
    with psycopg.connect(conninfo) as connection:
        connection.execute("SET LOCAL ROLE monitoring_writer")
        return ledger.is_erased(connection, trace_ids)


def rows_of(seeded: Seeded, trace_id: str) -> int:
    """Count the rows of a call in all tables."""
    counts = (f"(SELECT count(*) FROM {name} WHERE trace_id = '{trace_id}')" for name in TABLES)
    return int(str(seeded.query(f"SELECT {' + '.join(counts)}")[0][0]))


def test_erased_calls_are_known_and_others_are_not(database: str) -> None:
    """A call in the ledger is found among others; names that SQL cannot have are not."""
    migrate(database)
    put_down(database, FIRST)

    assert {FIRST} == erased(database, FIRST, SECOND, "a\0b", "\ud800", "")
    assert set() == erased(database)


def test_the_ledger_is_an_hmac_and_names_nobody(database: str) -> None:
    """The hash is HMAC-SHA256 under the archive's key, and no table has the call's name."""
    migrate(database)
    put_down(database, FIRST)

    with psycopg.connect(database) as connection:
        row = connection.execute(
            "SELECT trace_hash, inner_pad FROM erased_traces JOIN erasure_keys USING (key_id)"
        ).fetchone()
        text = connection.execute("SELECT e::text FROM erasures e").fetchone()
    assert row is not None
    key = bytes(byte ^ 0x36 for byte in row[1])
    assert hmac.new(key, FIRST.encode(), hashlib.sha256).digest() == row[0]
    assert text is not None
    assert FIRST not in text[0]


def test_a_restored_call_goes_again(seeded: Seeded) -> None:
    """What a restore has brought back of an erased call goes, rows and files; the rest stays."""
    others = rows_of(seeded, SECOND)
    put_down(seeded.conninfo, FIRST)

    counts = ledger.reapply(seeded.conninfo, seeded.audio)

    assert (1, 48) == (counts["traces"], counts["files"])
    assert (0, others) == (rows_of(seeded, FIRST), rows_of(seeded, SECOND))
    assert {SECOND, CALLS[2].trace_id} == {path.name for path in seeded.audio.glob("*/*")}
    assert not ledger.has_unfinished(seeded.conninfo)
    assert 0 == ledger.reapply(seeded.conninfo, seeded.audio)["traces"]


def test_a_ledger_goes_to_an_archive_of_another_time(database: str, seeded: Seeded) -> None:
    """What was erased after a backup is erased from its restore, with a ledger that was kept."""
    put_down(seeded.conninfo, FIRST)
    kept = ledger.dump(seeded.conninfo)
    with psycopg.connect(seeded.conninfo) as connection:
        # As in a backup of before the erasure, and of an archive with another key.
        connection.execute("TRUNCATE erased_traces, erasures, erasure_keys")
        connection.execute(
            "INSERT INTO erasure_keys SELECT gen_random_uuid(), p, p FROM "
            "decode(repeat('11', 64), 'hex') AS p"
        )

    assert (1, 0) == (ledger.load(database, kept), ledger.load(database, kept))
    assert 1 == ledger.reapply(seeded.conninfo, seeded.audio)["traces"]
    assert FIRST not in kept


@pytest.mark.parametrize("text", ["", "{}", json.dumps({"keys": 1}), "[]"])
def test_what_is_no_ledger_is_refused(database: str, text: str) -> None:
    """A file that is something else changes nothing, and the error says so."""
    migrate(database)
    with pytest.raises(ledger.LedgerError, match="no ledger"):
        ledger.load(database, text)

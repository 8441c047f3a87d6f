"""Erasure: everything of a call goes, nothing of it comes back, and the receipt says how much."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from archiver import Archiver
from archiver.access_log import Access, AccessKind, record
from archiver.deletion.erasure import ErasureError, Request, erase
from archiver.deletion.holds import hold, release
from archiver.migrations import migrate
from archiver.segments import Place
from exporter.model import EndReason, TraceEnded, TraceStarted
from tests.fix_archive import START_NS, bucket, settings
from tests.fix_proxy import TcpProxy
from tests.fix_seeded import CALLS, Seeded

FIRST, SECOND, THIRD = (call.trace_id for call in CALLS)
TABLES_OF_CALLS = (
    *("traces", "call_totals", "tap_buckets_5s", "metrics_agg_5s", "audio_segments_5s"),
    *("knob_snapshots_5s", "knob_events", "gaps", "audio_access"),
)


def left(conninfo: str, trace_id: str) -> int:
    """Count what all tables still have of a call."""
    with psycopg.connect(conninfo) as connection:
        total = 0
        for table in TABLES_OF_CALLS:
            query = f"SELECT count(*) FROM {table} WHERE trace_id = %s".encode()
            row = connection.execute(query, [trace_id]).fetchone()
            total += row[0] if row else 0
    return total


def listen(seeded: Seeded, trace_id: str) -> None:
    """Write down that somebody heard a call."""
    now = datetime.now(UTC)
    place = Place(trace_id, "St_3_3333", "PRE")
    with psycopg.connect(seeded.conninfo) as connection:
        record(
            connection,
            Access("alice", "listen", place, now, now, 0, 9, AccessKind.LISTEN, "0" * 16),
        )


def test_a_call_goes_and_the_others_stay(seeded: Seeded) -> None:
    """Rows of every table and all files of one call go; of the others, none."""
    listen(seeded, FIRST)
    before = {trace_id: left(seeded.conninfo, trace_id) for trace_id in (SECOND, THIRD)}

    code, out, _ = seeded.call("traces", "erase", FIRST, "--reason", "asked", "--yes", "--json")

    assert 0 == code
    receipt = json.loads(out)
    assert 0 == left(seeded.conninfo, FIRST)
    assert before == {trace_id: left(seeded.conninfo, trace_id) for trace_id in (SECOND, THIRD)}
    assert {SECOND, THIRD} == {path.name for path in seeded.audio.glob("*/*")}
    assert (48, 48 * 80_044) == (receipt["files"], receipt["file_bytes"])
    assert (1, 48, 1) == tuple(
        receipt["rows"][table] for table in ("traces", "tap_buckets_5s", "audio_access")
    )
    assert [(f"{receipt['rows']['metrics_agg_5s']}",)] == seeded.query(
        "SELECT counts ->> 'metrics_agg_5s' FROM erasures WHERE finished_at IS NOT NULL"
    )


def test_who_listened_is_still_known_but_not_to_whom(seeded: Seeded) -> None:
    """The access log keeps its row; the call's name gives way to a hash."""
    listen(seeded, FIRST)
    seeded.call("traces", "erase", FIRST, "--reason", "asked", "--yes")

    ((name, trace_id),) = seeded.query("SELECT token_name, trace_id FROM audio_access")

    assert "alice" == name
    assert str(trace_id).startswith("erased-")


def test_the_login_of_erasure_is_enough(seeded: Seeded) -> None:
    """A login with the rights of erasure alone erases everything, and cannot let a hold go."""
    login = make_conninfo(seeded.conninfo, user="monitoring_erasure")
    own = replace(settings(seeded.folder, login), audio_path=seeded.audio)

    receipt = erase(own, Request(FIRST), "asked")

    assert (0, 48) == (left(seeded.conninfo, FIRST), receipt.files)
    hold(seeded.conninfo, SECOND, "case 7")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        release(login, SECOND)


def test_a_trial_changes_nothing_and_counts_the_same(seeded: Seeded) -> None:
    """A dry run names what would go, with the counts that the erasure then has."""
    options = ("traces", "erase", FIRST, "--reason", "asked", "--json")
    _, trial, _ = seeded.call(*options, "--dry-run")
    assert [(0,)] == seeded.query("SELECT count(*) FROM erasures")
    _, done, _ = seeded.call(*options, "--yes")

    counts = [(r["rows"], r["files"], r["file_bytes"]) for r in map(json.loads, (trial, done))]
    assert counts[0] == counts[1]


def test_calls_of_an_extension_and_of_a_host(seeded: Seeded) -> None:
    """An extension and a time, or the host's own id, name several traces."""
    begun = datetime.fromtimestamp(seeded.start_ns / 1e9, UTC)
    between = (str(begun - timedelta(hours=2)), str(begun - timedelta(hours=1)))
    code, _, err = seeded.call(
        *("traces", "erase", "--extension", "4444", "--reason", "x", "--yes"), "--between", *between
    )
    assert (1, True) == (code, "no call" in err)

    code, out, _ = seeded.call("traces", "erase", "--call-id", "call-77", "--reason", "x", "--yes")
    assert (0, True) == (code, "calls erased: 2" in out)
    between = (str(begun - timedelta(hours=1)), str(begun + timedelta(hours=1)))
    code, out, _ = seeded.call(
        *("traces", "erase", "--extension", "4444", "--reason", "x", "--yes"), "--between", *between
    )
    assert (0, True) == (code, "calls erased: 1" in out)
    assert [] == list(seeded.audio.rglob("*.wav"))


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        (("--extension", "3333"), 2, "--between"),
        (("seed_2", "--between", "2026-01-01", "2026-01-02"), 2, "--extension"),
        (("--extension", "1", "--between", "2026-01-02", "2026-01-01"), 2, "earlier"),
        (("--extension", "1", "--between", "yesterday", "2026-01-01"), 2, "yesterday"),
        (("--call-id", "nobody"), 1, "no call"),
        (("../../etc",), 1, "no key"),
        ((), 2, "required"),
    ],
)
def test_what_is_asked_wrongly_erases_nothing(
    seeded: Seeded, options: tuple[str, ...], code: int, word: str
) -> None:
    """A wrong request ends with its name, and changes nothing."""
    found, _, err = seeded.call("traces", "erase", *options, "--reason", "x", "--yes")

    assert (code, True) == (found, word in err)
    assert [(0, 3)] == seeded.query(
        "SELECT (SELECT count(*) FROM erasures), (SELECT count(*) FROM traces)"
    )


def test_without_a_person_to_ask_it_wants_a_yes(seeded: Seeded) -> None:
    """In a script, an erasure without --yes is refused."""
    code, _, err = seeded.call("traces", "erase", FIRST, "--reason", "x")

    assert (2, True) == (code, "--yes" in err)
    assert 0 < left(seeded.conninfo, FIRST)


def test_a_held_call_is_not_erased_nor_are_those_asked_with_it(seeded: Seeded) -> None:
    """Legal hold wins over erasure until it is released."""
    assert 0 == seeded.call("traces", "hold", FIRST, "--reason", "case 7")[0]
    erasing = ("traces", "erase", "--call-id", "call-77", "--reason", "x", "--yes")

    code, _, err = seeded.call(*erasing)

    assert (1, True) == (code, FIRST in err)
    assert 0 < left(seeded.conninfo, SECOND)
    assert 0 == seeded.call("traces", "release", FIRST)[0]
    assert 0 == seeded.call(*erasing)[0]
    assert 1 == seeded.call("traces", "hold", FIRST, "--reason", "too late")[0]


def test_the_receipt_is_for_its_owner_alone(seeded: Seeded, tmp_path: Path) -> None:
    """The receipt's file is new, mode 0600, and says what was not reached."""
    for name in ("receipt.json", "receipt.txt"):
        path = tmp_path / name
        options = ("traces", "erase", FIRST, "--reason", "x", "--yes", "-o", str(path))
        assert 0 == seeded.call(*options)[0]
        assert 0o600 == path.stat().st_mode & 0o777
        assert "Prometheus" in path.read_text(encoding="utf-8")
        assert 2 == seeded.call(*options)[0]
    assert FIRST in json.loads((tmp_path / "receipt.json").read_text())["trace_ids"]


def _offer(archiver: Archiver, trace_id: str, numbers: range) -> None:
    for number in numbers:
        archiver.offer(bucket(trace_id, number))


def _is_accounted(archiver: Archiver) -> bool:
    counts = archiver.accounting()
    return counts.pop("offered") + counts.pop("adopted") == sum(counts.values())


def test_a_call_that_runs_is_forgotten_from_then_on(database: str, tmp_path: Path) -> None:
    """Erased while it runs: the process learns of it, stores no more, and counts what it drops."""
    migrate(database)
    own = settings(tmp_path, database)
    archiver = Archiver(own, has_retention=False)
    archiver.start()
    for trace_id in ("call-1", "call-2"):
        archiver.offer(TraceStarted(trace_id, START_NS, "3333"))
        _offer(archiver, trace_id, range(3))
    assert archiver.flush(10)
    erase(own, Request("call-1"), "asked")
    _offer(archiver, "call-1", range(3, 5))
    assert archiver.flush(10)
    assert 2 * 1_600 == archiver.tally.get("samples_dropped_total", "erased")
    written = archiver.tally.total("audio_segments_written_total")
    _offer(archiver, "call-1", range(5, 8))
    archiver.offer(TraceEnded("call-1", START_NS + 40 * 10**9, EndReason.HOST))
    _offer(archiver, "call-2", range(3, 5))

    assert archiver.flush(10)
    assert written + 2 == archiver.tally.total("audio_segments_written_total")
    assert _is_accounted(archiver)
    assert 1 == archiver.tally.get("erasures_total", "refused")
    archiver.stop(5)
    assert 0 == left(database, "call-1")
    assert {"call-2"} == {path.parts[-4] for path in own.audio_path.rglob("*.wav")}
    assert 5 == len(list(own.audio_path.rglob("*.wav")))


def test_what_waited_in_an_outage_does_not_come_back(
    database: str, proxy: TcpProxy, tmp_path: Path
) -> None:
    """Erased while its process cannot reach the database: after the drain, no row and no file."""
    migrate(database)
    own = settings(tmp_path, database)
    archiver = Archiver(replace(own, db=proxy.conninfo(database)), has_retention=False)
    archiver.start()
    _offer(archiver, "call-1", range(2))
    assert archiver.flush(10)
    proxy.cut()
    archiver.offer(TraceStarted("call-1", START_NS, "3333"))
    _offer(archiver, "call-1", range(2, 6))
    _offer(archiver, "call-2", range(2))
    assert not archiver.flush(0.5)
    receipt = erase(own, Request("call-1"), "asked")
    assert receipt.spool["left_batches"] > 0
    proxy.restore()

    assert archiver.flush(20)
    assert _is_accounted(archiver)
    archiver.stop(5)
    assert (0, 6) == (left(database, "call-1"), receipt.files)
    assert {"call-2"} == {path.parts[-4] for path in own.audio_path.rglob("*.wav")}


def test_the_spool_of_a_dead_process_is_scrubbed(database: str, tmp_path: Path) -> None:
    """Batches without an owner, and what was set aside, lose the records of the call at once."""
    migrate(database)
    own = settings(tmp_path, database)
    dead = Archiver(replace(own, db="host=127.0.0.1 port=1 dbname=none"), has_retention=False)
    dead.start()
    _offer(dead, "call-1", range(2))
    _offer(dead, "call-2", range(2))
    dead.stop(5)
    (folder,) = own.spool_path.iterdir()
    bad = folder / "bad"
    bad.mkdir()
    (bad / "x.json").write_text(json.dumps({"reason": "poison", "entry": {"trace_id": "call-1"}}))
    (bad / "1.batch").write_bytes(b"damaged")

    receipt = erase(own, Request("call-1"), "asked")

    assert (3, 1) == (receipt.spool["records"], receipt.spool["unreadable"])
    assert ["1.batch"] == [path.name for path in bad.iterdir()]
    drain = Archiver(own, has_retention=False)
    drain.start()
    assert drain.wait_until_adopted()
    assert drain.flush(10)
    assert (2 * 1_600, 0) == (
        drain.accounting()["archived"],
        drain.tally.total("samples_dropped_total"),
    )
    drain.stop(5)
    assert 0 == left(database, "call-1")


def test_an_erasure_waits_for_uploads_that_have_asked(database: str, tmp_path: Path) -> None:
    """Rows that a transaction is writing, which found the call not erased, are erased after it."""
    migrate(database)
    own = settings(tmp_path, database)
    with psycopg.connect(database) as uploader:
        uploader.execute("SELECT erased_among('{call-1}')")
        uploader.execute(
            "INSERT INTO traces (trace_id, started_at, src_extension) VALUES ('call-1', now(), '1')"
        )
        with psycopg.connect(database, autocommit=True) as other:
            other.execute("SET lock_timeout = '200ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                other.execute("SELECT begin_erasure(gen_random_uuid(), '{call-1}', 'x')")
    erase(own, Request("call-1"), "asked")

    assert 0 == left(database, "call-1")


def test_an_id_that_nobody_knows_is_put_down_nevertheless(database: str, tmp_path: Path) -> None:
    """A call that only a spool far away has is refused when it comes."""
    migrate(database)
    own = settings(tmp_path, database)
    erase(own, Request("call-9"), "asked")
    archiver = Archiver(own, has_retention=False)
    archiver.start()
    _offer(archiver, "call-9", range(1))
    assert archiver.flush(10)
    archiver.stop(5)

    assert 0 == left(database, "call-9")
    assert [] == list(own.audio_path.rglob("*.wav"))


def test_a_call_goes_within_a_minute(seeded: Seeded) -> None:
    """Erasing a call takes far less than the minute that it may."""
    begun = time.monotonic()
    assert 0 == seeded.call("traces", "erase", FIRST, "--reason", "x", "--yes")[0]
    assert time.monotonic() - begun < 60


def test_a_database_without_the_ledger_is_said_so(seeded: Seeded) -> None:
    """Of a schema that is older, the error names the command that helps."""
    seeded.query("DROP FUNCTION begin_erasure")
    code, _, err = seeded.call("traces", "erase", FIRST, "--reason", "x", "--yes")
    assert (1, True) == (code, "db migrate" in err)


def test_no_call_of_a_request_is_an_error(database: str, tmp_path: Path) -> None:
    """A host's id that no call has is said to be so."""
    migrate(database)
    with pytest.raises(ErasureError, match="no call"):
        erase(settings(tmp_path, database), Request(call_id="nobody"), "asked")


def test_a_phone_number_finds_its_calls_and_goes_with_them(database: str, tmp_path: Path) -> None:
    """A number that stands masked in the call is erased by what it is, and is nowhere then."""
    migrate(database)
    own = settings(tmp_path, database)
    archiver = Archiver(own, has_retention=False)
    archiver.start()
    number = "491511234567"
    archiver.offer(TraceStarted("call-1", START_NS, "0a1b2c3d", src_number=number))
    _offer(archiver, "call-1", range(2))
    assert archiver.flush(10)
    archiver.stop(5)
    begun = datetime.fromtimestamp(START_NS / 1e9, UTC)

    hour = timedelta(hours=1)
    erase(own, Request(extension=number, since=begun - hour, until=begun + hour), "asked")

    assert 0 == left(database, "call-1")
    with psycopg.connect(database) as connection:
        assert [(0,)] == connection.execute("SELECT count(*) FROM phone_numbers").fetchall()

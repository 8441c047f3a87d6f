"""The database writer: once in effect, halves merge, bad rows stand aside, few rights."""

from __future__ import annotations

import uuid
from dataclasses import replace

import psycopg
import pytest
from psycopg import sql

from archiver.batch import Batch, Entry, to_entry
from archiver.database import Applied, Database
from archiver.migrations import migrate, shipped
from exporter.aggregates import Aggregate, Aggregates
from exporter.model import (
    LOSS,
    Bucket,
    Cause,
    EndReason,
    Record,
    Run,
    Tap,
    TraceEnded,
    TraceStarted,
)
from tests.fix_archive import START_NS, bucket


def _entries(records: tuple[Record, ...]) -> tuple[Entry, ...]:
    return tuple(to_entry(record, {Tap.PRE: (None, ())}) for record in records)


def _batch(*records: Record) -> Batch:
    return Batch(str(uuid.uuid4()), "boot", 1, 1_600, 0, _entries(records))


def _apply(conninfo: str, *batches: Batch) -> list[Applied]:
    database = Database(conninfo, lambda: None)
    try:
        return [database.apply(batch) for batch in batches]
    finally:
        database.close()


def _rows(conninfo: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(conninfo) as connection:
        return connection.execute(query.encode()).fetchall()


def test_migrating_twice_is_migrating_once(database: str) -> None:
    """A second migration finds everything done."""
    assert [name for _, name, _ in shipped()] == migrate(database).applied
    assert [] == migrate(database).applied


def test_a_batch_is_applied_once(database: str) -> None:
    """The second time, a batch is known and changes nothing."""
    migrate(database)
    batch = _batch(bucket())

    first, second = _apply(database, batch, batch)

    assert (False, True) == (first.was_known, second.was_known)
    assert [(1_600,)] == _rows(database, "SELECT received_samples FROM tap_buckets_5s")


def test_disjoint_halves_merge(database: str) -> None:
    """Two halves of a bucket become one row per metric; a number of frames adds up."""
    migrate(database)
    late = _batch(bucket(first=40_000, values=(-4.0, 6.0)))
    early = _batch(bucket(values=(1.0, 2.0, 3.0)))

    _apply(database, late, early)

    query = "SELECT count, min, max, sum, avg, last FROM metrics_agg_5s ORDER BY metric_key"
    expected = [(5, -4.0, 6.0, 8.0, 1.6, 6.0), (1, 10.0, 10.0, 10.0, 10.0, 10.0)]
    assert expected == _rows(database, query)
    assert [(3_200,)] == _rows(database, "SELECT received_samples FROM tap_buckets_5s")


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_halves_the_larger_one_says_what_has_one_value(database: str, order: int) -> None:
    """A metric with one value a bucket, and the health, are those of the half with more audio."""
    migrate(database)
    large, small = _scored(bucket(), 4_800, 90.0), _scored(bucket(first=40_000), 1_600, 20.0)

    _apply(database, *[_batch(half) for half in (large, small)][::order])

    query = "SELECT count, min, max, avg FROM metrics_agg_5s WHERE metric_key = "
    assert [(1, 90.0, 90.0, 90.0)] == _rows(database, query + "'health.audio_score'")
    assert [(90.0, "loss", 10.0)] == _rows(database, "SELECT score, defect, points FROM v_health")


def _scored(half: Bucket, samples: int, score: float) -> Bucket:
    """Return a bucket with so much audio and that health."""
    (tap,) = half.taps
    health = Aggregate("health.audio_score", 1, score, score, score, score, half.bucket_ns)
    run = Run(tap.first_sample, bytes(2 * samples))
    aggregates, costs = Aggregates.of((*tap.aggregates, health)), {"loss": 100.0 - score}
    scored = replace(tap, due_samples=samples, runs=(run,), aggregates=aggregates, health=costs)
    return replace(half, taps=(scored,))


def test_attributes_that_came_during_a_call_join_the_first_ones(database: str) -> None:
    """What is known at the end is added to what was known at the start, in any order."""
    migrate(database)
    start = TraceStarted("call-1", START_NS, "3333", attributes={"lang": "en-fr"})
    end = TraceEnded("call-1", START_NS, EndReason.HOST, {"asterisk.channel_state": "Up"})

    _apply(database, _batch(end), _batch(start))

    expected = {"lang": "en-fr", "asterisk.channel_state": "Up"}
    assert [(expected,)] == _rows(database, "SELECT attributes FROM traces")


def test_an_overlap_is_set_aside(database: str) -> None:
    """Samples that the archive has already are refused as a conflict, and change nothing."""
    migrate(database)

    _, second = _apply(database, _batch(bucket()), _batch(bucket(first=800)))

    assert ["trace_conflict"] == [reason for _, reason in second.refused]
    assert 1_600 == second.refused_samples
    assert [(1_600,)] == _rows(database, "SELECT received_samples FROM tap_buckets_5s")


@pytest.mark.parametrize("poison", [bucket("a\0b"), replace(bucket("bad"), bucket_ns=10**25)])
def test_poison_does_not_hold_up_others(database: str, poison: Record) -> None:
    """One bad record of many stands aside alone."""
    migrate(database)
    good = [bucket(number=number) for number in range(5)]

    (applied,) = _apply(database, _batch(*good[:2], poison, *good[2:]))

    assert 1 == len(applied.refused)
    assert [(5,)] == _rows(database, "SELECT count(*) FROM tap_buckets_5s")


def test_an_end_may_come_before_its_start(database: str) -> None:
    """Batches of one call arrive in any order, and its row is whole in the end."""
    migrate(database)
    end = _batch(TraceEnded("call-1", START_NS + 10**9, EndReason.HOST))

    _apply(database, end, _batch(TraceStarted("call-1", START_NS, "3333")))

    query = "SELECT src_extension, end_reason, ended_at - started_at = '1 s' FROM traces"
    assert [("3333", "host", True)] == _rows(database, query)


def test_an_hour_that_retention_dropped_is_made_again(database: str) -> None:
    """Rows for a partition that is gone are no poison: the next attempt makes it."""
    migrate(database)
    writer, batch = Database(database, lambda: None), _batch(bucket(number=1))
    writer.apply(_batch(bucket()))
    with psycopg.connect(database) as connection:
        connection.execute("DROP TABLE tap_buckets_5s_2026010100")

    with pytest.raises(psycopg.errors.CheckViolation):
        writer.apply(batch)
    applied = writer.apply(batch)
    writer.close()

    assert [] == applied.refused


CLOSED: set[tuple[object, ...]] = {("listens",)}


def test_the_reader_sees_views_alone(database: str) -> None:
    """The reader's role may ask every view but who listened, and no table."""
    migrate(database)
    query = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND "
    views = _rows(database, query + "relkind = 'v'")
    tables = _rows(database, query + "relkind IN ('r', 'p')")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("SET ROLE monitoring_reader")
        for (name,) in set(views) - CLOSED:
            connection.execute(f"SELECT count(*) FROM {name}".encode())
        for (name,) in {*tables, *CLOSED}:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"SELECT count(*) FROM {name}".encode())
    assert {"v_metrics", "v_gaps", "v_health"} <= {name for (name,) in views}


def test_the_views_know_what_is_loss(database: str) -> None:
    """The view of gaps calls loss what the vocabulary calls loss."""
    migrate(database)
    insert = "INSERT INTO gaps VALUES ('call-1', 'St_1', 'PRE', now(), %s, 1, %s)"
    with psycopg.connect(database) as connection:
        for number, cause in enumerate(Cause):
            connection.execute(insert, [number, cause])

    found = _rows(database, "SELECT cause FROM v_gaps WHERE is_loss")

    assert LOSS == {cause for (cause,) in found}


def test_a_plain_login_is_enough(database: str) -> None:
    """Without superuser or CREATEROLE the archive works, and says what is left to be run."""
    name = psycopg.conninfo.conninfo_to_dict(database)["dbname"]
    with psycopg.connect(database) as connection:
        connection.execute(f"CREATE ROLE plain_{name} LOGIN".encode())
        connection.execute(f"GRANT ALL ON SCHEMA public TO plain_{name}".encode())
    plain = psycopg.conninfo.make_conninfo(database, user=f"plain_{name}")
    try:
        report = migrate(plain)
        (applied,) = _apply(plain, _batch(bucket()))
        assert [] == applied.refused
        assert [(1,)] == _rows(plain, "SELECT count(*) FROM tap_buckets_5s")
        assert shipped()[-1][0] == report.version
    finally:
        with psycopg.connect(database) as connection:
            connection.execute(f"DROP OWNED BY plain_{name}".encode())
            connection.execute(f"DROP ROLE plain_{name}".encode())


@pytest.mark.parametrize("statement", ["DELETE FROM {}", "DROP TABLE {}"])
def test_the_writer_neither_deletes_nor_drops(database: str, statement: str) -> None:
    """The writer's role may not take anything away."""
    migrate(database)
    with psycopg.connect(database) as connection:
        connection.execute("SET ROLE monitoring_writer")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(sql.SQL(statement).format(sql.Identifier("traces")))


def test_the_session_gives_up_its_rights(database: str) -> None:
    """A superuser's login writes as the writer: what that may not do, fails."""
    migrate(database)
    with psycopg.connect(database) as connection:
        connection.execute("REVOKE INSERT ON traces FROM monitoring_writer")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        _apply(database, _batch(TraceStarted("call-1", START_NS, "3333")))

"""Retention by kind, by pressure and under holds."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from archiver import Archiver
from archiver.deletion.holds import unchanged
from archiver.deletion.retention import EVERY, Retention
from archiver.deletion.space import Space, measure
from archiver.deletion.steps import Done
from archiver.deletion.tree import Removed
from archiver.migrations import migrate
from archiver.segments import was_deleted
from exporter.config import Settings, load_settings
from exporter.errors import ConfigError
from exporter.model import KnobChanged, Scope
from exporter.selfmetrics import Tally
from tests.fix_archive import START_NS, settings
from tests.fix_deletion import World
from tests.fix_postgres import is_allowed_to
from tests.fix_retention import BUCKETS_PER_HOUR, FULL, HOUR, PLENTY, START, files, fill, names, run
from tests.fix_seeded import CALLS, Seeded


def test_audio_goes_before_its_numbers(own: Settings) -> None:
    """Sound and its rows go after a day, numbers after three, each to the bucket."""
    fill(own, {"old": [0], "young": [BUCKETS_PER_HOUR]})

    run(own, timedelta(hours=24.5))
    assert (["young"], ["young"]) == (names(own, "audio_segments_5s"), files(own))
    assert ["old", "young"] == names(own, "metrics_agg_5s") == names(own, "traces")

    run(own, timedelta(hours=72.5))
    for table in ("tap_buckets_5s", "metrics_agg_5s", "knob_snapshots_5s", "traces", "call_totals"):
        assert ["young"] == names(own, table)
    assert [] == files(own)
    run(own, timedelta(hours=74))
    assert [] == names(own, "traces") + names(own, "call_totals")
    assert [] == list(own.audio_path.iterdir())


def test_nothing_outlives_its_limit_by_ten_minutes(own: Settings) -> None:
    """Retention every five minutes, across midnight: nothing is ever older than limit + 10 min."""
    own = replace(own, retention_audio_hours=1.0, retention_hours=2.0)
    hours = 27  # across midnight
    fill(own, {f"call-{n}": [n, n + 7] for n in range(0, hours * BUCKETS_PER_HOUR, 97)})
    slack = timedelta(minutes=10)
    retention = Retention(own, Tally(), measure=lambda _: PLENTY)
    now = START + timedelta(hours=22)
    while now < START + timedelta(hours=25):
        now += EVERY
        retention.run(own.audio_path, now, has_walk=False)
        with psycopg.connect(own.db) as connection:
            for table, hours_kept in (("audio_segments_5s", 1), ("metrics_agg_5s", 2)):
                query = f"SELECT min(bucket_ts) FROM {table}".encode()
                ((oldest,),) = connection.execute(query).fetchall()
                limit = now - timedelta(hours=hours_kept)
                assert limit <= oldest
                assert oldest >= limit - slack
        stamps = [int(p.stem.rpartition("_")[2]) / 1e3 for p in own.audio_path.rglob("*.wav")]
        assert (now - HOUR).timestamp() <= min(stamps)


def test_who_turned_a_knob_is_known_for_longer(own: Settings) -> None:
    """Knob events outlive the call by the setting of their own."""
    fill(own, {"old": [0]})
    archiver = Archiver(own, has_retention=False)
    archiver.start()
    event = ("0" * 32, "limiter.enabled", True, False, "alice", "", Scope.TRACE, START_NS)
    archiver.offer(KnobChanged(*event, "old"))
    assert archiver.flush(10)
    archiver.stop(5)

    run(own, timedelta(hours=100))
    assert ["old"] == names(own, "knob_events")
    run(own, timedelta(days=91))
    assert [] == names(own, "knob_events")


def test_the_access_log_ends_with_its_age_and_not_before(own: Settings) -> None:
    """Rows about who listened stay for a year, and no role can take them away earlier."""
    migrate(own.db)
    add = (
        "INSERT INTO audio_access (at, token_name, role, trace_id, station_key, tap, from_ts, "
        "to_ts, first_byte, last_byte, kind, client_hash) SELECT now() - age, 'a', 'listen', 'c', "
        "'s', 'PRE', now(), now(), 0, 1, 'listen', 'x' FROM unnest(%s::interval[]) AS age"
    )
    with psycopg.connect(own.db) as connection:
        connection.execute(add, [["1 day", "40 days", "366 days"]])
    retention = Retention(own, Tally(), measure=lambda _: PLENTY)

    assert 1 == retention.run(own.audio_path, datetime.now(UTC))["audio_access"]
    with psycopg.connect(own.db) as connection:
        connection.execute("SET ROLE monitoring_retention")
        found = connection.execute("SELECT forget_accesses('infinity')").fetchone()
    assert (1,) == found  # that of forty days; younger than thirty, none goes


def test_a_call_that_runs_for_days_keeps_its_row(own: Settings) -> None:
    """A call is as old as the newest that is known of it."""
    fill(own, {"long": [0, 80 * BUCKETS_PER_HOUR]})
    with psycopg.connect(own.db) as connection:
        connection.execute("UPDATE traces SET ended_at = NULL")

    run(own, timedelta(hours=81))

    assert ["long"] == names(own, "traces") == names(own, "tap_buckets_5s")


def test_a_held_call_survives_age(own: Settings) -> None:
    """Of an hour with a held call, the others go; released, it goes as well."""
    fill(own, {"held": [0, 1], "other": [0, 1]})
    seeded = Seeded(own.db, own.audio_path.parent, START_NS)
    assert 0 == seeded.call("traces", "hold", "held", "--reason", "case 7")[0]

    for hours in (100, 101):
        run(own, timedelta(hours=hours))
        for table in ("traces", "audio_segments_5s", "tap_buckets_5s", "knob_snapshots_5s"):
            assert ["held"] == names(own, table)
        assert ["held"] == files(own)
    code, out, _ = seeded.call("traces", "holds", "--json")
    assert (0, [("held", "case 7")]) == (
        code,
        [(each["trace_id"], each["reason"]) for each in json.loads(out)],
    )

    assert 0 == seeded.call("traces", "release", "held")[0]
    assert 1 == seeded.call("traces", "release", "held")[0]
    run(own, timedelta(hours=102))
    assert ([], []) == (names(own, "traces"), files(own))


def test_what_is_unknown_cannot_be_held(seeded: Seeded) -> None:
    """A typing error does not look like a hold."""
    code, _, err = seeded.call("traces", "hold", "cal-1", "--reason", "case 7")

    assert (1, True) == (code, "no trace 'cal-1'" in err)


def test_a_full_disk_takes_the_oldest_audio(own: Settings) -> None:
    """Hours of audio go, oldest first, until there is room; numbers stay, so do held calls."""
    own = replace(own, retention_audio_hours=None, retention_free_share=0.5)
    calls = {f"hour-{n}": [n * BUCKETS_PER_HOUR] for n in range(4)}
    fill(own, calls | {"held": [1]})
    Seeded(own.db, own.audio_path.parent, START_NS).call("traces", "hold", "held", "--reason", "x")
    tally, spaces = Tally(), [Space(100, 40), Space(100, 45), Space(100, 60)]
    retention = Retention(own, tally, measure=lambda _: spaces.pop(0))

    counts = retention.run(own.audio_path, START + timedelta(hours=6))

    assert (2, 2) == (counts["hours_by_pressure"], counts["files_by_pressure"])
    assert ["held", "hour-2", "hour-3"] == files(own) == names(own, "audio_segments_5s")
    with psycopg.connect(own.db) as connection:
        connection.execute("SET ROLE monitoring_drilldown")
        hours = [START + n * HOUR for n in range(4)]
        gone = [was_deleted(connection, hour, hour + timedelta(seconds=5)) for hour in hours]
    assert [True, True, False, False] == gone  # what tells 410 from 404
    assert 5 == len(names(own, "metrics_agg_5s"))
    assert 2 == tally.get("retention_deleted_total", "files_by_pressure")
    with psycopg.connect(own.db) as connection:
        found = connection.execute(
            "SELECT kind, reason, count(*), sum(files), count(finished_at) FROM deletions "
            "GROUP BY 1, 2"
        ).fetchall()
    assert [("audio", "pressure", 2, 2, 2)] == found


def test_a_disk_that_stays_full_keeps_what_is_being_written(
    own: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """When there is nothing else to take, the newest hours stay, and the log says what to do."""
    own = replace(own, retention_free_share=0.5)
    fill(own, {f"hour-{n}": [n * BUCKETS_PER_HOUR] for n in range(3)})
    retention = Retention(own, Tally(), measure=lambda _: FULL)

    retention.run(own.audio_path, START + timedelta(hours=3))

    assert ["hour-2"] == files(own)
    assert "make room" in caplog.text


def test_a_trial_says_what_pressure_would_take(own: Settings) -> None:
    """A dry run on a full disk counts hours and files, with what has gone by age before."""
    own = replace(own, retention_audio_hours=3.0, retention_free_share=0.5)
    fill(own, {f"hour-{n}": [n * BUCKETS_PER_HOUR] for n in range(6)})
    size = next(own.audio_path.rglob("*.wav")).stat().st_size
    full = Space(6 * size, 0)
    retention = Retention(own, Tally(), measure=lambda _: full)

    counts = retention.run(own.audio_path, START + timedelta(hours=5), is_dry=True)

    assert (2, 1) == (counts["files"], counts["files_by_pressure"])
    assert 6 == len(files(own))


def test_a_hold_waits_for_the_hour_that_goes(own: Settings) -> None:
    """While files and rows of an hour go nobody places a hold; before and after it, one may."""
    fill(own, {"call-1": [0], "call-2": [BUCKETS_PER_HOUR]})
    waits: list[str] = []

    def try_to_hold(kind: Done, what: str) -> None:
        if kind is Done.FILE:
            with psycopg.connect(own.db) as other:
                other.execute("SET LOCAL lock_timeout = '100ms'")
                with pytest.raises(psycopg.errors.LockNotAvailable):
                    other.execute("SELECT pg_advisory_xact_lock(hashtext('monitoring_v2.holds'))")
            waits.append(what)

    Retention(own, Tally()).run(own.audio_path, START + timedelta(days=9), on_step=try_to_hold)

    assert 2 == len(waits)
    with psycopg.connect(own.db) as guard, psycopg.connect(own.db) as other:
        guard.execute("SELECT 1")
        with unchanged(guard):
            pass
        other.execute("SET LOCAL lock_timeout = '100ms'")
        other.execute("SELECT pg_advisory_xact_lock(hashtext('monitoring_v2.holds'))")


def test_files_may_run_out_before_bytes(tmp_path: Path) -> None:
    """The scarcer of bytes and files counts; a file system without that limit has bytes alone."""
    assert 0.1 == Space(100, 50, 100, 10).share(Removed())
    assert 0.2 == Space(100, 50, 100, 10).share(Removed(files=10))
    assert 0.5 == Space(100, 50).share(Removed())
    assert 0 < measure(tmp_path / "not" / "yet").share(Removed()) <= 1


def test_a_trial_changes_nothing(seeded: Seeded) -> None:
    """A dry run counts what the run then deletes, and deletes nothing."""
    seeded.query("UPDATE traces SET started_at = started_at - interval '1 year', ended_at = NULL")
    env_hours = {"MONITORING_RETENTION_HOURS": "0.001"}  # 3.6 s
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env_hours.items():
            patch.setenv(name, value)
        before = seeded.query("SELECT count(*) FROM metrics_agg_5s"), len(_wavs(seeded))
        code, out, _ = seeded.call("retention", "--dry-run", "--json")
        assert 0 == code
        assert before == (seeded.query("SELECT count(*) FROM metrics_agg_5s"), len(_wavs(seeded)))
        trial = json.loads(out)["deleted"]
        code, out, err = seeded.call("retention", "--json")
    assert 0 == code, err
    done = json.loads(out)["deleted"]
    assert 144 == trial["files"] == done["files"]
    assert [] == _wavs(seeded)
    assert trial["gaps"] == done["gaps"] > 0


def _wavs(seeded: Seeded) -> list[Path]:
    return list(seeded.audio.rglob("*.wav"))


def test_a_login_that_may_not_is_told_what_it_needs(own: Settings) -> None:
    """Who does not own the tables ends with code 1 and the reason; nothing goes without its row."""
    fill(own, {"old": [0]})
    login = make_conninfo(own.db, user="monitoring_retention")

    code, _, err = Seeded(login, own.audio_path.parent, START_NS).call("retention")

    assert (1, True) == (code, "owns the tables" in err)
    assert 0 == Seeded(own.db, own.audio_path.parent, START_NS).call("retention")[0]
    assert ([], []) == (names(own, "traces"), files(own))


def test_two_do_not_run_at_once(own: Settings) -> None:
    """While one process is at it, another leaves it to that one."""
    migrate(own.db)
    with psycopg.connect(own.db) as other:
        other.execute("SELECT pg_advisory_xact_lock(hashtext('monitoring_v2.retention'))")
        assert {} == run(own, HOUR)
    assert {} != run(own, HOUR)


def test_an_interrupted_erasure_is_finished_by_retention(seeded: Seeded) -> None:
    """Ten minutes after an erasure stopped half way, retention completes it."""
    seeded.query(f"SELECT begin_erasure(gen_random_uuid(), '{{{CALLS[0].trace_id}}}', 'x')")
    own = settings(seeded.folder, seeded.conninfo)
    Retention(own, Tally()).run(own.audio_path, datetime.now(UTC))
    assert [(3,)] == seeded.query("SELECT count(*) FROM traces")
    seeded.query("UPDATE erasures SET begun_at = now() - interval '11 minutes'")

    counts = Retention(own, Tally()).run(own.audio_path, datetime.now(UTC))

    assert (1, [(2,)]) == (counts["erased_traces"], seeded.query("SELECT count(*) FROM traces"))
    assert 96 == len(_wavs(seeded))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MONITORING_RETENTION_AUDIO_HOURS", "73"),
        ("MONITORING_RETENTION_AUDIO_HOURS", "0"),
        ("MONITORING_RETENTION_KNOB_EVENTS_HOURS", "many"),
        ("MONITORING_RETENTION_ACCESS_HOURS", "719"),
        ("MONITORING_RETENTION_FREE_SHARE", "1"),
    ],
)
def test_wrong_limits_end_the_start_with_their_name(name: str, value: str) -> None:
    """A limit that cannot be is refused with its key and value."""
    with pytest.raises(ConfigError, match=f"{name}='?{value}"):
        load_settings({name: value})


@pytest.mark.parametrize(
    ("role", "statement", "is_allowed"),
    [
        ("erasure", "DELETE FROM traces", True),
        ("erasure", "DELETE FROM knob_events", True),
        ("erasure", "SELECT begin_erasure(gen_random_uuid(), '{a}', 'x')", True),
        ("erasure", "SELECT rename_accesses('{a}')", True),
        ("erasure", "SELECT trace_id FROM audio_access", True),
        ("erasure", "SELECT client_hash FROM audio_access", False),
        ("erasure", "DELETE FROM trace_holds", False),
        ("erasure", "SELECT * FROM erasure_keys", False),
        ("erasure", "SELECT * FROM erased_traces", False),
        ("erasure", "DELETE FROM erased_traces", False),
        ("erasure", "UPDATE erasures SET finished_at = now()", False),
        ("erasure", "SELECT * FROM access_tokens", False),
        ("erasure", "INSERT INTO traces VALUES ('x', now(), now(), 'x')", False),
        ("erasure", "UPDATE traces SET ended_at = now()", False),
        ("erasure", "SELECT forget_accesses(now())", False),
        ("erasure", "DROP TABLE traces", False),
        ("retention", "SELECT erased_among('{a}')", True),
        (
            "retention",
            "INSERT INTO deletions (hour, kind, reason) VALUES (now(),'audio','age')",
            True,
        ),
        ("retention", "DELETE FROM trace_holds", False),
        ("retention", "SELECT * FROM erasure_keys", False),
        ("retention", "SELECT begin_erasure(gen_random_uuid(), '{a}', 'x')", False),
        ("writer", "SELECT erased_among('{a}')", True),
        ("writer", "SELECT * FROM erased_traces", False),
        ("writer", "INSERT INTO trace_holds VALUES ('a', 'b')", False),
        ("writer", "UPDATE deletions SET finished_at = now()", False),
        ("writer", "SELECT trace_hash('a', gen_random_uuid())", False),
        ("reader", "SELECT erased_among('{a}')", False),
        ("reader", "SELECT * FROM trace_holds", False),
        ("drilldown", "SELECT * FROM erasures", False),
        ("drilldown", "SELECT begin_erasure(gen_random_uuid(), '{a}', 'x')", False),
    ],
)
def test_roles_of_deletion_are_as_narrow_as_their_work(
    database: str, role: str, statement: str, *, is_allowed: bool
) -> None:
    """Nobody but the owner sees keys or releases holds; each role does its work and no other."""
    migrate(database)

    assert is_allowed == is_allowed_to(role, statement, database)


def test_a_world_without_kills_is_what_its_model_says(database: str, tmp_path: Path) -> None:
    """The model of the kill tests agrees with retention when nothing is killed."""
    migrate(database)
    world = World(database, tmp_path, random.Random(3))  # noqa: S311 - repeatable
    for _ in range(9):
        world.drain()
        world.pass_an_hour(calls=3)
        world.expire()
        world.retain()
        world.check_whole()

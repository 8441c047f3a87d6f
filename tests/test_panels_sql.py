"""What the functions behind the panels answer, on calls whose every number is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from archiver import Archiver
from archiver.migrations import migrate
from archiver.reader import Reader, reader
from exporter.aggregates import Aggregates
from exporter.model import (
    Bucket,
    Cause,
    EndReason,
    Gap,
    KnobChanged,
    KnobStep,
    Run,
    Scope,
    Tap,
    TapBucket,
    TraceEnded,
    TraceStarted,
)
from tests.fix_archive import RATE, START_NS, settings

BUCKET_NS = 5 * 10**9
STATION = "St_3_3333"
KNOB = "pcm.input_gain_db"
SPAN = "'2026-01-01', '2026-01-01 01:00'"
CHANGED = 10
"""Number of the bucket in which the knob is turned, in its middle."""


def tap(name: Tap, at: int, values: dict[str, float], costs: dict[str, float]) -> TapBucket:
    """Return a full tap of a bucket."""
    run = Run(0, b"\0\0" * 5 * RATE)
    return TapBucket(name, RATE, 0, 5 * RATE, (run,), (), Aggregates.of_values(values, at), costs)


def bucket(number: int, *, health: float, trace: str = "call_1", speech: float = 0.5) -> Bucket:
    """Return a bucket of a call in which the gain is turned up in bucket 10."""
    at = START_NS + number * BUCKET_NS
    gain = 0.0 if number <= CHANGED else 12.0
    steps = (KnobStep(KNOB, 0.0, 12.0, RATE),) if number == CHANGED else ()
    costs = {"clipping": 100.0 - health} if health < 100 else {}
    # No two buckets are the same: a spread of one point.
    post = {"health.audio_score": health + number % 2, "pcm.rms_dbfs": -30.0 + gain}
    taps = (
        tap(Tap.PRE, at, {"pcm.speech_ratio": speech, "health.audio_score": 100.0}, {}),
        tap(Tap.POST, at, post | {"pair.speech_lost_ratio": 0.0}, costs),
    )
    return Bucket(trace, STATION, at, taps, {KNOB: gain}, steps)


def change(trace: str | None = "call_1", scope: Scope = Scope.TRACE_STATION) -> KnobChanged:
    """Return the event of that knob."""
    at = START_NS + CHANGED * BUCKET_NS + 10**9
    return KnobChanged(
        event_id="11111111-1111-4111-8111-111111111111",
        trace_id=trace,
        station_key=STATION,
        knob_key=KNOB,
        old_value=0.0,
        new_value=12.0,
        changed_by="alice",
        created_ns=at,
        reason="too quiet",
        scope=scope,
        counts_from_ns=at if trace else None,
    )


def turned_down(trace: str = "call_1") -> list[Bucket]:
    """Return the buckets of a call whose health falls from 90 to 60 with the change."""
    return [bucket(n, health=90.0 if n <= CHANGED else 60.0, trace=trace) for n in range(21)]


class Desk:
    """An archive that is filled by a test, and asked as Grafana asks."""

    def __init__(self, archive: Archiver, asked: Reader) -> None:
        self._archive = archive
        self._asked = asked

    def keep(self, *records: object) -> None:
        """Bring records into the database."""
        for record in records:
            self._archive.offer(record)  # type: ignore[arg-type] # records of all kinds
        assert self._archive.flush(20)

    def call(self, *buckets: Bucket, event: KnobChanged | None = None) -> None:
        """Keep a whole call."""
        trace, last = buckets[0].trace_id, buckets[-1].bucket_ns + BUCKET_NS
        self.keep(
            TraceStarted(trace, buckets[0].bucket_ns, "3333", "4444", attributes={"lang": "en"}),
            *buckets,
            *([event] if event else []),
            TraceEnded(trace, last, EndReason.HOST),
        )

    def ask(self, query: str) -> list[dict[str, object]]:
        """Return rows by column."""
        names, rows = self._asked.columns(query)
        return [dict(zip(names, row, strict=True)) for row in rows]


@pytest.fixture
def desk(database: str, tmp_path: Path) -> Iterator[Desk]:
    """Yield an empty archive."""
    migrate(database)
    archive = Archiver(settings(tmp_path, database), has_retention=False)
    archive.start()
    with reader(database) as asked:
        yield Desk(archive, asked)
    archive.stop(5.0)


@pytest.mark.parametrize(
    ("after", "verdict"), [(60.0, "worse"), (99.0, "better"), (90.0, "no effect")]
)
def test_a_change_is_judged_by_what_follows(desk: Desk, after: float, verdict: str) -> None:
    """Health 90 before; lower after is worse, higher is better, the same has no effect."""
    desk.call(
        *(bucket(n, health=90.0 if n <= CHANGED else after) for n in range(21)), event=change()
    )

    (row,) = desk.ask(f"SELECT * FROM knob_verdicts({SPAN}, 6)")

    assert verdict == row["verdict"]
    assert (6, 6) == (row["before_buckets"], row["after_buckets"])
    assert ("0.0", "12.0", "alice") == (row["old_value"], row["new_value"], row["changed_by"])


def test_the_numbers_of_a_change_are_those_of_its_buckets(desk: Desk) -> None:
    """Mean, spread and difference of the six nearest buckets; the mixed one is on neither side."""
    desk.call(*turned_down(), event=change())

    found = desk.ask(f"SELECT * FROM knob_impact({SPAN}, 6)")

    rows = {str(row["metric_key"]): row for row in found}
    row = rows["health.audio_score"]
    assert (90.5, 60.5, -30.0) == (row["before_mean"], row["after_mean"], row["delta"])
    assert row["before_spread"] == pytest.approx(0.5477, abs=1e-3)
    assert "not enough speech" == rows["pair.coherence"]["verdict"]


def test_without_speech_there_is_no_verdict(desk: Desk) -> None:
    """Buckets with speech in less than a fifth do not count."""
    desk.call(
        *(bucket(n, health=90.0, speech=0.1 if n > CHANGED else 0.5) for n in range(21)),
        event=change(),
    )

    (row,) = desk.ask(f"SELECT * FROM knob_verdicts({SPAN})")

    assert "not enough speech" == row["verdict"]


def test_a_change_of_a_station_counts_all_calls_that_run(desk: Desk) -> None:
    """Two calls run when the station's knob is turned: the buckets of both are compared."""
    for trace in ("call_1", "call_2"):
        numbers = range(21)
        desk.call(*(bucket(n, health=90.0 if n <= CHANGED else 60.0, trace=trace) for n in numbers))
    desk.keep(change(trace=None, scope=Scope.STATION))

    (row,) = desk.ask(f"SELECT * FROM knob_verdicts({SPAN}, 6)")

    assert ("worse", 12, 12) == (row["verdict"], row["before_buckets"], row["after_buckets"])


def test_the_worst_call_comes_first(desk: Desk) -> None:
    """A search lists calls by their worst five seconds, and says which and why."""
    desk.call(*(bucket(n, health=90.0) for n in range(4)))
    desk.call(*(bucket(n, health=40.0 if n == 2 else 90.0, trace="call_2") for n in range(4)))

    rows = desk.ask(f"SELECT * FROM trace_search({SPAN})")

    assert ["call_2", "call_1"] == [row["trace_id"] for row in rows]
    assert (40.0, STATION, "POST", "clipping", 20.0, "en") == tuple(
        rows[0][name]
        for name in (
            *("worst_score", "worst_station_key", "worst_tap", "worst_defect"),
            *("length_s", "lang"),
        )
    )
    assert [] == desk.ask(f"SELECT * FROM trace_search({SPAN}, '9999')")
    assert 1 == len(desk.ask(f"SELECT * FROM trace_search({SPAN}, 'call_1')"))
    assert 2 == len(desk.ask(f"SELECT * FROM trace_search({SPAN}, '4444', ARRAY['{STATION}'])"))
    (worst,) = desk.ask(f"SELECT * FROM worst_buckets({SPAN}, most => 1)")
    assert ("call_2", 40.0, "clipping 60") == (worst["trace_id"], worst["score"], worst["defects"])


def test_buckets_of_a_call_say_whether_there_is_sound(desk: Desk) -> None:
    """One row for five seconds: score, reasons, levels, sound at both taps, the turned knob."""
    desk.call(*(bucket(n, health=90.0) for n in range(12)), event=change())

    rows = desk.ask(f"SELECT * FROM bucket_detail('call_1', ARRAY['{STATION}'], {SPAN})")

    assert 12 == len(rows)
    assert (True, True, 90.0, "POST clipping 10", -30.0) == tuple(
        rows[0][name] for name in ("has_pre", "has_post", "score", "defects", "post_level")
    )
    assert [KNOB] == [row["changed_knobs"] for row in rows if row["changed_knobs"]]
    timeline = desk.ask(
        f"SELECT * FROM trace_timeline('call_1', '{STATION}', 'pcm.rms_dbfs', {SPAN})"
    )
    assert {-30.0, -18.0} == {row["mean"] for row in timeline}


def test_books_that_do_not_balance_are_found(desk: Desk, database: str) -> None:
    """Due = received + gaps; what an accident took away is the residual."""
    whole = bucket(0, health=90.0)
    gap = Gap(3 * RATE, 2 * RATE, Cause.SLOW)
    pre = replace(whole.taps[0], runs=(Run(0, b"\0\0" * 3 * RATE),), gaps=(gap,))
    desk.call(replace(whole, taps=(pre, whole.taps[1])))

    rows = desk.ask(f"SELECT * FROM reconciliation({SPAN}) WHERE tap = 'PRE'")
    (missing,) = desk.ask(f"SELECT * FROM gap_list({SPAN})")
    (status,) = desk.ask(f"SELECT * FROM data_status({SPAN})")
    with psycopg.connect(database) as connection:
        connection.execute("DELETE FROM gaps")
    (broken,) = desk.ask(f"SELECT * FROM reconciliation({SPAN}) WHERE tap = 'PRE'")

    assert (2 * RATE, 2 * RATE, 0) == tuple(
        rows[0][name] for name in ("gap_samples", "lost_samples", "residual")
    )
    assert (2.0, "slow", True) == (missing["seconds"], missing["cause"], missing["is_loss"])
    assert 2.0 == status["lost_seconds"]
    assert 2 * RATE == broken["residual"]


def test_a_running_call_says_how_far_the_archive_is_behind(desk: Desk, database: str) -> None:
    """Complete until the end of the newest bucket of the call that is least far."""
    desk.call(bucket(0, health=90.0))
    with psycopg.connect(database) as connection:
        connection.execute("SELECT ensure_partitions(ARRAY[now(), now() - interval '1 minute'])")
        for trace, age in (("run_1", 20), ("run_2", 40), ("dead", 600)):
            connection.execute(
                "INSERT INTO traces (trace_id, started_at, src_extension) VALUES (%s, now(), '1')",
                [trace],
            )
            connection.execute(
                "SELECT ensure_partitions(ARRAY[now() - make_interval(secs => %s)])", [age]
            )
            connection.execute(
                "INSERT INTO tap_buckets_5s VALUES "
                "(%s, 's', 'PRE', now() - make_interval(secs => %s), 16000, 1, 1, '{}')",
                [trace, age],
            )

    (status,) = desk.ask(f"SELECT * FROM data_status({SPAN})")

    assert 34 < float(str(status["behind_seconds"])) < 45


def test_knobs_in_force_are_those_of_the_newest_bucket(desk: Desk) -> None:
    """Value, number of calls, and who set it last."""
    desk.call(*(bucket(n, health=90.0) for n in range(12)), event=change())

    (row,) = desk.ask(f"SELECT * FROM knobs_in_force('{STATION}', {SPAN})")

    assert (KNOB, "12.0", 1, "alice") == (
        row["knob_key"],
        row["value"],
        row["calls"],
        row["changed_by"],
    )


def test_a_change_in_one_call_is_not_said_of_the_others(desk: Desk) -> None:
    """Two calls hold different values; who turned the knob in one stands at that value alone."""
    quiet = [
        replace(bucket(n, health=90.0, trace="call_2"), knob_values={KNOB: 0.0}) for n in range(10)
    ]
    last = bucket(11, health=90.0, trace="call_2")
    desk.call(*quiet, replace(last, knob_values={KNOB: 0.0}))
    desk.call(*(bucket(n, health=90.0) for n in range(12)), event=change())

    rows = desk.ask(f"SELECT * FROM knobs_in_force('{STATION}', {SPAN})")

    told = {(row["value"], row["calls"], row["changed_by"]) for row in rows}
    assert {("12.0", 1, "alice"), ("0.0", 1, None)} == told


def test_health_and_its_reasons_over_time(desk: Desk) -> None:
    """Bins of any width: mean and worst of health, points a bucket of each defect."""
    desk.call(*(bucket(n, health=90.0) for n in range(12)))

    health = desk.ask(
        f"SELECT * FROM health_timeline({SPAN}, ARRAY['{STATION}'], '1 minute') WHERE tap = 'POST'"
    )
    reasons = desk.ask(f"SELECT * FROM defect_timeline({SPAN}, ARRAY['{STATION}'], '1 minute')")

    assert [(90.0, 90.5)] == [(row["low"], row["mean"]) for row in health]
    # Ten points at POST, none at PRE.
    assert [("clipping", 5.0)] == [(row["defect"], row["points"]) for row in reasons]


def test_processes_tell_what_they_brought(desk: Desk) -> None:
    """Batches without a hole, samples, sizes of tables, sound by the hour."""
    desk.call(*(bucket(n, health=90.0) for n in range(3)))
    span = "now() - interval '1 hour', now() + interval '1 second'"

    (process,) = desk.ask(f"SELECT * FROM archive_processes({span})")
    rates = desk.ask(f"SELECT * FROM archive_rate({span}, '1 hour')")
    sizes = desk.ask("SELECT * FROM archive_sizes()")
    growth = desk.ask(f"SELECT * FROM audio_growth({SPAN})")

    samples = 3 * 2 * 5 * RATE
    assert (samples, 0, 0) == tuple(
        process[name] for name in ("samples", "missing_batches", "dropped")
    )
    assert samples == sum(int(str(row["samples"])) for row in rates)
    assert 8 == len(sizes)
    assert 6 == sum(int(str(row["segments"])) for row in growth)


def test_functions_of_panels_have_comments(database: str) -> None:
    """Each function and view that Grafana reads says what it is."""
    migrate(database)
    with psycopg.connect(database) as connection:
        without = connection.execute(
            "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace "
            "AND obj_description(oid, 'pg_proc') IS NULL"
        ).fetchall()

    assert [] == without

"""What alerts are made of: known names, limits from one table, SQL that finds the call."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from archiver.migrations import READER, migrate
from dashboards.alert import Alert, Severity
from dashboards.alerts import ALERTS
from dashboards.links import ARCHIVE_HEALTH, STATION
from dashboards.thresholds import THRESHOLDS
from exporter.metrics import METRICS
from tests.alert_sql import ask
from tests.known_names import shown_names

_SEARCHING = [alert for alert in ALERTS if alert.search]
_FIVE = timedelta(seconds=5)
_GOOD, _BAD = "good_call", "bad_call"
_TAPS = (("St_3_3333", "PRE"), ("St_3_3333", "POST"), ("St_3_4444", "PRE"), ("St_3_4444", "POST"))


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_uses_known_names(alert: Alert) -> None:
    """Series, metric key and dashboard of each alert exist."""
    series = set(re.findall(r"\bmonitoring_[a-z0-9_]+", alert.value))

    assert set() == series - shown_names()
    assert {alert.metric} <= {"", *(metric.key for metric in METRICS)}
    assert {alert.dashboard} <= {STATION, ARCHIVE_HEALTH}


def test_names_are_unique() -> None:
    """No two alerts have one name, nor one anchor in the runbook."""
    assert len(ALERTS) == len({alert.name.lower() for alert in ALERTS})


def test_what_callers_hear_leads_to_the_call() -> None:
    """Every alert of a station has a metric for the drill-down and SQL that finds the call."""
    stations = [alert.name for alert in ALERTS if "station" in alert.labels]

    assert stations == [alert.name for alert in ALERTS if alert.metric and alert.search]


def test_gauges_of_calls_are_those_of_the_worst_call() -> None:
    """No alert looks at a mean over calls: each gauge of a metric is its _min or _max."""
    means = {metric.prometheus for metric in METRICS}

    for alert in ALERTS:
        assert set() == means & set(re.findall(r"\bmonitoring_[a-z0-9_]+", alert.value))


def test_limits_are_those_of_the_panels() -> None:
    """What rings is what is red: a limit is the critical one of its metric, in its unit."""
    for alert in ALERTS:
        scale = METRICS[alert.metric].scale if alert.metric in METRICS else 1.0
        reds = [
            limit.scaled(scale).critical
            for limit in THRESHOLDS.get(alert.metric, ())
            if limit.direction is alert.limit.direction
        ]
        if "sustained" in alert.condition.__qualname__:
            assert [alert.limit.value] == reds


def test_severity_is_critical_where_calls_or_data_are_lost() -> None:
    """Somebody is woken for what callers cannot stand and for data that will not come back."""
    critical = {alert.name for alert in ALERTS if alert.severity is Severity.CRITICAL}

    assert {"CallSpeechLost", "CallDeadAir", "MonitoringRecordsDropped"} <= critical
    assert {"MonitoringTargetDown", "MonitoringDatabaseDown"} <= critical


@dataclass(frozen=True)
class Seed:
    """Values of one metric in every bucket of the two calls.

    Attributes:
        key: Of the metric.
        bad: At one tap of the bad call, by station and tap.
        good: At all other taps.
        worst: In one bucket of the bad taps.
        found: What the search returns for the bad call.
    """

    key: str
    bad: dict[tuple[str, str], float]
    good: float
    worst: float
    found: tuple[object, ...]


_POST = ("St_3_3333", "POST")
_ALL_SILENT = dict.fromkeys(_TAPS, -75.0)
SEEDS = {
    "CallClipping": Seed("pcm.clipping_ratio", {_POST: 0.2}, 0.0, 0.5, (*_POST, 0.2)),
    "CallLimiting": Seed("pair.limited_ratio", {_POST: 0.2}, 0.04, 0.5, (*_POST, 0.2)),
    "CallSpeechLost": Seed("pair.speech_lost_ratio", {_POST: 0.3}, 0.0, 0.9, (*_POST, 0.3)),
    "CallTooLoud": Seed("pcm.active_level_dbfs", {_POST: -8.0}, -20.0, -5.0, (*_POST, -8.0)),
    "CallTooQuiet": Seed("pcm.active_level_dbfs", {_POST: -50.0}, -20.0, -60.0, (*_POST, -50.0)),
    "CallSlow": Seed("pipe.processing_latency_ms", {_POST: 50.0}, 1.0, 90.0, (*_POST, 0.05)),
    "CallDeadAir": Seed("pcm.rms_dbfs", _ALL_SILENT, -20.0, -75.0, ("St_3_3333", -75.0)),
    "CallTapSilent": Seed("pcm.rms_dbfs", {_POST: -80.0}, -20.0, -90.0, (*_POST, 60.0)),
}


def _seconds(count: int) -> timedelta:
    return timedelta(seconds=count)


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection]:
    """Yield a connection to an archive that is empty."""
    migrate(database)
    with psycopg.connect(database) as found:
        yield found


def seed(connection: psycopg.Connection, sown: Seed, newest: datetime) -> datetime:
    """Put a minute of both calls into the archive; return the start of the worst bucket."""
    starts = [newest - number * _FIVE for number in range(12)]
    worst = starts[5]
    rows: list[tuple[object, ...]] = []
    for trace_id in (_GOOD, _BAD):
        for tap in _TAPS:
            bad = sown.bad.get(tap) if trace_id == _BAD else None
            for start in starts:
                value = sown.good if bad is None else sown.worst if start == worst else bad
                rows.append((trace_id, *tap, sown.key, start, *[value] * 5, start))
    connection.execute("SELECT ensure_partitions(%s)", [starts])
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO metrics_agg_5s (trace_id, station_key, tap, metric_key, bucket_ts, count,"
            " min, max, sum, avg, last, last_ts) VALUES (%s, %s, %s, %s, %s, 1, %s, %s, %s, %s, "
            "%s, %s)",
            rows,
        )
    connection.execute(f"SET ROLE {READER}")
    return worst


@pytest.mark.parametrize("name", SEEDS)
def test_sql_names_the_bad_call_and_its_worst_bucket(
    connection: psycopg.Connection, name: str
) -> None:
    """Under the reader's role, the search finds the one bad call, its tap and its bucket."""
    alert = next(alert for alert in ALERTS if alert.name == name)
    newest = datetime(2026, 1, 3, 18, 5, tzinfo=UTC)
    worst = seed(connection, SEEDS[name], newest)

    over, moments = ask(connection, alert, newest + _seconds(8))

    assert [(_BAD, *SEEDS[name].found)] == [(*row[:-1], pytest.approx(row[-1])) for row in over]
    labels = over[0][:-1]
    (moment,) = [row[-2:] for row in moments if row[: len(labels)] == labels]
    if name == "CallDeadAir":  # all are alike: the newest
        worst = newest
    elif name == "CallTapSilent":  # a look of half a minute does not reach the worst
        worst = worst if worst >= newest - _seconds(20) else newest
    assert (worst.strftime("%Y-%m-%dT%H:%M:%SZ"), worst.timestamp()) == moment


def test_sql_counts_lost_samples_alone(connection: psycopg.Connection) -> None:
    """The search for lost samples names the tap that lost some, and passes over a hold."""
    alert = next(alert for alert in ALERTS if alert.name == "CallSamplesLost")
    start = datetime(2026, 1, 3, 18, 5, tzinfo=UTC)
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO gaps (trace_id, station_key, tap, bucket_ts, first_sample, samples, cause)"
            " VALUES (%s, 'St_3_3333', %s, %s, 0, %s, %s)",
            [
                (_BAD, "PRE", start, 320, "not_received"),
                (_BAD, "PRE", start - _FIVE, 1_280, "overrun"),
                (_GOOD, "PRE", start, 9_000, "hold"),
            ],
        )
    connection.execute(f"SET ROLE {READER}")

    over, moments = ask(connection, alert, start + _FIVE)

    assert [(_BAD, "St_3_3333", "PRE", 1_600.0)] == over
    worst = start - _FIVE
    expected = (_BAD, "St_3_3333", "PRE", "2026-01-03T18:04:55Z", worst.timestamp())
    assert [expected] == moments


def test_a_pause_of_one_side_is_not_dead_air(connection: psycopg.Connection) -> None:
    """Who listens in one direction while the other one speaks makes no dead call."""
    alert = next(alert for alert in ALERTS if alert.name == "CallDeadAir")
    newest = datetime(2026, 1, 3, 18, 5, tzinfo=UTC)
    listening = {("St_3_3333", "PRE"): -75.0, ("St_3_3333", "POST"): -75.0}
    seed(connection, Seed("pcm.rms_dbfs", listening, -20.0, -75.0, ()), newest)

    over, _ = ask(connection, alert, newest + _FIVE)

    assert [] == over


def test_every_search_is_tried() -> None:
    """Each alert that looks in SQL has a call here that it finds."""
    assert {alert.name for alert in _SEARCHING} == {*SEEDS, "CallSamplesLost"}

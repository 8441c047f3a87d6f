"""The JSON API says what the archive has, in pages, and the OpenAPI document says what it says."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from archiver.batch import Batch, to_entry
from archiver.database import Database
from archiver.drilldown import create_app
from archiver.migrations import migrate
from archiver.times import BUCKET, iso, parse_time
from archiver.web.live import SHOWN
from exporter import Monitor
from exporter.model import Tap
from tests.fix_archive import bucket
from tests.fix_drilldown import (
    BAD,
    GOOD,
    RATE,
    SMALL,
    SPOILS,
    STALL_S,
    STALLED_AT_S,
    STATION,
    TURNED_AT_S,
    Drilldown,
    LocalClient,
    Small,
    settings_for,
)

TRACES = "/api/v1/traces"


@pytest.fixture
def ask(drilldown: Drilldown) -> Iterator[Any]:
    """Yield a function that asks the running server for JSON."""
    with drilldown.client() as client:

        def answered(path: str, **parameters: object) -> Any:
            answer = client.get(path, params={key: str(v) for key, v in parameters.items()})
            assert 200 == answer.status_code, answer.text
            return answer.json()

        yield answered


def ids(page: Any) -> list[str]:
    """Return the calls of a page."""
    return [item["trace_id"] for item in page["items"]]


def pages(ask: Any, path: str, **parameters: object) -> Iterator[Any]:
    """Yield all pages of a list."""
    cursor: dict[str, str] = {}
    while True:
        page = ask(path, **parameters, **cursor)
        yield page
        if page["next"] is None:
            return
        cursor = {"cursor": page["next"]}


def test_the_newest_call_comes_first(ask: Any, drilldown: Drilldown) -> None:
    """Without parameters: all calls by their start, with length, health and losses."""
    page = ask(TRACES)

    assert [BAD, GOOD] == ids(page)
    bad, good = page["items"]
    assert 2 * STALL_S * RATE == bad["lost_samples"]
    assert (0, 0.0) == (good["lost_samples"], good["loss_ratio"])
    assert iso(drilldown.calls[BAD].start) == bad["started_at"]
    assert 0 < bad["length_s"] < 60
    assert ({"lang": "en-fr"}, [STATION]) == (bad["attributes"], bad["stations"])


def test_the_worst_call_leads_to_its_worst_bucket(ask: Any, drilldown: Drilldown) -> None:
    """By the worst bucket: the spoiled call first, in a bucket after the knobs were turned."""
    page = ask(TRACES, sort="worst")

    assert [BAD, GOOD] == ids(page)
    worst = page["items"][0]["worst"]
    turned = drilldown.calls[BAD].start + timedelta(seconds=TURNED_AT_S)
    assert (STATION, "POST") == (worst["station_key"], worst["tap"])
    assert parse_time(worst["bucket_ts"]) + BUCKET > turned
    assert worst["score"] < page["items"][1]["worst"]["score"]


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"q": "CALL_b"}, [BAD]),
        ({"q": "en-fr"}, [BAD, GOOD]),
        ({"q": "%"}, []),
        ({"q": "call_"}, [BAD, GOOD]),
        ({"q": "callxbad"}, []),
        ({"extension": "4444"}, [BAD, GOOD]),
        ({"extension": "444"}, []),
        ({"station": STATION}, [BAD, GOOD]),
        ({"station": "St_9"}, []),
        ({"to": "2020-01-01T00:00:00Z"}, []),
        ({"from": "2100-01-01T00:00:00Z"}, []),
    ],
)
@pytest.mark.parametrize("sort", ["newest", "worst"])
def test_calls_are_found(
    ask: Any, parameters: dict[str, str], expected: list[str], sort: str
) -> None:
    """Text in any case and as it stands, whole extensions, stations and times restrict a list."""
    assert expected == ids(ask(TRACES, sort=sort, **parameters))


def test_a_call_is_found_by_any_time_at_which_it_ran(ask: Any, drilldown: Drilldown) -> None:
    """A time in the middle of the first call finds it alone, in every form of a time."""
    start = drilldown.calls[GOOD].start
    ends = [start + timedelta(seconds=seconds) for seconds in (10, 20)]
    for form in (iso, datetime.timestamp, lambda end: round(end.timestamp() * 1_000)):
        since, until = map(form, ends)

        assert [GOOD] == ids(ask(TRACES, **{"from": since, "to": until}))


@pytest.mark.parametrize("sort", ["newest", "worst"])
def test_pages_of_calls_have_each_call_once(ask: Any, sort: str) -> None:
    """Page by page with one call on each: the whole list, in its order."""
    found = list(pages(ask, TRACES, sort=sort, limit=1))

    assert [[BAD], [GOOD]] == [ids(page) for page in found]


def test_a_cursor_of_another_order_is_refused(drilldown: Drilldown, ask: Any) -> None:
    """A cursor belongs to its order: elsewhere it is 400, as is one that was made up."""
    newest = ask(TRACES, limit=1)["next"]
    with drilldown.client() as client:
        for cursor in (newest, "WyJ4Il0", "e30", "!"):
            parameters = {"sort": "worst", "cursor": cursor}

            assert 400 == client.get(TRACES, params=parameters).status_code


def test_one_call_in_detail(ask: Any, drilldown: Drilldown) -> None:
    """Stations and taps with their buckets, segments and losses, and the metrics there are."""
    call = ask(f"{TRACES}/{BAD}")

    (station,) = call["stations"]
    counted = drilldown.query(
        f"SELECT tap, count(*) FROM audio_segments_5s WHERE trace_id = '{BAD}' GROUP BY tap"
    )
    shown = {(tap["tap"], tap["segments"]) for tap in station["taps"]}
    assert set(counted) == shown
    assert ["PRE", "POST"] == [tap["tap"] for tap in station["taps"]]
    assert iso(drilldown.calls[BAD].first_bucket) == call["first_ts"]
    keys = drilldown.query(
        f"SELECT DISTINCT metric_key FROM metrics_agg_5s WHERE trace_id = '{BAD}' ORDER BY 1"
    )
    assert [key for (key,) in keys] == call["metrics"]


def test_buckets_have_everything_of_both_taps(ask: Any, drilldown: Drilldown) -> None:
    """Page by page: metrics of PRE and POST as in SQL, knobs in force, gaps, health, sound."""
    path = f"{TRACES}/{BAD}/buckets"
    buckets = [item for page in pages(ask, path, limit=3) for item in page["items"]]

    stamps = [item["bucket_ts"] for item in buckets]
    assert sorted(set(stamps)) == stamps
    rows = drilldown.query(
        "SELECT bucket_ts, tap, metric_key, count, min, max, avg, last FROM metrics_agg_5s "
        f"WHERE trace_id = '{BAD}'"
    )
    shown = {
        (item["bucket_ts"], tap, key, *values.values())
        for item in buckets
        for tap, found in item["taps"].items()
        for key, values in found["metrics"].items()
    }
    assert {(iso(row[0]), *row[1:]) for row in rows} == shown  # type: ignore[arg-type] # a time
    gains = [item["knobs"]["pcm.input_gain_db"] for item in buckets]
    assert (0.0, SPOILS["pcm.input_gain_db"]) == (gains[0], gains[-1])
    for item in buckets:
        for tap in item["taps"].values():
            missing = sum(gap["samples"] for gap in tap["gaps"])
            assert tap["due_samples"] == tap["received_samples"] + missing
            score = tap["metrics"]["health.audio_score"]["last"]
            assert score == tap["health"]["score"]
            assert score == pytest.approx(100 - min(100, sum(tap["health"]["costs"].values())))


def test_addresses_of_sound_in_a_bucket_are_heard(ask: Any, drilldown: Drilldown) -> None:
    """Every audio address that a bucket names is a segment."""
    (bucket_,) = ask(f"{TRACES}/{GOOD}/buckets", limit=1)["items"]
    with drilldown.client() as client:
        for tap in ("PRE", "POST"):
            answer = client.get(bucket_["taps"][tap]["audio"])

            assert (200, tap) == (answer.status_code, answer.headers["x-tap"])


def test_buckets_show_the_metrics_that_are_asked_for(ask: Any) -> None:
    """A list of keys restricts the metrics, and the score stays."""
    (item,) = ask(f"{TRACES}/{GOOD}/buckets", limit=1, metrics="pcm.rms_dbfs,no.such")["items"]

    assert {"pcm.rms_dbfs"} == set(item["taps"]["PRE"]["metrics"])
    assert 100.0 >= item["taps"]["PRE"]["health"]["score"]


def test_a_time_restricts_buckets(ask: Any, drilldown: Drilldown) -> None:
    """Buckets that lie in a time, also in part, are its buckets."""
    first = drilldown.calls[BAD].first_bucket
    ends = {"from": iso(first + 1.2 * BUCKET), "to": iso(first + 2 * BUCKET)}

    found = ask(f"{TRACES}/{BAD}/buckets", metrics="pcm.rms_dbfs", **ends)["items"]

    assert [iso(first + BUCKET)] == [item["bucket_ts"] for item in found]


def test_tracks_are_the_aggregates(ask: Any, drilldown: Drilldown) -> None:
    """One value for each bucket in order, null where there is none."""
    tracks = ask(f"{TRACES}/{BAD}/series", metrics="pcm.rms_dbfs,no.such")

    rows = drilldown.query(
        f"SELECT avg, min, max FROM metrics_agg_5s WHERE trace_id = '{BAD}' AND tap = 'POST' "
        "AND metric_key = 'pcm.rms_dbfs' ORDER BY bucket_ts"
    )
    shown = tracks["POST"]["pcm.rms_dbfs"]
    assert rows == list(zip(shown["avg"], shown["min"], shown["max"], strict=True))
    assert [None] * len(tracks["bucket_ts"]) == tracks["PRE"]["no.such"]["avg"]
    assert STATION == tracks["station_key"]


def test_gaps_have_their_time_and_cause(ask: Any, drilldown: Drilldown) -> None:
    """The stall is one second of loss at both taps, at its moment, over a border of buckets."""
    gaps = ask(f"{TRACES}/{BAD}/gaps", station=STATION)["items"]

    stalled = drilldown.calls[BAD].start + timedelta(seconds=STALLED_AT_S)
    assert {("not_received", True)} == {(gap["cause"], gap["is_loss"]) for gap in gaps}
    for tap in ("PRE", "POST"):
        parts = [gap for gap in gaps if gap["tap"] == tap]
        ends = (parts[0]["from"], parts[-1]["to"])
        assert (iso(stalled), iso(stalled + timedelta(seconds=STALL_S))) == ends
        assert STALL_S * RATE == sum(gap["samples"] for gap in parts)
    assert [] == ask(f"{TRACES}/{GOOD}/gaps")["items"]


def test_knob_events_lead_to_before_and_after(ask: Any, drilldown: Drilldown) -> None:
    """Who turned what and why; the buckets beside it are whole ones of that call and station."""
    events = ask(f"{TRACES}/{BAD}/knob-events")["items"]

    assert SPOILS == {event["knob_key"]: event["new_value"] for event in events}
    assert {("alice", "too quiet")} == {(event["changed_by"], event["reason"]) for event in events}
    event = ask(f"/api/v1/knob-events/{events[0]['event_id']}")
    turned = drilldown.calls[BAD].start + timedelta(seconds=TURNED_AT_S)
    before, after = (
        [parse_time(item["bucket_ts"]) for item in event[side]] for side in ("before", "after")
    )
    assert iso(turned) == event["counts_from"]
    assert before[-1] + BUCKET <= turned <= after[0]
    assert turned - before[-1] < 2 * BUCKET
    assert (2, 4) == (len(before), len(after))
    assert event["before"][0]["taps"]["PRE"]["metrics"]["pcm.rms_dbfs"]["count"] > 0
    assert [] == ask(f"{TRACES}/{GOOD}/knob-events")["items"]


def test_snapshots_show_when_a_knob_changed(ask: Any) -> None:
    """All knobs of each bucket; the one in which they were turned lists them."""
    found = [
        item for page in pages(ask, f"{TRACES}/{BAD}/snapshots", limit=2) for item in page["items"]
    ]

    changed = [[step["knob_key"] for step in item["changed"]] for item in found]
    assert sorted(SPOILS) == sorted(key for keys in changed for key in keys)
    assert {87} == {len(item["knob_values"]) for item in found}


@pytest.mark.parametrize(
    ("metric", "is_low"),
    [("health.audio_score", True), ("pcm.clipping_ratio", False), ("no.such", False)],
)
def test_the_worst_buckets_of_a_metric(ask: Any, metric: str, *, is_low: bool) -> None:
    """Scores from the lowest, shares from the highest; each with its sound."""
    at = parse_time(ask(f"{TRACES}/{BAD}")["started_at"]).timestamp()
    found = ask("/api/v1/worst", metric=metric, at=at, window_s=300, station=STATION)["items"]

    values = [item["value"] for item in found]
    assert sorted(values, reverse=not is_low) == values
    assert (BAD if values else None) == (found[0]["trace_id"] if found else None)
    assert all(item["audio"].startswith("/audio/call_") for item in found)


def test_the_status_says_how_far_the_archive_is(ask: Any, small: Small) -> None:
    """With no call running: the end of the newest bucket; a running call says how far behind."""
    assert {"download", "listen", "numbers"} == set(ask("/api/v1/status")["roles"])
    small.run("UPDATE traces SET ended_at = NULL")
    status = small.client.get("/api/v1/status").json()
    end = small.start + 4 * BUCKET

    assert (iso(end), 1, True) == (
        status["complete_until"],
        status["active_calls"],
        status["audio_path_ok"],
    )
    assert 0 < status["behind_s"] < 120
    assert [SMALL] == ids(small.client.get(f"{TRACES}/active").json())


def test_now_comes_from_the_newest_buckets(small: Small) -> None:
    """When no /metrics answers: the running calls' newest buckets."""
    small.run("UPDATE traces SET ended_at = NULL")

    now = small.client.get("/api/v1/now").json()

    assert "database" == now["source"]
    (station,) = now["stations"]
    taps = {"POST": {"score": 90.0}, "PRE": {"score": 90.0}}
    assert {"station_key": STATION, "active": 1, "taps": taps} == station


def test_now_comes_from_metrics_where_they_answer(tmp_path: Path) -> None:
    """A running host's /metrics is what is live: stations, calls and levels in the same units."""
    settings = replace(settings_for("dbname=nobody", tmp_path), metrics_ports=(0,))
    with Monitor(settings) as monitor:
        station = monitor.start_trace("3333").station(STATION)
        shown = replace(settings, metrics_ports=(monitor.port or 0,))
        deadline = time.monotonic() + 20
        with LocalClient(create_app(shown)) as client:
            now: Any = {}
            while not (now.get("stations") and now["stations"][0]["taps"]):
                assert time.monotonic() < deadline
                heard = station.pre(b"\x00\x20" * 320)
                station.post(b"\x00\x10" * 320, since=heard)
                time.sleep(0.02)
                now = client.get("/api/v1/now").json()

    (found,) = now["stations"]
    assert ("metrics", STATION, 1) == (now["source"], found["station_key"], found["active"])
    assert found["taps"]["PRE"]["rms_dbfs"] == pytest.approx(-12.04, abs=0.01)
    assert set(SHOWN) >= set(found["taps"]["POST"])


def test_the_sums_of_a_call_are_those_of_its_rows(database: str) -> None:
    """Also when a bucket comes in two halves and twice, and when the call is removed."""
    migrate(database)
    writer = Database(database, lambda: None)
    buckets = [bucket(), bucket(number=1), bucket(first=40_000), bucket(number=1)]
    for number, each in enumerate(buckets):
        entry = to_entry(each, {Tap.PRE: (None, ())})
        scores = [["health.audio_score", 1, *[60.0 + number] * 4, each.bucket_ns]]
        entry["taps"][0]["aggregates"] = scores
        writer.apply(Batch(f"{number:032x}", "boot", number, 0, 0, (entry,)))
    writer.close()
    with psycopg.connect(database) as connection:
        sums = (
            "SELECT sum(due_samples), sum(received_samples), sum(score), count(score), min(score) "
            "FROM tap_buckets_5s"
        )
        kept = (
            "SELECT due_samples, received_samples, score_sum, score_count, worst_score "
            "FROM call_totals"
        )

        assert connection.execute(sums).fetchall() == connection.execute(kept).fetchall()
        connection.execute("INSERT INTO traces VALUES ('call-1', now(), now(), '3333')")
        connection.execute("DELETE FROM traces")
        assert [] == connection.execute(kept).fetchall()


@pytest.mark.parametrize(
    "path",
    [
        f"{TRACES}/nobody",
        f"{TRACES}/nobody/buckets",
        f"{TRACES}/nobody/series",
        f"{TRACES}/nobody/gaps",
        f"{TRACES}/nobody/knob-events",
        f"{TRACES}/nobody/snapshots",
        "/api/v1/knob-events/5b0a0a4e-0000-0000-0000-000000000000",
        "/api/v1/knob-events/nonsense",
        "/api/v1/nothing",
        "/static/nothing.js",
        "/nothing",
    ],
)
def test_unknown_is_404(drilldown: Drilldown, path: str) -> None:
    """What is not there is a problem with its reason."""
    with drilldown.client() as client:
        answer = client.get(path)

    assert (404, 404) == (answer.status_code, answer.json()["status"])
    assert "application/problem+json" == answer.headers["content-type"]


def test_a_list_reads_only_the_hours_of_its_calls(drilldown: Drilldown) -> None:
    """However many hours there are: no plan of a page looks at a partition without a bound."""
    hours = [drilldown.calls[BAD].start - timedelta(hours=hour) for hour in range(2, 30)]
    stamps = ",".join(f"'{hour}'" for hour in hours)
    drilldown.query(f"SELECT ensure_partitions(ARRAY[{stamps}]::timestamptz[])")

    plan = drilldown.query("EXPLAIN SELECT * FROM call_list ORDER BY started_at DESC LIMIT 50")

    text = "\n".join(str(line) for (line,) in plan)
    assert "call_totals" in text
    assert "_5s" not in text

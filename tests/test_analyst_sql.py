"""What analysts use: the wide view, the comments, and every query and snippet of docs/sql.md."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from archiver.comments import aggregate, wide_metrics
from archiver.migrations import READER, migrate
from tests.fix_seeded import BUCKETS, CALLS, HELD, LOST, RATE, STATIONS, TURNED_IN, Seeded

PAGE = (Path(__file__).parents[1] / "docs" / "sql.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"^```sql\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
SNIPPETS = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
ADMINISTRATOR = "-- as an administrator\n"
FIRST = CALLS[0].trace_id

WITHOUT_COMMENT = """
SELECT c.relname, a.attname
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND attnum > 0 AND NOT attisdropped
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
    AND NOT c.relispartition AND col_description(c.oid, a.attnum) IS NULL
UNION ALL
SELECT c.relname, NULL FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
    AND NOT c.relispartition AND obj_description(c.oid, 'pg_class') IS NULL
UNION ALL
SELECT p.proname, NULL FROM pg_proc p
WHERE p.pronamespace = 'public'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL
"""
COLUMN_COMMENTS = """
SELECT attname, col_description(attrelid, attnum) FROM pg_attribute
WHERE attrelid = 'bucket_wide'::regclass AND attnum > 0 ORDER BY attnum
"""


def wide_columns(seeded: Seeded) -> dict[str, str]:
    """Return the comment of each column of the view."""
    return {str(name): str(text) for name, text in seeded.query(COLUMN_COMMENTS)}


def partitions(conninfo: str, query: str) -> set[str]:
    """Return the tables that a query reads, by its plan; those of partitions by their own name."""
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(f"EXPLAIN (FORMAT JSON) {query}".encode()).fetchone()
    return set(re.findall(r'"Relation Name": "(\w+)"', json.dumps(row and row[0])))


def test_everything_in_the_database_says_what_it_is(database: str) -> None:
    """Every table, view, column and function has a comment."""
    migrate(database)

    with psycopg.connect(database) as connection:
        assert [] == connection.execute(WITHOUT_COMMENT).fetchall()


def test_comments_are_made_once_and_kept_up_to_date(database: str) -> None:
    """A text that differs is set right by the next migrate; the others are left alone."""
    migrate(database)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("COMMENT ON COLUMN gaps.cause IS 'outdated'")
        query = "SELECT xmin::text, description FROM pg_description ORDER BY objoid, objsubid"
        before = connection.execute(query).fetchall()
        migrate(database)
        after = connection.execute(query).fetchall()

    changed = [text for (_, text), now in zip(before, after, strict=True) if (_, text) != now]
    assert ["outdated"] == changed


def test_comments_of_metrics_are_the_registrys(seeded: Seeded) -> None:
    """A metric's column carries key, unit and definition; the view shows no unknown metric."""
    known = wide_metrics()
    comments = wide_columns(seeded)
    of_metrics = {name: known[name][0] for name in comments if name in known}

    assert {"pre_pcm_rms_dbfs", "post_health_audio_score", "pair_gain_db"} <= of_metrics.keys()
    for name, metric in of_metrics.items():
        assert comments[name].startswith(f"{metric.key} ")
        assert comments[name].endswith(metric.help)
        assert metric.unit in comments[name]
    others = [name for name in comments if re.match("(pre|post|pair)_", name)]
    sides = {f"{tap}_{name}_samples" for tap in ("pre", "post") for name in ("due", "received")}
    sides |= {f"{tap}_{name}_samples" for tap in ("pre", "post") for name in ("lost", "other_gap")}
    assert sides == set(others) - of_metrics.keys()


def test_a_row_shows_what_the_tables_have(seeded: Seeded) -> None:
    """Every metric of bucket_wide equals its aggregate; there is one row a station and bucket."""
    aggregates: dict[tuple[object, ...], tuple[object, ...]] = {
        row[:5]: row[5:]
        for row in seeded.query(
            "SELECT trace_id, station_key, bucket_ts, tap, metric_key, avg, max, sum, last "
            "FROM metrics_agg_5s"
        )
    }
    known = {n: entry for n, entry in wide_metrics().items() if n in wide_columns(seeded)}
    place = {"avg": 0, "max": 1, "sum": 2, "last": 3}
    keys = "trace_id, station_key, bucket_ts"
    rows = seeded.query(f"SELECT {keys}, {', '.join(known)} FROM bucket_wide ORDER BY {keys}")

    assert len(CALLS) * len(STATIONS) * BUCKETS == len(rows)
    seen = 0
    for row in rows:
        for (metric, tap), value in zip(known.values(), row[3:], strict=True):
            found = aggregates.get((*row[:3], tap, metric.key))
            assert (found and found[place[aggregate(metric)]]) == value, (metric.key, tap)
            seen += found is not None
    assert len(aggregates) == seen


def test_a_row_has_call_knobs_and_gaps(seeded: Seeded) -> None:
    """Attributes of the call, knobs in force and what changed, losses apart from other gaps."""
    rows = seeded.query(
        "SELECT call_id, attributes ->> 'vendor', knobs ->> 'pcm.input_gain_db', changed, "
        "pre_due_samples, pre_received_samples, pre_lost_samples, pre_other_gap_samples, "
        "post_lost_samples, post_other_gap_samples FROM bucket_wide "
        f"WHERE trace_id = '{FIRST}' AND station_key = '{STATIONS[0]}' ORDER BY bucket_ts"
    )

    due = 5 * RATE
    step = {"knob_key": "pcm.input_gain_db", "old": 0.0, "new": 6.0, "sample": RATE}
    assert ("call-77", "acme", "0.0", [], due, due - LOST, LOST, 0, 0, HELD) == rows[3]
    assert ("call-77", "acme", "0.0", [step], due, due, 0, 0, 0, 0) == rows[TURNED_IN]
    assert "6.0" == rows[TURNED_IN + 1][2]


def test_unknown_is_null(seeded: Seeded) -> None:
    """At a tap where nothing was due there is no number, not even 0."""
    seeded.query("DELETE FROM tap_buckets_5s WHERE tap = 'PRE'")
    seeded.query("DELETE FROM metrics_agg_5s WHERE tap = 'PRE'")
    seeded.query("DELETE FROM gaps WHERE tap = 'PRE'")

    rows = seeded.query(
        "SELECT DISTINCT pre_due_samples, pre_lost_samples, pre_pcm_rms_dbfs, "
        "post_lost_samples IS NULL, pre_stt_confidence_score FROM bucket_wide"
    )

    assert [(None, None, None, False, None)] == rows


def test_bounds_reach_the_partitions(seeded: Seeded) -> None:
    """With bounds on bucket_ts only the partitions of these hours are read."""
    start = datetime.fromtimestamp(seeded.start_ns / 1e9, UTC)
    hour = start.replace(minute=0, second=0, microsecond=0)
    others = [hour + timedelta(hours=number) for number in (-48, -24, 24)]
    with psycopg.connect(seeded.conninfo, autocommit=True) as connection:
        connection.execute("SELECT ensure_partitions(%s::timestamptz[])", [others])

    plan = partitions(
        seeded.conninfo,
        f"SELECT * FROM bucket_wide WHERE bucket_ts >= '{hour}' AND bucket_ts < "
        f"'{hour + timedelta(minutes=59)}'",
    )

    end = f"_{hour:%Y%m%d%H}"
    names = ("metrics_agg_5s", "tap_buckets_5s", "knob_snapshots_5s")
    assert {"traces", "gaps", *(name + end for name in names)} == plan


def test_a_trace_is_found_by_its_key(seeded: Seeded) -> None:
    """A trace_id reaches the scan of every table."""
    with psycopg.connect(seeded.conninfo) as connection:
        found = connection.execute(
            f"EXPLAIN (FORMAT JSON) SELECT * FROM bucket_wide WHERE trace_id = '{FIRST}'".encode()
        ).fetchone()
    assert found is not None
    scans = [node for node in nodes(found[0][0]["Plan"]) if "Relation Name" in node]

    assert 5 <= len(scans)
    for scan in scans:
        conditions = [str(scan.get(name)) for name in ("Index Cond", "Filter", "Recheck Cond")]
        assert any(FIRST in each for each in conditions), scan["Relation Name"]


def nodes(plan: dict[str, object]) -> list[dict[str, object]]:
    """Return a plan's nodes, whatever their depth."""
    below = plan.get("Plans", [])
    assert isinstance(below, list)
    return [plan, *(node for each in below for node in nodes(each))]


def test_the_page_answers_at_least_fifteen_questions() -> None:
    """Each numbered question of docs/sql.md has a query, and none has got lost."""
    assert 15 <= len(re.findall(r"^## \d+\. ", PAGE, flags=re.MULTILINE)) <= len(QUERIES)


def test_queries_of_the_page_give_rows(seeded: Seeded) -> None:
    """Each query finds something in the seeded archive, with no more rights than the page says."""
    seeded.query(
        "INSERT INTO applied_batches (batch_id, boot_id, seq, records, samples, cum_offered, "
        "cum_dropped) VALUES (gen_random_uuid(), 'holes', 3, 1, 1, 1, 1)"
    )
    seeded.query(
        "INSERT INTO audio_access (token_name, role, trace_id, station_key, tap, from_ts, to_ts, "
        f"first_byte, last_byte, kind, client_hash) VALUES ('anna', 'listen', '{FIRST}', "
        f"'{STATIONS[0]}', 'PRE', now(), now(), 0, 1, 'listen', '')"
    )

    without_rows = []
    with psycopg.connect(seeded.conninfo) as connection:
        for query in QUERIES:
            role = "NONE" if query.startswith(ADMINISTRATOR) else READER
            connection.execute(f"SET ROLE {role}".encode())
            if not connection.execute(query.encode()).fetchall():
                without_rows.append(query)

    assert [] == without_rows


def test_the_right_level_is_not_the_mean_of_decibels(seeded: Seeded) -> None:
    """The page's own example: half at -20 dBFS, half in silence is -23 by energy, not -60."""
    (right,) = (query for query in QUERIES if query.startswith("-- right"))
    (wrong,) = (query for query in QUERIES if query.startswith("-- wrong"))
    for key, low, high in (("pcm.energy", 1e-10, 0.01), ("pcm.rms_dbfs", -100.0, -20.0)):
        half = (
            f"CASE WHEN extract(epoch FROM bucket_ts)::bigint % 10 = 0 THEN {low} ELSE {high} END"
        )
        seeded.query(
            f"UPDATE metrics_agg_5s SET sum = count * {half}, avg = {half} "
            f"WHERE metric_key = '{key}'"
        )

    assert {-23.0} == {float(str(row[2])) for row in seeded.query(right)}
    assert {-60.0} == {float(str(row[2])) for row in seeded.query(wrong)}


def test_knob_change_is_seen_in_before_and_after(seeded: Seeded) -> None:
    """The page's query for a change names it once for each call, with health on both sides."""
    (query,) = (query for query in QUERIES if "AS health_before" in query)

    rows = seeded.query(query)

    assert sorted(call.trace_id for call in CALLS) == [row[5] for row in rows]
    assert {("100.0", "95.0")} == {(str(row[8]), str(row[9])) for row in rows}


def test_snippets_run(seeded: Seeded, tmp_path: Path) -> None:
    """The pandas snippets print one line for each vendor, and for each station."""
    pytest.importorskip("pandas")
    day = datetime.fromtimestamp(seeded.start_ns / 1e9, UTC).date()
    bounds = ("--from", str(day), "--to", str(day + timedelta(days=2)))
    code, _, err = seeded.call("export", *bounds, str(tmp_path / "exported"), "--gzip")
    assert 0 == code, err

    printed = []
    for snippet in SNIPPETS:
        text = snippet.replace("dbname=monitoring_v2", seeded.conninfo)
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", text],
            check=False,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert 0 == done.returncode, done.stderr
        printed.append(done.stdout)

    assert {"acme", "globex"} <= set(printed[0].split())
    assert set(STATIONS) <= set(printed[1].split())

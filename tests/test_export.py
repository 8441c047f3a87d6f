"""`monitoring export` as a user runs it: files for each table and day, and their manifest."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from archiver.migrations import READER, migrate
from tests.fix_seeded import BUCKETS, CALLS, HOSTILE, STATIONS, Seeded, fill

MIDNIGHT = datetime(2026, 1, 4, tzinfo=UTC)
"""The calls of `over_midnight` have half of their buckets before it."""
BOUNDS = ("--from", "2026-01-03", "--to", "2026-01-05")
PLACES = len(CALLS) * len(STATIONS)
ROWS = {
    "traces": (len(CALLS), len(CALLS)),  # a call over midnight stands in both days
    "gaps": (2 * PLACES, 0),
    "knob_events": (0, len(CALLS)),
    "knob_snapshots": (PLACES * BUCKETS // 2,) * 2,
    "segments": (PLACES * BUCKETS,) * 2,
    "tap_buckets": (PLACES * BUCKETS,) * 2,
    "health": (PLACES * BUCKETS,) * 2,
    "metrics": (PLACES * BUCKETS // 2 * (6 + 10),) * 2,
    "bucket_wide": (PLACES * BUCKETS // 2,) * 2,
}
"""Rows of both days, by table."""


@pytest.fixture
def over_midnight(database: str, tmp_path: Path) -> Seeded:
    """Return an archive with the three calls around a midnight of long ago."""
    migrate(database)
    start = MIDNIGHT - timedelta(seconds=5 * BUCKETS // 2)
    return fill(database, tmp_path, int(start.timestamp()) * 10**9)


def manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the entries of a manifest by the names of the files."""
    document = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return {entry["file"]: entry for entry in document["files"]}


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of an exported file."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", newline="") as lines:
        if ".jsonl" in path.name:
            return [json.loads(line) for line in lines]
        return list(csv.DictReader(lines))


@pytest.mark.parametrize(
    ("options", "ending"),
    [((), "csv"), (("--format", "jsonl", "--gzip"), "jsonl.gz")],
)
def test_every_table_and_day_is_a_file(
    over_midnight: Seeded, tmp_path: Path, options: tuple[str, ...], ending: str
) -> None:
    """Each file has the rows of its day; the manifest tells rows, bytes, hash and bounds."""
    folder = tmp_path / "out" / "days"
    code, out, err = over_midnight.run("export", *BOUNDS, str(folder), *options)

    assert 0 == code, err
    assert "18 files written" in out
    entries = manifest(folder)
    for table, counts in ROWS.items():
        for day, count in zip(("2026-01-03", "2026-01-04"), counts, strict=True):
            name = f"{table}_{day}.{ending}"
            entry, path = entries.pop(name), folder / name
            assert count == len(read(path)) == entry["rows"], name
            assert path.stat().st_size == entry["bytes"]
            assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
            assert f"{day}T00:00:00Z" == entry["from"]
            assert entry["is_final"]
            assert 0o640 == path.stat().st_mode & 0o777
    assert not entries
    assert not list(folder.glob("*.tmp"))


def test_values_arrive_unchanged(over_midnight: Seeded, tmp_path: Path) -> None:
    """Texts with quotes and line breaks, JSON and NULL are in both formats what they are in SQL."""
    reasons = over_midnight.query("SELECT reason, new_value FROM knob_events ORDER BY event_id")
    for form in ("csv", "jsonl"):
        code, _, err = over_midnight.call("export", *BOUNDS, str(tmp_path / form), "--format", form)
        assert 0 == code, err
        events = read(tmp_path / form / f"knob_events_2026-01-04.{form}")
        calls = read(tmp_path / form / f"traces_2026-01-04.{form}")
        assert {HOSTILE} == {event["reason"] for event in events} == {row[0] for row in reasons}
        attributes = [call["attributes"] for call in calls]
        told = [json.loads(each) if form == "csv" else each for each in attributes]
        assert {HOSTILE} == {each["note"] for each in told}
        unknown = "" if form == "csv" else None
        assert [unknown] == [c["call_id"] for c in calls if c["trace_id"] == CALLS[2].trace_id]
        stamp = "2026-01-04 00:00:00+00" if form == "csv" else "2026-01-04T00:00:00+00:00"
        wide = read(tmp_path / form / f"bucket_wide_2026-01-04.{form}")
        assert stamp == wide[0]["bucket_ts"]


def test_segments_come_without_what_pictures_are_drawn_from(
    over_midnight: Seeded, tmp_path: Path
) -> None:
    """All that the table says of a segment is exported, but its sketch."""
    code, _, err = over_midnight.run("export", *BOUNDS, str(tmp_path / "out"))
    assert 0 == code, err
    columns = over_midnight.query(
        "SELECT column_name FROM information_schema.columns "
        "WHERE table_name = 'audio_segments_5s' AND column_name <> 'sketch'"
    )

    (first, *_) = read(tmp_path / "out" / "segments_2026-01-03.csv")

    assert sorted(str(name) for (name,) in columns) == sorted(first)


def test_extensions_only_when_asked_for(over_midnight: Seeded, tmp_path: Path) -> None:
    """No exported column has them, unless --with-extensions."""
    folder = tmp_path / "out"

    over_midnight.call("export", *BOUNDS, str(folder))
    for path in folder.glob("*.csv"):
        assert not {"src_extension", "dst_extension"} & set(
            path.read_text().splitlines()[0].split(",")
        )
    code, out, _ = over_midnight.call("export", *BOUNDS, str(folder), "--with-extensions", "--json")

    assert 0 == code
    written = json.loads(out)["written"]
    assert ["traces_2026-01-03.csv", "traces_2026-01-04.csv"] == written
    assert {"3333"} == {row["src_extension"] for row in read(folder / written[0])}


def test_a_finished_day_is_not_written_twice(over_midnight: Seeded, tmp_path: Path) -> None:
    """Only what is missing, damaged or of other bounds is written again, or all with --force."""
    folder = tmp_path / "out"

    def written(*arguments: str) -> list[str]:
        code, out, err = over_midnight.call("export", *arguments, str(folder), "--json")
        assert 0 == code, err
        return list(json.loads(out)["written"])

    assert 18 == len(written(*BOUNDS))
    assert [] == written(*BOUNDS)
    (folder / "gaps_2026-01-03.csv").unlink()
    (folder / "health_2026-01-04.csv").write_text("cut off")
    assert ["gaps_2026-01-03.csv", "health_2026-01-04.csv"] == written(*BOUNDS)
    longer = written("--from", "2026-01-03", "--to", "2026-01-04T12:00Z")
    assert 9 == len(longer)
    assert all("2026-01-04" in name for name in longer)
    assert 9 == len(written("--from", "2026-01-03", "--to", "2026-01-04", "--force"))
    assert 18 == len(manifest(folder))


def test_a_day_that_goes_on_is_written_again(seeded: Seeded, tmp_path: Path) -> None:
    """Rows may still come for the present: the file is not final, and the next run renews it."""
    now = datetime.fromtimestamp(time.time(), UTC)
    bounds = ("--from", str(now - timedelta(hours=1)), "--to", str(now + timedelta(hours=1)))
    folder = tmp_path / "out"

    for _ in range(2):
        code, out, err = seeded.call("export", *bounds, str(folder), "--json")
        assert 0 == code, err
        report = json.loads(out)
        unfinished = {entry["file"] for entry in report["files"] if not entry["is_final"]}
        assert unfinished
        assert unfinished <= set(report["written"])


def test_the_same_rows_make_the_same_files(over_midnight: Seeded, tmp_path: Path) -> None:
    """Order and compression depend on nothing but the rows."""
    for name in ("one", "two"):
        over_midnight.call("export", *BOUNDS, str(tmp_path / name), "--gzip")

    hashes = [
        {name: entry["sha256"] for name, entry in manifest(tmp_path / name).items()}
        for name in ("one", "two")
    ]
    assert hashes[0] == hashes[1]


def test_an_export_that_breaks_off_leaves_whole_files(
    over_midnight: Seeded, tmp_path: Path
) -> None:
    """When a table cannot be read, what was finished is listed, and nothing lies half written."""
    over_midnight.query("DROP VIEW bucket_wide")
    folder = tmp_path / "out"

    code, _, err = over_midnight.call("export", *BOUNDS, str(folder))

    assert (1, True) == (code, "db init" in err)
    assert 8 == len(manifest(folder))
    assert {*manifest(folder), "manifest.json"} == {path.name for path in folder.iterdir()}


def test_a_login_without_rights_is_told(over_midnight: Seeded, tmp_path: Path) -> None:
    """The reader sees views alone: exit code 1, and the message says what it may not."""
    as_reader = re.sub(r"user=\w+", f"user={READER}", over_midnight.conninfo)
    reader = Seeded(as_reader, over_midnight.folder, 0)

    code, _, err = reader.call("export", *BOUNDS, str(tmp_path / "out"))

    assert (1, True, False) == (code, "permission denied" in err, "Traceback" in err)


@pytest.mark.parametrize(
    ("bounds", "named"),
    [
        (("--from", "yesterday", "--to", "2026-01-04"), "--from 'yesterday'"),
        (("--from", "2026-01-04", "--to", "2026-01-04"), "is not before --to"),
        (("--from", "2026-01-04"), "--to"),
    ],
)
def test_wrong_bounds_are_named(tmp_path: Path, bounds: tuple[str, ...], named: str) -> None:
    """Exit code 2 without a look at the database, the option named, and no folder made."""
    nowhere = Seeded("host=127.0.0.1 port=1", tmp_path, 0)

    code, _, err = nowhere.call("export", *bounds, str(tmp_path / "out"))

    assert (2, True) == (code, named in err), err
    assert not (tmp_path / "out").exists()


def test_another_manifest_is_not_overwritten(over_midnight: Seeded, tmp_path: Path) -> None:
    """A folder with a manifest of something else is left as it is."""
    (tmp_path / "manifest.json").write_text('{"name": "an app"}')

    code, _, err = over_midnight.call("export", *BOUNDS, str(tmp_path))

    assert (1, True) == (code, "no manifest of an export" in err)
    assert '{"name": "an app"}' == (tmp_path / "manifest.json").read_text()


def test_rows_go_back_into_a_database(over_midnight: Seeded, tmp_path: Path) -> None:
    """PostgreSQL's own COPY takes a file as it is."""
    over_midnight.call("export", *BOUNDS, str(tmp_path / "out"))
    text = (tmp_path / "out" / "metrics_2026-01-03.csv").read_bytes()

    with psycopg.connect(over_midnight.conninfo) as connection:
        connection.execute("CREATE TEMP TABLE again AS SELECT * FROM v_metrics LIMIT 0")
        with connection.cursor().copy("COPY again FROM STDIN (FORMAT csv, HEADER)") as copy:
            copy.write(text)
        differing = connection.execute(
            "(SELECT * FROM v_metrics WHERE bucket_ts < '2026-01-04Z' EXCEPT SELECT * FROM again)"
        )
        assert [] == differing.fetchall()

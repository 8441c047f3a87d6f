"""`monitoring import`: everything of an old export is kept, or listed with its reason; twice."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import soundfile

from archiver.deletion.ledger import begin
from archiver.drilldown import create_app
from archiver.imports.accounts import KINDS, NOTES, REASONS, Ledger
from archiver.imports.fields import Reading
from archiver.imports.importer import Importer, Order
from archiver.imports.loader import Loader
from archiver.imports.old_calls import OldCall
from archiver.imports.old_ids import call_of
from archiver.migrations import migrate
from archiver.times import iso
from exporter.config import load_settings
from tests.fix_drilldown import LocalClient, settings_for
from tests.fix_old_export import (
    BUCKETS,
    GLOBAL_CALL,
    LATER,
    METRIC_COLUMNS,
    ODD,
    ONE,
    OTHER,
    PASSWORD,
    RATE,
    START,
    STATION,
    STEM,
    metric,
    stamp,
    tone,
    write_csv,
    write_old_export,
)
from tests.fix_seeded import Seeded, fill
from tests.test_docs import page, table_rows

PAGE = "docs/import.md"
TABLES = (
    *("traces", "metrics_agg_5s", "audio_segments_5s", "tap_buckets_5s", "knob_snapshots_5s"),
    *("knob_events", "gaps", "call_totals", "applied_batches", "pg_inherits"),
)


@pytest.fixture
def archive(database: str, tmp_path: Path) -> Seeded:
    """Return an empty archive and the command that uses it."""
    migrate(database)
    return Seeded(database, tmp_path, 0)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Return the synthetic export, as a folder."""
    return write_old_export(tmp_path / "old")


def packed(folder: Path) -> Path:
    """Return a tarball of a folder, in the order of names."""
    path = folder.with_suffix(".tgz")
    with tarfile.open(path, "w:gz") as tar:
        for each in sorted(folder.rglob("*")):
            tar.add(each, each.relative_to(folder), recursive=False)
    return path


def run(archive: Seeded, path: Path, *options: str) -> Any:
    """Import, and return the report."""
    code, out, err = archive.call("import", str(path), "--json", *options)
    assert 0 == code, err
    return json.loads(out)


def contents(archive: Seeded) -> dict[str, object]:
    """Return all rows and files, in comparable form."""
    rows: dict[str, object] = {
        name: archive.query(
            f"SELECT count(*), md5(string_agg(t::text, '' ORDER BY t::text)) FROM {name} t"
        )
        for name in TABLES
    }
    files = sorted(archive.audio.rglob("*.wav")) if archive.audio.exists() else []
    return rows | {str(path): path.read_bytes() for path in files}


def sums(report: Any) -> dict[str, list[int]]:
    """Return offered, kept, already there and rejected of each kind."""
    return {
        kind: [
            *(account[name] for name in ("offered", "kept", "already_there")),
            sum(account["rejected"].values()),
        ]
        for kind, account in report["kinds"].items()
    }


def documented(first_column: str) -> dict[str, list[int]]:
    """Return the numbers of a table of the page, by its first column."""
    rows = table_rows(page(PAGE), first_column)
    return {
        row[0].strip("`"): [int(cell) for cell in row[1:] if re.fullmatch(r"\d+", cell)]
        for row in rows
    }


def by_reason(report: Any, part: str) -> dict[str, list[int]]:
    """Return how often each reason or note came, for each kind."""
    words = REASONS if part == "rejected" else NOTES
    return {
        reason: [report["kinds"][kind][part].get(reason, 0) for kind in KINDS] for reason in words
    }


@pytest.mark.parametrize("form", [Path, packed], ids=["folder", "tarball"])
def test_an_import_gives_the_documented_counts_twice(
    archive: Seeded, old: Path, form: Callable[[Path], Path]
) -> None:
    """Both times the report is what the page says; the second time nothing changes."""
    path = form(old)

    first = run(archive, path)
    before = contents(archive)
    second = run(archive, path)

    assert documented("kind") == sums(first)
    assert documented("again") == sums(second)
    assert documented("reason") == by_reason(first, "rejected")
    assert documented("note") == by_reason(first, "notes")
    assert by_reason(first, "rejected") == by_reason(second, "rejected")
    for offered, *parts in [*sums(first).values(), *sums(second).values()]:
        assert offered == sum(parts)
    assert before == contents(archive)
    assert {"new": 5, "known": 0} == {name: first["calls"][name] for name in ("new", "known")}
    assert {"new": 0, "known": 5} == {name: second["calls"][name] for name in ("new", "known")}


def test_the_page_tells_every_reason_in_the_words_of_the_report() -> None:
    """Reasons and notes stand on the page in order, each with its meaning."""
    for column, words in (("reason", REASONS), ("note", NOTES)):
        rows = table_rows(page(PAGE), column)
        assert [(f"`{name}`", meaning) for name, meaning in words.items()] == [
            (row[0], row[-1]) for row in rows
        ]


def test_a_dry_run_tells_the_same_and_changes_nothing(archive: Seeded, old: Path) -> None:
    """Its counts are those of the real run; no row, partition, file or configuration is there."""
    before = contents(archive)
    new = archive.folder / "new.json"

    dry = run(archive, old, "--dry-run", "-o", str(new))

    assert before == contents(archive)
    assert not new.exists()
    real = run(archive, old)
    assert (dry["kinds"], dry["calls"]) == (real["kinds"], real["calls"])
    again = run(archive, old, "--dry-run")
    assert documented("again") == sums(again)


def test_the_report_lists_each_single_one(archive: Seeded, old: Path) -> None:
    """Its list has as many entries as the counts say, with file and line, and no password."""
    path = archive.folder / "report.json"

    report = run(archive, old, "--report", str(path))

    text = path.read_text(encoding="utf-8")
    written = json.loads(text)
    assert report == {name: part for name, part in written.items() if name != "listed"}
    for kind, account in report["kinds"].items():
        listed = [e["reason"] for e in written["listed"] if e["kind"] == kind and not e["kept"]]
        assert sorted(listed) == sorted(
            reason for reason, count in account["rejected"].items() for _ in range(count)
        )
    (cut,) = [entry for entry in written["listed"] if entry["reason"] == "bad_cells"]
    assert ("metrics_2026-01-03.csv", 31) == (cut["file"], cut["line"])
    assert PASSWORD not in text


def test_what_is_unknown_is_null(archive: Seeded, old: Path) -> None:
    """No sample is said to have been due, and what came is known where there is a recording."""
    run(archive, old)

    query = "SELECT due_samples, received_samples, score FROM tap_buckets_5s WHERE trace_id = "
    taps = archive.query(f"{query}'{ONE}' AND station_key = '{STATION}' ORDER BY tap, bucket_ts")
    heard = [80_000] * 3 + [72_000] + [80_000] * 6
    assert [(None, samples, 80.0) for samples in heard[:8]] == taps[:8]
    assert [(None, 80_000, None)] * 2 == taps[8:]
    totals = "SELECT c.due_samples, c.received_samples, loss_ratio FROM archived_calls c "
    totals += "JOIN call_list USING (trace_id) WHERE trace_id = "
    assert [(None, None, None)] == archive.query(f"{totals}'{ONE}'")  # another station has no sound
    assert [(None, 7 * RATE, None)] == archive.query(f"{totals}'{LATER}'")


def test_what_is_unknown_raises_no_alarm(archive: Seeded, old: Path) -> None:
    """The books of all stations balance: what was never written down as due is not in them."""
    fill(archive.conninfo, archive.folder, int(START.timestamp()) * 10**9)

    run(archive, old)

    books = archive.query(
        "SELECT residual FROM reconciliation('2026-01-03', '2026-01-04') WHERE due_samples > 0"
    )
    assert [(0,)] * 4 == books


def test_calls_are_derived(archive: Seeded, old: Path) -> None:
    """They begin and end with what there is of them; two directions of one have one call_id."""
    run(archive, old)

    found = {
        row[0]: row[1:]
        for row in archive.query(
            "SELECT trace_id, started_at, call_id, src_extension, attributes, ended_at IS NULL "
            "FROM traces"
        )
    }
    assert {ONE, OTHER, LATER, GLOBAL_CALL} < found.keys()
    named = datetime(2026, 1, 3, 18, 5, 1, 272_000, UTC)
    for trace_id, extension in ((ONE, "3333"), (OTHER, "4444")):
        assert (named, STEM, extension) == found[trace_id][:3]
    assert [None] * 3 == [row[1] for name, row in found.items() if name not in {ONE, OTHER}]
    attributes: Any = found[ONE][3]
    assert {"imported", f"{STATION}.group", f"{STATION}.direction"} <= attributes.keys()
    (odd,) = [row[3] for name, row in found.items() if str(name).startswith("call-7-")]
    assert isinstance(odd, dict)
    assert ODD == odd["imported.trace_id"]
    assert not any(row[4] for row in found.values())


def test_an_imported_call_is_shown_and_heard(archive: Seeded, old: Path) -> None:
    """The drill-down has it in its list, with stations, numbers and knobs, and plays its sound."""
    run(archive, old)
    with LocalClient(create_app(settings_for(archive.conninfo, archive.folder))) as client:
        listed = client.get("/api/v1/traces", params={"text": STEM}).json()
        assert {ONE, OTHER} <= {call["trace_id"] for call in listed["items"]}
        call = client.get(f"/api/v1/traces/{ONE}").json()
        assert STATION in [station["station_key"] for station in call["stations"]]
        assert call["loss_ratio"] is None
        answer = client.get(
            f"/api/v1/traces/{ONE}/buckets", params={"station": STATION, "limit": 100}
        )
        first = answer.json()["items"][0]
        assert 3.0 == first["knobs"]["pcm.input_gain_db"]
        tap = first["taps"]["PRE"]
        assert (None, 80_000) == (tap["due_samples"], tap["received_samples"])
        assert -20.0 == tap["metrics"]["pcm.rms_dbfs"]["avg"]
        sound = client.get(tap["audio"])
        assert 200 == sound.status_code
        played, rate = soundfile.read(io.BytesIO(sound.content), dtype="int16")
        assert RATE == rate
        assert np.array_equal(tone(5.0), played)
        silent = client.get(f"/api/v1/traces/{GLOBAL_CALL}/buckets").json()["items"][0]
        assert silent["taps"]["POST"]["received_samples"] is None


def test_an_imported_call_goes_out_as_files(archive: Seeded, old: Path) -> None:
    """Bundle, export and the views for analysts take it like any other."""
    run(archive, old)

    bundle = archive.folder / "call.zip"
    code, _, err = archive.call("traces", "export", ONE, "-o", str(bundle))
    assert 0 == code, err
    days = archive.folder / "days"
    code, _, err = archive.call("export", "--from", "2026-01-03", "--to", "2026-01-04", str(days))
    assert 0 == code, err
    wide = archive.query(
        f"SELECT pre_due_samples, pre_received_samples, pre_pcm_rms_dbfs FROM bucket_wide "
        f"WHERE trace_id = '{ONE}' AND station_key = '{STATION}' ORDER BY bucket_ts LIMIT 1"
    )
    assert [(None, 80_000, -20.0)] == wide
    code, out, _ = archive.call("traces", "show", ONE)
    assert 0 == code
    assert "None" not in out


def test_a_long_recording_is_cut_to_the_sample(archive: Seeded, old: Path) -> None:
    """Its segments, one after the other, are its samples where they belong, silence around."""
    run(archive, old)

    paths = archive.query(
        f"SELECT file_path, first_sample, due_samples FROM audio_segments_5s "
        f"WHERE trace_id = '{OTHER}' AND tap = 'PRE' ORDER BY bucket_ts"
    )
    parts = [soundfile.read(archive.audio / str(path), dtype="int16")[0] for path, _, _ in paths]
    whole, start = np.concatenate(parts), round(1.272 * 8_000)
    expected = tone(12.0, 8_000)
    assert np.array_equal(expected, whole[start : start + len(expected)])
    assert not whole[:start].any()
    assert not whole[start + len(expected) :].any()
    assert [(start, 40_000 - start), (0, 40_000), (0, 56_000 + start - 40_000)] == [
        (first, due) for _, first, due in paths
    ]


def test_a_call_of_our_own_is_left_alone(archive: Seeded, old: Path) -> None:
    """Nothing joins a call that the archive recorded itself, not even under its id."""
    archive.query(
        f"INSERT INTO traces (trace_id, started_at, src_extension) VALUES ('{ONE}', now(), '1')"
    )

    report = run(archive, old)

    assert 1 == report["calls"]["refused"]
    assert report["kinds"]["metrics"]["rejected"]["recorded_here"] > 24
    for table in ("metrics_agg_5s", "tap_buckets_5s", "audio_segments_5s", "knob_snapshots_5s"):
        assert [(0,)] == archive.query(f"SELECT count(*) FROM {table} WHERE trace_id = '{ONE}'")
    assert [({},)] == archive.query(f"SELECT attributes FROM traces WHERE trace_id = '{ONE}'")


def test_an_erased_call_stays_erased(archive: Seeded, old: Path) -> None:
    """Neither rows nor files of it come back; the report says how many would have."""
    with psycopg.connect(archive.conninfo) as connection:
        begin(connection, [ONE], "on request")

    report = run(archive, old)

    assert report["kinds"]["metrics"]["rejected"]["erased"] > 24
    assert report["kinds"]["audio"]["rejected"]["erased"] > 8
    for table in ("traces", "metrics_agg_5s", "tap_buckets_5s", "knob_snapshots_5s", "knob_events"):
        assert [(0,)] == archive.query(f"SELECT count(*) FROM {table} WHERE trace_id = '{ONE}'")
    assert not list(archive.audio.glob(f"*/{ONE}/**/*.wav"))


def test_a_later_export_adds_to_the_calls_of_an_earlier_one(
    archive: Seeded, tmp_path: Path
) -> None:
    """Sound joins numbers, and the other direction its call, whatever comes first."""
    numbers, rest = tmp_path / "numbers", tmp_path / "rest"
    numbers.mkdir()
    write_csv(numbers / "metrics.csv", METRIC_COLUMNS, [metric(n) for n in range(BUCKETS)])
    folder = rest / ONE / STATION / "PRE"
    folder.mkdir(parents=True)
    soundfile.write(folder / f"{int(START.timestamp())}.wav", tone(10.0, 8_000), 8_000)
    write_csv(rest / "metrics.csv", METRIC_COLUMNS, [metric(0, trace_id=OTHER), metric(BUCKETS)])

    run(archive, numbers)
    report = run(archive, rest)

    assert (1, 1) == (report["calls"]["new"], report["calls"]["extended"])
    query = "SELECT sample_rate_hz, received_samples FROM tap_buckets_5s WHERE trace_id = "
    taps = archive.query(f"{query}'{ONE}' ORDER BY bucket_ts")
    assert [(8_000, 40_000)] * 2 == taps[:2]
    assert [None] * 3 == [received for _, received in taps[2:]]
    assert [(STEM,)] * 2 == archive.query("SELECT call_id FROM traces")
    ended = f"SELECT ended_at FROM traces WHERE trace_id = '{ONE}'"
    assert [(datetime(2026, 1, 3, 18, 5, 25, tzinfo=UTC),)] == archive.query(ended)


def test_a_file_that_a_kill_left_without_its_row_is_no_obstacle(archive: Seeded, old: Path) -> None:
    """The import that follows finds the same sound there, and writes the row."""
    run(archive, old)
    before = contents(archive)
    archive.query(
        "DELETE FROM audio_segments_5s; DELETE FROM tap_buckets_5s; DELETE FROM call_totals"
    )

    report = run(archive, old)

    assert documented("kind")["audio"] == sums(report)["audio"]
    after = contents(archive)
    for name in before:
        assert name == "audio_segments_5s" or before[name] == after[name]  # it tells when


@pytest.mark.parametrize("table", ["traces", "knob_events", "audio_segments_5s"])
def test_a_killed_import_goes_on(archive: Seeded, old: Path, table: str) -> None:
    """Killed as soon as a table has rows, it is completed by the next; then all of it is there."""
    command = [sys.executable, "-m", "deploy.cli", "import", str(old)]
    environment = os.environ | archive._environment()
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        while archive.query(f"SELECT count(*) FROM {table}") == [(0,)] and process.poll() is None:
            time.sleep(0.005)
        process.kill()
    locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
    while archive.query(locks) != [(0,)]:  # the server has yet to notice
        time.sleep(0.01)

    second, third = run(archive, old), run(archive, old)

    for kind, (offered, kept, there, rejected) in sums(second).items():
        first = documented("kind")[kind]
        assert (first[0], first[1] + first[2], first[3]) == (offered, kept + there, rejected)
    assert documented("again") == sums(third)
    for path, size, sha in archive.query(
        "SELECT file_path, file_bytes, sha256 FROM audio_segments_5s"
    ):
        content = (archive.audio / str(path)).read_bytes()
        assert (size, sha) == (len(content), hashlib.sha256(content).hexdigest())


def test_times_without_a_zone_are_in_the_zone_that_is_told(archive: Seeded, tmp_path: Path) -> None:
    """The same row stands an hour earlier when the old server's clock was in Paris."""
    folder = tmp_path / "old"
    folder.mkdir()
    write_csv(folder / "metrics.csv", METRIC_COLUMNS, [metric(bucket_ts="2026-01-03 19:05:00")])

    run(archive, folder, "--time-zone", "Europe/Paris")

    assert [(START,)] == archive.query("SELECT bucket_ts FROM metrics_agg_5s")
    code, _, err = archive.call("import", str(folder), "--time-zone", "Mars/Olympus")
    assert 2 == code
    assert "Mars/Olympus" in err


def test_the_old_configuration_becomes_one_of_ours(archive: Seeded, old: Path) -> None:
    """It is accepted by this version, has no password, and every old key is counted and named."""
    new, listed = archive.folder / "new.json", archive.folder / "report.json"

    run(archive, old, "-o", str(new), "--report", str(listed))

    settings = load_settings({"MONITORING_CONFIG": str(new)})
    station = settings.stations[STATION]
    assert ("STTTTS_PCM_INGRESS", "RX", 16_000) == (station.group, station.direction, station.rate)
    assert {"pcm.input_gain_db": 3.0} == station.knobs
    variables = new.with_name("new.json.env").read_text(encoding="utf-8")
    assert variables.splitlines() == [
        "MONITORING_AUDIO_PATH=/srv/audio",
        "MONITORING_DB=host=db.example port=5432 dbname=old",
        "MONITORING_METRICS_PORT=9100",
        "MONITORING_RETENTION_HOURS=48",
    ]
    assert PASSWORD not in new.read_text() + variables
    entries = json.loads(listed.read_text())["listed"]
    named = {e["detail"].partition(":")[0] for e in entries if e["kind"] == "config"}
    station_knobs = f"stations.{STATION}.knobs"
    assert named == {
        *("database.password", "database.pool", "metricsEmitter.flushMs"),
        *(f"stations.{STATION}.handler", f"{station_knobs}.pcm.magic"),
        f"{station_knobs}.limiter.threshold_dbfs",
    }
    again = run(archive, old, "-o", str(new))
    assert [20, 0, 14, 6] == sums(again)["config"]
    new.write_text("{}")
    code, _, err = archive.call("import", str(old), "-o", str(new))
    assert 1 == code
    assert f"{new} is there already" in err
    assert "{}" == new.read_text()


def test_a_second_import_at_the_same_time_is_refused(archive: Seeded, old: Path) -> None:
    """It says so, and changes nothing."""
    with Loader(archive.conninfo, is_dry=False):
        code, _, err = archive.call("import", str(old))

    assert 1 == code
    assert "another import into this database is running" in err
    assert [(0,)] == archive.query("SELECT count(*) FROM traces")


def test_the_writers_rights_are_enough(archive: Seeded, old: Path) -> None:
    """A login that is no more than the archive's writer imports."""
    writer = psycopg.conninfo.make_conninfo(archive.conninfo, user="monitoring_writer")

    report = run(Seeded(writer, archive.folder, 0), old)

    assert documented("kind") == sums(report)


@pytest.mark.parametrize(
    ("policy", "kept"), [("audio", (True, True)), ("numbers", (True, False)), ("off", (False,) * 2)]
)
def test_the_policy_for_unknown_consent_counts(
    archive: Seeded, old: Path, policy: str, kept: tuple[bool, bool]
) -> None:
    """Nobody knows what the callers of old calls agreed to: no more is kept than of new ones."""
    settings = replace(settings_for(archive.conninfo, archive.folder), consent_unknown=policy)
    ledger = Ledger()

    Importer(Order(old, Reading(UTC), is_dry=False, now=START), settings, ledger).run()

    accounts = [ledger.accounts[kind] for kind in ("metrics", "audio")]
    assert kept == tuple(account.kept > 0 for account in accounts)
    assert kept == tuple(account.rejected["no_consent"] == 0 for account in accounts)
    assert ledger.accounts["knob_snapshots"].kept > 0


def test_a_phone_number_is_masked_in_the_id_alone() -> None:
    """What stands for an extension is in the id; the plain one is for its own column."""
    raw = f"{STEM}_+491701234567"
    reading = Reading(UTC, lambda _: "0badcafe")

    kept = call_of(raw, START, reading, [])

    assert f"{STEM}_0badcafe" == kept
    call = OldCall(raw, START, START)
    assert "+491701234567" == call.src_extension
    assert "1701234567" not in str(call.attributes(kept))


HOSTILE = (
    ("../outside/metrics.csv", tarfile.REGTYPE, "unsafe_name"),
    ("/etc/metrics.csv", tarfile.REGTYPE, "unsafe_name"),
    ("a/../../metrics.csv", tarfile.REGTYPE, "unsafe_name"),
    ("metrics_link.csv", tarfile.SYMTYPE, "link"),
    ("metrics_hard.csv", tarfile.LNKTYPE, "link"),
    ("audio/pipe.wav", tarfile.FIFOTYPE, "link"),
    ("audio/disk.wav", tarfile.BLKTYPE, "link"),
)


def test_a_hostile_tarball_reaches_nothing(archive: Seeded, tmp_path: Path) -> None:
    """Names that lead out, links and devices are listed; nothing is written outside."""
    path = tmp_path / "in" / "hostile.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as tar:
        for name, kind, _ in HOSTILE:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            content = b"trace_id,station_key,metric_key,bucket_ts,count\n"
            member.size = len(content) if kind == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(content))
    listed = tmp_path / "in" / "report.json"
    before = sorted(tmp_path.rglob("*"))

    report = run(archive, path, "--report", str(listed))

    found = [entry["reason"] for entry in json.loads(listed.read_text())["listed"]]
    assert [reason for _, _, reason in HOSTILE] == found
    assert [7, 0, 0, 7] == sums(report)["other_files"]
    assert [*before, listed] == sorted(tmp_path.rglob("*"))


@pytest.mark.parametrize("damage", ["cut", "header", "bits"])
def test_a_damaged_tarball_is_told(archive: Seeded, old: Path, damage: str) -> None:
    """A tarball that ends early, or has another byte in it, is never taken for a whole one."""
    path = packed(old)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    elif damage == "bits":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 255
        path.write_bytes(content)
    else:
        plain = old.with_suffix(".tar")
        with tarfile.open(plain, "w") as tar:
            tar.add(old / "knob_events.csv", "knob_events.csv")
            second = tar.offset
            tar.add(old / "knob_snapshots.csv", "knob_snapshots.csv")
        content = bytearray(plain.read_bytes())
        content[second + 150] ^= 255  # in the checksum of the second header
        plain.write_bytes(content)
        path = plain

    code, _, err = archive.call("import", str(path))

    assert 1 == code
    assert "damaged" in err
    assert [(0,)] == archive.query("SELECT count(*) FROM traces")


@pytest.mark.parametrize("name", ["missing", "notes.txt"])
def test_what_is_no_export_is_told(archive: Seeded, old: Path, name: str) -> None:
    """A path that is not there, or a file that is no tarball, ends with one line."""
    code, out, err = archive.call("import", str(old / name))

    assert (1, "") == (code, out)
    assert 1 == len(err.strip().splitlines())


def test_the_commands_of_the_page_run(
    archive: Seeded, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command that the page shows does what it says."""
    monkeypatch.chdir(old.parent)
    (block,) = re.findall(r"^```sh\n(.*?)^```", page(PAGE), flags=re.MULTILINE | re.DOTALL)
    commands = [line.partition("#")[0].split()[1:] for line in block.splitlines()]
    assert 3 == len(commands)

    ended = [archive.call(*command) for command in commands]

    assert [0, 0, 0] == [code for code, _, _ in ended]
    assert "already there" in ended[-1][1]
    assert {"dry.json", "report.json", "new.json", "new.json.env"} <= {
        path.name for path in old.parent.iterdir()
    }
    assert stamp() == f"{iso(START).removesuffix('Z')}.000000Z"

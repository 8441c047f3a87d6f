"""`monitoring import` on hard ways: kills, damage, hostile tarballs, later exports, odd clocks."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psycopg
import pytest
import soundfile

from archiver.imports.loader import Loader
from exporter.config import load_settings
from tests.fix_import import contents, documented, packed, run, sums
from tests.fix_old_export import (
    BUCKETS,
    LATER,
    METRIC_COLUMNS,
    ONE,
    OTHER,
    PASSWORD,
    RATE,
    START,
    STATION,
    STEM,
    metric,
    tone,
    write_csv,
)
from tests.fix_seeded import Seeded


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


def test_sound_that_retention_took_comes_back_once(archive: Seeded, old: Path) -> None:
    """An import brings it again, counts its samples once, and leaves a refused call alone."""
    run(archive, old)
    received = "SELECT trace_id, sum(received_samples) FROM tap_buckets_5s GROUP BY 1 ORDER BY 1"
    before = archive.query(received)
    shutil.rmtree(archive.audio)
    archive.query("DELETE FROM audio_segments_5s")
    archive.query(f"UPDATE traces SET consent = 'refused' WHERE trace_id = '{LATER}'")

    report = run(archive, old)

    assert before == archive.query(received)
    account = report["kinds"]["audio"]
    assert (12, 1) == (account["kept"], account["rejected"]["refused"])
    assert not list(archive.audio.glob(f"*/{LATER}/**/*.wav"))
    assert [(0,)] == archive.query(
        f"SELECT count(*) FROM audio_segments_5s WHERE trace_id = '{LATER}'"
    )


def test_a_phone_number_has_its_own_table_alone(
    archive: Seeded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the call's id nor any other column nor a path has the plain number."""
    key = tmp_path / "privacy.key"
    key.touch(mode=0o600)
    key.write_bytes(b"k" * 32)
    monkeypatch.setenv("MONITORING_PRIVACY_KEY_FILE", str(key))
    number = "491701234567"
    folder = tmp_path / "old"
    sound = folder / f"{STEM}_{number}" / STATION / "PRE"
    sound.mkdir(parents=True)
    soundfile.write(sound / f"{int(START.timestamp())}.wav", tone(1.0), RATE)
    write_csv(folder / "metrics.csv", METRIC_COLUMNS, [metric(trace_id=f"{STEM}_{number}")])

    first, second = run(archive, folder), run(archive, folder)

    assert (1, 1) == (first["calls"]["new"], second["calls"]["known"])
    assert [(number,)] == archive.query("SELECT number FROM phone_numbers")
    for table in ("traces", "metrics_agg_5s", "audio_segments_5s", "tap_buckets_5s", "call_totals"):
        assert [] == archive.query(f"SELECT FROM {table} t WHERE t::text LIKE '%{number}%'")
    assert not [path for path in archive.audio.rglob("*") if number in path.name]


@pytest.mark.parametrize("table", ["traces", "knob_events", "audio_segments_5s"])
def test_a_killed_import_goes_on(archive: Seeded, old: Path, table: str) -> None:
    """Killed as soon as a table has rows, it is completed by the next; then all of it is there."""
    command = [sys.executable, "-m", "deploy.cli", "import", str(old)]
    environment = os.environ | archive.environment()
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

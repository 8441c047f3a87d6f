"""Replay as a user runs it: recordings in, rows and WAV files out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psycopg
import pytest
import soundfile

from archiver.migrations import migrate, shipped
from deploy.postgres import EmbeddedPostgres
from tests.test_analysis import by_definition

AT = "2026-01-01T00:00:02.100Z"
RATE = 16_000
Samples = npt.NDArray[np.int16]


class Installation:
    """A database and folders, and the command that uses them."""

    def __init__(self, conninfo: str, folder: Path) -> None:
        self.conninfo = conninfo
        self.audio = folder / "audio"
        self.environment = {
            **os.environ,
            "MONITORING_DB": conninfo,
            "MONITORING_AUDIO_PATH": str(self.audio),
            "MONITORING_SPOOL_PATH": str(folder / "spool"),
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the command."""
        return subprocess.Popen(
            [sys.executable, "-m", "deploy.cli", *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run the command to its end."""
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=120)
            return process.returncode, out, err

    def query(self, statement: str) -> list[tuple[object, ...]]:
        """Ask the database."""
        with psycopg.connect(self.conninfo) as connection:
            return connection.execute(statement.encode()).fetchall()

    def segments(self, tap: str) -> list[Samples]:
        """Read all segments of a tap in order."""
        paths = sorted(self.audio.rglob(f"{tap}/segment_*.wav"))
        return [soundfile.read(path, dtype="int16")[0] for path in paths]

    def pcm_rows(self) -> dict[tuple[object, ...], npt.NDArray[np.float64]]:
        """Return all pcm.* aggregates by key."""
        rows = self.query(
            "SELECT tap, metric_key, bucket_ts, count, min, max, sum, avg, last "
            "FROM metrics_agg_5s WHERE metric_key LIKE 'pcm.%' OR metric_key = 'stream.frames'"
        )
        return {row[:3]: np.array(row[3:], float) for row in rows}


@pytest.fixture
def installation(database: str, tmp_path: Path) -> Installation:
    """Yield an installation with a fresh database."""
    migrate(database)
    return Installation(database, tmp_path)


@pytest.fixture
def recording(speech: tuple[Samples, int], tmp_path: Path) -> Path:
    """Yield a recording of 10.2 s."""
    path = tmp_path / "speech.wav"
    soundfile.write(path, speech[0][: int(10.2 * RATE)], RATE, subtype="PCM_16")
    return path


def test_a_recording_stands_in_its_buckets(installation: Installation, recording: Path) -> None:
    """10.2 s from 2.1 s on: three buckets, exact files, audio at its offset, 510 frames at PRE."""
    code, out, err = installation.run("replay", str(recording), "--at", AT)

    assert (0, True) == (code, "archived" in out), err
    fed = soundfile.read(recording, dtype="int16")[0]
    pre = installation.segments("PRE")
    assert [80_000] * 3 == [len(segment) for segment in pre]
    assert [80_000] * 3 == [len(segment) for segment in installation.segments("POST")]
    joined = np.concatenate(pre)
    assert np.array_equal(fed, joined[33_600 : 33_600 + len(fed)])
    assert not joined[:33_600].any()
    counts = installation.query(
        "SELECT to_char(bucket_ts AT TIME ZONE 'UTC', 'HH24:MI:SS'), count FROM metrics_agg_5s "
        "WHERE tap = 'PRE' AND metric_key = 'pcm.rms_dbfs' ORDER BY bucket_ts"
    )
    assert [("00:00:00", 145), ("00:00:05", 250), ("00:00:10", 115)] == counts


def test_block_sizes_change_nothing(database: str, recording: Path, tmp_path: Path) -> None:
    """The same audio, the same POST and the same rows for blocks of 1 ms to 3 s."""
    migrate(database)
    found = []
    for block_ms in ("1", "20", "37.5", "3000"):
        place = Installation(database, tmp_path / block_ms)
        arguments = ("--at", AT, "--block-ms", block_ms, "--knob", "pcm.input_gain_db=12")
        code, _, err = place.run("replay", str(recording), *arguments)
        assert 0 == code, err
        found.append((place.segments("PRE"), place.segments("POST"), place.pcm_rows()))
        with psycopg.connect(database) as connection:
            for table in ("traces", "tap_buckets_5s", "metrics_agg_5s", "audio_segments_5s"):
                connection.execute(f"DELETE FROM {table}".encode())

    first = found[0]
    for other in found[1:]:
        assert np.array_equal(first[0], other[0])
        assert np.array_equal(first[1], other[1])
        assert first[2].keys() == other[2].keys()
        for key, values in first[2].items():
            assert values == pytest.approx(other[2][key], rel=1e-6, abs=1e-6), key


def check_against_definitions(place: Installation, path: Path) -> None:
    """Compare every pcm.* aggregate at PRE with plain definitions, frame by frame."""
    code, _, err = place.run("replay", str(path), "--at", "2026-01-01T00:00:05Z")
    assert 0 == code, err
    fed, rate = soundfile.read(path, dtype="int16")
    size = rate // 50
    frames = [by_definition(fed[i : i + size]) for i in range(0, len(fed) - size + 1, size)]
    rows = {key: values for key, values in place.pcm_rows().items() if key[0] == "PRE"}
    stamps = sorted({key[2] for key in rows}, key=str)
    for number, stamp in enumerate(stamps):
        inside = frames[250 * number : 250 * (number + 1)]
        for key in inside[0]:
            values = [frame[key] for frame in inside if frame[key] == frame[key]]
            count, low, high, total, mean, last = rows["PRE", key, stamp]
            relative, absolute = (0.0, 1e-3) if "dbfs" in key else (1e-6, 1e-12)
            assert len(values) == count
            assert values[-1] == pytest.approx(last, rel=relative, abs=absolute)
            assert [min(values), max(values)] == pytest.approx(
                [low, high], rel=relative, abs=absolute
            )
            assert sum(values) / count == pytest.approx(mean, rel=relative, abs=absolute)
            assert sum(values) == pytest.approx(total, rel=1e-6, abs=1e-6)


def test_aggregates_are_those_of_the_definitions(
    installation: Installation, recording: Path
) -> None:
    """Every aggregate of speech equals an independent computation in plain Python."""
    check_against_definitions(installation, recording)


def test_aggregates_of_recordings_are_those_of_the_definitions(
    installation: Installation, real_speech: list[tuple[Samples, int]], tmp_path: Path
) -> None:
    """So it is for a real recording, at its own rate."""
    samples, rate = real_speech[0]
    path = tmp_path / "prompt.wav"
    soundfile.write(path, samples[: 10 * rate], rate, subtype="PCM_16")

    check_against_definitions(installation, path)


def test_a_known_trace_id_is_refused(installation: Installation, recording: Path) -> None:
    """A call that the archive has is not written again."""
    arguments = ("replay", str(recording), "--at", AT, "--trace-id", "call_1")

    assert 0 == installation.run(*arguments)[0]
    code, _, err = installation.run(*arguments)

    assert 2 == code
    assert "call_1" in err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--knob", "pcm.input_gain_db=99"), "99"),
        (("--knob", "no.such=1"), "no.such"),
        (("--at", "yesterday"), "yesterday"),
        (("--block-ms", "6000"), "6000"),
    ],
)
def test_wrong_options_are_named(
    installation: Installation, recording: Path, arguments: tuple[str, ...], named: str
) -> None:
    """Exit code 2, and the message says what is wrong."""
    code, _, err = installation.run("replay", str(recording), *arguments)

    assert 2 == code
    assert named in err


def test_a_database_that_goes_away_and_comes_back_misses_nothing(
    postgres: EmbeddedPostgres, installation: Installation, recording: Path
) -> None:
    """Stopped during a replay and started again: all rows are there, once."""
    with installation.start("replay", str(recording), "--at", AT, "--realtime") as process:
        time_limit = time.monotonic() + 30
        while not list(installation.audio.rglob("*.wav")):
            assert time.monotonic() < time_limit
            time.sleep(0.05)
        postgres.restart("immediate")
        _, err = process.communicate(timeout=90)

    assert 0 == process.returncode, err
    total = installation.query(
        "SELECT sum(count) FROM metrics_agg_5s WHERE metric_key = 'pcm.rms_dbfs' AND tap = 'PRE'"
    )
    assert 510 == total[0][0]


def test_kill_9_loses_nothing_that_was_acknowledged(
    database: str, recording: Path, tmp_path: Path
) -> None:
    """What was in the spool when the process died is in the database after a drain."""
    away = Installation("host=127.0.0.1 port=1 dbname=nobody", tmp_path)
    with away.start("replay", str(recording), "--at", AT, "--realtime") as process:
        time_limit = time.monotonic() + 30
        while not list((tmp_path / "spool").glob("*/*.batch")) or not list(
            away.audio.rglob("*.wav")
        ):
            assert time.monotonic() < time_limit
            time.sleep(0.05)
        time.sleep(0.5)
        acknowledged = len(list(away.audio.rglob("*.wav")))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
    migrate(database)
    back = Installation(database, tmp_path)

    code, out, err = back.run("spool", "drain", "--json")

    assert 0 == code, err
    assert json.loads(out)["archived"] > 0
    paths = {path for (path,) in back.query("SELECT file_path FROM audio_segments_5s")}
    assert acknowledged == len(paths)
    assert [("crash",)] == back.query("SELECT end_reason FROM traces")
    assert not list((tmp_path / "spool").glob("*/*.batch"))


def test_the_short_commands_answer(installation: Installation, recording: Path) -> None:
    """Status, lists and the doctor report as JSON."""
    installation.run("replay", str(recording), "--at", AT, "--trace-id", "call_2")

    newest = shipped()[-1][0]
    assert newest == json.loads(installation.run("db", "status", "--json")[1])["schema"]
    assert "call_2" == json.loads(installation.run("traces", "list", "--json")[1])[0]["trace_id"]
    shown = json.loads(installation.run("traces", "show", "call_2", "--json")[1])
    assert {"PRE", "POST"} == {tap["tap"] for tap in shown["taps"]}
    assert 1 == installation.run("traces", "show", "nobody")[0]
    assert 87 == len(json.loads(installation.run("knobs", "list", "--json")[1]))
    findings = json.loads(installation.run("doctor", "--json")[1])
    assert {"name": "database", "is_well": True, "text": f"schema {newest}"} in findings


def test_wrong_settings_stop_a_command_with_key_and_value(installation: Installation) -> None:
    """A setting that cannot be is named before anything is touched."""
    installation.environment["MONITORING_METRICS_PORT"] = "ninety"

    code, _, err = installation.run("doctor")

    assert 2 == code
    assert "MONITORING_METRICS_PORT='ninety'" in err


def test_an_erased_call_is_not_replayed(installation: Installation, recording: Path) -> None:
    """What was erased is not archived again under its id, and the command says so."""
    arguments = ("replay", str(recording), "--at", AT, "--trace-id", "call_1")
    assert 0 == installation.run(*arguments)[0]
    assert 0 == installation.run("traces", "erase", "call_1", "--reason", "x", "--yes")[0]

    code, out, _ = installation.run(*arguments)

    assert (1, True) == (code, "erased" in out)
    assert 1 == installation.run("traces", "show", "call_1")[0]

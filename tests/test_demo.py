"""The demo as a newcomer runs it: calls, live numbers, rows and sound."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from rich.console import Console

from archiver.queries import TapSummary
from deploy.config import postgres_bin_dir
from deploy.demo import STATIONS, summary_table
from deploy.postgres import EmbeddedPostgres
from exporter.metrics import METRICS
from exporter.model import Tap


@contextmanager
def demo(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Start the demo with everything below a folder; end it when it is still there."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "deploy.cli", "demo", "--data", str(folder), *options],
        env=os.environ | {"MONITORING_METRICS_PORT": "19464-19999", "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def test_every_metric_is_in_sql_after_the_demo(tmp_path: Path) -> None:
    """Two directions, a knob change that counts, sound at both taps, every key of the registry."""
    folder = tmp_path / "demo"
    with demo(folder, "--duration", "16") as process:
        out, _ = process.communicate(timeout=90)

    assert 0 == process.returncode, out
    assert "St_3_4444" in out
    server = EmbeddedPostgres(folder / "postgres", bin_dir=postgres_bin_dir())
    with server, psycopg.connect(server.conninfo()) as connection:
        keys = {
            key for (key,) in connection.execute("SELECT DISTINCT metric_key FROM metrics_agg_5s")
        }
        stations = connection.execute("SELECT DISTINCT station_key, tap FROM tap_buckets_5s")
        events = connection.execute("SELECT knob_key, counts_from IS NOT NULL FROM knob_events")
        attributes = connection.execute("SELECT attributes FROM traces").fetchone()
        assert set() == {metric.key for metric in METRICS} - keys
        assert 4 == len(stations.fetchall())
        assert [("pcm.input_gain_db", True)] == events.fetchall()
        assert attributes is not None
        assert "Up" == attributes[0]["asterisk.channel_state"]
    assert 4 == len({path.parent for path in (folder / "audio").rglob("segment_*.wav")})


def test_ctrl_c_ends_the_demo_well(tmp_path: Path) -> None:
    """Live numbers are there while it runs; one Ctrl-C ends it with the table of what was kept."""
    with demo(tmp_path / "demo") as process:
        address = _address(process)
        time_limit = time.monotonic() + 20
        while b"monitoring_pcm_rms_dbfs{" not in urllib.request.urlopen(address, timeout=5).read():
            assert time.monotonic() < time_limit
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)

    assert 0 == process.returncode, out
    assert "aggregates" in out


def test_the_table_at_the_end_fits_a_narrow_terminal() -> None:
    """Of a call of an hour, each tap is one line of at most 80 columns, with all its numbers."""
    size = {"buckets": 721, "due_samples": 57_600_000, "received_samples": 57_595_000}
    rows = {"gap_samples": 5_000, "segments": 721, "metric_rows": 72_100}
    taps = [TapSummary(station, tap, **size, **rows) for station in STATIONS for tap in Tap]
    page = io.StringIO()

    Console(width=80, file=page).print(summary_table("trace_2026-01-03T18-05-01-272Z_3333", taps))

    lines = page.getvalue().splitlines()
    numbers = "721   57,600,000   100 %     5,000     721       72,100"
    assert 4 == sum(numbers in line for line in lines)


def _address(process: subprocess.Popen[str]) -> str:
    """Read what the demo prints until it names the address of its live numbers."""
    assert process.stdout is not None
    for line in process.stdout:
        found = re.search(r"http://\S+/metrics", line)
        if found:
            return found[0]
    raise AssertionError("the demo ended without an address")

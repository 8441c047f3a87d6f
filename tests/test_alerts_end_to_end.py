"""Real faults in a running call make a real Prometheus fire the right alerts, and no other."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from archiver import Archiver
from archiver.migrations import READER, migrate
from dashboards.alert import Alert
from dashboards.alerts import ALERTS
from dashboards.annotations import Addresses
from dashboards.rules import prometheus_rules
from dashboards.thresholds import threshold
from dashboards.yaml_text import render
from deploy.postgres import free_port
from exporter import Monitor
from exporter.config import Settings, load_settings
from exporter.model import KnobValue
from exporter.processing import IMPLEMENTS, ReferenceChain
from exporter.station import Station
from tests.alert_sql import ask
from tests.fix_prometheus import program
from tests.fix_proxy import TcpProxy
from tests.fix_speech import Speech

PROVISIONING = Path(__file__).parents[1] / "deploy" / "provisioning"
LOUD, GATED, WELL = "St_1_1111", "St_2_2222", "St_3_3333"
FAULTS: dict[str, dict[str, KnobValue]] = {
    LOUD: {
        "pcm.input_gain_db": 24.0,
        "limiter.enabled": False,
        "safety.clipping_protection": False,
        "safety.max_output_level_dbfs": 0.0,
    },
    GATED: {
        "pcm.input_gain_db": -8.0,  # the gate stands behind it
        "noise_gate.enabled": True,
        "noise_gate.threshold_dbfs": -20.0,
        "noise_gate.hold_ms": 0.0,
        "noise_gate.release_ms": 10.0,
    },
    WELL: {},
}
PATIENCE_S = 40.0
Firing = dict[tuple[str, str], dict[str, Any]]


def hastened(alert: Alert) -> Alert:
    """Return the alert with a shorter memory and less patience; all else is as shipped."""
    window_s = min(alert.window_s, 10) if alert.window_s < 300 else alert.window_s
    return dataclasses.replace(alert, hold_s=min(alert.hold_s, 2), window_s=window_s)


@pytest.fixture
def settings(database: str, proxy: TcpProxy, tmp_path: Path) -> Settings:
    """Yield settings whose way to the database can be cut."""
    migrate(database)
    return dataclasses.replace(
        load_settings({}),
        db=proxy.conninfo(database),
        audio_path=tmp_path / "audio",
        spool_path=tmp_path / "spool",
        targets_path=tmp_path,
        metrics_ports=(free_port(),),
    )


@contextmanager
def playing(monitor: Monitor, speech: Speech) -> Iterator[dict[str, float]]:
    """Play a call through three stations in real time, for the time of the block.

    Yields:
        The longest that each station has taken for a block so far, in ms, by the host's own clock.
    """
    stopping, longest = threading.Event(), dict.fromkeys(FAULTS, 0.0)
    with monitor.start_trace("1111", trace_id="faulty_call") as trace:
        lines: list[tuple[Station, ReferenceChain]] = []
        for key, knobs in FAULTS.items():
            station = trace.station(key, rate=speech.rate, implements=sorted(IMPLEMENTS))
            for knob, value in knobs.items():
                monitor.knobs.set(
                    knob, value, by="test", reason="fault", trace_id="faulty_call", station_key=key
                )
            lines.append((station, ReferenceChain(speech.rate)))
        pcm = speech.samples.astype("<i2").tobytes()
        arguments = (lines, pcm, stopping, longest)
        player = threading.Thread(target=_play, args=arguments, daemon=True)
        player.start()
        try:
            yield longest
        finally:
            stopping.set()
            player.join(5)


def _play(
    lines: list[tuple[Station, ReferenceChain]],
    pcm: bytes,
    stopping: threading.Event,
    longest: dict[str, float],
) -> None:
    begun, position, tick = time.monotonic(), 0, 0
    while not stopping.is_set():
        block = pcm[position : position + 640]
        for station, chain in lines:
            started = time.perf_counter()
            station.process(block, chain)
            taken = 1e3 * (time.perf_counter() - started)
            longest[station.key] = max(longest[station.key], taken)
        position, tick = (position + 640) % (len(pcm) - 640), tick + 1
        time.sleep(max(0.0, begun + tick * 0.02 - time.monotonic()))


@contextmanager
def prometheus(target: int | None, folder: Path) -> Iterator[Callable[[], Firing]]:
    """Run a Prometheus that looks every second; yield what tells the alerts that fire."""
    rules = prometheus_rules(map(hastened, ALERTS), Addresses(), interval="1s")
    (folder / "rules.yaml").write_text(render(rules, "hastened"))
    # The job as it is shipped, with its limits; only where it finds us is the test's own.
    job = yaml.safe_load((PROVISIONING / "prometheus/prometheus.yml").read_text())[
        "scrape_configs"
    ][0]
    del job["file_sd_configs"]
    jobs = [job | {"static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}]
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(folder / "rules.yaml")],
        "scrape_configs": jobs,
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    port = free_port()
    command = [
        program("prometheus"),
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/tsdb",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            yield lambda: _firing(f"http://127.0.0.1:{port}/api/v1/alerts")
        finally:
            server.terminate()


def _firing(address: str) -> Firing:
    """Return the alerts that fire, by name and station."""
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:
            alerts = json.load(answer)["data"]["alerts"]
    except OSError:
        return {}
    return {
        (alert["labels"]["alertname"], alert["labels"].get("station", "")): alert
        for alert in alerts
        if alert["state"] == "firing"
    }


def wait_for(firing: Callable[[], Firing], expected: set[tuple[str, str]]) -> Firing:
    """Wait until these alerts fire; return all that do."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        found = firing()
        if expected <= set(found):
            return found
        time.sleep(0.3)
    raise AssertionError(f"of {expected} only {set(firing())} fire")


def wait_for_end(firing: Callable[[], Firing], key: tuple[str, str]) -> Firing:
    """Wait until an alert does not fire any more; return those that do."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        found = firing()
        if found and key not in found:
            return found
        time.sleep(0.3)
    raise AssertionError(f"{key} does not end")


def found_in_sql(conninfo: str) -> set[tuple[object, ...]]:
    """Return what the rules for clipping and lost speech find in the archive, as the reader."""
    with psycopg.connect(conninfo) as connection:
        connection.execute(f"SET ROLE {READER}")
        return {
            (alert.name, *row[:-1])
            for alert in ALERTS
            if alert.name in {"CallClipping", "CallSpeechLost"}
            for row in ask(connection, alert, datetime.now(UTC))[0]
        }


def test_real_faults_fire_the_right_alerts(
    settings: Settings, proxy: TcpProxy, speech: Speech, tmp_path: Path
) -> None:
    """A gain too high, a gate that eats syllables, a database that is gone: each is told."""
    archive = Archiver(settings, has_retention=False)
    with (
        Monitor(settings, archive=archive) as monitor,
        prometheus(monitor.port, tmp_path) as firing,
        playing(monitor, speech) as longest,
    ):
        calls = wait_for(firing, {("CallClipping", LOUD), ("CallSpeechLost", GATED)})
        proxy.cut()
        cut = wait_for(firing, {("MonitoringDatabaseDown", "")})
        proxy.restore()
        after = wait_for_end(firing, ("MonitoringDatabaseDown", ""))
        assert monitor.flush(10)
        found = found_in_sql(settings.db)

    clipping, choppy = calls["CallClipping", LOUD], calls["CallSpeechLost", GATED]
    assert ("POST", "warning") == (clipping["labels"]["tap"], clipping["labels"]["severity"])
    assert ("POST", "critical") == (choppy["labels"]["tap"], choppy["labels"]["severity"])
    assert choppy["annotations"]["summary"].startswith("St_2_2222 POST is choppy: ")
    assert choppy["annotations"]["summary"].endswith("; worst of 1 calls")
    assert (
        "/go?station=St_2_2222&metric=pair.speech_lost_ratio&at="
        in (choppy["annotations"]["drilldown"])
    )
    assert "critical" == cut["MonitoringDatabaseDown", ""]["labels"]["severity"]
    # Grafana's rules find the same in the archive, and name the call.
    assert {
        ("CallClipping", "faulty_call", LOUD, "POST"),
        ("CallSpeechLost", "faulty_call", GATED, "POST"),
    } == found
    # Nothing else rings: what is well stays silent, and a gain is told for what it does.
    told = {key for key in (calls | cut | after) if key not in calls or key[1] != LOUD}
    # A machine that is busy with other tests may be slow indeed: by the host's own clock.
    limit = threshold("pipe.processing_latency_ms").critical
    slow = {("CallSlow", key) for key, taken in longest.items() if taken >= limit}
    assert {("CallSpeechLost", GATED), ("MonitoringDatabaseDown", "")} == told - slow
    loud = {name for name, station in calls if station == LOUD}
    assert set() == loud - {"CallClipping", "CallLimiting", "CallTooLoud"}

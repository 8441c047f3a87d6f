"""The page for Prometheus: what parsers, promtool and a real Prometheus say of it."""

from __future__ import annotations

import dataclasses
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from archiver import Archiver
from archiver.migrations import migrate
from deploy.postgres import free_port
from exporter import Monitor, MonitorCollector
from exporter.config import Settings
from exporter.metrics import HOST_METRICS, METRICS
from exporter.processing import IMPLEMENTS, ReferenceChain
from exporter.station import Station
from tests.fix_archive import host_settings
from tests.fix_speech import Speech

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@pytest.fixture
def settings(database: str, tmp_path: Path) -> Settings:
    """Yield settings for a fresh archive and a free port."""
    migrate(database)
    return host_settings(tmp_path, database)


@pytest.fixture
def monitor(settings: Settings) -> Iterator[Monitor]:
    """Yield a running monitor with an archive and a counter of the host's own."""
    registry = CollectorRegistry()
    Counter("host_calls", "Calls of the host.", registry=registry).inc()
    archive = Archiver(settings, has_retention=False)
    with Monitor(settings, archive=archive, registry=registry) as running:
        yield running


def play(monitor: Monitor, pcm: bytes, *, trace_id: str) -> None:
    """Play a call and end it."""
    with monitor.start_trace("3333", trace_id=trace_id) as trace:
        play_through(trace.station("St_3_3333", implements=sorted(IMPLEMENTS)), pcm)


def play_through(station: Station, pcm: bytes) -> None:
    """Play audio at four times its speed, which the timeline takes for a burst."""
    chain = ReferenceChain(16_000)
    for start in range(0, len(pcm), 640):
        station.process(pcm[start : start + 640], chain)
        time.sleep(0.005)


def fetch(monitor: Monitor, accept: str = "text/plain") -> tuple[str, str]:
    """Get the page."""
    address = f"http://127.0.0.1:{monitor.port}/metrics"
    request = urllib.request.Request(address, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=5) as answer:
        return answer.read().decode(), answer.headers["Content-Type"]


@pytest.fixture
def pcm(speech: Speech) -> bytes:
    """Yield six seconds of speech."""
    return bytes(speech.samples[: 6 * 16_000].astype("<i2").tobytes())


def test_both_formats_are_accepted_and_have_every_metric(monitor: Monitor, speech: Speech) -> None:
    """The parsers accept the page; it has each family, the host's counter, and exemplars."""
    with monitor.start_trace("3333", trace_id="page_1") as trace:
        station = trace.station("St_3_3333", implements=sorted(IMPLEMENTS))
        for metric in HOST_METRICS:
            station.observe(metric.key, 0.5)
        # Eleven seconds hold a whole bucket wherever they begin.
        play_through(station, speech.samples[: 11 * 16_000].astype("<i2").tobytes())
        monitor.step()
        monitor.render()

        text, kind = fetch(monitor)
        rich, rich_kind = fetch(monitor, OPENMETRICS)
    families = {family.name: family for family in parse_text(text)}
    parsed = parse_openmetrics(rich)  # type: ignore[no-untyped-call] # theirs
    rich_families = {family.name: family for family in parsed}

    assert (True, True) == (
        kind.startswith("text/plain"),
        rich_kind.startswith("application/openmetrics"),
    )
    for metric in METRICS:
        assert metric.prometheus.removesuffix("_total") in families
        if metric.borders:
            histogram = rich_families[metric.distribution]
            exemplars = [sample.exemplar for sample in histogram.samples if sample.exemplar]
            assert {"page_1"} == {exemplar.labels["trace_id"] for exemplar in exemplars}
    assert "host_calls" in families
    assert "host_calls" in rich_families
    assert rich.endswith("# EOF\n")
    assert 1 == rich.count("# EOF")


@pytest.fixture
def promtool() -> str:
    """Yield promtool; skip with the reason where it is not installed."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed: make test-tools")
    return found


def test_promtool_finds_nothing_wrong(monitor: Monitor, pcm: bytes, promtool: str) -> None:
    """`promtool check metrics` accepts names, types and help texts."""
    play(monitor, pcm, trace_id="page_2")
    monitor.step()
    monitor.render()

    checked = subprocess.run(
        [promtool, "check", "metrics"],
        input=fetch(monitor)[0],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (0, "") == (checked.returncode, checked.stdout + checked.stderr)


def test_counters_equal_sql_when_a_call_has_ended(
    monitor: Monitor, settings: Settings, pcm: bytes
) -> None:
    """Samples, frames and every +Inf bucket on the page are the sums in the database."""
    play(monitor, pcm, trace_id="page_3")
    assert monitor.flush(20)
    monitor.render()
    page = {
        (s.name, s.labels.get("tap"), s.labels.get("le")): s.value
        for family in parse_text(fetch(monitor)[0])
        for s in family.samples
    }

    with psycopg.connect(settings.db) as connection:
        received: dict[str, int] = dict(
            connection.execute(
                "SELECT tap, sum(received_samples) FROM audio_segments_5s GROUP BY tap"
            ).fetchall()
        )
        rows = connection.execute(
            "SELECT tap, metric_key, sum(count), sum(sum) FROM metrics_agg_5s GROUP BY 1, 2"
        )
        sums = {(tap, key): (int(count), total) for tap, key, count, total in rows.fetchall()}

    for tap in ("PRE", "POST"):
        assert (
            len(pcm) // 2 == received[tap] == page["monitoring_samples_received_total", tap, None]
        )
        assert sums[tap, "stream.frames"][1] == page["monitoring_frames_total", tap, None]
        for metric in METRICS:
            if metric.borders and (tap, metric.key) in sums:
                observed = page[f"{metric.distribution}_bucket", tap, "+Inf"]
                assert sums[tap, metric.key][0] == observed, metric.key


def test_a_collector_shows_the_same_page(monitor: Monitor, pcm: bytes) -> None:
    """A host that serves /metrics itself registers the collector."""
    play(monitor, pcm, trace_id="page_4")
    monitor.step()
    monitor.render()

    names = {family.name for family in MonitorCollector(monitor).collect()}

    assert {"monitoring_pcm_rms_dbfs", "monitoring_frames"} <= names


def test_a_real_prometheus_scrapes_the_page(monitor: Monitor, pcm: bytes, tmp_path: Path) -> None:
    """Prometheus takes the page, and answers a query with a station's level."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed: make test-tools")
    port = free_port()
    target = f"127.0.0.1:{monitor.port}"
    (tmp_path / "p.yml").write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "1s"},
                "scrape_configs": [{"job_name": "m", "static_configs": [{"targets": [target]}]}],
            }
        )
    )
    command = [
        program,
        f"--config.file={tmp_path}/p.yml",
        f"--storage.tsdb.path={tmp_path}/tsdb",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            play(monitor, pcm, trace_id="page_5")
            question = f"http://127.0.0.1:{port}/api/v1/query?query=monitoring_frames_total"
            result = wait_for_result(question)
        finally:
            server.terminate()

    assert {"PRE", "POST"} == {series["metric"]["tap"] for series in result}


def wait_for_result(question: str) -> list[dict[str, dict[str, str]]]:
    """Ask until there is an answer, for half a minute."""
    time_limit = time.monotonic() + 30
    while time.monotonic() < time_limit:
        try:
            with urllib.request.urlopen(question, timeout=2) as answer:
                result: list[dict[str, dict[str, str]]] = json.load(answer)["data"]["result"]
        except OSError:
            result = []
        if result:
            return result
        time.sleep(0.2)
    raise AssertionError(f"no answer to {question}")


def test_slow_scrapers_take_four_threads_at_most(monitor: Monitor) -> None:
    """Half-open requests do not pile up, and the page is back when their time is over."""
    assert monitor.port is not None
    sockets = [socket.create_connection(("127.0.0.1", monitor.port)) for _ in range(12)]
    for each in sockets:
        each.sendall(b"GET /metrics HTTP/1.0\r\n")
    time_limit = time.monotonic() + 20
    answered = False
    while not answered and time.monotonic() < time_limit:
        try:
            answered = "monitoring_" in fetch(monitor)[0]
        except OSError:
            time.sleep(0.2)

    for each in sockets:
        each.close()
    assert answered
    monitor.render()
    assert "monitoring_scrapes_rejected_total" in fetch(monitor)[0]


def test_a_port_in_use_is_tried_again(settings: Settings) -> None:
    """The host runs without the page, and gets it when the port is free."""
    with closing(socket.create_server(("127.0.0.1", settings.metrics_ports[0]))) as squatter:
        monitor = Monitor(settings)
        monitor.start()
        before = monitor.port
        squatter.close()
        time_limit = time.monotonic() + 20
        while (found := monitor.port) is None and time.monotonic() < time_limit:
            time.sleep(0.1)
        monitor.stop()

    assert (None, settings.metrics_ports[0]) == (before, found)


def test_a_range_of_ports_is_told_to_prometheus(settings: Settings, tmp_path: Path) -> None:
    """The first free port is taken and written to a file_sd file, which goes with the monitor."""
    first = settings.metrics_ports[0]
    ranged = dataclasses.replace(settings, metrics_ports=(first, first + 1, first + 2))
    with closing(socket.create_server(("127.0.0.1", first))), Monitor(ranged) as monitor:
        files = list(tmp_path.glob("monitoring-*.json"))
        targets = json.loads(files[0].read_text())[0]["targets"]
        assert [f"127.0.0.1:{monitor.port}"] == targets
        assert first != monitor.port

    assert [] == list(tmp_path.glob("monitoring-*.json"))

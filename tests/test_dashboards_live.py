"""Every query of every board against a running demo: Prometheus and the archive answer it."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from archiver import Archiver
from archiver.deletion.retention import Retention
from archiver.migrations import migrate
from archiver.reader import QueryError, reader
from dashboards import queries_archive, queries_live
from dashboards.expansion import Values, View, expand
from dashboards.model import Panel, PgTarget, PromTarget
from dashboards.overview import board as overview
from deploy.cli import main
from deploy.dashboards import Live
from deploy.postgres import free_port
from exporter import Monitor
from exporter.config import Settings
from exporter.selfmetrics import Tally
from exporter.station import Station
from tests.fix_archive import host_settings
from tests.fix_grafana import BOARDS, Grafana, run_prometheus, wait_for
from tests.fix_host import unchanged

PANELS = [
    pytest.param(name, panel, id=f"{name}: {panel.title}")
    for name, board in BOARDS.items()
    for panel in board.panels
]


@pytest.mark.parametrize(("name", "panel"), PANELS)
def test_every_query_returns_something(grafana: Grafana, name: str, panel: Panel) -> None:
    """Variables and macros filled in, each query of a panel finds data, unless it is about loss."""
    view = grafana.view(BOARDS[name])

    for target in panel.targets:
        found = answer(grafana.live, target, view)
        assert found or panel.may_be_empty, target.text


def answer(live: Live, target: PromTarget | PgTarget, view: View) -> list[object]:
    """Return what a data source answers."""
    if isinstance(target, PromTarget):
        return list(live.series(target, view))
    return list(live.columns(expand(target, view))[1])


@pytest.mark.parametrize("name", [name for name, board in BOARDS.items() if board.annotations])
def test_knob_changes_are_marked(grafana: Grafana, name: str) -> None:
    """The change that the demo makes is an annotation, with what, by whom and why."""
    (mark,) = BOARDS[name].annotations

    names, rows = grafana.live.columns(expand(PgTarget(mark.sql), grafana.view(BOARDS[name])))

    assert ["time", "text", "tags"] == names
    assert "pcm.input_gain_db: 0.0 -> 12.0 (the English side is too quiet)" in {r[1] for r in rows}


def test_heatmaps_carry_exemplars_that_name_the_call(grafana: Grafana) -> None:
    """Each dot on a heatmap is a call of the demo: its trace id is in the exemplar."""
    view = grafana.view(BOARDS["station"])
    heatmaps = [panel for panel in BOARDS["station"].panels if panel.kind == "heatmap"]

    for panel in heatmaps:
        (target,) = panel.targets
        assert isinstance(target, PromTarget)
        series = grafana.live.exemplars(target, view)
        ids = {each["labels"]["trace_id"] for one in series for each in one["exemplars"]}
        assert ids
        assert all(trace_id.startswith("demo_") for trace_id in ids)


def test_the_check_command_finds_nothing_wrong(
    grafana: Grafana, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`monitoring dashboards check` asks everything; without Prometheus, SQL alone."""
    monkeypatch.setenv("MONITORING_DB", grafana.conninfo)
    address = grafana.live._prometheus

    code = main(["dashboards", "check", "--prometheus", address, "--json"])
    findings = json.loads(capsys.readouterr().out)
    assert [] == [each for each in findings if each["problem"]]
    assert 0 == code
    assert {"sql", "promql"} <= {each["what"] for each in findings}

    assert 0 == main(["dashboards", "check", "--json"])
    assert "promql" not in {each["what"] for each in json.loads(capsys.readouterr().out)}


def test_the_check_command_says_what_is_wrong(
    grafana: Grafana, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A Prometheus that is not there is a problem of each query, and exit code 1."""
    monkeypatch.setenv("MONITORING_DB", grafana.conninfo)

    code = main(["dashboards", "check", "--prometheus", f"http://127.0.0.1:{free_port()}"])

    assert 1 == code
    assert "refused" in capsys.readouterr().out


def test_the_reader_sees_views_alone(grafana: Grafana) -> None:
    """What a panel may ask is views and their functions: no table, no path, no writing."""
    with reader(grafana.conninfo) as archive:
        for forbidden in ("SELECT file_path FROM audio_segments_5s", "DELETE FROM v_gaps"):
            with pytest.raises(QueryError):
                archive.columns(forbidden)


@pytest.fixture
def lossy(database: str, tmp_path: Path) -> Settings:
    """Yield settings for a fresh archive."""
    migrate(database)
    return host_settings(tmp_path, database)


def test_losses_are_seen_in_prometheus_and_sql(lossy: Settings, tmp_path: Path) -> None:
    """What is empty in the demo is not where audio is missing: the graphs and tables of gaps."""
    archive = Archiver(lossy, has_retention=False)
    with (
        Monitor(lossy, archive=archive) as monitor,
        run_prometheus(f"127.0.0.1:{lossy.metrics_ports[0]}", tmp_path) as prometheus,
        monitor.start_trace("3333", trace_id="lossy_1") as trace,
    ):
        station = trace.station("St_3_3333")
        tell(station)
        time.sleep(4.0)
        tell(station)
        trace.end()
        assert monitor.flush(20)
        # As retention does where something is old enough.
        archive.tally.add("retention_deleted_total", "gaps", by=3)
        with reader(lossy.db) as asked:
            live = Live(asked, prometheus)
            values = {"station": ("St_3_3333",), "trace": ("lossy_1",)}
            queries = [PromTarget(queries_live.gap_rate()), PromTarget(queries_archive.deleted())]
            wait_for(lambda: all(live.series(query, recent(values)) for query in queries))
            for panel in possibly_empty():
                for target in panel.targets:
                    if isinstance(target, PgTarget):
                        assert live.columns(expand(target, recent(values)))[1], panel.title
            lost = live.columns(expand(status_target(), recent(values)))[1][0][1]
    # Four seconds at each tap.
    assert 7.0 < lost < 9.0


def tell(station: Station) -> None:
    """Send two seconds of audio in time."""
    for _ in range(100):
        station.process(b"\1\0" * 320, unchanged)
        time.sleep(0.02)


def recent(values: Values) -> View:
    """Return the last five minutes."""
    now = datetime.now(UTC)
    return View(now - timedelta(minutes=5), now, values)


def possibly_empty() -> list[Panel]:
    """Return the panels whose emptiness means that nothing is missing."""
    found = [panel for board in BOARDS.values() for panel in board.panels]
    return [panel for panel in found if panel.may_be_empty == "nothing is missing"]


def status_target() -> PgTarget:
    """Return the query of the line on completeness."""
    (target,) = next(iter(overview("x").panels)).targets
    assert isinstance(target, PgTarget)
    return target


def test_retention_counts_what_it_deletes(lossy: Settings, tmp_path: Path) -> None:
    """The graph of deleted things has its series from retention's first run on."""
    tally = Tally()

    Retention(lossy, tally).run(tmp_path / "audio", datetime.now(UTC))

    kinds = {each.labels for each in tally.samples() if each.name == "retention_deleted_total"}
    assert ("partitions",) in kinds


def test_nothing_is_behind_without_a_running_call(lossy: Settings) -> None:
    """An empty archive is complete until now."""
    with psycopg.connect(lossy.db) as connection:
        row = connection.execute(
            "SELECT complete_until = now(), lost_seconds, behind_seconds "
            "FROM data_status(now() - interval '1 hour', now())"
        ).fetchone()

    assert (True, 0.0, 0.0) == row

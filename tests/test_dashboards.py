"""Dashboards as files: valid for Grafana, complete, of one grammar, and up to date."""

from __future__ import annotations

import itertools
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards import expansion, links
from dashboards._compat import dump, finish
from dashboards.boards import all_boards
from dashboards.expansion import ExpansionError, View
from dashboards.grammar import POST, PRE
from dashboards.model import Json, Panel, PgTarget, PromTarget, Source
from dashboards.thresholds import THRESHOLDS
from deploy.board_schema import has_schemas, violations
from deploy.cli import main
from exporter.health import DEFECTS
from exporter.metrics import METRICS
from exporter.selfmetrics import SELF_METRICS
from tests.fix_grafana import BOARDS, ROOT
from tests.fix_host import START

SCHEMAS = ROOT / ".cache" / "grafana-schema"
FILES = ROOT / "dashboards" / "json"
_NAMES = re.compile(r"\bmonitoring_\w+")
_FAMILIES = {"samples_received_total", "gap_samples_total", "active_traces"}
every_board = pytest.mark.parametrize("name", BOARDS)


def panels(name: str) -> list[Panel]:
    """Return the panels of a board."""
    return list(BOARDS[name].panels)


def built(name: str) -> list[Json]:
    """Return the panels of a board as JSON, rows among them."""
    found: list[Json] = finish(BOARDS[name])["panels"]
    return found


@every_board
def test_json_is_what_grafana_13_has_types_for(name: str) -> None:
    """Board, options and field options fit the schemas made of Grafana's own types."""
    if not has_schemas(SCHEMAS):
        pytest.skip("Grafana's schemas are not there: make test-tools")

    assert [] == list(violations(finish(BOARDS[name]), SCHEMAS))


def test_schemas_find_what_is_wrong() -> None:
    """A wrong option and a wrong field option are both found: the check is no formality."""
    if not has_schemas(SCHEMAS):
        pytest.skip("Grafana's schemas are not there: make test-tools")
    board = finish(BOARDS["overview"])
    graph = next(panel for panel in board["panels"] if panel["type"] == "timeseries")
    graph["options"]["tooltip"]["mode"] = "often"
    graph["fieldConfig"]["defaults"]["custom"]["drawStyle"] = "crayon"

    assert 2 == len(list(violations(board, SCHEMAS)))


# The SDK, as the schemas, knows one kind of annotation target: by tags. PostgreSQL's is another.
UNKNOWN_TO_THE_SDK = re.compile(r"annotations/list/\d+/target/\w+")


@every_board
def test_an_independent_reader_loses_nothing(name: str) -> None:
    """Read and written again by Grafana's own SDK, each key is there but annotation targets."""
    register_default_plugins()
    before = json.loads(json.dumps(finish(BOARDS[name])))

    read = Dashboard.from_json(before)
    after = json.loads(JSONEncoder().encode(read))

    paths = {"/".join(path) for path in lost(before, after)}
    assert set() == {path for path in paths if not UNKNOWN_TO_THE_SDK.fullmatch(path)}


def lost(before: Any, after: Any, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Return where a value of one tree is not in the other; lists by place."""
    if isinstance(before, dict):
        found = set()
        for key, value in before.items():
            if not isinstance(after, dict) or key not in after:
                found |= set() if is_void(value) else {(*path, key)}
            else:
                found |= lost(value, after[key], (*path, key))
        return found
    if isinstance(before, list):
        if not isinstance(after, list) or len(before) != len(after):
            return {path}
        pairs = enumerate(zip(before, after, strict=True))
        return {each for at, (one, two) in pairs for each in lost(one, two, (*path, str(at)))}
    return set() if before == after else {path}


def is_void(value: object) -> bool:
    """Whether leaving a value out says the same."""
    return value in (None, "", False, [], {}) or value == 0


@every_board
def test_committed_json_is_up_to_date(name: str) -> None:
    """dashboards/json holds what `monitoring dashboards build` writes, to the byte."""
    assert dump(BOARDS[name]) == (FILES / f"{name}.json").read_text(encoding="utf-8")


def test_no_stale_files() -> None:
    """There is a file for each board, and no other."""
    assert {f"{name}.json" for name in BOARDS} == {path.name for path in FILES.iterdir()}


def test_build_fills_in_the_public_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twice the same bytes; links lead to MONITORING_PUBLIC_URL."""
    monkeypatch.setenv("MONITORING_PUBLIC_URL", "https://listen.example")
    monkeypatch.chdir(tmp_path)

    assert 0 == main(["dashboards", "build", "-o", "one"])
    assert 0 == main(["dashboards", "build", "-o", "two", "--json"])

    assert len(BOARDS) * 2 == len(re.findall(r"\w+\.json", capsys.readouterr().out))
    for name in BOARDS:
        text = (tmp_path / "one" / f"{name}.json").read_text(encoding="utf-8")
        assert text == (tmp_path / "two" / f"{name}.json").read_text(encoding="utf-8")
        assert '"https://listen.example"' in text
        assert links.DEFAULT_PUBLIC_URL not in text


@every_board
def test_panels_have_title_description_and_unit(name: str) -> None:
    """Who looks at a panel learns what it is, in which unit, and what to do."""
    for panel in panels(name):
        assert panel.title
        assert len(panel.description) > 15
        assert panel.targets
        has_unit = "unit" in panel.defaults or panel.kind in {"table", "heatmap"}
        assert has_unit or panel.title in {"The chosen call", "Verdicts"}, panel.title
    titles = [panel.title for panel in panels(name)]
    assert sorted(set(titles)) == sorted(titles)


def test_ids_are_unique() -> None:
    """No two boards share an address, no two panels of a board an id."""
    boards = [finish(board) for board in BOARDS.values()]

    assert len(BOARDS) == len({board["uid"] for board in boards})
    for board in boards:
        ids = [panel["id"] for panel in board["panels"]]
        assert sorted(set(ids)) == sorted(ids)


@every_board
def test_panels_do_not_overlap(name: str) -> None:
    """Each place of the grid belongs to one panel, and none stands beyond the edge."""
    taken: set[tuple[int, int]] = set()
    for panel in built(name):
        at = panel["gridPos"]
        columns = range(at["x"], at["x"] + at["w"])
        places = set(itertools.product(columns, range(at["y"], at["y"] + at["h"])))
        assert columns.stop <= 24
        assert not taken & places
        taken |= places


@every_board
def test_variables_are_defined_before_they_are_used(name: str) -> None:
    """Each $variable of a query or link is one of the board's, and queries use earlier ones."""
    board = BOARDS[name]
    known: set[str] = set()
    for variable in board.variables:
        assert variables_of(variable.query) <= known
        known.add(variable.name)
    assert variables_of(dump(board)) <= known


def variables_of(text: str) -> set[str]:
    """Return the names of Grafana's variables in a text, without its own ones."""
    found = re.findall(r"\$\{(\w+)|\$([A-Za-z_]\w*)", text)
    return {name for pair in found for name in pair if name and not name.startswith("__")}


@every_board
def test_rates_have_the_window_that_grafana_computes(name: str) -> None:
    """No rate has a window of its own: it would be empty or smeared at some zoom."""
    for target in prometheus_targets(name):
        windows = re.findall(r"\[([^\]]+)\]", target.expr)
        assert set(windows) <= {"$__rate_interval", "$__range"}
        for function in ("rate", "increase", "deriv"):
            assert target.expr.count(f"{function}(") <= len(windows)


def prometheus_targets(name: str) -> list[PromTarget]:
    """Return the PromQL of a board."""
    targets = itertools.chain.from_iterable(panel.targets for panel in panels(name))
    return [target for target in targets if isinstance(target, PromTarget)]


def test_prometheus_names_are_in_the_registries() -> None:
    """Every family that a query names is one that the page has."""
    known = {f"monitoring_{name}" for name in {*SELF_METRICS, *_FAMILIES}}
    for metric in METRICS:
        known |= {metric.prometheus}
        if metric.extremes:
            known |= {f"{metric.prometheus}_min", f"{metric.prometheus}_max"}
        if metric.borders:
            known.add(f"{metric.distribution}_bucket")
    used = {
        found
        for name in BOARDS
        for target in prometheus_targets(name)
        for found in _NAMES.findall(target.expr)
    }

    assert set() == used - known


def test_metric_keys_in_sql_are_in_the_registry() -> None:
    """Every metric key in the panels' SQL, and every threshold of a metric, is a metric."""
    text = (ROOT / "sql" / "005_panels.sql").read_text(encoding="utf-8")
    keys = set(re.findall(r"'((?:pcm|fft|pair|pipe|health|advanced|stream|stt)\.\w+)'", text))

    assert set() == keys - {metric.key for metric in METRICS}
    assert len(keys) > 10
    own = {"archive", "spool", "disk", "retention", "tap"}
    limited = {key for key in THRESHOLDS if key.split(".")[0] not in own}
    assert limited <= {metric.key for metric in METRICS}


def test_defects_in_sql_are_those_of_health() -> None:
    """The graph of what cost health knows every defect by name."""
    text = (ROOT / "sql" / "005_panels.sql").read_text(encoding="utf-8")

    assert list(DEFECTS) == re.findall(r"sum\(\(health -> '(\w+)'\)", text)


def test_pre_and_post_have_the_same_two_colours_everywhere() -> None:
    """Each graph says what is blue and what is orange; each heatmap has its tap's scheme."""
    for panel in itertools.chain.from_iterable(board.panels for board in BOARDS.values()):
        text = json.dumps(panel.overrides)
        if panel.kind == "timeseries":
            assert PRE in text
            assert POST in text
        if panel.kind == "heatmap":
            scheme = {"PRE": "Blues", "POST": "Oranges"}[panel.title.split(":")[0]]
            assert scheme == panel.options["color"]["scheme"]


def test_every_board_says_whether_the_data_is_complete() -> None:
    """The first panel of each board is the line on completeness."""
    for board in BOARDS.values():
        first = next(iter(board.panels))
        assert ("Is it all there?", 24) == (first.title, first.width)


def test_a_red_point_leads_to_sound() -> None:
    """Graphs of stations and calls link to the page with the sound of that moment."""
    for name in ("overview", "station", "trace"):
        linked = [panel for panel in panels(name) if "public_url" in json.dumps(panel.defaults)]
        assert linked, name
    (buckets,) = [panel for panel in panels("trace") if panel.title.startswith("Five seconds")]
    (target,) = buckets.targets
    assert isinstance(target, PgTarget)
    assert 2 == target.sql.count("<audio controls")


VIEW = View(
    datetime.fromtimestamp(START // 10**9, UTC),
    datetime.fromtimestamp(START // 10**9 + 3_600, UTC),
    {"station": ("St_1", "St_2"), "one": ("it's",)},
    several=frozenset({"station"}),
)


def test_variables_and_macros_are_filled_in_as_grafana_does() -> None:
    """Quoted in SQL, an alternative in PromQL; times are literals, windows are computed."""
    sql = expansion.sql("f($__timeFrom(), ARRAY[${station:sqlstring}], ${one:sqlstring})", VIEW)
    filtered = expansion.sql("$__timeFilter(t) AND $__interval_ms", VIEW)
    promql = expansion.promql('rate(x{s=~"$station"}[$__rate_interval])[$__range]', VIEW)

    assert "f('2026-01-01T00:00:02Z', ARRAY['St_1','St_2'], 'it''s')" == sql
    assert "t BETWEEN '2026-01-01T00:00:02Z' AND '2026-01-01T01:00:02Z' AND 3600" == filtered
    assert 'rate(x{s=~"(St_1|St_2)"}[5s])[3600s]' == promql


@pytest.mark.parametrize("text", ["${nobody:sqlstring}", "$nobody", "$__nothing(a)", "${one:json}"])
def test_what_is_not_there_is_said(text: str) -> None:
    """An unknown variable, macro or format is an error, not a query with a dollar in it."""
    with pytest.raises(ExpansionError):
        expansion.sql(text, VIEW)


def test_targets_know_their_source() -> None:
    """Trace asks the archive alone: what it shows is what was kept."""
    sources = {target.source for panel in panels("trace") for target in panel.targets}

    assert {Source.POSTGRES} == sources
    assert all_boards().keys() == BOARDS.keys()

"""`monitoring dashboards`: writes the boards as JSON, and checks them against what is running."""

from __future__ import annotations

import argparse
import json
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from archiver.reader import QueryError, Reader, reader
from dashboards._compat import dump, finish
from dashboards.annotations import Addresses
from dashboards.boards import all_boards
from dashboards.expansion import ExpansionError, View, begin_of, expand
from dashboards.filling import fill
from dashboards.links import DEFAULT_PUBLIC_URL
from dashboards.model import Board, PgTarget, PromTarget, Source, Target
from dashboards.provisioning import files
from deploy.board_schema import has_schemas, violations
from exporter.config import Settings

BOARDS, PROVISIONING = Path("dashboards/json"), Path("deploy/provisioning")
_TIMEOUT_S = 10
_STATIONS = "SELECT station_key FROM stations_between(now() - interval '3 days', now())"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check says of one query or one board.

    Attributes:
        board: Name of the board.
        panel: Title of the panel; empty for the board itself.
        what: ``schema``, ``sql``, ``promql`` or ``variable``.
        rows: Rows or series that came back.
        problem: What is wrong; empty when nothing is.
    """

    board: str
    panel: str
    what: str
    rows: int
    problem: str


class Live:
    """The running Prometheus and the archive, asked as Grafana asks them.

    Args:
        archive: With the reader's rights.
        prometheus: Its address; empty when there is none.
    """

    def __init__(self, archive: Reader, prometheus: str = "") -> None:
        self._archive = archive
        self._prometheus = prometheus.rstrip("/")

    def columns(self, sql: str) -> tuple[list[str], list[Sequence[Any]]]:
        """Return names of the columns and the rows of an SQL query."""
        return self._archive.columns(sql)

    def label_values(self, family: str, label: str) -> list[str]:
        """Return the values that a label has; stations from the archive without a Prometheus."""
        if not self._prometheus:
            return [str(row[0]) for row in self.columns(_STATIONS)[1]]
        query = urllib.parse.urlencode({"match[]": family})
        found = self._get(f"/api/v1/label/{label}/values?{query}")
        return [str(value) for value in found]

    def series(self, target: PromTarget, view: View) -> list[Any]:
        """Return the series of a PromQL target, over the view or at its end."""
        text = expand(target, view)
        if target.is_instant:
            query = urllib.parse.urlencode({"query": text, "time": view.end.timestamp()})
            return list(self._get(f"/api/v1/query?{query}")["result"])
        span = {"start": view.start.timestamp(), "end": view.end.timestamp()}
        query = urllib.parse.urlencode({"query": text, "step": max(1, view.interval_s), **span})
        return list(self._get(f"/api/v1/query_range?{query}")["result"])

    def exemplars(self, target: PromTarget, view: View) -> list[Any]:
        """Return the exemplars of a PromQL target."""
        span = {"start": view.start.timestamp(), "end": view.end.timestamp()}
        query = urllib.parse.urlencode({"query": expand(target, view), **span})
        return list(self._get(f"/api/v1/query_exemplars?{query}"))

    def _get(self, path: str) -> Any:
        address = self._prometheus + path
        with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - given
            return json.load(answer)["data"]


def build(arguments: argparse.Namespace, settings: Settings) -> int:
    """Write a JSON file for each board and the rules of the alerts; the same bytes every time."""
    public_url = settings.public_url or DEFAULT_PUBLIC_URL
    addresses = Addresses(public_url, arguments.grafana_url, arguments.runbook_url)
    boards, rules = arguments.output or BOARDS, arguments.output or PROVISIONING
    texts = {boards / f"{name}.json": dump(each) for name, each in all_boards(public_url).items()}
    texts |= {rules / name: text for name, text in files(addresses).items()}
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    written = list(map(str, texts))
    print(json.dumps(written) if arguments.json else "\n".join(written))
    return 0


def check(arguments: argparse.Namespace, settings: Settings) -> int:
    """Check all boards against schemas, Prometheus and the archive."""
    boards = all_boards(settings.public_url or DEFAULT_PUBLIC_URL)
    findings = list(check_schemas(boards, arguments.schemas))
    with ExitStack() as stack:
        live = Live(stack.enter_context(reader(settings.db)), arguments.prometheus or "")
        for name, board in boards.items():
            findings += check_queries(name, board, live, has_prometheus=bool(arguments.prometheus))
    _report(arguments, findings)
    return int(any(finding.problem for finding in findings))


def check_schemas(boards: dict[str, Board], folder: Path) -> Iterator[Finding]:
    """Yield what the schemas say, when they and jsonschema are there."""
    if not has_schemas(folder) or find_spec("jsonschema") is None:
        Console(stderr=True).print(f"schemas: not checked, none in {folder} (make test-tools)")
        return
    for name, board in boards.items():
        found = list(violations(finish(board), folder))
        yield from (Finding(name, "", "schema", 0, problem) for problem in found)
        if not found:
            yield Finding(name, "", "schema", 0, "")


def check_queries(
    name: str, board: Board, live: Live, *, has_prometheus: bool
) -> Iterator[Finding]:
    """Yield what comes back for each query of a board, its variables filled as Grafana does."""
    end = datetime.now(UTC)
    view = View(begin_of(board, end), end)
    try:
        view = fill(board, view, live)
    except (LookupError, OSError, QueryError) as error:
        yield Finding(name, "", "variable", 0, _line(error))
        return
    for panel in board.panels:
        for target in panel.targets:
            if has_prometheus or target.source is Source.POSTGRES:
                yield _ask(name, panel.title, target, live=live, view=view, why=panel.may_be_empty)
    for mark in board.annotations:
        target = PgTarget(mark.sql)
        yield _ask(name, mark.name, target, live=live, view=view, why="nobody turned a knob")


def _ask(  # noqa: PLR0913 - one query and its place
    board: str, panel: str, target: Target, *, live: Live, view: View, why: str
) -> Finding:
    what = "sql" if isinstance(target, PgTarget) else "promql"
    try:
        if isinstance(target, PromTarget):
            rows = len(live.series(target, view))
        else:
            rows = len(live.columns(expand(target, view))[1])
    except (ExpansionError, OSError, QueryError) as error:
        return Finding(board, panel, what, 0, _line(error))
    is_bad = not rows and not why
    return Finding(board, panel, what, rows, f"nothing came: {target.text}" if is_bad else "")


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _report(arguments: argparse.Namespace, findings: list[Finding]) -> None:
    if arguments.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
        return
    table = Table()
    for heading in ("board", "panel", "what", "rows", "problem"):
        table.add_column(heading, overflow="fold")
    for each in findings:
        if each.problem:
            table.add_row(each.board, each.panel, each.what, str(each.rows), each.problem)
    bad = table.row_count
    if bad:
        Console().print(table)
    print(f"{len(findings)} checks, {bad} problems")

"""How long every SQL query of every board takes on an archive of three days, as the reader asks it.

Each query is asked for the time range with which its board opens and for all three days, its
variables filled as Grafana fills them; what counts is the 95th percentile.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

from archiver.migrations import create_database, migrate
from archiver.reader import Reader, reader
from benchmarks.report import Row
from benchmarks.seed import Seeded, seed
from dashboards.boards import all_boards
from dashboards.expansion import View, ask_for, begin_of, expand
from dashboards.filling import fill
from dashboards.model import Board, PgTarget, Source
from deploy.config import postgres_bin_dir
from deploy.dashboards import Live
from deploy.postgres import EmbeddedPostgres

BAR_MS = 250.0
ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Cost:
    """What one query costs.

    Attributes:
        board: Name of the board.
        panel: Title of the panel, or name of the variable.
        opened_ms: 95th percentile for the board's own time range.
        whole_ms: 95th percentile for the whole archive.
        rows: Rows of the whole archive.
    """

    board: str
    panel: str
    opened_ms: float
    whole_ms: float
    rows: int


def rows(aggregates: int = 20_000_000) -> list[Row]:
    """Seed an archive, measure all panels, and return lines for the results."""
    with EmbeddedPostgres(bin_dir=postgres_bin_dir(), fsync=False) as server:
        create_database(server.conninfo())
        migrate(server.conninfo())
        seeded = seed(server.conninfo(), aggregates=aggregates)
        costs = list(measure(server.conninfo(), seeded))
    return [_row(cost, seeded) for cost in costs]


def _row(cost: Cost, seeded: Seeded) -> Row:
    worst = max(cost.opened_ms, cost.whole_ms)
    size = f"{seeded.aggregates / 1e6:.0f} M aggregates"
    what = f"{cost.board}: {cost.panel}; p95 of 72 h and as opened, {size}"
    ours = f"{cost.whole_ms:.1f} ms, {cost.opened_ms:.1f} ms"
    return Row(what, ours, "-", BAR_MS / worst, f"<= {BAR_MS:.0f} ms", worst <= BAR_MS)


def measure(conninfo: str, seeded: Seeded, rounds: int = ROUNDS) -> Iterator[Cost]:
    """Yield what each query of each board costs."""
    with reader(conninfo) as archive:
        live = Live(archive)
        for name, board in all_boards().items():
            end = seeded.end
            opened = fill(board, View(begin_of(board, end), end), live)
            whole = replace(opened, start=end - timedelta(hours=72))
            for panel, text in _queries(board):
                times = [_p95(archive, expand(text, view), rounds) for view in (opened, whole)]
                yield Cost(name, panel, times[0][0], times[1][0], times[1][1])
            for variable in board.variables:
                if variable.type == "query" and variable.source is Source.POSTGRES:
                    asked = [str(ask_for(variable, view)) for view in (opened, whole)]
                    times = [_p95(archive, each, rounds) for each in asked]
                    yield Cost(name, f"${variable.name}", times[0][0], times[1][0], times[1][1])


def _queries(board: Board) -> Iterator[tuple[str, PgTarget]]:
    for panel in board.panels:
        for target in panel.targets:
            if isinstance(target, PgTarget):
                yield panel.title, target
    for mark in board.annotations:
        yield mark.name, PgTarget(mark.sql)


def _p95(archive: Reader, query: str, rounds: int) -> tuple[float, int]:
    times: list[float] = []
    found = 0
    for _ in range(rounds):
        begun = time.perf_counter()
        found = len(archive.columns(query)[1])
        times.append((time.perf_counter() - begun) * 1e3)
    return sorted(times)[round(0.95 * (rounds - 1))], found

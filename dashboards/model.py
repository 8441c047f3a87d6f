"""What a board consists of: small immutable types that know no library.

``dashboards._compat`` makes Grafana's JSON of them; tests, checks and benchmarks read the queries.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Json = dict[str, Any]


class Source(StrEnum):
    """What a target asks; the name of the dashboard's variable that chooses the data source."""

    PROMETHEUS = "prometheus"
    POSTGRES = "postgres"

    @property
    def plugin(self) -> str:
        """Id of the data source's plugin."""
        return "prometheus" if self is Source.PROMETHEUS else "grafana-postgresql-datasource"

    @property
    def reference(self) -> Json:
        """What panels name the data source by."""
        return {"type": self.plugin, "uid": f"${{{self}}}"}


@dataclass(frozen=True, slots=True)
class PromTarget:
    """One PromQL query.

    Attributes:
        expr: The query.
        legend: Name of the series.
        is_instant: Whether only the newest values are wanted, as a table.
        format: ``time_series`` or ``heatmap``; instant queries are tables.
        exemplar: Whether exemplars are wanted too.
    """

    expr: str
    legend: str = ""
    is_instant: bool = False
    format: str = "time_series"
    exemplar: bool = False

    source = Source.PROMETHEUS

    @property
    def text(self) -> str:
        """The query as it is sent."""
        return self.expr

    def to_json(self, ref: str) -> Json:
        """Return Grafana's JSON."""
        return {
            "datasource": self.source.reference,
            "editorMode": "code",
            "exemplar": self.exemplar,
            "expr": self.expr,
            "format": "table" if self.is_instant else self.format,
            "instant": self.is_instant,
            "legendFormat": self.legend or "__auto",
            "range": not self.is_instant,
            "refId": ref,
        }


@dataclass(frozen=True, slots=True)
class PgTarget:
    """One SQL query.

    Attributes:
        sql: The query, with Grafana's macros and variables.
        is_series: Whether it has a column ``time`` and is drawn over it.
    """

    sql: str
    is_series: bool = False

    source = Source.POSTGRES

    @property
    def text(self) -> str:
        """The query as it is sent."""
        return self.sql

    def to_json(self, ref: str) -> Json:
        """Return Grafana's JSON."""
        return {
            "datasource": self.source.reference,
            "editorMode": "code",
            "format": "time_series" if self.is_series else "table",
            "rawQuery": True,
            "rawSql": self.sql,
            "refId": ref,
        }


Target = PromTarget | PgTarget


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Attributes:
        kind: Grafana's panel type, such as ``timeseries``.
        title: What it shows.
        description: What it means and what to do about it.
        targets: Its queries.
        width: Columns of 24.
        options: Options of the panel type.
        defaults: Field options of all its series or columns.
        overrides: Field options of some of them.
        transformations: What is done to the answers before they are drawn.
        interval: Smallest step between points.
        may_be_empty: Why it is right when its queries find nothing; empty when it is not.
    """

    kind: str
    title: str
    description: str
    targets: tuple[Target, ...]
    width: int
    options: Json
    defaults: Json = field(default_factory=dict)
    overrides: tuple[Json, ...] = ()
    transformations: tuple[Json, ...] = ()
    interval: str = ""
    may_be_empty: str = ""

    @property
    def source(self) -> Json | None:
        """The data source of all its targets, or the mixed one."""
        sources = {target.source for target in self.targets}
        if len(sources) == 1:
            return sources.pop().reference
        return {"type": "datasource", "uid": "-- Mixed --"} if sources else None


@dataclass(frozen=True, slots=True)
class Row:
    """Panels side by side under a title; they flow into lines of 24 columns.

    Attributes:
        title: Of the row; empty for panels without one.
        height: Of its panels, in steps of 30 pixels.
        panels: From left to right.
    """

    title: str
    height: int
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable of a board, in Grafana's words.

    Attributes:
        name: Its name in queries.
        type: ``query``, ``custom``, ``constant``, ``textbox`` or ``datasource``.
        label: What the reader sees.
        query: PromQL's ``label_values(...)``, SQL, or the values.
        source: Of a query.
        is_multi: Whether several may be chosen, or all.
        all_value: What "all" means in PromQL; empty for a list of all values.
        current: Value at first.
        is_hidden: Whether the reader does not see it.
    """

    name: str
    type: str
    label: str
    query: str
    source: Source | None = None
    is_multi: bool = False
    all_value: str = ""
    current: str = ""
    is_hidden: bool = False


@dataclass(frozen=True, slots=True)
class Annotation:
    """Marks on all panels of a board, from SQL with columns time, text, tags."""

    name: str
    sql: str
    color: str


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard.

    Attributes:
        uid: Its name in addresses.
        title: What it is called.
        description: What it is for.
        variables: In the order in which they depend on each other.
        rows: From top to bottom.
        annotations: Marks over time.
        time_from: Start of the time range at first.
        refresh: How often it is asked anew.
        links: To other boards.
    """

    uid: str
    title: str
    description: str
    variables: tuple[Variable, ...]
    rows: tuple[Row, ...]
    annotations: tuple[Annotation, ...] = ()
    time_from: str = "now-1h"
    refresh: str = "10s"
    links: tuple[Json, ...] = ()

    @property
    def panels(self) -> Iterator[Panel]:
        """All panels."""
        return itertools.chain.from_iterable(row.panels for row in self.rows)

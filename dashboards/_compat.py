"""One thin layer over grafanalib that emits the JSON of Grafana 11 to 13.

grafanalib writes keys that Grafana has dropped, nulls that it refuses, and options of panels as
they were years ago. ``finish()`` makes a board one of grafanalib's dashboards, and then clean JSON.
Nothing else in this project knows grafanalib.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

import grafanalib.core as grafana
from grafanalib._gen import DashboardEncoder

from dashboards.model import Annotation, Board, Json, Panel, PgTarget, Row, Source, Variable

SCHEMA_VERSION = 41
COLUMNS = 24
_DEAD_KEYS = frozenset(
    {
        *("__inputs", "gnetId", "hideControls", "rows", "sharedCrosshair", "style"),
        *("time_options", "nowDelay"),
    }
)
# Inside these, keys are Grafana's or a plugin's own, and null may mean something.
_OPAQUE = frozenset({"options", "fieldConfig", "targets", "transformations", "target"})


class _Panel(grafana.Panel):  # type: ignore[misc] # grafanalib has no types
    """grafanalib's panel without what it says of all panels: ours say everything themselves."""

    def to_json_data(self) -> Json:
        return {
            "id": self.id,
            "title": self.title,
            "description": self.description,
            "datasource": self.dataSource,
            "gridPos": self.gridPos,
            "interval": self.interval,
            "targets": self.targets,
            "transformations": self.transformations or None,
            **self.extraJson,
        }


class _RowPanel(grafana.RowPanel):  # type: ignore[misc] # grafanalib has no types
    """grafanalib's row without the parts of a panel."""

    def to_json_data(self) -> Json:
        parts = {"id": self.id, "title": self.title, "gridPos": self.gridPos}
        return {"type": "row", "collapsed": False, "panels": [], **parts}


def finish(board: Board) -> Json:
    """Return the JSON of a board."""
    dashboard = grafana.Dashboard(
        title=board.title,
        uid=board.uid,
        description=board.description,
        tags=["monitoring_v2"],
        editable=False,
        graphTooltip=grafana.GRAPH_TOOLTIP_MODE_SHARED_CROSSHAIR,
        refresh=board.refresh,
        schemaVersion=SCHEMA_VERSION,
        time=grafana.Time(board.time_from, "now"),
        timePicker=grafana.TimePicker(["5s", "10s", "30s", "1m", "5m"], []),
        timezone="utc",
        version=1,
        links=list(board.links),
        templating=grafana.Templating([_variable(each) for each in board.variables]),
        annotations=grafana.Annotations([_annotation(each) for each in board.annotations]),
        panels=list(_panels(board.rows)),
    )
    plain = json.loads(json.dumps(dashboard.auto_panel_ids(), cls=DashboardEncoder))
    found: Json = _pruned(plain)
    return found


def _pruned(node: Any) -> Any:
    """Drop nulls and dead keys of Grafana's own part of the JSON."""
    if isinstance(node, list):
        return [_pruned(each) for each in node]
    if not isinstance(node, Mapping):
        return node
    return {
        key: value if key in _OPAQUE else _pruned(value)
        for key, value in node.items()
        if value is not None and key not in _DEAD_KEYS
    }


def _panels(rows: tuple[Row, ...]) -> Iterator[Any]:
    y = 0
    for row in rows:
        if row.title:
            yield _RowPanel(title=row.title, gridPos=grafana.GridPos(h=1, w=COLUMNS, x=0, y=y))
            y += 1
        x = 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y = 0, y + row.height
            yield _panel(panel, grafana.GridPos(h=row.height, w=panel.width, x=x, y=y))
            x += panel.width
        y += row.height


def _panel(panel: Panel, position: Any) -> Any:
    references = (chr(ord("A") + number) for number in itertools.count())
    return _Panel(
        title=panel.title,
        description=panel.description,
        dataSource=panel.source,
        gridPos=position,
        interval=panel.interval or None,
        targets=[target.to_json(next(references)) for target in panel.targets],
        transformations=list(panel.transformations),
        extraJson={
            "type": panel.kind,
            "options": panel.options,
            "fieldConfig": {"defaults": panel.defaults, "overrides": list(panel.overrides)},
        },
    )


def _variable(variable: Variable) -> Json:
    found: Json = {
        "name": variable.name,
        "type": variable.type,
        "label": variable.label,
        "hide": 2 if variable.is_hidden else 0,
        "query": variable.query,
        "skipUrlSync": variable.type == "constant",
    }
    if variable.source is not None:
        found |= {"datasource": variable.source.reference, "refresh": 2, "sort": 0, "regex": ""}
        if variable.source is Source.PROMETHEUS:
            found["query"] = {"query": variable.query, "refId": variable.name}
    if variable.type in {"query", "custom"}:
        found |= {"multi": variable.is_multi, "includeAll": variable.is_multi}
        if variable.all_value:
            found["allValue"] = variable.all_value
    if variable.is_multi:
        found["current"] = {"text": ["All"], "value": ["$__all"]}
    elif variable.current:
        found["current"] = {"text": variable.current, "value": variable.current}
    if variable.type in {"custom", "constant", "textbox"}:
        found["options"] = [
            {"text": value, "value": value, "selected": value == variable.current}
            for value in _values(variable)
        ]
    return found


def _values(variable: Variable) -> list[str]:
    if variable.type == "custom":
        return [value.strip() for value in variable.query.split(",")]
    return [variable.query] if variable.query else []


def _annotation(annotation: Annotation) -> Json:
    source = Source.POSTGRES
    return {
        "name": annotation.name,
        "datasource": source.reference,
        "enable": True,
        "hide": False,
        "iconColor": annotation.color,
        "target": PgTarget(annotation.sql).to_json("Annotations"),
    }


def link_to_boards(title: str, tag: str) -> Json:
    """Return the menu of all boards with a tag; variables and time go along."""
    found: Json = grafana.DashboardLink(
        title=title,
        tags=[tag],
        type="dashboards",
        asDropdown=True,
        includeVars=True,
        keepTime=True,
        tooltip="The other views of the same time and stations.",
    ).to_json_data()
    return found


def data_link(title: str, url: str, *, is_new_tab: bool = True) -> Json:
    """Return a link on a value, a point or a cell."""
    found: Json = grafana.DataLink(title=title, linkUrl=url, isNewTab=is_new_tab).to_json_data()
    return found


def dump(board: Board) -> str:
    """Return the text of the file: the same bytes for the same board."""
    return json.dumps(finish(board), indent=1, sort_keys=True, ensure_ascii=False) + "\n"

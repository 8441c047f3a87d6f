"""The alerts as rules of Grafana, in the form of its provisioning files.

Where SQL can tell which call it is, the rule asks PostgreSQL: it has one instance for each call,
and names the bucket to look at. Elsewhere it asks Prometheus what Prometheus's own rule asks.
Each rule compares the reduced value (``B``) of a query (``A``); two more say what is told with it.
"""

from __future__ import annotations

from collections.abc import Iterable

from dashboards.alert import Alert, Group
from dashboards.annotations import CALLS, Addresses, Dialect, annotate
from dashboards.conditions import Search
from dashboards.model import Json, Source
from dashboards.thresholds import Direction

PROMETHEUS_UID = "monitoring-prometheus"
POSTGRES_UID = "monitoring-postgres"
FOLDER = "monitoring_v2"
INTERVAL = "10s"

_EXPRESSION = "__expr__"
_RANGE_S = 600
_BUCKET = "{{ $values.D.Labels.bucket }}"
_IN_CALL = Dialect(
    value="$values.B.Value",
    calls=f"call {{{{ $labels.trace_id }}}}, bucket {_BUCKET}",
    at='{{ printf "%.0f" $values.D.Value }}',
    bucket=_BUCKET,
)
_IN_ALL = Dialect(
    value="$values.B.Value",
    calls='{{ printf "%.0f" $values.D.Value }} calls running',
    at="",
)


def grafana_rules(alerts: Iterable[Alert], addresses: Addresses) -> dict[str, object]:
    """Return a provisioning file with all alerts, group by group."""
    known = tuple(alerts)
    groups = [
        {
            "orgId": 1,
            "name": group.value,
            "folder": FOLDER,
            "interval": INTERVAL,
            "rules": [_rule(alert, addresses) for alert in known if alert.group is group],
        }
        for group in Group
    ]
    return {"apiVersion": 1, "groups": [group for group in groups if group["rules"]]}


def _rule(alert: Alert, addresses: Addresses) -> Json:
    search = alert.search(alert.window_s) if alert.search else None
    queries = _searched(search) if search else _asked(alert)
    return {
        "uid": alert.name.lower(),
        "title": alert.name,
        "condition": "C",
        "data": [*queries, _reduced("B", "A"), _compared(alert), _reduced("D", "E")],
        # No row, no series: nothing is wrong. A query that fails is told as an error.
        "noDataState": "OK",
        "execErrState": "Error",
        # SQL looks back over whole buckets: what it finds has lasted already.
        "for": "0s" if search else f"{alert.hold_s}s",
        "annotations": annotate(alert, _IN_CALL if search else _IN_ALL, addresses),
        "labels": {"severity": alert.severity.value},
        "isPaused": False,
    }


def _searched(search: Search) -> list[Json]:
    return [_sql("A", search.value, search.span_s), _sql("E", search.moment, search.span_s)]


def _asked(alert: Alert) -> list[Json]:
    return [_promql("A", alert.value), _promql("E", f"{CALLS} or vector(0)")]


def _sql(ref: str, statement: str, span_s: int) -> Json:
    model = {"rawSql": statement, "rawQuery": True, "editorMode": "code", "format": "table"}
    return _query(ref, POSTGRES_UID, span_s, _model(ref, Source.POSTGRES, POSTGRES_UID, model))


def _promql(ref: str, expression: str) -> Json:
    model = {"expr": expression, "instant": True, "range": False, "editorMode": "code"}
    return _query(
        ref, PROMETHEUS_UID, _RANGE_S, _model(ref, Source.PROMETHEUS, PROMETHEUS_UID, model)
    )


def _model(ref: str, source: Source, uid: str, rest: Json) -> Json:
    return {"refId": ref, "datasource": {"type": source.plugin, "uid": uid}, **rest}


def _query(ref: str, uid: str, span_s: int, model: Json) -> Json:
    return {
        "refId": ref,
        "relativeTimeRange": {"from": span_s, "to": 0},
        "datasourceUid": uid,
        "model": model,
    }


def _reduced(ref: str, of: str) -> Json:
    rest = {"type": "reduce", "expression": of, "reducer": "last", "settings": {"mode": "dropNN"}}
    return _computed(ref, rest)


def _compared(alert: Alert) -> Json:
    kind = "gt" if alert.limit.direction is Direction.ABOVE else "lt"
    evaluator = {"type": kind, "params": [alert.limit.value]}
    rest = {"type": "threshold", "expression": "B", "conditions": [{"evaluator": evaluator}]}
    return _computed("C", rest)


def _computed(ref: str, rest: Json) -> Json:
    source = {"type": _EXPRESSION, "uid": _EXPRESSION}
    return _query(ref, _EXPRESSION, 0, {"refId": ref, "datasource": source, **rest})

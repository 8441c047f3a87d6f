"""The variables that boards share: data sources, the page's address, stations, calls, knobs."""

from __future__ import annotations

from dashboards import queries_sql
from dashboards.model import Source, Variable
from exporter.metrics import METRICS

PROMETHEUS = Variable("prometheus", "datasource", "Prometheus", Source.PROMETHEUS.plugin)
POSTGRES = Variable("postgres", "datasource", "PostgreSQL", Source.POSTGRES.plugin)

LIVE_STATIONS = Variable(
    "station",
    "query",
    "Station",
    "label_values(monitoring_samples_received_total, station)",
    Source.PROMETHEUS,
    is_multi=True,
)
LIVE_STATION = Variable(
    "station",
    "query",
    "Station",
    "label_values(monitoring_samples_received_total, station)",
    Source.PROMETHEUS,
)
STATIONS = Variable(
    "station", "query", "Station", queries_sql.stations(), Source.POSTGRES, is_multi=True
)
EXTENSION = Variable("extension", "textbox", "Extension, call id or trace id", "")
CALL = Variable("trace", "query", "Call, worst first", queries_sql.calls(), Source.POSTGRES)
STATION_OF_CALL = Variable(
    "station", "query", "Station", queries_sql.stations_of_call(), Source.POSTGRES
)
METRIC = Variable(
    "metric",
    "custom",
    "Metric",
    ",".join(metric.key for metric in METRICS),
    current="pcm.rms_dbfs",
)
KNOB = Variable("knob", "query", "Knob", queries_sql.turned_knobs(), Source.POSTGRES)
AROUND = Variable("around", "custom", "Speech buckets before and after", "6,12,24", current="12")
CHANGE = Variable("change", "query", "Change", queries_sql.changes(), Source.POSTGRES)


def public_url(address: str) -> Variable:
    """Return the hidden address of the drill-down page."""
    return Variable(
        "public_url", "constant", "Drill-down page", address, current=address, is_hidden=True
    )

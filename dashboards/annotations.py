"""What an alert tells whom it wakes: the summary and the links, as templates of Go."""

from __future__ import annotations

from dataclasses import dataclass

from dashboards.alert import Alert
from dashboards.links import DEFAULT_PUBLIC_URL

CALLS = "sum(last_over_time(monitoring_active_calls[10m]))"
"""Calls that run, or ran when they were last seen."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the links of alerts lead; none ends in a slash.

    Attributes:
        public_url: The drill-down page, MONITORING_PUBLIC_URL.
        grafana_url: Grafana.
        runbook_url: A page that shows RUNBOOK.md.
    """

    public_url: str = DEFAULT_PUBLIC_URL
    grafana_url: str = "http://127.0.0.1:3000"
    runbook_url: str = "RUNBOOK.md"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one evaluator of rules writes what is filled in.

    Attributes:
        value: The value that is compared.
        calls: How many calls are concerned, or which.
        at: The moment, in Unix time.
        bucket: Start of the bucket to look at, in ISO 8601; empty where the rule knows no call.
    """

    value: str
    calls: str
    at: str
    bucket: str = ""


def annotate(alert: Alert, dialect: Dialect, addresses: Addresses) -> dict[str, str]:
    """Return what an alert tells, by the names that receivers know."""
    station = "?var-station={{ $labels.station }}" if "station" in alert.labels else ""
    found = {
        "summary": _filled(alert, dialect),
        "description": alert.description,
        "dashboard": f"{addresses.grafana_url}/d/{alert.dashboard}{station}",
    }
    if alert.metric:
        query = f"station={{{{ $labels.station }}}}&metric={alert.metric}&at={dialect.at}"
        found["drilldown"] = f"{addresses.public_url}/go?{query}"
    if dialect.bucket:
        where = f"t={dialect.bucket}" + "".join(
            f"&{label}={{{{ $labels.{label} }}}}" for label in alert.labels
        )
        found["call"] = f"{addresses.public_url}/call/{{{{ $labels.trace_id }}}}#{where}"
    return found | {"runbook_url": f"{addresses.runbook_url}#{anchor(alert.name)}"}


def anchor(name: str) -> str:
    """Return how pages that show Markdown name the heading of an alert's entry."""
    return name.lower()


def _filled(alert: Alert, dialect: Dialect) -> str:
    known = {label: f"{{{{ $labels.{label} }}}}" for label in alert.labels}
    value = alert.unit.replace("VALUE", dialect.value)
    metric = f" ({alert.metric})" if alert.metric else ""
    return f"{alert.summary.format(value=value, **known)}{metric}; {dialect.calls}"

"""The alerts as rules of Prometheus."""

from __future__ import annotations

from collections.abc import Iterable

from dashboards.alert import Alert, Group
from dashboards.annotations import CALLS, Addresses, Dialect, annotate

INTERVAL = "10s"

_NUMBER = '{{ . | first | value | printf "%.0f" }}'
_AT = f'{{{{ with query "time()" }}}}{_NUMBER}{{{{ end }}}}'
_STATION_CALLS = "sum(monitoring_active_traces{instance='%s',station='%s'})"
_AT_STATION = (
    f'worst of {{{{ with printf "{_STATION_CALLS}" $labels.instance $labels.station | query }}}}'
    f"{_NUMBER}{{{{ else }}}}0{{{{ end }}}} calls"
)
_IN_ALL = f'{{{{ with query "{CALLS}" }}}}{_NUMBER}{{{{ else }}}}0{{{{ end }}}} calls running'


def prometheus_rules(
    alerts: Iterable[Alert], addresses: Addresses, interval: str = INTERVAL
) -> dict[str, object]:
    """Return a file of rules, group by group.

    Args:
        alerts: What to look at.
        addresses: Where links lead.
        interval: How often to look.
    """
    known = tuple(alerts)
    groups = [
        {
            "name": group.value,
            "interval": interval,
            "rules": [_rule(alert, addresses) for alert in known if alert.group is group],
        }
        for group in Group
    ]
    return {"groups": [group for group in groups if group["rules"]]}


def _rule(alert: Alert, addresses: Addresses) -> dict[str, object]:
    calls = _AT_STATION if "station" in alert.labels else _IN_ALL
    return {
        "alert": alert.name,
        "expr": alert.expression,
        "for": f"{alert.hold_s}s",
        "labels": {"severity": alert.severity.value},
        "annotations": annotate(alert, Dialect("$value", calls, _AT), addresses),
    }

"""The files that Prometheus and Grafana are provisioned with and that are made from the alerts."""

from __future__ import annotations

from dashboards.alerts import ALERTS
from dashboards.annotations import Addresses
from dashboards.grafana_rules import grafana_rules
from dashboards.rules import prometheus_rules
from dashboards.yaml_text import render

PROMETHEUS_RULES = "prometheus/rules/monitoring.yaml"
GRAFANA_RULES = "grafana/alerting/monitoring.yaml"

_COMMENT = (
    "Made by `monitoring dashboards build`, which also sets the addresses of the links.\n"
    "What it says is in dashboards/alerts.py; what to do about an alert, in RUNBOOK.md."
)


def files(addresses: Addresses | None = None) -> dict[str, str]:
    """Return the text of each file by its path below ``deploy/provisioning``.

    Args:
        addresses: Where the links of alerts lead; on this machine unless given.
    """
    where = addresses or Addresses()
    return {
        PROMETHEUS_RULES: render(prometheus_rules(ALERTS, where), _COMMENT),
        GRAFANA_RULES: render(grafana_rules(ALERTS, where), _COMMENT),
    }

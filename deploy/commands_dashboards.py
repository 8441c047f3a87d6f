"""`monitoring dashboards`: what it needs is imported when it runs, for a host does without it."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from types import ModuleType

from exporter.config import Settings
from exporter.errors import MonitoringError


class NoDashboardsError(MonitoringError):
    """The extra with grafanalib is not installed."""


def build(arguments: argparse.Namespace, settings: Settings) -> int:
    """Write a JSON file for each board and the rules of the alerts."""
    return int(_loaded().build(arguments, settings))


def check(arguments: argparse.Namespace, settings: Settings) -> int:
    """Check all boards against schemas, Prometheus and the archive."""
    return int(_loaded().check(arguments, settings))


def _loaded() -> ModuleType:
    if find_spec("grafanalib") is None:
        raise NoDashboardsError(
            "dashboards are made with grafanalib, which is not installed: "
            "pip install 'monitoring-v2[dashboards]'"
        )
    from deploy import dashboards  # noqa: PLC0415 - see above

    return dashboards

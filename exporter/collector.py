"""The monitor's page for hosts that serve /metrics themselves."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from exporter.monitor import Monitor


class MonitorCollector:
    """Shows the monitor's page through a registry, for hosts that serve /metrics themselves."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def collect(self) -> Iterable[Metric]:
        """Yield all families, with exemplars."""
        page = self._monitor._worker.page  # noqa: SLF001 - its other half
        return text_string_to_metric_families(page.openmetrics.decode() + "# EOF\n")  # type: ignore[no-untyped-call, no-any-return] # theirs

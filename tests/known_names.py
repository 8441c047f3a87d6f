"""The names that /metrics can have, for tests that look for unknown ones."""

from __future__ import annotations

from exporter.metrics import METRICS
from exporter.selfmetrics import SELF_METRICS


def shown_names() -> set[str]:
    """Return the name of every series of a station's gauges and counters, and of the own ones."""
    names = {f"monitoring_{name}" for name in SELF_METRICS}
    names |= {
        "monitoring_samples_received_total",
        "monitoring_gap_samples_total",
        "monitoring_active_traces",
    }
    for metric in METRICS:
        suffixes = ("", "_min", "_max") if metric.extremes else ("",)
        names |= {metric.prometheus + suffix for suffix in suffixes}
    return names

"""PromQL about stations: every query is a function with a name.

Values in decibels are averaged as they are: the mean of levels, not the level of the mean power.
"""

from __future__ import annotations

from dashboards.thresholds import Direction, threshold
from exporter.metrics import METRICS
from exporter.model import LOSS

STATIONS = 'station=~"$station"'
_LOSSES = "|".join(sorted(LOSS))
_PAIR = "by (station, tap)"


def mean(key: str, by: str = _PAIR) -> str:
    """Mean of a metric over all calls."""
    return f"avg {by} ({METRICS[key].prometheus}{{{STATIONS}}})"


def low(key: str, by: str = _PAIR) -> str:
    """Smallest value of any call."""
    return f"min {by} ({METRICS[key].prometheus}_min{{{STATIONS}}})"


def high(key: str, by: str = _PAIR) -> str:
    """Largest value of any call."""
    return f"max {by} ({METRICS[key].prometheus}_max{{{STATIONS}}})"


def worst(key: str, by: str = _PAIR) -> str:
    """The value of the worst call: the largest or the smallest, as its limit says."""
    is_high = threshold(key).direction is Direction.ABOVE
    return high(key, by) if is_high else low(key, by)


def worst_of_all(key: str) -> str:
    """The value of the worst call at any station and tap."""
    return worst(key, "")


def distribution(key: str, tap: str) -> str:
    """Values of all calls by size, for a heatmap; at one tap."""
    where = f'{{{STATIONS},tap="{tap}"}}'
    rate = f"rate({METRICS[key].distribution}_bucket{where}[$__rate_interval])"
    return f"sum by (le) ({rate})"


def quantile(key: str, share: float, tap: str = "POST") -> str:
    """Value that a share of all stays below, at one tap."""
    return f"histogram_quantile({share}, {distribution(key, tap)})"


def active_calls() -> str:
    """Calls that run in all processes."""
    return "sum(monitoring_active_calls)"


def active_at_taps() -> str:
    """Calls that use a station, said at each of its taps."""
    known = f"count by (station, tap) (monitoring_samples_received_total{{{STATIONS}}}) * 0"
    running = f"sum by (station) (monitoring_active_traces{{{STATIONS}}})"
    return f"{known} + on (station) group_left () {running}"


def stations_in_use() -> str:
    """Stations with a running call."""
    return f"count(sum by (station) (monitoring_active_traces{{{STATIONS}}}) > 0)"


def loss_ratio(window: str = "$__range") -> str:
    """Samples lost over samples due, at each tap, in a stretch of time."""
    where = f'{{{STATIONS},cause=~"{_LOSSES}"}}'
    lost = f"sum by (station, tap) (increase(monitoring_gap_samples_total{where}[{window}]))"
    received = (
        f"sum by (station, tap) (increase(monitoring_samples_received_total{{{STATIONS}}}"
        f"[{window}]))"
    )
    return f"{lost} / ({lost} + {received} > 0)"


def gap_rate() -> str:
    """Samples missing in a second, by cause, losses and others."""
    return (
        f"sum by (cause) (rate(monitoring_gap_samples_total{{{STATIONS}}}[$__rate_interval])) > 0"
    )


def lost_now() -> str:
    """Samples lost in the time that is looked at, of all stations."""
    where = f'{{{STATIONS},cause=~"{_LOSSES}"}}'
    return f"sum(increase(monitoring_gap_samples_total{where}[$__range]))"

"""The metric registry: every key with its unit, range, rhythm and Prometheus names."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator

from exporter.bucket_metrics import BUCKET_METRICS, HOST_METRICS, PAIR_METRICS, STREAM_METRICS
from exporter.errors import ConfigError, MetricError
from exporter.frame_metrics import (
    FRAME_METRICS,
    LOUDNESS_METRICS,
    SPECTRAL_METRICS,
    TIME_METRICS,
    VOICE_METRICS,
)
from exporter.metric import Form, Metric, Per

MAX_METRICS = 128
SHIPPED_METRICS: tuple[Metric, ...] = (
    *FRAME_METRICS,
    *STREAM_METRICS,
    *BUCKET_METRICS,
    *PAIR_METRICS,
    *HOST_METRICS,
)
METRIC_KEY_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,31}\.[a-z][a-z0-9_]{0,63}")
_UNIT = re.compile(r"[A-Za-z0-9/%]{0,16}")


class MetricRegistry:
    """All metrics by key; refuses two entries with one key or one Prometheus name."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._by_key: dict[str, Metric] = {}
        for metric in metrics:
            self.register(metric)

    def register(self, metric: Metric) -> None:
        """Add a metric.

        Raises:
            ConfigError: Key or Prometheus name is taken or not valid, the range is empty, the
                borders do not rise, or there are 128 already.
        """
        where = f"metric {metric.key!r}"
        families = {family for known in self for family in (known.prometheus, known.distribution)}
        if metric.key in self._by_key or {metric.prometheus, metric.distribution} & families:
            raise ConfigError(f"{where} is registered twice")
        if not METRIC_KEY_PATTERN.fullmatch(metric.key) or not _UNIT.fullmatch(metric.unit):
            raise ConfigError(f"{where}: key or unit {metric.unit!r} is no name, such as asr.score")
        if not metric.help or not metric.help.isprintable() or "\\" in metric.help:
            raise ConfigError(f"{where}: help {metric.help!r} is not one line of text")
        if not metric.low < metric.high and metric.per is Per.OBSERVE:
            raise ConfigError(f"{where}: range {metric.low} to {metric.high} is empty")
        if list(metric.borders) != sorted(set(metric.borders)):
            raise ConfigError(f"{where}: borders {metric.borders} do not rise")
        if len(self) >= MAX_METRICS:
            raise ConfigError(f"{where}: there are {MAX_METRICS} metrics already, the limit")
        self._by_key[metric.key] = metric

    def check(self, key: object, value: object) -> float:
        """Return a value that a host reports as a number.

        Raises:
            MetricError: Unknown key, one that the monitor measures itself, no finite number, or
                out of range.
        """
        metric = self._by_key.get(key) if isinstance(key, str) else None
        if metric is None or metric.per is not Per.OBSERVE:
            known = ", ".join(metric.key for metric in self if metric.per is Per.OBSERVE)
            raise MetricError(f"metric {key!r} is none that a host reports; known are {known}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise MetricError(f"metric {key!r}: {value!r} is not a number")
        if not math.isfinite(value) or not metric.low <= value <= metric.high:
            raise MetricError(
                f"metric {key!r}: {value!r} is not within {metric.low:g} to {metric.high:g}"
            )
        return float(value)

    def __getitem__(self, key: str) -> Metric:
        """Return the entry of ``key``; ConfigError for an unknown key."""
        try:
            return self._by_key[key]
        except KeyError:
            raise ConfigError(f"unknown metric {key!r}") from None

    def __iter__(self) -> Iterator[Metric]:
        """Iterate over all entries in the order of registration."""
        return iter(self._by_key.values())

    def __len__(self) -> int:
        """Return how many metrics there are."""
        return len(self._by_key)

    def __contains__(self, key: object) -> bool:
        """Tell whether ``key`` is registered."""
        return key in self._by_key


def shipped_metrics() -> MetricRegistry:
    """Return a fresh registry with the shipped metrics."""
    return MetricRegistry(SHIPPED_METRICS)


def host_metric(
    key: str,
    unit: str,
    *,
    low: float,
    high: float,
    help: str,  # noqa: A002 - the word of the field
) -> Metric:
    """Return a metric of the host's own, for ``MetricRegistry.register`` at the start.

    Args:
        key: Such as ``asr.words_per_minute``.
        unit: Unit of the values.
        low: Smallest value that is taken.
        high: Largest value that is taken.
        help: One sentence for /metrics.
    """
    return Metric(key, Per.OBSERVE, unit, low, high, help)


METRICS = shipped_metrics()
"""What ships with this version."""

COLUMNS = {metric.key: column for column, metric in enumerate(FRAME_METRICS)}
"""Place of each metric that is measured as frames come, in a row of measurements."""

BUCKET_KEYS = frozenset(metric.key for metric in SHIPPED_METRICS if metric.per is Per.BUCKET) - {
    "stream.frames"
}
"""Metrics with one value a bucket; of two halves the one with more samples counts."""

__all__ = [
    "BUCKET_KEYS",
    "COLUMNS",
    "FRAME_METRICS",
    "HOST_METRICS",
    "LOUDNESS_METRICS",
    "METRICS",
    "METRIC_KEY_PATTERN",
    "SHIPPED_METRICS",
    "SPECTRAL_METRICS",
    "TIME_METRICS",
    "VOICE_METRICS",
    "Form",
    "Metric",
    "MetricRegistry",
    "Per",
    "host_metric",
    "shipped_metrics",
]

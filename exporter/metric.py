"""What one entry of the metric registry is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Per(StrEnum):
    """What one value of a metric is measured on."""

    FRAME = "frame"
    BLOCK = "block"
    DRAIN = "drain"
    BUCKET = "bucket"
    OBSERVE = "observe"


class Form(StrEnum):
    """How a metric appears on /metrics, beside its SQL aggregate."""

    GAUGE = "gauge"
    COUNTER = "counter"


@dataclass(frozen=True, slots=True)
class Metric:
    """One registry entry.

    Attributes:
        key: Name in SQL and in the API, such as ``pcm.rms_dbfs``.
        per: What one value is measured on.
        unit: Unit of the values in SQL.
        low: Smallest possible value.
        high: Largest possible value.
        help: One sentence for /metrics, with the definition.
        name: Family name on /metrics without ``monitoring_``; made from the key unless given.
        form: Gauge, or counter (``_total``).
        extremes: Whether ``<name>_min`` and ``<name>_max`` stand beside the gauge.
        borders: Histogram borders in the Prometheus unit; empty for no histogram.
        scale: Factor from the unit in SQL to the Prometheus base unit.
    """

    key: str
    per: Per
    unit: str
    low: float
    high: float
    help: str
    name: str = ""
    form: Form = Form.GAUGE
    extremes: bool = False
    borders: tuple[float, ...] = ()
    scale: float = 1.0

    @property
    def prometheus(self) -> str:
        """Family name on /metrics."""
        return "monitoring_" + (self.name or self.key.replace(".", "_"))

    @property
    def distribution(self) -> str:
        """Family name of the histogram."""
        return f"{self.prometheus}_distribution"

    @property
    def is_pair(self) -> bool:
        """Whether it compares PRE with POST: known when a bucket closes, stored with POST."""
        return self.key.startswith("pair.")

    @property
    def at_close(self) -> bool:
        """Whether it is known only when the bucket closes."""
        return self.per is Per.BUCKET or self.is_pair


SMALL_BORDERS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
SHARE_BORDERS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
LEVEL_BORDERS = (
    *(-80.0, -70.0, -60.0, -50.0, -45.0, -40.0, -35.0, -30.0, -25.0, -20.0, -15.0, -10.0),
    *(-6.0, -3.0, -1.0, 0.0),
)
"""Histogram borders that several metrics share: rare defects, shares, levels."""

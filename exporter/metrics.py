"""The metric registry: every key with its unit, range, rhythm and Prometheus names.

The computed columns of a frame are the entries with ``per=FRAME``, in the order of
:data:`FRAME_METRICS`. Definitions are in docs/metrics.md; the formulas in ``exporter.analysis``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from exporter.errors import ConfigError


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
        prometheus: Family name on /metrics.
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
    prometheus: str
    form: Form = Form.GAUGE
    extremes: bool = False
    borders: tuple[float, ...] = ()
    scale: float = 1.0

    @property
    def distribution(self) -> str:
        """Family name of the histogram."""
        return f"{self.prometheus}_distribution"


class MetricRegistry:
    """All metrics by key; refuses two entries with one key or one Prometheus name."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._by_key: dict[str, Metric] = {}
        for metric in metrics:
            self._add(metric)

    def _add(self, metric: Metric) -> None:
        names = {known.prometheus for known in self._by_key.values()}
        if metric.key in self._by_key or metric.prometheus in names:
            raise ConfigError(f"metric {metric.key!r} is registered twice")
        if list(metric.borders) != sorted(set(metric.borders)):
            raise ConfigError(f"metric {metric.key!r}: borders {metric.borders} do not rise")
        self._by_key[metric.key] = metric

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


_LEVELS = (-80.0, -70.0, -60.0, -50.0, -45.0, -40.0, -35.0, -30.0, -25.0, -20.0, -15.0, -10.0)
_LEVEL_BORDERS = (*_LEVELS, -6.0, -3.0, -1.0, 0.0)
_RATIO_BORDERS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
_LATENCY_BORDERS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.02, 0.05, 0.1, 0.3, 1.0)
_MAX_FRAME = 960
_INT16 = 32_768.0


def _frame(  # noqa: PLR0913 - a row of a table, not an interface
    key: str, unit: str, low: float, high: float, text: str, *, name: str = "", **more: object
) -> Metric:
    prometheus = "monitoring_" + (name or key.replace(".", "_"))
    return Metric(key, Per.FRAME, unit, low, high, text, prometheus, **more)  # type: ignore[arg-type]


FRAME_METRICS: tuple[Metric, ...] = (
    _frame(
        "pcm.rms_dbfs",
        "dBFS",
        -120.0,
        0.0,
        "Root mean square level of a 20 ms frame re full scale 32768, floored at -120 dBFS.",
        extremes=True,
        borders=_LEVEL_BORDERS,
    ),
    _frame(
        "pcm.peak_dbfs",
        "dBFS",
        -120.0,
        0.0,
        "Largest absolute sample of a 20 ms frame re full scale 32768, floored at -120 dBFS.",
        extremes=True,
        borders=_LEVEL_BORDERS,
    ),
    _frame("pcm.peak_amplitude", "int16", 0.0, _INT16, "Largest absolute sample of a frame."),
    _frame("pcm.peak_to_peak", "int16", 0.0, 65_535.0, "Largest minus smallest sample of a frame."),
    _frame("pcm.average_absolute", "int16", 0.0, _INT16, "Mean absolute sample of a frame."),
    _frame("pcm.energy", "ratio", 0.0, 1.0, "Mean square of a frame re full scale squared."),
    _frame(
        "pcm.crest_factor",
        "ratio",
        1.0,
        math.sqrt(_MAX_FRAME),
        "Peak over RMS of a frame; absent at digital silence.",
    ),
    _frame(
        "pcm.dc_offset",
        "ratio",
        -1.0,
        1.0,
        "Mean sample of a frame re full scale.",
        name="pcm_dc_offset_ratio",
    ),
    _frame(
        "pcm.clipped_samples",
        "count",
        0.0,
        _MAX_FRAME,
        "Samples at 32760 or beyond in either direction.",
        name="pcm_clipped_samples_total",
        form=Form.COUNTER,
    ),
    _frame(
        "pcm.clipping_ratio",
        "ratio",
        0.0,
        1.0,
        "Share of clipped samples in a frame.",
        extremes=True,
        borders=_RATIO_BORDERS,
    ),
    _frame(
        "pcm.consecutive_clipped",
        "count",
        0.0,
        _MAX_FRAME,
        "Longest run of clipped samples inside a frame.",
        extremes=True,
    ),
    _frame(
        "pcm.silence_detected",
        "bool",
        0.0,
        1.0,
        "Share of frames below the silence threshold (-50 dBFS unless set otherwise).",
        name="pcm_silence_ratio",
    ),
    _frame(
        "pcm.muted_signal",
        "bool",
        0.0,
        1.0,
        "Share of frames in which all samples are 0.",
        name="pcm_muted_ratio",
    ),
    _frame(
        "pcm.frozen_signal",
        "bool",
        0.0,
        1.0,
        "Share of frames in which all samples are equal.",
        name="pcm_frozen_ratio",
    ),
    _frame(
        "pcm.zero_crossing_rate",
        "ratio",
        0.0,
        1.0,
        "Sign changes over sample pairs of a frame, zero counted as positive.",
        name="pcm_zero_crossing_ratio",
    ),
)
"""The columns of a frame's measurement, in order."""

OTHER_METRICS: tuple[Metric, ...] = (
    Metric(
        "stream.frames",
        Per.BUCKET,
        "count",
        0.0,
        1_000.0,
        "Frames of 20 ms that were measured.",
        "monitoring_frames_total",
        Form.COUNTER,
    ),
    Metric(
        "pipe.processing_latency_ms",
        Per.BLOCK,
        "ms",
        0.0,
        math.inf,
        "Time from PRE to POST of a block, by the performance counter.",
        "monitoring_pipe_processing_latency_seconds",
        extremes=True,
        borders=_LATENCY_BORDERS,
        scale=0.001,
    ),
    Metric(
        "pipe.queue_depth",
        Per.DRAIN,
        "frames",
        0.0,
        math.inf,
        "Backlog of the tap when it was drained, in frames of 20 ms.",
        "monitoring_pipe_queue_depth_frames",
        extremes=True,
    ),
)

METRICS = MetricRegistry((*FRAME_METRICS, *OTHER_METRICS))
"""The registry that ships with this version."""

"""The naive port: each frame measured by itself with numpy, each metric told to prometheus_client.

It is written as one would write it with care: one conversion of the frame, labels looked up once.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, Gauge, Histogram

from exporter.metrics import FRAME_METRICS

SILENCE_DBFS = -60.0
LABELS = ("station", "tap")


def measure_frame(frame: npt.NDArray[np.int16]) -> dict[str, float]:
    """Measure one frame.

    Args:
        frame: int16 ``[samples]``.

    Returns:
        The value of each of the 15 time-domain metrics by key.
    """
    real = frame.astype(np.float64)
    magnitude = np.abs(real)
    peak = float(magnitude.max())
    low, high = float(real.min()), float(real.max())
    energy = float(np.mean((real / 32768.0) ** 2))
    rms = energy**0.5
    rms_dbfs = max(20.0 * float(np.log10(rms)), -120.0) if rms else -120.0
    clipped = magnitude >= 32760
    count = int(np.count_nonzero(clipped))
    return {
        "pcm.rms_dbfs": rms_dbfs,
        "pcm.peak_dbfs": max(20.0 * float(np.log10(peak / 32768.0)), -120.0) if peak else -120.0,
        "pcm.peak_amplitude": peak,
        "pcm.peak_to_peak": high - low,
        "pcm.average_absolute": float(magnitude.mean()),
        "pcm.energy": energy,
        "pcm.crest_factor": peak / 32768.0 / rms if rms else float("nan"),
        "pcm.dc_offset": float(real.mean()) / 32768.0,
        "pcm.clipped_samples": count,
        "pcm.clipping_ratio": count / len(real),
        "pcm.consecutive_clipped": _longest_run(clipped) if count else 0,
        "pcm.silence_detected": rms_dbfs < SILENCE_DBFS,
        "pcm.muted_signal": peak == 0,
        "pcm.frozen_signal": high == low,
        "pcm.zero_crossing_rate": _crossings(frame) / (len(real) - 1),
    }


def _crossings(frame: npt.NDArray[np.int16]) -> int:
    return int(np.count_nonzero(np.diff(np.signbit(frame))))


def _longest_run(hot: npt.NDArray[np.bool_]) -> int:
    longest = run = 0
    for each in hot.tolist():
        run = run + 1 if each else 0
        longest = max(longest, run)
    return longest


class NaiveRegistry:
    """One gauge and one histogram for each metric."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        names = {metric.key: metric.key.replace(".", "_") for metric in FRAME_METRICS}
        self.gauges = {
            key: Gauge(name, key, LABELS, registry=registry) for key, name in names.items()
        }
        self.histograms = {
            key: Histogram(f"{name}_distribution", key, LABELS, registry=registry)
            for key, name in names.items()
        }


class NaiveTap:
    """A tap that measures and tells on the audio thread."""

    def __init__(self, registry: NaiveRegistry, station: str) -> None:
        self._tell = [
            (key, gauge.labels(station, "pre").set, registry.histograms[key].labels(station, "pre"))
            for key, gauge in registry.gauges.items()
        ]

    def pre(self, block: bytes) -> None:
        """Measure a frame of 20 ms and publish its values."""
        values = measure_frame(np.frombuffer(block, "<i2"))
        for key, put, histogram in self._tell:
            put(values[key])
            histogram.observe(values[key])

"""Live numbers of every station and tap: windows for the gauges, counters and histograms.

Written and read by the exporter thread alone; what a scrape sees is the page that
``exporter.exposition`` renders from here once a second.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from exporter.analysis.frames import Matrix
from exporter.metrics import FRAME_METRICS, METRICS, Form, Metric
from exporter.model import SAMPLE_BYTES, Cause

WINDOW_S = 5
GAUGES: tuple[Metric, ...] = tuple(m for m in METRICS if m.form is Form.GAUGE)
HISTOGRAMS: tuple[Metric, ...] = tuple(m for m in METRICS if m.borders)

_FRAME_COLUMNS = {metric.key: column for column, metric in enumerate(FRAME_METRICS)}
_GAUGE_ROWS = {metric.key: row for row, metric in enumerate(GAUGES)}
_FRAME_GAUGES = [metric for metric in GAUGES if metric.key in _FRAME_COLUMNS]
_COLUMNS = [_FRAME_COLUMNS[metric.key] for metric in _FRAME_GAUGES]
_ROWS = [_GAUGE_ROWS[metric.key] for metric in _FRAME_GAUGES]
_BORDERS = {metric.key: np.array(metric.borders) / metric.scale for metric in HISTOGRAMS}
_FRAME_HISTOGRAMS = [metric for metric in HISTOGRAMS if metric.key in _FRAME_COLUMNS]
_CLIPPED = _FRAME_COLUMNS["pcm.clipped_samples"]

Column = npt.NDArray[np.float64]


@dataclass(slots=True)
class Exemplar:
    """The newest value in a histogram's bucket, and the call it comes from."""

    value: float
    trace_id: str
    bucket_ns: int
    at_ns: int


class TapLive:
    """Live numbers of one station and tap, over all its traces.

    Attributes:
        received: Samples of audio placed.
        frames: Frames measured.
        clipped: Clipped samples.
        missing: Samples missing, by cause.
        histograms: Counts for each border and one beyond, by metric key.
        exemplars: By metric key and bucket.
    """

    def __init__(self) -> None:
        shape = (WINDOW_S, len(GAUGES))
        self.received = 0
        self.frames = 0
        self.clipped = 0
        self.missing: dict[Cause, int] = {}
        self.histograms = {
            metric.key: np.zeros(len(metric.borders) + 1, np.int64) for metric in HISTOGRAMS
        }
        self.exemplars: dict[tuple[str, int], Exemplar] = {}
        self._count = np.zeros(shape)
        self._sum = np.zeros(shape)
        self._min = np.full(shape, np.inf)
        self._max = np.full(shape, -np.inf)
        self._second = 0

    def see_frames(self, rows: Matrix, second: int) -> None:
        """Let frames count in the gauges; NaN counts nowhere."""
        slot = self._slot(second)
        values = rows[:, _COLUMNS]
        known = ~np.isnan(values)
        self._count[slot, _ROWS] += known.sum(axis=0)
        self._sum[slot, _ROWS] += np.where(known, values, 0.0).sum(axis=0)
        low = np.where(known, values, np.inf).min(axis=0)
        high = np.where(known, values, -np.inf).max(axis=0)
        self._min[slot, _ROWS] = np.minimum(self._min[slot, _ROWS], low)
        self._max[slot, _ROWS] = np.maximum(self._max[slot, _ROWS], high)

    def see_value(self, key: str, value: float, second: int) -> None:
        """Let one value count in its gauge."""
        slot, row = self._slot(second), _GAUGE_ROWS[key]
        self._count[slot, row] += 1
        self._sum[slot, row] += value
        self._min[slot, row] = min(self._min[slot, row], value)
        self._max[slot, row] = max(self._max[slot, row], value)

    def count_frames(self, rows: Matrix, exemplar: tuple[str, int, int]) -> None:
        """Let frames that have their place count in counters and histograms, for ever."""
        self.frames += len(rows)
        self.clipped += int(rows[:, _CLIPPED].sum())
        for metric in _FRAME_HISTOGRAMS:
            self._observe(metric.key, rows[:, _FRAME_COLUMNS[metric.key]], exemplar)

    def count_value(self, key: str, value: float, exemplar: tuple[str, int, int]) -> None:
        """Let one value count in its histogram."""
        if key in _BORDERS:
            self._observe(key, np.array([value]), exemplar)

    def count_audio(self, pcm: bytes) -> None:
        """Count placed audio."""
        self.received += len(pcm) // SAMPLE_BYTES

    def count_missing(self, samples: int, cause: Cause) -> None:
        """Count missing samples."""
        self.missing[cause] = self.missing.get(cause, 0) + samples

    def window(self, second: int) -> tuple[Column, Column, Column]:
        """Return mean, min and max of every gauge over the last 5 s; NaN where none is known."""
        self._slot(second)
        count = self._count.sum(axis=0)
        with np.errstate(invalid="ignore"):
            mean = self._sum.sum(axis=0) / count
        unknown = count == 0
        return (
            mean,
            np.where(unknown, np.nan, self._min.min(axis=0)),
            np.where(unknown, np.nan, self._max.max(axis=0)),
        )

    def _slot(self, second: int) -> int:
        """Return the slot of a second, and empty those that have become too old."""
        for passed in range(max(self._second + 1, second - WINDOW_S + 1), second + 1):
            slot = passed % WINDOW_S
            self._count[slot] = self._sum[slot] = 0.0
            self._min[slot], self._max[slot] = np.inf, -np.inf
        self._second = max(second, self._second)
        return self._second % WINDOW_S

    def _observe(self, key: str, values: Column, exemplar: tuple[str, int, int]) -> None:
        known = values[~np.isnan(values)]
        if not known.size:
            return
        places = np.searchsorted(_BORDERS[key], known, side="left")
        self.histograms[key] += np.bincount(places, minlength=len(_BORDERS[key]) + 1)
        self.exemplars[key, int(places[-1])] = Exemplar(float(known[-1]), *exemplar)


class StationLive:
    """Live numbers of one station: its two taps and its running traces."""

    __slots__ = ("active", "last_end_s", "taps")

    def __init__(self) -> None:
        self.taps: dict[str, TapLive] = {}
        self.active = 0
        self.last_end_s = 0

    def tap(self, name: str) -> TapLive:
        """Return the numbers of one tap."""
        return self.taps.setdefault(name, TapLive())

"""Live numbers of every station and tap: windows for the gauges, counters and histograms.

Written and read by the exporter thread alone; what a scrape sees is the page that
``exporter.exposition`` renders from here once a second.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from exporter.aggregates import COUNT, LAST, MAX, MIN, SUM, Aggregates, Table
from exporter.analysis.columns import aggregated, count_places
from exporter.analysis.frames import Matrix
from exporter.metrics import COLUMNS, Form, Metric
from exporter.model import Cause

WINDOW_S = 5
_CLIPPED = COLUMNS["pcm.clipped_samples"]

Column = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]


class Layout:
    """Where each metric of a registry stands in the arrays of live numbers.

    Attributes:
        gauges: In the order of their rows.
        rows: Row of each gauge by key.
        histograms: Metrics with one.
        borders: Of each histogram, in the unit of SQL.
        edges: The same as arrays, for many values at a time.
        columns: Columns of frame measurements that are gauges, ``[n]``.
        column_rows: Their rows, ``[n]``.
        at_close: Keys that are known when a bucket closes.
        frame_histograms: Keys of the histograms of frame measurements, ``[m]``.
        frame_columns: Their columns, ``[m]``.
        frame_edges: Their borders, ``[m, most]``, filled up with infinity.
    """

    def __init__(self, metrics: Iterable[Metric]) -> None:
        known = tuple(metrics)
        self.gauges = tuple(metric for metric in known if metric.form is Form.GAUGE)
        self.rows = {metric.key: row for row, metric in enumerate(self.gauges)}
        self.histograms = tuple(metric for metric in known if metric.borders)
        self.borders = {
            metric.key: [border / metric.scale for border in metric.borders]
            for metric in self.histograms
        }
        self.edges = {key: np.array(borders) for key, borders in self.borders.items()}
        framed = [metric.key for metric in self.gauges if metric.key in COLUMNS]
        self.columns = np.array([COLUMNS[key] for key in framed], np.int64)
        self.column_rows = np.array([self.rows[key] for key in framed], np.int64)
        self.at_close = frozenset(metric.key for metric in self.gauges if metric.at_close)
        self.frame_histograms = [key for key in self.borders if key in COLUMNS]
        self.frame_columns = np.array([COLUMNS[key] for key in self.frame_histograms], np.int64)
        most = max(len(self.borders[key]) for key in self.frame_histograms)
        self.frame_edges = np.full((len(self.frame_histograms), most), np.inf)
        for edges, key in zip(self.frame_edges, self.frame_histograms, strict=True):
            edges[: len(self.borders[key])] = self.borders[key]


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

    def __init__(self, layout: Layout) -> None:
        shape = (WINDOW_S, len(layout.gauges))
        self.received = 0
        self.frames = 0
        self.clipped = 0
        self.missing: dict[Cause, int] = {}
        self.histograms = {
            key: np.zeros(len(borders) + 1, np.int64) for key, borders in layout.borders.items()
        }
        # Those of frame measurements lie in one array, to be counted together.
        frames, most = layout.frame_edges.shape
        self._frame_counts = np.zeros((frames, most + 1), np.int64)
        for counts, key in zip(self._frame_counts, layout.frame_histograms, strict=True):
            self.histograms[key] = counts[: len(layout.borders[key]) + 1]
        self.exemplars: dict[tuple[str, int], Exemplar] = {}
        self._layout = layout
        self._counts = np.zeros(shape)
        self._sum = np.zeros(shape)
        self._min = np.full(shape, np.inf)
        self._max = np.full(shape, -np.inf)
        self._second = 0
        # Of the last bucket of each trace: rows of gauges, and their aggregates.
        self._latest: dict[str, tuple[Places, Table]] = {}
        self._over: dict[str, tuple[Places, Table]] = {}
        self._learn(())

    def see_frames(self, rows: Matrix, second: int) -> None:
        """Let frames count in the gauges; NaN counts nowhere."""
        slot, places = self._slot(second), self._layout.column_rows
        found = aggregated(rows)[:, self._layout.columns]
        self._counts[slot, places] += found[COUNT]
        self._sum[slot, places] += found[SUM]
        self._min[slot, places] = np.minimum(self._min[slot, places], found[MIN])
        self._max[slot, places] = np.maximum(self._max[slot, places], found[MAX])

    def see_values(self, key: str, values: Sequence[float], second: int) -> None:
        """Let values count in their gauge."""
        slot, row = self._slot(second), self._layout.rows[key]
        self._counts[slot, row] += len(values)
        self._sum[slot, row] += sum(values)
        self._min[slot, row] = min(self._min[slot, row], *values)
        self._max[slot, row] = max(self._max[slot, row], *values)

    def see_bucket(self, aggregates: Aggregates, exemplar: tuple[str, int, int]) -> None:
        """Let a closed bucket stand for its trace until the next one, and count in histograms.

        Args:
            aggregates: Of the bucket; those of metrics that are known only now are looked at.
            exemplar: Trace, bucket and time.
        """
        if aggregates.keys != self._keys:
            self._learn(aggregates.keys)
        latest = aggregates.table[self._places]
        self._latest[exemplar[0]] = self._rows, latest
        means = latest[:, SUM] / latest[:, COUNT]
        for key, value in zip(self._counted, means[self._counted_places].tolist(), strict=True):
            self.count_values(key, [value], exemplar)

    def _learn(self, keys: tuple[str, ...]) -> None:
        """Find the places of what is known at the end of a bucket: nearly always the same."""
        places = [place for place, key in enumerate(keys) if key in self._layout.at_close]
        shown = [keys[place] for place in places]
        self._keys = keys
        self._places = np.array(places, np.intp)
        # Arrays both: in a list, they would be long-lived for the garbage collector.
        self._rows = np.array([self._layout.rows[key] for key in shown], np.intp)
        self._counted = [key for key in shown if key in self._layout.borders]
        self._counted_places = [shown.index(key) for key in self._counted]

    def forget(self, trace_id: str) -> None:
        """Say that a trace is over; its last bucket is shown while there is no other."""
        last = self._latest.pop(trace_id, None)
        if last is not None:
            self._over = {trace_id: last}

    def count_frames(self, rows: Matrix, exemplar: tuple[str, int, int], *, newest: int) -> None:
        """Let frames that have their place count in counters and histograms, for ever.

        Args:
            rows: Measurements, of one or many traces.
            exemplar: Trace, bucket and time of the last rows.
            newest: How many rows are those.
        """
        self.frames += len(rows)
        self.clipped += int(rows[:, _CLIPPED].sum())
        layout = self._layout
        count_places(rows, layout.frame_columns, layout.frame_edges, self._frame_counts)
        last = aggregated(rows[-newest:])[LAST, layout.frame_columns].tolist()
        for key, value in zip(layout.frame_histograms, last, strict=True):
            if not math.isnan(value):
                self._keep_exemplar(key, value, exemplar)

    def count_many(self, key: str, values: Sequence[float], exemplar: tuple[str, int, int]) -> None:
        """Let values, at least one and all known, count in their histogram."""
        self._count(key, np.array(values))
        self._keep_exemplar(key, values[-1], exemplar)

    def count_values(
        self, key: str, values: Sequence[float], exemplar: tuple[str, int, int]
    ) -> None:
        """Let values, at least one and all known, count in their histogram, if they have one."""
        borders = self._layout.borders.get(key)
        if borders is not None:
            # One or a few: making an array of them would take longer than finding their places.
            counts = self.histograms[key]
            for value in values:
                counts[bisect_left(borders, value)] += 1
            self._keep_exemplar(key, values[-1], exemplar)

    def count_audio(self, samples: int) -> None:
        """Count placed audio."""
        self.received += samples

    def count_missing(self, samples: int, cause: Cause) -> None:
        """Count missing samples."""
        self.missing[cause] = self.missing.get(cause, 0) + samples

    def window(self, second: int, *, is_stale: bool = False) -> tuple[Column, Column, Column]:
        """Return mean, min and max of every gauge; NaN where none is known.

        Args:
            second: Now; what is measured as it comes counts for the 5 s before.
            is_stale: Whether what ended traces left is not shown any more.
        """
        self._slot(second)
        count, total = self._counts.sum(axis=0), self._sum.sum(axis=0)
        low, high = self._min.min(axis=0), self._max.max(axis=0)
        for rows, table in (self._latest or ({} if is_stale else self._over)).values():
            count[rows] += table[:, COUNT]
            total[rows] += table[:, SUM]
            low[rows] = np.minimum(low[rows], table[:, MIN])
            high[rows] = np.maximum(high[rows], table[:, MAX])
        unknown = count == 0
        with np.errstate(invalid="ignore"):
            mean = total / count
        return mean, np.where(unknown, np.nan, low), np.where(unknown, np.nan, high)

    def _slot(self, second: int) -> int:
        """Return the slot of a second, and empty those that have become too old."""
        for passed in range(max(self._second + 1, second - WINDOW_S + 1), second + 1):
            slot = passed % WINDOW_S
            self._counts[slot] = self._sum[slot] = 0.0
            self._min[slot], self._max[slot] = np.inf, -np.inf
        self._second = max(second, self._second)
        return self._second % WINDOW_S

    def _count(self, key: str, known: Column) -> None:
        counts = self.histograms[key]
        places = self._layout.edges[key].searchsorted(known)
        counts += np.bincount(places, minlength=len(counts))

    def _keep_exemplar(self, key: str, value: float, exemplar: tuple[str, int, int]) -> None:
        """Keep the newest value, in the bucket that it falls into."""
        place = key, bisect_left(self._layout.borders[key], value)
        kept = self.exemplars.get(place)
        if kept is None:
            self.exemplars[place] = Exemplar(value, *exemplar)
        else:
            kept.value = value
            kept.trace_id, kept.bucket_ns, kept.at_ns = exemplar


class StationLive:
    """Live numbers of one station: its two taps and its running traces."""

    __slots__ = ("_layout", "active", "last_end_s", "taps")

    def __init__(self, layout: Layout) -> None:
        self.taps: dict[str, TapLive] = {}
        self.active = 0
        self.last_end_s = 0
        self._layout = layout

    def tap(self, name: str) -> TapLive:
        """Return the numbers of one tap."""
        tap = self.taps.get(name)
        if tap is None:
            tap = self.taps[name] = TapLive(self._layout)
        return tap

    def is_stale(self, second: int, after_s: float) -> bool:
        """Whether nobody has used the station for so long that its gauges vanish."""
        return not self.active and second - self.last_end_s > after_s

"""The page for /metrics, as prepared text in both formats.

A family is rendered through templates of at most 500 series each: a thousand calls of a formatter
that take the interpreter in one go would make the audio path wait; a few short ones do not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from exporter.breath import Breath
from exporter.live import Column, Exemplar, Layout, StationLive, TapLive
from exporter.metrics import Metric
from exporter.model import Cause, SelfSample
from exporter.selfmetrics import SELF_METRICS

PIECE = 500


@dataclass(frozen=True, slots=True)
class Page:
    """One rendering: both formats without the end mark, and how many series it has."""

    text: bytes = b""
    openmetrics: bytes = b""
    series: int = 0
    overflow: int = 0


class Exposition:
    """Renders pages; keeps the templates of the families it has seen.

    Args:
        layout: The metrics that are shown.
        max_series: Most station series on a page.
        stale_after_s: Gauges vanish so many seconds after a station's last trace.
        breath: Lets the audio threads in between.
    """

    def __init__(
        self, layout: Layout, max_series: int, stale_after_s: float, *, breath: Breath
    ) -> None:
        self._layout = layout
        self._breath = breath
        self._max_series = max_series
        self._stale_after_s = stale_after_s
        self._templates: dict[tuple[str, tuple[str, ...]], list[str]] = {}

    def render(
        self, stations: dict[str, StationLive], second: int, own: Iterable[SelfSample]
    ) -> Page:
        """Render everything.

        Args:
            stations: Live numbers by station key.
            second: Now; gauges cover the five seconds before.
            own: What the monitoring tells about itself.
        """
        builder = _Builder(self._max_series)
        taps = [
            (f'station="{key}",tap="{name}"', tap)
            for key, station in sorted(stations.items())
            for name, tap in sorted(station.taps.items())
        ]
        for name, help_, rows in self._gauge_families(stations, second):
            builder.add(name, "gauge", help_, self.lines(name, rows))
            self._breath.take()
        name, help_, rows = self._active_traces(stations, second)
        builder.add(name, "gauge", help_, self.lines(name, rows))
        for name, help_, rows in _counter_families(taps):
            builder.add(name, "counter", help_, self.lines(name, rows))
        for metric in self._layout.histograms:
            self._add_histogram(builder, metric, taps)
        for name, type_, help_, rows in _own_families(own, self._breath):
            builder.add(name, type_, help_, self.lines(name, rows), is_own=True)
            self._breath.take()
        return builder.page()

    def _gauge_families(self, stations: dict[str, StationLive], second: int) -> Iterator[_Family]:
        windows: list[tuple[str, tuple[Column, Column, Column]]] = []
        for key, station in sorted(stations.items()):
            is_stale = station.is_stale(second, self._stale_after_s)
            for name, tap in sorted(station.taps.items()):
                self._breath.take()
                labels = f'station="{key}",tap="{name}"'
                windows.append((labels, tap.window(second, is_stale=is_stale)))
        for row, metric in enumerate(self._layout.gauges):
            for index, suffix in ((0, ""), (1, "_min"), (2, "_max")):
                if index and not metric.extremes:
                    continue
                rows = [(labels, float(w[index][row]) * metric.scale) for labels, w in windows]
                yield metric.prometheus + suffix, _gauge_help(metric, suffix), rows

    def _add_histogram(
        self, builder: _Builder, metric: Metric, taps: list[tuple[str, TapLive]]
    ) -> None:
        """Add a histogram: the buckets alone, because borders or values may lie below 0."""
        borders = [*map(repr, metric.borders), "+Inf"]
        plain: list[str] = []
        rich: list[str] = []
        for labels, tap in taps:
            self._breath.take()
            total = 0
            counts = tap.histograms[metric.key].tolist()
            for place, (border, count) in enumerate(zip(borders, counts, strict=True)):
                total += count
                line = f'{metric.distribution}_bucket{{{labels},le="{border}"}} {total}'
                exemplar = tap.exemplars.get((metric.key, place))
                plain.append(line + "\n")
                rich.append(line + (_exemplar(exemplar, metric.scale) if exemplar else "") + "\n")
        help_ = f"{metric.help} Distribution over all traces."
        builder.add(
            metric.distribution, "histogram", help_, _joined(plain), openmetrics=_joined(rich)
        )

    def _active_traces(self, stations: dict[str, StationLive], second: int) -> _Family:
        rows = [
            (f'station="{key}"', station.active)
            for key, station in sorted(stations.items())
            if not station.is_stale(second, self._stale_after_s)
        ]
        return "monitoring_active_traces", "Running traces that use this station.", rows

    def lines(self, name: str, rows: Sequence[tuple[str, float]]) -> list[str]:
        """Render the series of one family.

        Args:
            name: Name of the series.
            rows: Labels (rendered, without braces) and value; NaN is unknown and left out.

        Returns:
            Pieces of text, each of at most 500 lines.
        """
        known = [row for row in rows if row[1] == row[1]]
        if not known:
            return []
        labels, values = zip(*known, strict=True)
        pieces = self._template(name, labels)
        return [
            piece % values[start : start + PIECE]
            for start, piece in zip(range(0, len(values), PIECE), pieces, strict=True)
        ]

    def _template(self, name: str, labels: tuple[str, ...]) -> list[str]:
        key = (name, labels)
        if key not in self._templates:
            self._templates = {k: v for k, v in self._templates.items() if k[0] != name}
            lines = [f"{name}{{{each}}} %r\n" if each else f"{name} %r\n" for each in labels]
            starts = range(0, len(lines), PIECE)
            self._templates[key] = ["".join(lines[start : start + PIECE]) for start in starts]
        return self._templates[key]


class _Builder:
    """Gathers families in both formats and stops adding station series at the limit."""

    def __init__(self, max_series: int) -> None:
        self._text: list[str] = []
        self._openmetrics: list[str] = []
        self._left = max_series
        self.series = 0
        self.overflow = 0

    def add(  # noqa: PLR0913 - one family has these parts
        self,
        name: str,
        type_: str,
        help_: str,
        pieces: list[str],
        *,
        openmetrics: list[str] | None = None,
        is_own: bool = False,
    ) -> None:
        size = sum(piece.count("\n") for piece in pieces)
        if not size:
            return
        if not is_own:
            if size > self._left:
                self.overflow += size
                return
            self._left -= size
            self.series += size
        family = name.removesuffix("_total") if type_ == "counter" else name
        self._text += [f"# HELP {name} {help_}\n# TYPE {name} {type_}\n", *pieces]
        self._openmetrics += [f"# HELP {family} {help_}\n# TYPE {family} {type_}\n"]
        self._openmetrics += pieces if openmetrics is None else openmetrics

    def page(self) -> Page:
        text, openmetrics = "".join(self._text), "".join(self._openmetrics)
        return Page(text.encode(), openmetrics.encode(), self.series, self.overflow)


_Family = tuple[str, str, Sequence[tuple[str, float]]]


def _gauge_help(metric: Metric, suffix: str) -> str:
    kind = {"": "mean", "_min": "smallest value", "_max": "largest value"}[suffix]
    span = "the last bucket of each trace" if metric.at_close else "all traces and the last 5 s"
    return f"{metric.help} The {kind} over {span}."


def _counter_families(taps: list[tuple[str, TapLive]]) -> Iterator[_Family]:
    yield (
        "monitoring_samples_received_total",
        "Samples of audio that were placed and kept.",
        [(labels, tap.received) for labels, tap in taps],
    )
    yield (
        "monitoring_frames_total",
        "Frames of 20 ms that were measured.",
        [(labels, tap.frames) for labels, tap in taps],
    )
    yield (
        "monitoring_pcm_clipped_samples_total",
        "Samples at 32760 or beyond in either direction.",
        [(labels, tap.clipped) for labels, tap in taps],
    )
    yield (
        "monitoring_gap_samples_total",
        "Samples that were due and are missing, by cause.",
        [
            (f'{labels},cause="{cause}"', tap.missing.get(cause, 0))
            for labels, tap in taps
            for cause in Cause
        ],
    )


def _joined(lines: list[str]) -> list[str]:
    return ["".join(lines[start : start + PIECE]) for start in range(0, len(lines), PIECE)]


def _exemplar(exemplar: Exemplar, scale: float) -> str:
    labels = f'trace_id="{exemplar.trace_id}",bucket="{exemplar.bucket_ns // 1_000_000_000}"'
    return f" # {{{labels}}} {exemplar.value * scale!r} {exemplar.at_ns / 1e9:.3f}"


def _own_families(
    own: Iterable[SelfSample], breath: Breath
) -> Iterator[tuple[str, str, str, list[tuple[str, float]]]]:
    by_name: dict[str, dict[str, float]] = {}
    for sample in own:
        breath.take()
        metric = SELF_METRICS[sample.name]
        pairs = zip(metric.labels, sample.labels, strict=True)
        labels = ",".join(f'{label}="{value}"' for label, value in pairs)
        rows = by_name.setdefault(sample.name, {})
        rows[labels] = rows.get(labels, 0.0) + sample.value
    for name, rows in sorted(by_name.items()):
        metric = SELF_METRICS[name]
        finite = [(labels, value) for labels, value in rows.items() if math.isfinite(value)]
        yield f"monitoring_{name}", metric.type, metric.help, finite

"""Small charts as SVG inside the page: drawn here, coloured by the page's style sheet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from archiver.bundle_page.text import clock, escape, number
from archiver.times import BUCKET

WIDTH, HEIGHT = 960, 132
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 8, 10, 22
_STEPS_S = (5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 21_600, 86_400)
_MOST_TICKS = 10


@dataclass(frozen=True, slots=True)
class Line:
    """A curve.

    Attributes:
        name: What it is, for the legend.
        style: Class in the style sheet.
        points: Start of the bucket, and value; None is unknown and interrupts the curve.
    """

    name: str
    style: str
    points: Sequence[tuple[datetime, float | None]]


@dataclass(frozen=True, slots=True)
class Scale:
    """The values of a chart.

    Attributes:
        low: Value at the bottom.
        high: Value at the top.
        grid: Values with a line and a label.
        unit: Written after the labels.
    """

    low: float
    high: float
    grid: Sequence[float]
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Axis:
    """The time that all charts of a station share.

    Attributes:
        since: Left edge.
        until: Right edge.
        lost: Buckets in which audio was lost.
        turned: Moments at which a knob was turned.
    """

    since: datetime
    until: datetime
    lost: Sequence[datetime] = ()
    turned: Sequence[datetime] = ()

    def x(self, moment: datetime) -> float:
        """Return where a moment is."""
        share = (moment - self.since) / (self.until - self.since)
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)


def chart(title: str, lines: Sequence[Line], *, scale: Scale, axis: Axis) -> str:
    """Return a chart with its title and legend."""
    legend = " ".join(f'<span class="{line.style}">{escape(line.name)}</span>' for line in lines)
    drawn = [*_grid(scale), *_ticks(axis), *_marks(axis)]
    for line in lines:
        drawn += _curve(line, scale, axis)
    return (
        f'<figure tabindex="0"><figcaption>{escape(title)} '
        f'<span class="legend">{legend}</span></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{''.join(drawn)}</svg></figure>"
    )


def _y(value: float, scale: Scale) -> float:
    share = (min(max(value, scale.low), scale.high) - scale.low) / (scale.high - scale.low)
    return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)


def _grid(scale: Scale) -> Iterator[str]:
    for value in scale.grid:
        y = _y(value, scale)
        yield f'<path class="grid" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>'
        label = f"{number(value, 0)}{scale.unit}"
        yield f'<text class="value" x="{_LEFT - 6}" y="{y + 3.5:.1f}">{escape(label)}</text>'


def _ticks(axis: Axis) -> Iterator[str]:
    length = (axis.until - axis.since).total_seconds()
    step = next((step for step in _STEPS_S if length / step <= _MOST_TICKS), _STEPS_S[-1])
    moment = datetime.fromtimestamp(-(-axis.since.timestamp() // step) * step, axis.since.tzinfo)
    while moment <= axis.until:
        x = axis.x(moment)
        # The outermost labels stay inside the picture.
        anchor = "end" if x > WIDTH - 4 * _RIGHT else "middle"
        yield f'<path class="grid" d="M{x:.1f} {_TOP}V{HEIGHT - _BOTTOM}"/>'
        yield (
            f'<text class="time" text-anchor="{anchor}" x="{x:.1f}" y="{HEIGHT - 7}">'
            f"{clock(moment)}</text>"
        )
        moment += timedelta(seconds=step)


def _marks(axis: Axis) -> Iterator[str]:
    for moment in axis.lost:
        width = axis.x(moment + BUCKET) - axis.x(moment)
        yield (
            f'<rect class="lost" x="{axis.x(moment):.1f}" y="{_TOP}" width="{max(width, 1):.1f}" '
            f'height="{HEIGHT - _TOP - _BOTTOM}"/>'
        )
    for moment in axis.turned:
        if axis.since <= moment <= axis.until:
            yield f'<path class="turned" d="M{axis.x(moment):.1f} {_TOP}V{HEIGHT - _BOTTOM}"/>'


def _curve(line: Line, scale: Scale, axis: Axis) -> Iterator[str]:
    for piece in _pieces(line.points):
        steps = [f"H{axis.x(at + BUCKET):.1f}" for at, _ in piece]
        levels = [f"V{_y(value, scale):.1f}" for _, value in piece]
        start = f"M{axis.x(piece[0][0]):.1f} {_y(piece[0][1], scale):.1f}"
        path = start + "".join(v + h for v, h in zip(levels, steps, strict=True))
        yield f'<path class="curve {line.style}" d="{path}"/>'


def _pieces(
    points: Sequence[tuple[datetime, float | None]],
) -> Iterator[list[tuple[datetime, float]]]:
    """Part a curve where something is unknown or not there."""
    piece: list[tuple[datetime, float]] = []
    for at, value in points:
        if piece and (value is None or at != piece[-1][0] + BUCKET):
            yield piece
            piece = []
        if value is not None:
            piece.append((at, value))
    if piece:
        yield piece

"""Draws the data of every panel, asked live, into one picture for each dashboard.

A rendering of the panels' data, not a picture of Grafana: for the README, and to see at a glance
whether each panel has something sensible to show. Run it beside a demo and a Prometheus that
scrapes it every second with exemplars::

    MONITORING_DB="host=... dbname=..." python docs/render_dashboards.py --prometheus URL
"""

from __future__ import annotations

import argparse
import io
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import shorten
from typing import Any

import matplotlib as mpl
from matplotlib import dates
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from PIL import Image

from archiver.reader import reader
from dashboards._compat import finish
from dashboards.boards import all_boards
from dashboards.expansion import View, expand
from dashboards.filling import fill
from dashboards.grammar import MARK, POST, PRE
from dashboards.model import Board, Json, Panel, PgTarget, PromTarget
from deploy.dashboards import Live
from exporter.config import load_settings

WIDTH_IN, STEP_IN = 16.0, 0.32
LINES, COLOURS = 11, 128
SEVERAL, NAMED = 2, 9
VERDICTS = {"better": "#73BF69", "worse": "#E02F44", "not enough speech": "#EAB839"}
_NAMED = {"green": "#73BF69", "red": "#E02F44", "text": "#333333"}
_UNITS = {
    "percentunit": (100.0, " %"),
    "s": (1.0, " s"),
    "ms": (1e3, " ms"),
    "bytes": (1e-6, " MB"),
    "h": (1.0, " h"),
    "none": (1.0, ""),
    "short": (1.0, ""),
}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prometheus", required=True, metavar="URL")
    parser.add_argument("--minutes", type=float, default=3.0, help="how long ago it begins")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    mpl.rcParams.update({"font.size": 7, "axes.titlesize": 8, "axes.grid": True, "grid.alpha": 0.3})
    end = datetime.now(UTC)
    view = View(end - timedelta(minutes=options.minutes), end)
    with reader(load_settings().db) as archive:
        live = Live(archive, options.prometheus)
        for name, board in all_boards().items():
            path = options.output / f"dashboard-{name.replace('_', '-')}.png"
            save(draw(board, fill(board, view, live), live), path)


def save(figure: Figure, path: Path) -> None:
    """Write a picture with few colours: a graph needs no more, and a repository no large files."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    Image.open(buffer).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(
        path, optimize=True
    )


def draw(board: Board, view: View, live: Live) -> Figure:
    """Return the picture of a board."""
    placed = [panel for panel in finish(board)["panels"] if panel["type"] != "row"]
    rows = [panel for panel in finish(board)["panels"] if panel["type"] == "row"]
    height = max(each["gridPos"]["y"] + each["gridPos"]["h"] for each in placed) + 2
    figure = Figure(figsize=(WIDTH_IN, height * STEP_IN))
    figure.text(0.01, 1 - 1.2 / height, board.title, fontsize=13, weight="bold")
    note = f"rendering of the panels' data, {view.end:%Y-%m-%d %H:%M} UTC; not a picture of Grafana"
    figure.text(0.99, 1 - 1.2 / height, note, fontsize=8, ha="right", color="#888888")
    for row in rows:
        text = row["title"].replace("$station", "/".join(view.values.get("station", ())))
        figure.text(0.01, 1 - (row["gridPos"]["y"] + 2.6) / height, text, fontsize=9, weight="bold")
    marks = _marks(board, view, live)
    for panel, place in zip(board.panels, placed, strict=True):
        at = place["gridPos"]
        # Room for the title above, and for the numbers of the axes at the left and below.
        box = (
            at["x"] / 24 + 0.03,
            1 - (at["y"] + at["h"] + 1.4) / height,
            at["w"] / 24 - 0.04,
            (at["h"] - 1.9) / height,
        )
        axes = figure.add_axes(box)
        _draw_panel(axes, panel, view, live)
        if panel.kind in {"timeseries", "state-timeline"}:
            _mark(axes, marks)
    return figure


def _marks(board: Board, view: View, live: Live) -> list[datetime]:
    """Return when annotations are."""
    targets = [PgTarget(each.sql) for each in board.annotations]
    return [row[0] for target in targets for row in live.columns(expand(target, view))[1]]


def _mark(axes: Axes, marks: list[datetime]) -> None:
    for at in marks:
        axes.axvline(at, color=MARK, lw=1, ls=":")


def _draw_panel(axes: Axes, panel: Panel, view: View, live: Live) -> None:
    title = panel.title
    for name, values in view.values.items():
        title = title.replace(f"${name}", "/".join(values))
    axes.set_title(title, loc="left")
    drawer = {"timeseries": _lines, "heatmap": _heat, "state-timeline": _states, "stat": _tiles}
    drawer.get(panel.kind, _table)(axes, panel, view, live)


def _colour(name: str, number: int) -> str:
    """PRE and POST as everywhere; others by turns."""
    for tap, colour in (("PRE", PRE), ("POST", POST)):
        if re.match(rf"{tap}\b", name):
            return colour
    return f"C{(number + 2) % 10}"


Series = dict[str, tuple[list[datetime], list[float]]]


def _series(panel: Panel, view: View, live: Live) -> Series:
    """Return points by name of the series."""
    found: Series = {}
    for target in panel.targets:
        if isinstance(target, PromTarget):
            for each in live.series(target, view):
                name = _legend(target.legend, each["metric"])
                points = each["values"]
                times = [datetime.fromtimestamp(float(at), UTC) for at, _ in points]
                found[name] = (times, [float(value) for _, value in points])
        else:
            found |= _columns(*live.columns(expand(target, view)))
    return found


def _legend(template: str, labels: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda name: labels.get(name[1], ""), template)


def _columns(names: list[str], rows: list[Sequence[Any]]) -> Series:
    """Turn rows into series: one for each column, or for each word in the column metric."""
    found: Series = {}
    for row in rows:
        cells = dict(zip(names, row, strict=True))
        prefix = cells.pop("metric", "")
        at = cells.pop("time")
        for name, value in cells.items():
            if value is not None:
                times, values = found.setdefault(prefix or name, ([], []))
                times.append(at)
                values.append(float(value))
    return found


def _is_band(name: str) -> bool:
    return name.endswith((" min", " max"))


def _lines(axes: Axes, panel: Panel, view: View, live: Live) -> None:
    series = _series(panel, view, live)
    scale, suffix = _unit(panel.defaults.get("unit"))
    is_stacked = panel.defaults["custom"]["drawStyle"] == "bars"
    floor: dict[datetime, float] = {}
    for number, (name, (times, values)) in enumerate(sorted(series.items())):
        scaled = [value * scale for value in values]
        colour = _colour(name, number)
        if is_stacked:
            base = [floor.get(at, 0.0) for at in times]
            width = timedelta(seconds=4)
            axes.bar(times, scaled, width=width, bottom=base, label=name, color=f"C{number}")
            floor |= {at: low + value for at, low, value in zip(times, base, scaled, strict=True)}
        elif _is_band(name) and f"{name[:-4]} mean" in series and name.endswith(" max"):
            low = dict(zip(*series.get(f"{name[:-4]} min", (times, values)), strict=True))
            bottom = [low.get(at, value) * scale for at, value in zip(times, values, strict=True)]
            axes.fill_between(times, bottom, scaled, color=colour, alpha=0.15, lw=0)
        elif not _is_band(name) or "mean" not in str(series.keys()):
            style = "--" if number % 2 and len(series) > SEVERAL else "-"
            axes.plot(times, scaled, style, label=name, color=colour, lw=1.2)
    _time_axis(axes, view)
    axes.set_ylabel(suffix.strip(), labelpad=1)
    if not series:
        _say(axes, panel.may_be_empty or "nothing came")
    elif all(times[-1] < view.start for times, _ in series.values()):
        _say(axes, "older than what is shown")
    elif len(series) <= NAMED:
        axes.legend(fontsize=6, loc="upper left", ncols=3, framealpha=0.5)
    else:
        axes.set_title(f"{len(series)} series", loc="right", fontsize=6)


def _unit(name: Any) -> tuple[float, str]:
    """Return the factor and the suffix of a unit of Grafana."""
    text = str(name or "")
    return _UNITS.get(text, (1.0, text.replace("suffix:", "")))


def _time_axis(axes: Axes, view: View) -> None:
    axes.set_xlim(dates.date2num([view.start, view.end]))
    width_in = axes.get_position().width * WIDTH_IN
    number = max(2, round(width_in / 1.2))
    step = (view.end - view.start) / number
    axes.set_xticks(dates.date2num([view.start + step * (at + 0.5) for at in range(number)]))
    axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M:%S"))


def _heat(axes: Axes, panel: Panel, view: View, live: Live) -> None:
    series = _series(panel, view, live)
    borders = sorted(series, key=float)
    times = sorted({at for at_, _ in series.values() for at in at_})
    below = dict.fromkeys(times, 0.0)
    rows: list[list[float]] = []
    for border in borders:
        upto = dict(zip(*series[border], strict=True))
        rows.append([max(upto.get(at, 0.0) - below[at], 0.0) or float("nan") for at in times])
        below = {at: upto.get(at, below[at]) for at in times}
    scheme = "Blues" if panel.title.startswith("PRE") else "Oranges"
    axes.pcolormesh(times, range(len(borders)), rows, cmap=scheme, norm=LogNorm(0.05, 60))
    axes.set_yticks(range(0, len(borders), 2), borders[::2])
    _time_axis(axes, view)


def _states(axes: Axes, panel: Panel, view: View, live: Live) -> None:
    series = _series(panel, view, live)
    steps = panel.defaults["thresholds"]["steps"]
    for row, (_, (times, values)) in enumerate(sorted(series.items())):
        colours = [_step(steps, value) for value in values]
        starts = dates.date2num(times)
        widths = [1.5 * view.interval_s / 86_400] * len(times)
        axes.barh([row] * len(times), widths, left=starts, color=colours, height=0.8)
    axes.set_yticks([])
    for row, name in enumerate(sorted(series)):
        axes.text(0.01, row, name, va="center", transform=axes.get_yaxis_transform())
    _time_axis(axes, view)


def _step(steps: list[Json], value: float) -> str:
    colour = str(steps[0]["color"])
    for step in steps[1:]:
        if value >= step["value"]:
            colour = str(step["color"])
    return _NAMED.get(colour, colour)


def _tiles(axes: Axes, panel: Panel, view: View, live: Live) -> None:
    axes.axis("off")
    cells: list[tuple[str, Any]] = []
    usual = panel.defaults.get("unit", "")
    for target in panel.targets:
        if isinstance(target, PgTarget):
            names, rows = live.columns(expand(target, view))
            cells += zip(names, rows[0], strict=True)
        else:
            cells += [("", float(each["values"][-1][1])) for each in live.series(target, view)]
    steps = panel.defaults["thresholds"]["steps"]
    for number, (name, value) in enumerate(cells):
        x = (number + 0.5) / len(cells)
        colour = _step(steps, value) if isinstance(value, float) else "#333333"
        axes.text(
            x,
            0.35,
            _cell(value, _property(panel, name, "unit") or usual),
            ha="center",
            va="center",
            fontsize=15,
            color=colour,
        )
        axes.text(x, 0.85, name, ha="center", va="center", fontsize=8, color="#666666")


def _cell(value: Any, unit: str = "") -> str:
    if isinstance(value, datetime):
        return f"{value:%H:%M:%S}"
    if isinstance(value, float):
        scale, suffix = _unit("ms" if unit == "s" and abs(value) < 1 else unit)
        return f"{value * scale:.3g}{suffix}"
    text = re.sub(r"<audio .*", "[play]", str("" if value is None else value))
    return shorten(text, 44, placeholder="...")


def _property(panel: Panel, name: str, wanted: str) -> Any:
    """Return what an override says of a column."""
    for each in panel.overrides:
        for part in each["properties"]:
            if each["matcher"]["options"] == name and part["id"] == wanted:
                return part["value"]
    return None


def _table(axes: Axes, panel: Panel, view: View, live: Live) -> None:
    axes.axis("off")
    names, rows = _table_rows(panel, view, live)
    if not rows:
        _say(axes, panel.may_be_empty)
        return
    kept = [at for at, name in enumerate(names) if not _property(panel, name, "custom.hidden")]
    units = [_property(panel, name, "unit") or panel.defaults.get("unit", "") for name in names]
    cells = [[_cell(row[at], units[at]) for at in kept] for row in rows[:LINES]]
    widths = [
        max(len(line[at]) for line in [*cells, [names[k] for k in kept]]) + 2
        for at in range(len(kept))
    ]
    full = sum(widths)
    drawn = axes.table(
        cells,
        colLabels=[names[at] for at in kept],
        colWidths=[width / full for width in widths],
        loc="upper left",
        cellLoc="left",
        colLoc="left",
        bbox=(
            0,
            max(0.0, 1 - (len(cells) + 1) / (LINES + 1)),
            1,
            min(1, (len(cells) + 1) / (LINES + 1)),
        ),
    )
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(7)
    _colour_cells(
        drawn, panel, [names[at] for at in kept], [[row[at] for at in kept] for row in rows]
    )


def _colour_cells(drawn: Any, panel: Panel, names: list[str], rows: list[list[Any]]) -> None:
    for (line, place), cell in drawn.get_celld().items():
        cell.set_edgecolor("#DDDDDD")
        steps = (_property(panel, names[place], "thresholds") or {}).get("steps")
        value = rows[line - 1][place]
        if line and steps and isinstance(value, float | int):
            cell.set_facecolor(_step(steps, float(value)) + "55")
        if line and value in VERDICTS:
            cell.set_facecolor(VERDICTS[value] + "55")


def _table_rows(panel: Panel, view: View, live: Live) -> tuple[list[str], list[Sequence[Any]]]:
    """Return the rows of SQL, or the answers of PromQL joined by station and tap."""
    (first, *_) = panel.targets
    if isinstance(first, PgTarget):
        return live.columns(expand(first, view))
    names: list[str] = []
    joined: dict[tuple[str, str], dict[str, Any]] = {}
    titles = panel.transformations[1]["options"]["renameByName"]
    for letter, target in zip("ABCDEFGHIJKL", panel.targets, strict=False):
        names.append(titles[f"Value #{letter}"])
        for each in live.series(target, view) if isinstance(target, PromTarget) else []:
            labels = each["metric"]
            row = joined.setdefault((labels["station"], labels["tap"]), {})
            row[names[-1]] = float(each["value"][1])
    rows = [[*key, *(row.get(name) for name in names)] for key, row in joined.items()]
    worst = 2 + names.index("Health")
    return ["Station", "Tap", *names], sorted(rows, key=lambda row: row[worst])


def _say(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color="#888888")


if __name__ == "__main__":
    main()

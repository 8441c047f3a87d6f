"""One visual grammar for all boards: colours, units, limits.

PRE is blue and POST is orange wherever they stand; green, yellow and red come from
``dashboards.thresholds`` and from nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from dashboards.model import Json
from dashboards.thresholds import THRESHOLDS, Direction, Threshold
from exporter.metrics import METRICS

PRE, POST = "#5794F2", "#FF9830"
GOOD, WARN, CRITICAL, PLAIN, MARK = "green", "#EAB839", "red", "text", "purple"

_UNITS = {
    "dBFS": "suffix: dBFS",
    "dB": "dB",
    "LUFS": "suffix: LUFS",
    "LU": "suffix: LU",
    "Hz": "hertz",
    "ms": "ms",
    "ratio": "percentunit",
    "percent": "percent",
    "bool": "percentunit",
    "score": "none",
    "count": "none",
    "frames": "none",
    "int16": "none",
    "bits": "none",
}
# Ratios of two amounts of the same thing that are not shares of a whole.
_NO_SHARES = frozenset({"pcm.crest_factor", "stream.pace", "pair.coherence", "pcm.energy"})
_SCORES = {"health.audio_score": (0.0, 100.0)}


def unit(key: str, *, is_live: bool) -> str:
    """Return Grafana's unit of a metric, in SQL or on ``/metrics`` (``is_live``)."""
    metric = METRICS[key]
    if key in _NO_SHARES:
        return "none"
    if is_live and metric.scale != 1.0:
        return "s" if metric.unit == "ms" else "percentunit"
    return _UNITS[metric.unit]


def steps(limits: tuple[Threshold, ...]) -> list[Json]:
    """Return Grafana's steps of colour: each colour counts from its value upward."""
    found: list[Json] = [{"color": GOOD, "value": None}]
    for each in limits:
        if each.direction is Direction.BELOW:
            found = [
                {"color": CRITICAL, "value": None},
                {"color": WARN, "value": each.critical},
                {"color": GOOD, "value": each.warn},
            ]
    for each in limits:
        if each.direction is Direction.ABOVE:
            # "More than" begins beyond the limit: a loss of 0 is not red.
            warn, critical = (value or 1e-9 for value in (each.warn, each.critical))
            found += [{"color": WARN, "value": warn}, {"color": CRITICAL, "value": critical}]
    return [step for step, after in pairwise([*found, {}]) if after.get("value") != step["value"]]


def colours(key: str, *, is_live: bool = False) -> Json:
    """Return the limits of a number as Grafana has them; plain where it has none."""
    scale = METRICS[key].scale if is_live and key in METRICS else 1.0
    limits = tuple(each.scaled(scale) for each in THRESHOLDS.get(key, ()))
    return {"mode": "absolute", "steps": steps(limits)} if limits else NO_LIMITS


@dataclass(frozen=True, slots=True)
class Look:
    """How values look: options of all of them, and of some."""

    defaults: Json
    overrides: tuple[Json, ...] = ()

    def plus(self, *overrides: Json, **defaults: object) -> Look:
        """Return the same look with more overrides, and other defaults."""
        return Look(self.defaults | defaults, (*self.overrides, *overrides))


def of_metric(key: str, *, is_live: bool = True) -> Look:
    """Return the look of a metric's values: unit, limits, links to its worst calls."""
    defaults: Json = {
        "unit": unit(key, is_live=is_live),
        "thresholds": colours(key, is_live=is_live),
    }
    if key in _SCORES:
        defaults["min"], defaults["max"] = _SCORES[key]
    return Look(defaults)


def of_unit(name: str, key: str = "") -> Look:
    """Return the look of values in one of Grafana's units, with the limits of ``key``."""
    return Look({"unit": name, "thresholds": colours(key)})


def override(name: str, *, by: str = "byName", **properties: object) -> Json:
    """Return options of one series or column; ``__`` in a name stands for a dot."""
    return {
        "matcher": {"id": by, "options": name},
        "properties": [
            {"id": key.replace("__", "."), "value": value} for key, value in properties.items()
        ],
    }


def fixed(colour: str) -> Json:
    """Return a colour that depends on nothing."""
    return {"mode": "fixed", "fixedColor": colour}


TAPS = (
    override("/^PRE\\b/", by="byRegexp", color=fixed(PRE)),
    override("/^POST\\b/", by="byRegexp", color=fixed(POST)),
)
"""Whose name begins with the tap has its colour."""

BANDS = (
    override("PRE max", custom__fillBelowTo="PRE min", custom__lineWidth=0, custom__fillOpacity=14),
    override(
        "POST max", custom__fillBelowTo="POST min", custom__lineWidth=0, custom__fillOpacity=14
    ),
    override("/ min$/", by="byRegexp", custom__lineWidth=0, custom__fillOpacity=0),
    override("/ mean$/", by="byRegexp", custom__lineWidth=2),
)
"""A band from min to max, and the mean as a line in it."""
_STROKES: tuple[Json, ...] = (
    {"fill": "solid"},
    {"fill": "dash", "dash": [8, 6]},
    {"fill": "dot", "dash": [1, 6]},
)


def strokes(*names: str) -> tuple[Json, ...]:
    """Tell up to three numbers of one tap apart by stroke, not by colour: by their last words."""
    return tuple(
        override(f"/ {name}$/", by="byRegexp", custom__lineStyle=stroke)
        for name, stroke in zip(names, _STROKES, strict=False)
    )


def column(name: str, key: str = "", *, is_live: bool = False, **more: object) -> Json:
    """Return the look of a column: the unit of a metric, its limits as background."""
    properties: Json = {}
    if key:
        properties = {"unit": unit(key, is_live=is_live)} if key in METRICS else {}
        properties["thresholds"] = colours(key, is_live=is_live)
        properties["custom__cellOptions"] = {"type": "color-background", "mode": "basic"}
        properties["color"] = {"mode": "thresholds"}
    return override(name, **(properties | more))


def hidden(*names: str) -> tuple[Json, ...]:
    """Return columns that are there for links only; the two words are of Grafana 11 and 13."""
    away = {"legend": True, "tooltip": True, "viz": True}
    return tuple(override(name, custom__hidden=True, custom__hideFrom=away) for name in names)


NO_LIMITS: Json = {"mode": "absolute", "steps": [{"color": PLAIN, "value": None}]}
"""Of a table: each column has its own."""

STACKED: Json = {
    "drawStyle": "bars",
    "fillOpacity": 70,
    "stacking": {"group": "A", "mode": "normal"},
}
"""Of a graph whose parts add up."""

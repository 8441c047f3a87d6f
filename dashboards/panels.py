"""How each kind of panel looks: Grafana's options for it, once for all boards."""

from __future__ import annotations

from dashboards.grammar import TAPS, Look
from dashboards.model import Json, Panel, PgTarget, Target


def _graph_custom(limits: Json) -> Json:
    has_limits = len(limits["steps"]) > 1
    return {
        "drawStyle": "line",
        "lineInterpolation": "linear",
        "lineWidth": 1,
        "fillOpacity": 0,
        "showPoints": "auto",
        "pointSize": 4,
        "spanNulls": 15_000,
        "thresholdsStyle": {"mode": "dashed" if has_limits else "off"},
    }


def lines(
    title: str, description: str, *, targets: tuple[Target, ...], look: Look, width: int
) -> Panel:
    """Return a graph over time."""
    custom = _graph_custom(look.defaults["thresholds"]) | look.defaults.get("custom", {})
    return Panel(
        kind="timeseries",
        title=title,
        description=description,
        targets=targets,
        width=width,
        options={
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True}
            | {"calcs": []},
            "tooltip": {"mode": "multi", "sort": "none"},
        },
        defaults=look.defaults | {"custom": custom, "color": {"mode": "palette-classic"}},
        overrides=(*TAPS, *look.overrides),
    )


def tiles(
    title: str, description: str, *, targets: tuple[Target, ...], look: Look, width: int
) -> Panel:
    """Return numbers that are as large as the panel, coloured by their limits."""
    # A row of SQL is shown whole; of a series, the numbers without their time.
    is_row = any(isinstance(target, PgTarget) for target in targets)
    return Panel(
        kind="stat",
        title=title,
        description=description,
        targets=targets,
        width=width,
        options={
            "colorMode": "value",
            "graphMode": "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "percentChangeColorMode": "standard",
            "reduceOptions": {"calcs": ["lastNotNull"], "values": False}
            | {"fields": "/.*/" if is_row else ""},
            "showPercentChange": False,
            "textMode": "auto",
            "wideLayout": True,
        },
        defaults=look.defaults | {"color": {"mode": "thresholds"}},
        overrides=look.overrides,
    )


def heat(
    title: str, description: str, *, targets: tuple[Target, ...], look: Look, width: int
) -> Panel:
    """Return a histogram over time; PRE's is blue and POST's is orange."""
    scheme = "Blues" if title.startswith("PRE") else "Oranges"
    colour = {"mode": "scheme", "scheme": scheme, "scale": "exponential", "exponent": 0.5}
    return Panel(
        kind="heatmap",
        title=title,
        description=description,
        targets=targets,
        width=width,
        options={
            "calculate": False,
            "cellGap": 1,
            "color": colour | {"fill": "dark-orange", "reverse": False, "steps": 64},
            "exemplars": {"color": "rgba(255,0,255,0.7)"},
            "filterValues": {"le": 1e-9},
            "legend": {"show": False},
            "rowsFrame": {"layout": "auto"},
            "showValue": "never",
            "tooltip": {"mode": "single", "showColorScale": False, "yHistogram": False},
            "yAxis": {"axisPlacement": "left", "reverse": False, "unit": look.defaults["unit"]},
        },
        defaults={"custom": {"scaleDistribution": {"type": "linear"}}},
    )


def states(
    title: str, description: str, *, targets: tuple[Target, ...], look: Look, width: int
) -> Panel:
    """Return rows of coloured blocks over time."""
    return Panel(
        kind="state-timeline",
        title=title,
        description=description,
        targets=targets,
        width=width,
        options={
            "alignValue": "left",
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False}
            | {"calcs": []},
            "mergeValues": True,
            "rowHeight": 0.85,
            "showValue": "never",
            "tooltip": {"mode": "single", "sort": "none"},
        },
        defaults=look.defaults
        | {"custom": {"fillOpacity": 80, "lineWidth": 0}, "color": {"mode": "thresholds"}},
        overrides=look.overrides,
    )


def table(
    title: str, description: str, *, targets: tuple[Target, ...], look: Look, width: int
) -> Panel:
    """Return a table."""
    return Panel(
        kind="table",
        title=title,
        description=description,
        targets=targets,
        width=width,
        options={"cellHeight": "sm", "frameIndex": 0, "showHeader": True},
        defaults=look.defaults
        | {"custom": {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False}},
        overrides=look.overrides,
    )


def bars(
    title: str, description: str, *, targets: tuple[Target, ...], look: Look, width: int
) -> Panel:
    """Return one bar for each row of a table: its text column names it."""
    return Panel(
        kind="bargauge",
        title=title,
        description=description,
        targets=targets,
        width=width,
        options={
            "displayMode": "basic",
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False}
            | {"calcs": []},
            "maxVizHeight": 300,
            "minVizHeight": 16,
            "minVizWidth": 8,
            "namePlacement": "auto",
            "orientation": "horizontal",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": True},
            "showUnfilled": True,
            "sizing": "auto",
            "valueMode": "color",
        },
        defaults=look.defaults | {"color": {"mode": "thresholds"}, "min": 0},
        overrides=look.overrides,
    )

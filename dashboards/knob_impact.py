"""Knob impact: what each change did, before and after, in one word and in numbers."""

from __future__ import annotations

from dataclasses import replace

from dashboards import links, queries_sql, shared, variables
from dashboards._compat import data_link
from dashboards.grammar import (
    CRITICAL,
    GOOD,
    NO_LIMITS,
    PLAIN,
    WARN,
    Look,
    fixed,
    hidden,
    of_metric,
    override,
    strokes,
)
from dashboards.model import Board, Json, Panel, PgTarget, Row
from dashboards.panels import lines, table, tiles

_TABLE = Look({"thresholds": NO_LIMITS})
_VERDICTS = {
    "better": GOOD,
    "worse": CRITICAL,
    "no effect": PLAIN,
    "not enough speech": WARN,
}
_NO_CHANGE = "nobody turned a knob in that time"


def board(public_url: str) -> Board:
    """Return the board."""
    return Board(
        uid=links.KNOB_IMPACT,
        title="Monitoring: knob impact",
        description="Each change of a knob with the buckets with speech before and after it. "
        "Buckets in which a knob changed are left out.",
        variables=(
            variables.POSTGRES,
            variables.STATIONS,
            variables.KNOB,
            variables.AROUND,
            variables.CHANGE,
            variables.public_url(public_url),
        ),
        rows=(
            shared.status(),
            Row("Verdicts", 4, (_counts(),)),
            Row("Changes, the newest first", 10, (_changes(),)),
            Row("The chosen change, metric by metric", 12, (_impact(),)),
            Row("Health around the changes", 8, (_health(),)),
        ),
        annotations=(shared.STATION_MARKS,),
        time_from="now-6h",
        refresh="1m",
        links=shared.MENU,
    )


def _mapped() -> list[Json]:
    """Give each verdict its colour."""
    options = {
        word: {"color": colour, "index": at} for at, (word, colour) in enumerate(_VERDICTS.items())
    }
    return [{"type": "value", "options": options}]


def _verdict() -> Json:
    return override(
        "verdict",
        mappings=_mapped(),
        custom__cellOptions={"type": "color-background", "mode": "basic"},
        custom__width=150,
    )


def _counts() -> Panel:
    coloured = (override(word, color=fixed(colour)) for word, colour in _VERDICTS.items())
    return tiles(
        "Verdicts",
        "How many of the newest changes (20 at most) had which verdict. Many that are worse: turn "
        "them back. Not enough speech: choose fewer buckets, or wait.",
        targets=(PgTarget(queries_sql.verdict_counts()),),
        look=_TABLE.plus(*coloured),
        width=24,
    )


def _changes() -> Panel:
    choose = (
        f"/d/{links.KNOB_IMPACT}?var-change={links.field('change')}"
        "&${__url_time_range}&${station:queryparam}&${knob:queryparam}&${around:queryparam}"
    )
    moment = links.trace_board(
        links.field("call"), start=links.field("from_ms"), end=links.field("to_ms")
    )
    hear = links.knob_page(links.field("change"))
    panel = table(
        "Changes",
        "better, worse: by health where it changed, else by any metric. no effect: nothing "
        "changed by more than matters and than chance allows. Click the time to hear before and "
        "after, a knob for its numbers, a call for its board.",
        targets=(PgTarget(queries_sql.verdicts()),),
        look=_TABLE.plus(
            _verdict(),
            override("knob", links=[data_link("Metric by metric", choose, is_new_tab=False)]),
            override("call", links=[data_link("The call around the change", moment)]),
            override("when", links=[data_link("Hear before and after", hear)], custom__width=170),
            *hidden("change", "from_ms", "to_ms"),
        ),
        width=24,
    )
    return _possibly_empty(panel)


def _impact() -> Panel:
    panel = table(
        "Metric by metric",
        "Mean and spread (standard deviation) of the buckets with speech before and after, at "
        "POST. A change counts when it matters and is larger than twice its standard error.",
        targets=(PgTarget(queries_sql.impact()),),
        look=_TABLE.plus(
            _verdict(),
            *(override(f"± {side}", decimals=3) for side in ("before", "after")),
            *(override(name, decimals=3) for name in ("before", "after", "change")),
        ),
        width=24,
    )
    return _possibly_empty(panel)


def _possibly_empty(panel: Panel) -> Panel:
    return replace(panel, may_be_empty=_NO_CHANGE)


def _health() -> Panel:
    return lines(
        "Health",
        "Of all calls at the chosen stations; knob changes are marked. A step at a mark is its "
        "work.",
        targets=(PgTarget(queries_sql.health(), is_series=True),),
        look=of_metric("health.audio_score", is_live=False).plus(*strokes("mean", "min")),
        width=24,
    )

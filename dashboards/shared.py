"""What all boards have: the line that says whether the data is complete, and the menu."""

from __future__ import annotations

from dashboards import links, queries_sql
from dashboards._compat import link_to_boards
from dashboards.grammar import MARK, Look, colours, of_unit, override
from dashboards.model import Annotation, Panel, PgTarget, Row
from dashboards.panels import tiles

MENU = (link_to_boards("Other views", links.TAG),)
STATION_MARKS = Annotation("Knob changes", queries_sql.knob_marks(), MARK)
CALL_MARKS = Annotation("Knob changes", queries_sql.knob_marks_of_call(), MARK)


def status() -> Row:
    """Return the line: data complete until T, lost N, behind S seconds."""
    return Row("", 3, (_status_panel(),))


def _status_panel() -> Panel:
    look: Look = of_unit("s").plus(
        override("data complete until", unit="dateTimeAsIso"),
        override("lost", thresholds=_any_is_bad(), decimals=2),
        override("behind", thresholds=colours("archive.lag_seconds"), decimals=0),
    )
    return tiles(
        "Is it all there?",
        "Until when all running calls are in the archive; seconds of audio that were lost in the "
        "time you look at; how far the archive is behind now. Behind for more than 30 s: look at "
        "Archive health. Lost is not 0: its panels say where and why.",
        targets=(PgTarget(queries_sql.status()),),
        look=look,
        width=24,
    )


def _any_is_bad() -> object:
    return colours("archive.residual_samples")

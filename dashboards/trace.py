"""Trace: one call out of the archive; find it, see it, and hear every five seconds of it."""

from __future__ import annotations

from dataclasses import replace

from dashboards import links, queries_sql, shared, variables
from dashboards._compat import data_link
from dashboards.grammar import (
    BANDS,
    MARK,
    NO_LIMITS,
    POST,
    PRE,
    STACKED,
    Look,
    column,
    fixed,
    hidden,
    of_metric,
    of_unit,
    override,
)
from dashboards.model import Board, Json, Panel, PgTarget, Row
from dashboards.panels import lines, table, tiles

_CALL, _STATION, _MS = "${trace}", links.field("station"), links.field("bucket_ms")
_TABLE = Look({"thresholds": NO_LIMITS})


def board(public_url: str) -> Board:
    """Return the board."""
    return Board(
        uid=links.TRACE,
        title="Monitoring: trace",
        description="One call: choose it in the list (the worst first), read what happened, and "
        "play PRE and POST of each five seconds.",
        variables=(
            variables.POSTGRES,
            variables.EXTENSION,
            variables.CALL,
            variables.STATION_OF_CALL,
            variables.METRIC,
            variables.public_url(public_url),
        ),
        rows=(
            shared.status(),
            Row("Find the call", 8, (_search(),)),
            Row("The call", 4, (_call(),)),
            Row("What happened at $station", 9, _timeline()),
            Row("Listen", 14, (_buckets(),)),
            Row("Why", 9, (replace(_gaps(), may_be_empty="nothing is missing"), _knobs())),
        ),
        annotations=(shared.CALL_MARKS,),
        time_from="now-3h",
        refresh="1m",
        links=shared.MENU,
    )


def _search() -> Panel:
    call = links.field("call")
    span = {"start": links.field("starts_ms"), "end": links.field("ends_ms")}
    here = data_link("Show it here", links.trace_board(call, **span), is_new_tab=False)
    station, tap = links.field("worst at"), links.field("tap")
    page = links.call_page(call, at=links.field("iso"), station=station, tap=tap)
    overrides = (
        override("call", links=[here], custom__width=330),
        override("worst moment", links=[data_link("Hear it", page)], custom__width=170),
        override("length", unit="s", decimals=0),
        column("worst health", "health.audio_score", decimals=0),
        column("mean health", "health.audio_score", decimals=0),
        column("lost samples", "archive.residual_samples"),
        *hidden("starts_ms", "ends_ms", "iso"),
    )
    return table(
        "Calls, the worst first",
        "Calls of the time you look at, by their worst five seconds. Click one to show it below; "
        "click the worst moment to hear it.",
        targets=(PgTarget(queries_sql.search()),),
        look=_TABLE.plus(*overrides),
        width=24,
    )


def _call() -> Panel:
    return tiles(
        "The chosen call",
        "When it began, how long it took, who spoke with whom, and what ended it: host, idle (no "
        "audio for a minute), crash.",
        targets=(PgTarget(queries_sql.call()),),
        look=_TABLE.plus(
            override("began", unit="dateTimeAsIso"), override("length", unit="s", decimals=0)
        ),
        width=24,
    )


def _timeline() -> tuple[Panel, ...]:
    return (
        lines(
            "$metric",
            "The metric that is chosen above: band from min to max, mean as a line. Knob changes "
            "are marked; click a point to hear its moment.",
            targets=(PgTarget(queries_sql.timeline(), is_series=True),),
            look=of_unit("short").plus(*BANDS, links=[_point()]),
            width=12,
        ),
        _graph(
            "Health",
            "Of 100, for each five seconds. What lowers it stands in the graph beside it.",
            "health.audio_score",
        ),
        lines(
            "What cost health",
            "Points that each defect cost, by tap.",
            targets=(PgTarget(queries_sql.call_defects(), is_series=True),),
            look=of_unit("none").plus(custom=STACKED),
            width=12,
        ),
        _graph(
            "Speech lost",
            "Share of speech at PRE that is silent at POST: the missing syllables.",
            "pair.speech_lost_ratio",
        ),
    )


def _point() -> Json:
    address = links.call_page(_CALL, at="${__value.time:date:iso}", station="$station", tap="POST")
    return data_link("Hear this moment", address)


def _graph(title: str, description: str, key: str) -> Panel:
    return lines(
        title,
        description,
        targets=(PgTarget(queries_sql.call_metric(key), is_series=True),),
        look=of_metric(key, is_live=False).plus(links=[_point()]),
        width=12,
    )


def _sound(tap: str) -> Json:
    """A player in the cell (Grafana 12.2 and newer; before, the column "listen" has the links)."""
    return override(f"{tap} sound", custom__cellOptions={"type": "markdown"}, custom__width=320)


def _buckets() -> Panel:
    at = links.field("iso")
    hear = [
        data_link(f"{tap} alone", links.audio(_CALL, _STATION, tap=tap, bucket_ms=_MS))
        for tap in ("PRE", "POST")
    ]
    page = data_link("PRE and POST", links.call_page(_CALL, at=at, station=_STATION, tap="POST"))
    overrides = (
        override("when", links=[page], custom__width=170),
        column("health", "health.audio_score", decimals=0, custom__width=80),
        _sound("PRE"),
        _sound("POST"),
        override("PRE level", unit="suffix: dBFS", decimals=1, color=fixed(PRE)),
        override("POST level", unit="suffix: dBFS", decimals=1, color=fixed(POST)),
        column("speech lost", "pair.speech_lost_ratio"),
        column("limited", "pair.limited_ratio"),
        column("POST clipping", "pcm.clipping_ratio"),
        column("missing samples", "archive.residual_samples"),
        override("turned", color=fixed(MARK), custom__cellOptions={"type": "color-text"}),
        override("listen", links=[page, *hear]),
        *hidden("bucket_ms", "iso"),
    )
    return table(
        "Five seconds by five seconds",
        "Press play for PRE and POST of a row. Where no players are to be seen (Grafana before "
        "12.2), the links in the column listen open them. An empty sound: it was not recorded, or "
        "retention took it.",
        targets=(PgTarget(queries_sql.buckets()),),
        look=_TABLE.plus(*overrides),
        width=24,
    )


def _gaps() -> Panel:
    return table(
        "Gaps",
        "What was due and is missing. Losses first: not_received and slow are the host's, overrun "
        "and too_late this machine's. The others are no loss: hold, idle, a knob that was off.",
        targets=(PgTarget(queries_sql.gaps_of_call()),),
        look=_TABLE.plus(
            override("length", unit="s", decimals=3), override("begins", custom__width=180)
        ),
        width=10,
    )


def _knobs() -> Panel:
    return table(
        "Knobs in force",
        "In the call's newest five seconds of the time you look at; what was turned last comes "
        "first. Narrow the time to see earlier ones.",
        targets=(PgTarget(queries_sql.knobs_of_call()),),
        look=_TABLE,
        width=14,
    )

"""Overview: every station, PRE and POST, at a glance; the worst first."""

from __future__ import annotations

from dataclasses import replace

from dashboards import links, queries_archive, queries_live, queries_sql, shared, variables
from dashboards._compat import data_link
from dashboards.grammar import NO_LIMITS, Look, column, hidden, of_metric, of_unit, override
from dashboards.model import Board, Json, Panel, PgTarget, PromTarget, Row
from dashboards.panels import lines, states, table, tiles

_TAP = "{{tap}} {{station}}"
# Column, query, and the metric whose unit and limits it has.
_COLUMNS = (
    ("Health", queries_live.worst("health.audio_score"), "health.audio_score"),
    ("Level", queries_live.mean("pcm.rms_dbfs"), "pcm.rms_dbfs"),
    ("Clipping", queries_live.worst("pcm.clipping_ratio"), "pcm.clipping_ratio"),
    ("Limited", queries_live.worst("pair.limited_ratio"), "pair.limited_ratio"),
    ("Speech lost", queries_live.worst("pair.speech_lost_ratio"), "pair.speech_lost_ratio"),
    ("Silence", queries_live.mean("pcm.silence_detected"), "pcm.silence_detected"),
    ("Latency", queries_live.worst("pipe.processing_latency_ms"), "pipe.processing_latency_ms"),
    ("Audio lost", queries_live.loss_ratio(), "pipe.frame_drop_ratio"),
)


def board(public_url: str) -> Board:
    """Return the board."""
    return Board(
        uid=links.OVERVIEW,
        title="Monitoring: overview",
        description="Every station, PRE and POST, at a glance; the worst first. A red cell leads "
        "to the station, a bad five seconds to its sound.",
        variables=(
            variables.PROMETHEUS,
            variables.POSTGRES,
            variables.LIVE_STATIONS,
            variables.public_url(public_url),
        ),
        rows=(
            shared.status(),
            Row("Now", 4, _now()),
            Row("Stations, the worst first", 9, (_stations(),)),
            Row("Over time", 8, _over_time()),
            Row("The worst five seconds", 9, (_worst_buckets(),)),
        ),
        annotations=(shared.STATION_MARKS,),
        time_from="now-15m",
        links=shared.MENU,
    )


def _now() -> tuple[Panel, ...]:
    return (
        _tile(
            "Running calls",
            "Calls that run in all processes. None at a time of day that should have some: is "
            "the host up, and does Prometheus reach it?",
            queries_live.active_calls(),
            of_unit("none"),
        ),
        _tile(
            "Worst health",
            "Health of the worst call at any station, of 100. Below 60, open the first row of the "
            "table below.",
            queries_live.worst_of_all("health.audio_score"),
            of_metric("health.audio_score"),
        ),
        _tile(
            "Most speech lost",
            "Largest share of a call's speech that a station took away: callers hear missing "
            "syllables. Look at its gate, limiter and gaps.",
            queries_live.worst_of_all("pair.speech_lost_ratio"),
            of_metric("pair.speech_lost_ratio"),
        ),
        _tile(
            "Samples lost",
            "Samples that were due and never came, or were dropped, in the time you look at. Not "
            "0: the table of gaps in Archive health says where and why.",
            queries_live.lost_now(),
            of_unit("short", "archive.residual_samples"),
        ),
        _tile(
            "Archive lag",
            "Seconds from the newest closed five seconds to the newest in SQL. Above 30 s: is the "
            "database up? Nothing is lost while the spool has room.",
            queries_archive.lag(),
            of_unit("s", "archive.lag_seconds"),
        ),
        _tile(
            "Database",
            "1 while every process reaches PostgreSQL. 0: the spool keeps everything; see the "
            "entry on the database in RUNBOOK.md.",
            queries_archive.database_up(),
            of_unit("none", "archive.database_up"),
        ),
    )


def _tile(title: str, description: str, query: str, look: Look) -> Panel:
    return tiles(title, description, targets=(PromTarget(query),), look=look, width=4)


def _stations() -> Panel:
    queries = [("Calls", queries_live.active_at_taps()), *[each[:2] for each in _COLUMNS]]
    letters = [chr(ord("A") + number) for number in range(len(queries))]
    station = links.field("Station")
    overrides = [
        column(name, key, is_live=True, links=_drill(station, key)) for name, _, key in _COLUMNS
    ]
    overrides.append(
        override("Station", links=[data_link("The station", links.station_board(station))])
    )
    panel = table(
        "Stations",
        "The worst call of the last five seconds at each station and tap (level and silence: the "
        "mean). Click a cell for the worst calls of that metric with their sound, or the "
        "station's name for its board.",
        targets=tuple(PromTarget(query, is_instant=True) for _, query in queries),
        look=Look({"thresholds": NO_LIMITS}, tuple(overrides)),
        width=24,
    )
    names = {f"Value #{letter}": name for letter, (name, _) in zip(letters, queries, strict=True)}
    return replace(panel, transformations=_merged(names))


def _drill(station: str, key: str) -> list[Json]:
    return [data_link("Worst calls, with sound", links.worst_calls(station, key))]


def _merged(names: dict[str, str]) -> tuple[Json, ...]:
    """Join the answers by station and tap, name the columns, put the worst first."""
    renamed = {"station": "Station", "tap": "Tap"} | names
    order = {"station": 0, "tap": 1} | {name: at + 2 for at, name in enumerate(names)}
    return (
        {"id": "merge", "options": {}},
        {
            "id": "organize",
            "options": {
                "excludeByName": {"Time": True},
                "includeByName": {},
                "indexByName": order,
                "renameByName": renamed,
            },
        },
        {"id": "sortBy", "options": {"fields": {}, "sort": [{"field": "Health", "desc": False}]}},
    )


def _over_time() -> tuple[Panel, ...]:
    return (
        states(
            "Health",
            "Health of the worst call at each station and tap. A red block is five seconds or "
            "more below 60: click it for the calls of that moment.",
            targets=(PromTarget(queries_live.worst("health.audio_score"), _TAP),),
            look=_linked("health.audio_score"),
            width=12,
        ),
        _graph(
            "Level",
            "Mean level of each station and tap. A POST far from its PRE: look at the gains.",
            queries_live.mean("pcm.rms_dbfs"),
            "pcm.rms_dbfs",
        ),
        _graph(
            "Clipping, worst call",
            "Share of clipped samples in the worst 20 ms. At PRE the host already delivers it "
            "clipped; at POST only, turn the input or output gain down.",
            queries_live.worst("pcm.clipping_ratio"),
            "pcm.clipping_ratio",
        ),
        _graph(
            "Speech lost, worst call",
            "Share of speech at PRE that is silent at POST. Compare with the knob changes; the "
            "usual cause is a gate that is set too high.",
            queries_live.worst("pair.speech_lost_ratio"),
            "pair.speech_lost_ratio",
        ),
        _graph(
            "Latency, worst call",
            "Longest time from PRE to POST of a block. Above 20 ms the host cannot keep its "
            "20 ms blocks up: look at its load.",
            queries_live.worst("pipe.processing_latency_ms"),
            "pipe.processing_latency_ms",
        ),
        _missing(),
    )


def _missing() -> Panel:
    """Return what is missing; nothing, mostly."""
    panel = lines(
        "Missing audio by cause",
        "Samples a second that were due and are missing. idle, hold and disabled are no loss; "
        "of the others, not_received and slow are the host's, overrun and *_full this "
        "machine's.",
        targets=(PromTarget(queries_live.gap_rate(), "{{cause}}"),),
        look=of_unit("short"),
        width=12,
    )
    return replace(panel, may_be_empty="nothing is missing")


def _linked(key: str) -> Look:
    address = links.worst_calls("${__field.labels.station}", key, at=links.POINT_TIME)
    return of_metric(key).plus(links=[data_link("Worst calls of this moment", address)])


def _graph(title: str, description: str, query: str, key: str) -> Panel:
    target = PromTarget(query, _TAP)
    return lines(title, description, targets=(target,), look=_linked(key), width=12)


def _worst_buckets() -> Panel:
    call, station, tap = (links.field(name) for name in ("call", "station", "tap"))
    page = links.call_page(call, at=links.field("iso"), station=station, tap=tap)
    return table(
        "The worst five seconds",
        "In the archive, in the time you look at. Click the time to hear PRE and POST, the call "
        "for its board.",
        targets=(PgTarget(queries_sql.worst_buckets()),),
        look=Look(
            {"thresholds": NO_LIMITS},
            (
                override("when", links=[data_link("Hear it", page)], custom__width=190),
                column("health", "health.audio_score", custom__width=90),
                *hidden("iso"),
                override(
                    "call",
                    links=[
                        data_link(
                            "The call's board",
                            links.trace_board(call, start="${__from}", end="${__to}"),
                        )
                    ],
                ),
            ),
        ),
        width=24,
    )

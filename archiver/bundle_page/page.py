"""The report: what is at its top, one section for each station, what is at its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.resources import files

from archiver.bundle_data import Contents
from archiver.bundle_page.station import StationPart, anchor, reasons_text, station_section
from archiver.bundle_page.text import (
    DASH,
    clock,
    date_and_time,
    escape,
    number,
    percent,
    plain,
    table,
)
from archiver.pool import Row
from archiver.times import BUCKET

_WORST = 5
_BEST_SCORE = 100.0
# Nothing runs and nothing is fetched but the sound beside the page, whatever a text in it says.
_POLICY = "default-src 'none'; media-src 'self' file:; style-src 'unsafe-inline'"


@dataclass(frozen=True, slots=True)
class Made:
    """What the report says of itself, and of the files beside it.

    Attributes:
        at: When.
        by: Who.
        versions: Name of a part to its version.
        audio: Station, tap and bucket to the path of its sound, from the report's folder.
        whole: Station and tap to the path of its sound in one piece.
        missing: Sound that should be there: station_key, tap, from, to, reason.
    """

    at: datetime
    by: str
    versions: Mapping[str, object]
    audio: Mapping[tuple[str, str, datetime], str]
    whole: Mapping[tuple[str, str], str]
    missing: Sequence[Row]


def render(contents: Contents, made: Made) -> Iterator[str]:
    """Yield the page in pieces; every text that somebody else wrote is escaped."""
    stations = _stations(contents)
    title = f"Call {contents.call['trace_id']}"
    yield _head(title)
    yield f"<h1>{escape(title)}</h1>"
    yield _lead(contents)
    yield _facts(contents, made)
    yield _said(contents.call)
    yield _worst(contents)
    links = [f'<a href="#{anchor(part.key)}">{escape(part.key)}</a>' for part in stations]
    links += ['<a href="#knobs">Knobs</a>', '<a href="#gaps">Gaps</a>']
    yield f'<nav aria-label="Parts of this report">{" ".join(links)}</nav>'
    for part in stations:
        yield from station_section(part, audio=made.audio, whole=made.whole)
    yield _knobs(contents.events)
    yield _gaps(contents.gaps)
    yield _missing(made.missing)
    yield _foot(made)


def _head(title: str) -> str:
    style = (files("archiver.bundle_page") / "style.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>"
    )


def _stations(contents: Contents) -> list[StationPart]:
    parts: list[StationPart] = []
    for key in dict.fromkeys(row["station_key"] for row in contents.buckets):
        buckets, taps, metrics, gaps = (
            [row for row in rows if row["station_key"] == key]
            for rows in (contents.buckets, contents.taps, contents.metrics, contents.gaps)
        )
        knobs = next((row for row in contents.knobs if row["station_key"] == key), None)
        turned = [event for event in contents.events if event["station_key"] in {None, key}]
        parts.append(StationPart(key, buckets, taps, metrics, gaps, knobs, turned))
    return parts


def _lead(contents: Contents) -> str:
    call = contents.call
    times = [row["bucket_ts"] for row in contents.buckets]
    shown = f"{date_and_time(min(times))} to {clock(max(times) + BUCKET)} UTC"
    asked = contents.part
    is_part = asked.since or asked.until or asked.station
    what = "The part that was asked for: " if is_part else ""
    length = "" if call["length_s"] is None else f", {timedelta(seconds=round(call['length_s']))}"
    ended = f"{date_and_time(call['ended_at'])} ({call['end_reason']})"
    if call["ended_at"] is None:
        ended = "not known, or still running"
    who, whom = (escape(call[f"{side}_extension"] or DASH) for side in ("src", "dst"))
    return (
        f'<p class="lead">{what}{shown}</p>\n<p class="lead">The call: began '
        f"{date_and_time(call['started_at'])}, ended {escape(ended)}{length}; "
        f"{who} called {whom}</p>"
    )


def _facts(contents: Contents, made: Made) -> str:
    scores = [score for row in contents.buckets for _, score in _scores(row)]
    lost = _seconds(gap for gap in contents.gaps if gap["is_loss"])
    speech = [row["pair_speech_lost_ratio"] for row in contents.buckets]
    known = [share for share in speech if share is not None]
    facts = {
        "Health, mean": number(sum(scores) / len(scores)) if scores else DASH,
        "Health, worst": number(min(scores, default=None)),
        "Audio lost": f"{number(lost, 2)} s",
        "Speech lost": percent(sum(known) / len(known) if known else None),
        "Knobs turned": str(len(contents.events)),
        "Sounds": f"{len(made.audio):,}"
        + (f", {len(made.missing)} missing" if made.missing else ""),
    }
    cells = (f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    return f'<dl class="facts">{"".join(cells)}</dl>'


def _seconds(gaps: Iterator[Row]) -> float:
    return float(sum((gap["to"] - gap["from"]).total_seconds() for gap in gaps))


def _scores(row: Row) -> list[tuple[str, float]]:
    scores = ((tap, row[f"{tap.lower()}_health_audio_score"]) for tap in ("PRE", "POST"))
    return [(tap, score) for tap, score in scores if score is not None]


def _said(call: Row) -> str:
    """Return what the host said of the call."""
    told = dict(call["attributes"])
    if call["call_id"] is not None:
        told = {"call_id": call["call_id"], **told}
    rows = "".join(f"<dt>{escape(key)}</dt><dd>{plain(value)}</dd>" for key, value in told.items())
    return f'<dl class="said">{rows}</dl>' if rows else ""


def _worst(contents: Contents) -> str:
    found = [
        (score, row["bucket_ts"], row["station_key"], tap, row["reasons"].get(tap, []))
        for row in contents.buckets
        for tap, score in _scores(row)
        if score < _BEST_SCORE
    ]
    found.sort(key=lambda entry: entry[:3])
    rows = [
        [
            f'<a href="#{anchor(station, at)}">{clock(at)}</a>',
            escape(station),
            tap,
            number(score),
            reasons_text(reasons),
        ]
        for score, at, station, tap, reasons in found[:_WORST]
    ]
    if not rows:
        return "<h2>Worst moments</h2><p>No bucket has lost a point of its health.</p>"
    headings = ["Time, UTC", "Station", "Tap", "#Health", "Why"]
    return f"<h2>Worst moments</h2>{table(headings, rows)}"


def _knobs(events: Sequence[Row]) -> str:
    headings = ["Time, UTC", "Knob", "From", "To", "Where", "Who", "Why"]
    rows = [
        [
            date_and_time(event["counts_from"] or event["created_at"]),
            escape(event["knob_key"]),
            plain(event["old_value"]),
            plain(event["new_value"]),
            escape(event["station_key"] or event["scope"]),
            escape(event["changed_by"]),
            escape(event["reason"]),
        ]
        for event in events
    ]
    return f'<h2 id="knobs">Knobs that were turned</h2>{table(headings, rows)}'


def _gaps(gaps: Sequence[Row]) -> str:
    headings = ["Time, UTC", "Station", "Tap", "#Seconds", "#Samples", "Cause", "Counts as loss"]
    rows = [
        [
            f"{gap['from']:%H:%M:%S.%f}"[:-3],
            escape(gap["station_key"]),
            escape(gap["tap"]),
            number(_seconds(iter([gap])), 3),
            number(gap["samples"], 0),
            escape(gap["cause"].replace("_", " ")),
            "yes" if gap["is_loss"] else "no",
        ]
        for gap in gaps
    ]
    return f'<h2 id="gaps">Gaps</h2>{table(headings, rows)}'


def _missing(missing: Sequence[Row]) -> str:
    if not missing:
        return ""
    rows = [
        [
            f"{date_and_time(entry['from'])} to {clock(entry['to'])}",
            escape(entry["station_key"]),
            escape(entry["tap"]),
            escape(entry["reason"]),
        ]
        for entry in missing
    ]
    return f"<h2>Sound that is not here</h2>{table(['Time, UTC', 'Station', 'Tap', 'Why'], rows)}"


def _foot(made: Made) -> str:
    versions = ", ".join(f"{name} {value}" for name, value in made.versions.items())
    return (
        f"<footer><p>Made {date_and_time(made.at)} UTC by {escape(made.by)} with "
        f"{escape(versions)}. The export is in the archive's access log.</p>"
        "<p>All times are UTC. A bucket is five seconds. Unknown is a dash. "
        "<code>manifest.json</code> has the SHA-256 of every file of this folder; "
        "<code>metrics.csv</code>, <code>gaps.csv</code>, <code>knob_events.csv</code> and "
        "<code>knob_snapshots.jsonl</code> have every row.</p></footer>\n"
        "</main>\n</body>\n</html>"
    )

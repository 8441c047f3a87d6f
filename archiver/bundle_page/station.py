"""The part of the report about one station: charts, buckets to hear, metrics, knobs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from archiver.bundle_page.charts import Axis, Line, Scale, chart
from archiver.bundle_page.text import (
    DASH,
    MINUS,
    clock,
    escape,
    number,
    percent,
    plain,
    significant,
    table,
)
from archiver.pool import Row
from archiver.times import BUCKET
from exporter.metrics import METRICS

_LEVEL = Scale(-80.0, 0.0, (-80.0, -60.0, -40.0, -20.0, 0.0))
_HEALTH = Scale(0.0, 100.0, (0.0, 50.0, 100.0))
_BAD_SCORE = 80.0
_TAPS = ("PRE", "POST")
_KNOWN = {metric.key: metric for metric in METRICS}

Audio = Mapping[tuple[str, str, datetime], str]
Whole = Mapping[tuple[str, str], str]


@dataclass(frozen=True, slots=True)
class StationPart:
    """What there is of one station.

    Attributes:
        key: The station.
        buckets: Its rows of ``Contents.buckets``.
        taps: Its taps.
        metrics: Its metrics.
        gaps: Its gaps.
        knobs: The knobs at its first bucket.
        turned: Knobs that were turned here, or everywhere.
    """

    key: str
    buckets: Sequence[Row]
    taps: Sequence[Row]
    metrics: Sequence[Row]
    gaps: Sequence[Row]
    knobs: Row | None
    turned: Sequence[Row]


def anchor(station: str, bucket_ts: datetime | None = None) -> str:
    """Return the id of a station's section, or of one of its buckets; keys need no escape."""
    at = "" if bucket_ts is None else f"-{int(bucket_ts.timestamp())}"
    return f"at-{escape(station)}{at}"


def reasons_text(reasons: Sequence[tuple[str, float]]) -> str:
    """Return for what a bucket's health has lost points."""
    return escape(
        ", ".join(f"{name.replace('_', ' ')} {MINUS}{number(cost)}" for name, cost in reasons)
    )


def station_section(part: StationPart, *, audio: Audio, whole: Whole) -> Iterator[str]:
    """Yield the section in pieces."""
    yield f'<section id="{anchor(part.key)}"><h2>{escape(part.key)}</h2>'
    yield _taps(part, whole)
    yield from _charts(part)
    yield "<h3>Every five seconds</h3>"
    yield _buckets(part, audio)
    yield f"<details><summary>All metrics</summary>{_metrics(part)}</details>"
    yield _knobs(part)
    yield "</section>"


def _taps(part: StationPart, whole: Whole) -> str:
    rows = []
    for tap in part.taps:
        share = tap["received"] / tap["due"] if tap["due"] else None
        player = _player(whole.get((part.key, tap["tap"])), f"all of {tap['tap']}", "whole")
        seconds = None if tap["due"] is None else tap["due"] / tap["rate"]
        numbers = (number(tap["rate"], 0), number(seconds, 2), percent(share))
        rows.append([escape(tap["tap"]), *numbers, player])
    return table(["Tap", "#Hz", "#Seconds due", "#Received", "In one piece"], rows, style="taps")


def _charts(part: StationPart) -> Iterator[str]:
    times = [row["bucket_ts"] for row in part.buckets]
    lost = [row["bucket_ts"] for row in part.buckets if _samples(row, "lost")]
    turned = [event["counts_from"] or event["created_at"] for event in part.turned]
    axis = Axis(min(times), max(times) + BUCKET, lost, turned)
    level = [_line(part, tap, f"{tap.lower()}_pcm_rms_dbfs") for tap in _TAPS]
    health = [_line(part, tap, f"{tap.lower()}_health_audio_score") for tap in _TAPS]
    yield (
        '<p class="legend"><span class="is-lost">audio lost</span>'
        '<span class="is-turned">knob turned</span></p>'
    )
    yield chart("Level, mean of each bucket, dBFS", level, scale=_LEVEL, axis=axis)
    yield chart("Health, 100 is nothing wrong", health, scale=_HEALTH, axis=axis)
    yield _speech_chart(part, axis)


def _speech_chart(part: StationPart, axis: Axis) -> str:
    """Return how much speech the station has swallowed, where PRE and POST could be compared."""
    shares = [(row["bucket_ts"], _percent(row["pair_speech_lost_ratio"])) for row in part.buckets]
    known = [share for _, share in shares if share is not None]
    if not known:
        return '<p class="none">PRE and POST were not compared here.</p>'
    top = next((top for top in (1.0, 5.0, 20.0, 50.0) if max(known) <= top), 100.0)
    scale = Scale(0.0, top, (0.0, top), " %")
    lines = [Line("POST", "lost-speech", shares)]
    return chart("Speech lost in the station", lines, scale=scale, axis=axis)


def _line(part: StationPart, tap: str, column: str) -> Line:
    return Line(tap, tap.lower(), [(row["bucket_ts"], row[column]) for row in part.buckets])


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _samples(row: Row, kind: str) -> int:
    return sum(row[f"{tap}_{kind}_samples"] or 0 for tap in ("pre", "post"))


def _buckets(part: StationPart, audio: Audio) -> str:
    headings = ["Time, UTC", "PRE", "POST", "#Level, dBFS", "#Gain, dB", "#Health"]
    headings += ["#Speech lost", "Notes"]
    rows = [_bucket(part, row, audio) for row in part.buckets]
    ids = [anchor(part.key, row["bucket_ts"]) for row in part.buckets]
    return table(headings, rows, style="buckets", ids=ids)


def _bucket(part: StationPart, row: Row, audio: Audio) -> list[str]:
    at = row["bucket_ts"]
    players = [
        _player(audio.get((part.key, tap, at)), f"{tap} of {part.key} at {clock(at)}")
        for tap in _TAPS
    ]
    levels = " \N{RIGHTWARDS ARROW} ".join(
        number(row[f"{t}_pcm_rms_dbfs"]) for t in ("pre", "post")
    )
    scores = [row[f"{tap}_health_audio_score"] for tap in ("pre", "post")]
    score = min((each for each in scores if each is not None), default=None)
    health = number(score, 0)
    if score is not None and score < _BAD_SCORE:
        health = f'<span class="bad">{health}</span>'
    lost = percent(row["pair_speech_lost_ratio"])
    gain = number(row["pair_gain_db"])
    return [clock(at), *players, levels, gain, health, lost, _notes(part, row)]


def _notes(part: StationPart, row: Row) -> str:
    notes = []
    for tap in _TAPS:
        reasons = row["reasons"].get(tap)
        if reasons:
            notes.append(f"{tap}: {reasons_text(reasons)}")
    for gap in part.gaps:
        if row["bucket_ts"] <= gap["from"] < row["bucket_ts"] + BUCKET:
            seconds = (gap["to"] - gap["from"]).total_seconds()
            cause = escape(gap["cause"].replace("_", " "))
            text = f"{escape(gap['tap'])}: {number(seconds, 2)} s {cause}"
            notes.append(f'<span class="bad">{text}</span>' if gap["is_loss"] else text)
    for step in row["changed"] or []:
        change = f"{plain(step['old'])} \N{RIGHTWARDS ARROW} {plain(step['new'])}"
        notes.append(f"{escape(step['knob_key'])} {change}")
    return "<br>".join(notes)


def _metrics(part: StationPart) -> str:
    found = {(row["metric_key"], row["tap"]): row for row in part.metrics}
    order = {key: place for place, key in enumerate(_KNOWN)}
    keys = sorted({key for key, _ in found}, key=lambda key: (order.get(key, len(order)), key))
    headings = ["Metric", "Unit", *(f"#{tap} {n}" for tap in _TAPS for n in ("min", "mean", "max"))]
    rows = []
    for key in keys:
        numbers = [
            significant(row[name]) if (row := found.get((key, tap))) else DASH
            for tap in _TAPS
            for name in ("min", "mean", "max")
        ]
        metric = _KNOWN.get(key)
        unit, meaning = (metric.unit, metric.help) if metric else ("", "")
        name = f'{escape(key)}<br><span class="soft">{escape(meaning)}</span>'
        rows.append([name, escape(unit), *numbers])
    return table(headings, rows)


def _knobs(part: StationPart) -> str:
    if part.knobs is None:
        return ""
    rows = [[escape(key), plain(value)] for key, value in sorted(part.knobs["knob_values"].items())]
    return (
        f"<details><summary>All knobs at {clock(part.knobs['bucket_ts'])}</summary>"
        f"{table(['Knob', 'Value'], rows)}</details>"
    )


def _player(path: str | None, label: str, style: str = "") -> str:
    if path is None:
        return f'<span class="soft" title="no sound was kept">{DASH}</span>'
    return (
        f'<audio class="{style}" controls preload="none" aria-label="{escape(label)}" '
        f'src="{escape(path)}"></audio>'
    )

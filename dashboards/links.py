"""Where links lead: the boards of this project, and the drill-down page with its sound.

The page's address is the hidden variable ``public_url`` of every board; ``monitoring dashboards
build`` fills it from MONITORING_PUBLIC_URL.
"""

from __future__ import annotations

DEFAULT_PUBLIC_URL = "http://127.0.0.1:9465"

OVERVIEW = "monitoring-overview"
STATION = "monitoring-station"
TRACE = "monitoring-trace"
KNOB_IMPACT = "monitoring-knob-impact"
ARCHIVE_HEALTH = "monitoring-archive-health"

TAG = "monitoring_v2"
_PUBLIC = "${public_url}"


def station_board(station: str) -> str:
    """Address of the station's board, for the time that is looked at."""
    return f"/d/{STATION}?var-station={station}&${{__url_time_range}}"


def trace_board(trace: str, *, start: str, end: str) -> str:
    """Address of the call's board, for the time (ms since the epoch) of the call."""
    return f"/d/{TRACE}?var-trace={trace}&from={start}&to={end}"


def call_page(trace: str, *, at: str, station: str, tap: str) -> str:
    """Address of the call on the drill-down page, opened at a moment (ISO 8601)."""
    return f"{_PUBLIC}/call/{trace}#t={at}&station={station}&tap={tap}"


def knob_page(change: str) -> str:
    """Address of a knob change on the drill-down page: heard, seen and as numbers."""
    return f"{_PUBLIC}/knob/{change}"


def worst_calls(station: str, metric: str, *, at: str = "${__to:date:seconds}") -> str:
    """Address that finds the worst calls and buckets of a moment (unix time)."""
    return f"{_PUBLIC}/go?station={station}&metric={metric}&at={at}"


def audio(trace: str, station: str, *, tap: str, bucket_ms: str) -> str:
    """Address of the sound of five seconds at one tap."""
    return f"{_PUBLIC}/audio/{trace}/{station}/{tap}/{bucket_ms}.wav"


def field(name: str) -> str:
    """A column of the row that is clicked, for use in an address."""
    return f'${{__data.fields["{name}"]}}' if " " in name else f"${{__data.fields.{name}}}"


POINT_TIME = "${__value.time:date:seconds}"
"""Unix time of the point that is clicked."""

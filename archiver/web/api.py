"""The JSON endpoints: calls, buckets, tracks, gaps, knobs, moments, status."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any, TypeVar

from archiver import buckets, calls, moments
from archiver.buckets import Part
from archiver.calls import CallFilter
from archiver.outputs import own_version
from archiver.pool import Row
from archiver.status import archive_status
from archiver.times import parse_time
from archiver.web import parameters as given
from archiver.web.live import live_stations
from archiver.web.parameters import to_cursor
from archiver.web.problems import Problem
from archiver.web.schemas import page, ref
from archiver.web.site import Ask, Operation
from exporter.privacy import masked_search

_Found = TypeVar("_Found")
SERIES_METRICS = ("health.audio_score", "pcm.rms_dbfs", "pcm.clipping_ratio")


def status(ask: Ask) -> Row:
    """Answer how the archive is, and what the caller may do."""
    site = ask.site
    with site.connections.reading() as connection:
        found = archive_status(connection, site.now())
    root = site.audio_root
    return {
        "version": own_version(),
        **found,
        "audio_path_ok": root.is_dir() and os.access(root, os.R_OK | os.X_OK),
        "roles": sorted(ask.caller.roles),
        "retention_hours": site.settings.retention_hours,
    }


def list_traces(ask: Ask) -> Row:
    """Answer a page of calls."""
    key_file = ask.site.settings.privacy_key_file
    wanted = CallFilter(
        ask["from"],
        ask["to"],
        ask["q"],
        ask["extension"],
        ask["station"],
        masked_text=masked_search(ask["q"], key_file),
        masked_extension=masked_search(ask["extension"], key_file),
    )
    is_worst = ask["sort"] == "worst"
    cursor = ask["cursor"]
    if cursor is not None and (len(cursor) == 3) != is_worst:  # noqa: PLR2004 - parts of its key
        raise Problem(400, "cursor: expected what an earlier page of this order gave as next")
    found: list[Row]
    more: tuple[Any, ...] | None
    with ask.site.connections.reading() as connection:
        if is_worst:
            now = ask.site.now()
            found, more = calls.worst(connection, wanted, now=now, limit=ask["limit"], after=cursor)
        else:
            found, more = calls.newest(connection, wanted, limit=ask["limit"], after=cursor)
    return {"items": found, "next": to_cursor(more)}


def list_active_traces(ask: Ask) -> Row:
    """Answer the calls that run."""
    with ask.site.connections.reading() as connection:
        return _whole(calls.running(connection, ask.site.now()))


def get_trace(ask: Ask) -> Row:
    """Answer one call in detail."""
    with ask.site.connections.reading() as connection:
        return _known(calls.one(connection, ask["trace_id"]))


def list_buckets(ask: Ask) -> Row:
    """Answer a page of buckets with all that there is of them."""
    with ask.site.connections.reading() as connection:
        found, more = _known(
            buckets.page(
                connection,
                _part(ask),
                metrics=ask["metrics"],
                limit=ask["limit"],
                after=ask["cursor"],
            )
        )
    return {"items": found, "next": to_cursor(more)}


def get_series(ask: Ask) -> Row:
    """Answer tracks of one station; of the first one unless it is named."""
    with ask.site.connections.reading() as connection:
        station = ask["station"] or buckets.first_station(connection, ask["trace_id"])
        part = Part(ask["trace_id"], station, ask["from"], ask["to"])
        return _known(buckets.series(connection, part, ask["metrics"] or SERIES_METRICS))


def list_gaps(ask: Ask) -> Row:
    """Answer the gaps of a call."""
    part = Part(ask["trace_id"], ask["station"])
    with ask.site.connections.reading() as connection:
        return _whole(_known(buckets.gaps(connection, part)))


def list_knob_events(ask: Ask) -> Row:
    """Answer the knobs that were turned for a call, or for all while it ran."""
    with ask.site.connections.reading() as connection:
        found = moments.knob_events(connection, ask["trace_id"], ask["station"])
    return _whole(_known(found))


def get_knob_event(ask: Ask) -> Row:
    """Answer one knob change with the buckets before and after."""
    with ask.site.connections.reading() as connection:
        return _known(moments.knob_event(connection, ask["event_id"]))


def list_snapshots(ask: Ask) -> Row:
    """Answer a page of knob snapshots."""
    with ask.site.connections.reading() as connection:
        found, more = _known(
            buckets.snapshots(connection, _part(ask), limit=ask["limit"], after=ask["cursor"])
        )
    return {"items": found, "next": to_cursor(more)}


def list_worst(ask: Ask) -> Row:
    """Answer the worst buckets around a moment."""
    at = ask["at"] or ask.site.now()
    window = timedelta(seconds=ask["window_s"])
    moment = moments.Moment(ask["metric"], at, window, ask["station"])
    with ask.site.connections.reading() as connection:
        return _whole(moments.worst_buckets(connection, moment, ask["limit"]))


def get_now(ask: Ask) -> Row:
    """Answer what is live, from /metrics or from the newest buckets."""
    return live_stations(ask.site)


def _whole(found: list[Row]) -> Row:
    """Return a list that has no further page, in the shape of those that have."""
    return {"items": found, "next": None}


def _part(ask: Ask) -> Part:
    return Part(ask["trace_id"], ask["station"], ask["from"], ask["to"])


def _known(found: _Found | None) -> _Found:
    """Return what was found.

    Raises:
        Problem: 404, nothing was.
    """
    if found is None:
        raise Problem(404, "nothing is known of this id")
    return found


def _limit(default: int, high: int) -> given.Parameter:
    return given.integer("limit", "How many on a page.", low=1, high=high, default=default)


_BUCKET_CURSOR = given.cursor((parse_time, given.checked_key))
_CALL_CURSOR = given.cursor((parse_time, given.checked_key), (float, parse_time, given.checked_key))
_SORT = given.choice(
    "sort",
    "newest first, or by the score of the worst bucket within from and to, which is the last "
    "24 hours unless given.",
    ("newest", "worst"),
    "newest",
)
_OF_CALL = (given.TRACE, given.STATION)
_AT = given.moment("at", "Middle of the time that is looked at; now unless given.")
_WINDOW = given.number(
    "window_s", "How far it reaches to both sides.", low=1, high=86_400, default=300
)
_TRACES = "/api/v1/traces"

OPERATIONS = (
    Operation("/api/v1/status", "How the archive is.", status, answer=ref("Status")),
    Operation(
        _TRACES,
        "Calls, by time, extension, station or text.",
        list_traces,
        (
            *(given.FROM, given.TO, given.TEXT, given.key("extension", "Who calls or is called.")),
            *(given.STATION, _SORT, _limit(50, 500), _CALL_CURSOR),
        ),
        answer=page(ref("Call")),
    ),
    Operation(
        f"{_TRACES}/active",
        "Calls that have not ended and have a bucket within the last two minutes.",
        list_active_traces,
        answer=page(ref("Call")),
    ),
    Operation(
        f"{_TRACES}/{{trace_id}}",
        "One call with its stations, taps and metrics.",
        get_trace,
        (given.TRACE,),
        answer=ref("CallInDetail"),
        errors=(404,),
    ),
    Operation(
        f"{_TRACES}/{{trace_id}}/buckets",
        "Complete buckets in order of time: metrics, knobs in force, gaps, health, sound.",
        list_buckets,
        (
            *(*_OF_CALL, given.FROM, given.TO, given.METRICS),
            *(_limit(720, 720), _BUCKET_CURSOR),
        ),
        answer=page(ref("Bucket")),
        errors=(404,),
    ),
    Operation(
        f"{_TRACES}/{{trace_id}}/series",
        "Tracks of metrics for drawing; null where nothing is known.",
        get_series,
        (*_OF_CALL, given.FROM, given.TO, given.METRICS),
        answer=ref("Series"),
        errors=(404,),
    ),
    Operation(
        f"{_TRACES}/{{trace_id}}/gaps",
        "Missing samples in order of time, with their cause.",
        list_gaps,
        _OF_CALL,
        answer=page(ref("Gap")),
        errors=(404,),
    ),
    Operation(
        f"{_TRACES}/{{trace_id}}/knob-events",
        "Knobs that were turned for the call, or for all while it ran.",
        list_knob_events,
        _OF_CALL,
        answer=page(ref("KnobEvent")),
        errors=(404,),
    ),
    Operation(
        f"{_TRACES}/{{trace_id}}/snapshots",
        "Knobs in force in each bucket.",
        list_snapshots,
        (*_OF_CALL, given.FROM, given.TO, _limit(100, 720), _BUCKET_CURSOR),
        answer=page(ref("Snapshot")),
        errors=(404,),
    ),
    Operation(
        "/api/v1/knob-events/{event_id}",
        "One knob change, with up to six buckets before it and after.",
        get_knob_event,
        (given.EVENT,),
        answer=ref("KnobEventInDetail"),
        errors=(404,),
    ),
    Operation(
        "/api/v1/worst",
        "The worst buckets around a moment by the mean of a metric.",
        list_worst,
        (
            *(given.STATION, given.METRIC, _AT, _WINDOW),
            _limit(20, 200),
        ),
        answer=page(ref("WorstBucket")),
    ),
    Operation("/api/v1/now", "What is live.", get_now, answer=ref("Now")),
)

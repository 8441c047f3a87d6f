"""Sound over HTTP: one segment, any time of a tap, what a station took away; as WAV or FLAC.

The order is always the same: who asks, is all of it there, write the log, send the first byte.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TypeVar

from starlette.responses import Response, StreamingResponse

from archiver.access_log import Access, AccessKind, record
from archiver.audio_reader import AudioGoneError, AudioUnreadableError
from archiver.database import AnyDatabaseError
from archiver.pool import PoolBusyError
from archiver.segments import Place, alignments, audio_span, segments, was_deleted
from archiver.times import BUCKET, bucket_start, iso, sample_time
from archiver.tokens import LINK, Role
from archiver.web import parameters as given
from archiver.web.clip import (
    Clip,
    DeltaClip,
    RateChangeError,
    TapClip,
    flac,
    wav_pieces,
    wav_size,
)
from archiver.web.problems import Problem
from archiver.web.ranges import requested_bytes
from archiver.web.site import Ask, Operation
from exporter.model import BUCKET_MS, Tap

WAV = "audio/wav"
FLAC = "audio/flac"
DELTA = "DELTA"
LONGEST = timedelta(hours=1)
_BESIDE = timedelta(seconds=1)
_Found = TypeVar("_Found")
# Encoding an hour takes memory and a core for seconds.
_encoders = threading.BoundedSemaphore(2)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A stretch of sound of a place."""

    place: Place
    since: datetime
    until: datetime


def get_segment(ask: Ask) -> Response:
    """Answer the sound of one bucket."""
    bucket_ms = ask["bucket_ms"]
    since = datetime.fromtimestamp(bucket_ms / 1_000, UTC)
    place = Place(ask["trace_id"], ask["station_key"], ask["tap"])
    wanted = _Wanted(place, since, since + BUCKET)
    if bucket_ms % BUCKET_MS:
        raise Problem(404, "no bucket begins at this time")
    clip = _tap_clip(ask, wanted)
    return _wav(ask, wanted, clip, {"X-Bucket": iso(since)})


def get_range(ask: Ask) -> Response:
    """Answer any time of a tap as one WAV file."""
    wanted = _range(ask, ask["tap"])
    clip = _tap_clip(ask, wanted)
    return _wav(ask, wanted, clip, _span_headers(clip))


def get_range_as_flac(ask: Ask) -> Response:
    """Answer any time of a tap as one FLAC file."""
    wanted = _range(ask, ask["tap"])
    clip = _tap_clip(ask, wanted)
    headers = _headers(ask, wanted, clip, "flac") | _span_headers(clip)
    _check(clip)
    if ask.request.method == "HEAD":
        return Response(None, 200, headers, media_type=FLAC)
    with _encoders:
        body = _readable(lambda: flac(clip))
    _log(ask, wanted, 0, len(body) - 1)
    return Response(body, 200, headers, media_type=FLAC)


def get_delta(ask: Ask) -> Response:
    """Answer what the station took away: PRE minus POST, aligned in gain and delay."""
    wanted = _range(ask, DELTA)
    root, place = ask.site.audio_root, wanted.place
    since, until = wanted.since, wanted.until
    with ask.site.connections.reading() as connection:
        pre = segments(connection, Place(place.trace_id, place.station, Tap.PRE), since, until)
        post_place = Place(place.trace_id, place.station, Tap.POST)
        post = segments(connection, post_place, since - _BESIDE, until + _BESIDE)
        known = alignments(connection, post_place, since, until)
    if not pre or not post:
        raise _missing(ask, wanted)
    try:
        clip = DeltaClip(TapClip(root, pre, since, until), TapClip(root, post, since, until), known)
    except RateChangeError as error:
        raise Problem(409, str(error)) from None
    return _wav(ask, wanted, clip, _span_headers(clip))


def _range(ask: Ask, tap: str) -> _Wanted:
    """Return the time that is asked for: from the start, to the end of the sound unless given."""
    place = Place(ask["trace_id"], ask["station_key"], tap)
    since, until = ask["from"], ask["to"]
    if since is None or until is None:
        with ask.site.connections.reading() as connection:
            span = audio_span(connection, place)
        if span is None:
            raise Problem(404, "there is no sound of this call, station and tap")
        since, until = since or span[0], until or span[1]
    if not timedelta(0) < until - since <= LONGEST:
        raise Problem(400, "from and to: expected more than nothing and at most an hour")
    return _Wanted(place, since, until)


def _tap_clip(ask: Ask, wanted: _Wanted) -> TapClip:
    with ask.site.connections.reading() as connection:
        rows = segments(connection, wanted.place, wanted.since, wanted.until)
    if not rows:
        raise _missing(ask, wanted)
    try:
        return TapClip(ask.site.audio_root, rows, wanted.since, wanted.until)
    except RateChangeError as error:
        raise Problem(409, str(error)) from None


def _missing(ask: Ask, wanted: _Wanted) -> Problem:
    """Tell what is too old from what never was."""
    kept = timedelta(hours=ask.site.settings.audio_hours)
    if bucket_start(wanted.until) <= ask.site.now() - kept:
        return Problem(410, "this sound is older than what is kept")
    with ask.site.connections.reading() as connection:
        if was_deleted(connection, wanted.since, wanted.until):
            return Problem(410, "retention has deleted this sound")
    return Problem(404, "there is no sound of this call, station, tap and time")


def _wav(ask: Ask, wanted: _Wanted, clip: Clip, more: dict[str, str]) -> Response:
    """Answer a clip, or the part of its file that the header Range names."""
    if clip.samples < 1:
        raise Problem(400, "from and to: less than one sample lies between them")
    _check(clip)
    size = wav_size(clip)
    headers = _headers(ask, wanted, clip, "wav") | more
    headers |= {"Accept-Ranges": "bytes", "ETag": f'"{clip.tag}"'}
    part = None
    if ask.request.headers.get("if-range") in {None, headers["ETag"]}:
        part = requested_bytes(ask.request.headers.get("range"), size)
    first, last = part or (0, size - 1)
    headers["Content-Length"] = str(last - first + 1)
    if part:
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    status = 206 if part else 200
    if ask.request.method == "HEAD":
        return Response(None, status, headers, media_type=WAV)
    pieces = wav_pieces(clip, first, last)
    # The head and the first of the sound: a segment is in memory before its first byte leaves.
    begun = _readable(lambda: b"".join(islice(pieces, 2)))
    _log(ask, wanted, first, last)
    return StreamingResponse(_sent(begun, pieces), status, headers, media_type=WAV)


def _headers(ask: Ask, wanted: _Wanted, clip: Clip, ending: str) -> dict[str, str]:
    """Return what every answer with sound says.

    Raises:
        Problem: 403, a file to keep needs the role for it.
    """
    place = wanted.place
    headers = {
        "X-Trace-Id": place.trace_id,
        "X-Station": place.station,
        "X-Tap": place.tap,
        "X-Sample-Rate": str(clip.rate),
    }
    if ask["download"]:
        if Role.DOWNLOAD not in ask.caller.roles:
            raise Problem(403, f"this needs the role {Role.DOWNLOAD}")
        # All of it has been checked, and fits a header as it is.
        stamp = wanted.since.strftime("%Y%m%dT%H%M%S.%f")
        name = f"{place.trace_id}_{place.station}_{place.tap}_{stamp}.{ending}"
        headers["Content-Disposition"] = f'attachment; filename="{name}"'
    if ask.caller.name == LINK:
        # The address itself is the key: it also plays in pages of other sites.
        headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return headers


def _span_headers(clip: Clip) -> dict[str, str]:
    last = clip.first + clip.samples
    return {
        "X-From": iso(sample_time(clip.first, clip.rate)),
        "X-To": iso(sample_time(last, clip.rate)),
    }


def _sent(begun: bytes, rest: Iterable[bytes]) -> Iterator[bytes]:
    """Yield pieces; what retention deletes meanwhile ends them early, and the length tells."""
    yield begun
    try:
        yield from rest
    except (AudioGoneError, AudioUnreadableError):
        return


def _check(clip: Clip) -> None:
    _readable(clip.check)


def _readable(read: Callable[[], _Found]) -> _Found:
    """Return what is read from files.

    Raises:
        Problem: 410 for what is gone, 503 for what cannot be read.
    """
    try:
        return read()
    except AudioGoneError:
        raise Problem(410, "the sound is not there any more") from None
    except AudioUnreadableError as error:
        raise Problem(503, f"the sound cannot be read now: {error}") from None


def _log(ask: Ask, wanted: _Wanted, first: int, last: int) -> None:
    """Write down who gets what, before it leaves.

    Raises:
        Problem: 503: it could not be written, so that nothing leaves.
    """
    is_download = ask["download"]
    access = Access(
        ask.caller.name,
        Role.DOWNLOAD if is_download else Role.LISTEN,
        wanted.place,
        from_ts=wanted.since,
        to_ts=wanted.until,
        first_byte=first,
        last_byte=last,
        kind=AccessKind.DOWNLOAD if is_download else AccessKind.LISTEN,
        client_hash=ask.caller.client_hash,
    )
    try:
        with ask.site.connections.writing() as connection:
            record(connection, access)
    except (AnyDatabaseError, PoolBusyError):
        raise Problem(503, "the access log cannot be written, so that no sound leaves") from None


_TAP = given.in_path(given.choice("tap", "PRE or POST.", tuple(map(str, Tap))))
_BUCKET = given.in_path(
    given.integer(
        "bucket_ms",
        "Start of the bucket in milliseconds since 1970.",
        low=0,
        high=7_258_118_400_000,
        default=None,
    )
)
_SIGNED = (
    given.flag("download", "Whether it is a file to keep; needs the role download."),
    given.integer("exp", "When the signed address expires.", low=0, high=10**12, default=None),
    given.Parameter(
        "sig", "Signature of the address.", {"type": "string", "pattern": "^[0-9a-f]{64}$"}, str
    ),
)
_PLACE = (given.TRACE, given.STATION_PATH)
_TIME = (given.FROM, given.TO, *_SIGNED)
_SAID = {
    "X-Trace-Id": "The call.",
    "X-Station": "The station.",
    "X-Tap": "PRE, POST or DELTA.",
    "X-Sample-Rate": "Samples a second.",
}
_SPAN_SAID = _SAID | {"X-From": "Time of the first sample.", "X-To": "End of the last sample."}
_ERRORS = (404, 410, 416)


def _span(
    name: str, summary: str, run: Callable[[Ask], object], tap: tuple[given.Parameter, ...] = ()
) -> Operation:
    """Describe any time of sound as WAV: one form, whatever is heard."""
    return Operation(
        f"{_BASE}/{name}",
        summary,
        run,
        (*_PLACE, *tap, *_TIME),
        media=(WAV,),
        role=Role.LISTEN,
        is_audio=True,
        errors=(*_ERRORS, 409),
        headers=_SPAN_SAID,
    )


_BASE = "/audio/{trace_id}/{station_key}"

OPERATIONS = (
    Operation(
        f"{_BASE}/{{tap}}/{{bucket_ms}}.wav",
        "The sound of one bucket: exactly five seconds.",
        get_segment,
        (*_PLACE, _TAP, _BUCKET, *_SIGNED),
        media=(WAV,),
        role=Role.LISTEN,
        is_audio=True,
        errors=_ERRORS,
        headers=_SAID | {"X-Bucket": "Start of the bucket."},
    ),
    _span(
        "delta.wav",
        "What the station took away: PRE minus POST, aligned in gain, delay and polarity.",
        get_delta,
    ),
    _span(
        "{tap}.wav",
        "Any time of a tap up to an hour, across segments; silence where there is none.",
        get_range,
        (_TAP,),
    ),
    replace(
        _span("{tap}.flac", "The same as FLAC.", get_range_as_flac, (_TAP,)),
        media=(FLAC,),
        errors=(404, 409, 410),
    ),
)

"""The endpoints for pictures of sound: peaks and spectrogram as plain bytes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta

from starlette.responses import Response

from archiver.audio_reader import AudioGoneError, AudioUnreadableError
from archiver.bands import FRAME_S
from archiver.segments import Place, audio_span, segments
from archiver.sketch import COLUMNS_PER_SECOND, PAIRS_PER_SECOND
from archiver.times import BUCKET, iso, sample_time
from archiver.tokens import Role
from archiver.web import parameters as given
from archiver.web.peaks import Stretch, peaks, stretch
from archiver.web.problems import Problem
from archiver.web.site import Ask, Operation
from archiver.web.spectrogram import spectrogram
from exporter.model import Tap

BYTES = "application/octet-stream"
LONGEST = timedelta(hours=12)


def get_peaks(ask: Ask) -> Response:
    """Answer the waveform: int8 pairs, the smallest and the largest sample of each column."""
    wanted = _stretch(ask)
    columns = ask["columns"]
    sketches = ask.site.sketches
    turn = _turn(ask, wanted, PAIRS_PER_SECOND)
    body = _drawn(turn, lambda: peaks(sketches, wanted, columns).tobytes())
    headers = {"X-Columns": str(columns), **_headers(wanted)}
    return Response(body, headers=headers, media_type=BYTES)


def get_spectrogram(ask: Ask) -> Response:
    """Answer the spectrogram: uint8 rows from the lowest frequency up."""
    wanted = _stretch(ask, timedelta(seconds=FRAME_S))
    columns, rows = ask["columns"], ask["rows"]
    sketches = ask.site.sketches
    turn = _turn(ask, wanted, COLUMNS_PER_SECOND)
    body = _drawn(turn, lambda: spectrogram(sketches, wanted, columns, rows).tobytes())
    headers = {"X-Columns": str(columns), "X-Rows": str(rows), **_headers(wanted)}
    headers["X-Max-Hertz"] = f"{wanted.rate / 2:g}"
    return Response(body, headers=headers, media_type=BYTES)


def _stretch(ask: Ask, margin: timedelta = timedelta(0)) -> Stretch:
    """Return the time that is asked for; all of the sound unless given.

    ``margin`` is how much of the sound is needed on both sides of it, where there is any.
    """
    place = Place(ask["trace_id"], ask["station"], ask["tap"])
    since, until = ask["from"], ask["to"]
    with ask.site.connections.reading() as connection:
        if since is None or until is None:
            span = audio_span(connection, place)
            if span is None:
                raise Problem(404, "there is no sound of this call, station and tap")
            since, until = since or span[0], until or span[1]
        if not timedelta(milliseconds=1) <= until - since <= LONGEST:
            raise Problem(400, "from and to: expected a millisecond to twelve hours")
        rows = segments(connection, place, since - margin, until + margin, has_sketch=True)
    if not any(since - BUCKET < row.bucket_ts < until for row in rows):
        raise Problem(404, "there is no sound of this call, station, tap and time")
    return stretch(ask.site.audio_root, rows, since, until)


def _turn(ask: Ask, wanted: Stretch, per_second: int) -> AbstractContextManager[object]:
    """Return what to hold while a picture is drawn; what is at hand does not wait for others."""
    is_wide = wanted.is_wide(ask["columns"], per_second)
    is_at_hand = is_wide and ask.site.sketches.has(wanted.rows)
    return nullcontext() if is_at_hand else ask.site.drawing


def _drawn(turn: AbstractContextManager[object], draw: Callable[[], bytes]) -> bytes:
    try:
        with turn:
            return draw()
    except AudioGoneError:
        raise Problem(410, "the sound is not there any more") from None
    except AudioUnreadableError as error:
        raise Problem(503, f"the sound cannot be read now: {error}") from None


def _headers(wanted: Stretch) -> dict[str, str]:
    return {
        "X-From": iso(sample_time(wanted.first, wanted.rate)),
        "X-To": iso(sample_time(wanted.last, wanted.rate)),
        "X-Rate": str(wanted.rate),
    }


_COLUMNS = given.integer("columns", "How many columns.", low=1, high=8_000, default=1_200)
_ROWS = given.integer("rows", "How many rows.", low=1, high=256, default=128)
_TAP = given.required(given.choice("tap", "PRE or POST.", tuple(map(str, Tap))))
_PLACE = (given.TRACE, given.required(given.STATION), _TAP, given.FROM, given.TO)
_SAID = {
    "X-Columns": "How many columns.",
    "X-From": "Time of the first sample.",
    "X-To": "End of the last sample.",
    "X-Rate": "Samples a second.",
}

OPERATIONS = (
    Operation(
        "/api/v1/traces/{trace_id}/peaks",
        "Waveform: int8 pairs (min, max) for each column; (127, -128) where there is no sound.",
        get_peaks,
        (*_PLACE, _COLUMNS),
        media=(BYTES,),
        role=Role.LISTEN,
        errors=(404, 410),
        headers=_SAID,
    ),
    Operation(
        "/api/v1/traces/{trace_id}/spectrogram",
        "Spectrogram: uint8 [rows, columns], row 0 the lowest; 0 is -100 dBFS, 255 is 0 dBFS.",
        get_spectrogram,
        (*_PLACE, _COLUMNS, _ROWS),
        media=(BYTES,),
        role=Role.LISTEN,
        errors=(404, 410),
        headers=_SAID | {"X-Rows": "How many rows.", "X-Max-Hertz": "Upper end of the last row."},
    ),
)

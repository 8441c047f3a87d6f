"""Times as the drill-down speaks them: ISO-8601 in UTC outside, aware datetimes inside."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta

from exporter.model import BUCKET_SECONDS

BUCKET = timedelta(seconds=BUCKET_SECONDS)
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)
SLACK = timedelta(minutes=10)
"""How far a bucket may lie outside its call: clocks that differ, audio from before the start."""

_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?")
_MILLISECONDS_FROM = 1e11  # as seconds, this lies in the year 5138


def iso(moment: datetime) -> str:
    """Return ISO-8601 in UTC with ``Z``, as short as it can be without loss."""
    text = moment.astimezone(UTC).isoformat()
    return text.removesuffix("+00:00") + "Z"


def parse_time(text: str) -> datetime:
    """Return the moment that ISO-8601, or seconds or milliseconds since 1970, name.

    What lies outside the years 1970 to 2199 becomes the nearest moment in them. A time without a
    zone is in UTC.

    Raises:
        ValueError: It is none of the three.
    """
    if _NUMBER.fullmatch(text):
        number = float(text)
        seconds = number / 1_000 if number >= _MILLISECONDS_FROM else number
        most = (LATEST - EARLIEST).total_seconds()
        return EARLIEST + timedelta(seconds=min(max(seconds, 0.0), most))
    try:
        found = datetime.fromisoformat(text.upper())
    except ValueError:
        raise ValueError(
            "expected a time such as 2026-01-03T18:05:01.5Z, or seconds since 1970"
        ) from None
    if found.tzinfo is None:
        return min(max(found.replace(tzinfo=UTC), EARLIEST), LATEST)
    # Comparing needs no conversion to UTC, which the first and last day of the calendar lack.
    return EARLIEST if found < EARLIEST else LATEST if found > LATEST else found.astimezone(UTC)


def bucket_start(moment: datetime) -> datetime:
    """Return the start of the bucket that holds a moment."""
    seconds = math.floor((moment - EARLIEST) / BUCKET) * BUCKET_SECONDS
    return EARLIEST + timedelta(seconds=seconds)


def sample_index(moment: datetime, rate: int) -> int:
    """Return the sample since 1970 that is nearest to a moment, without rounding of the time."""
    microseconds = (moment - EARLIEST) // timedelta(microseconds=1)
    return (microseconds * rate + 500_000) // 1_000_000


def sample_time(index: int, rate: int) -> datetime:
    """Return the moment of a sample since 1970, to the microsecond."""
    return EARLIEST + timedelta(microseconds=index * 1_000_000 // rate)

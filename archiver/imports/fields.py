"""Cells of an old CSV file as values; what cannot be one raises with the column's name."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import IO

from archiver.imports.accounts import UnkeptError
from archiver.times import bucket_start, parse_time
from exporter.model import BUCKET_MS

Notes = list[tuple[str, str]]
Cells = dict[str, str]

_LONGEST_LINE = 1 << 20
_FIRST, _LAST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
_TRUTH = {"true": 1.0, "t": 1.0, "false": 0.0, "f": 0.0}
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Reading:
    """How cells and names are read.

    Attributes:
        zone: Zone of times that name none.
        mask: Returns what stands for an extension in the id of a call.
    """

    zone: tzinfo
    mask: Callable[[str], str] = str


def read_rows(
    stream: IO[bytes], needed: tuple[str, ...]
) -> Iterator[tuple[int, Cells | UnkeptError]]:
    """Yield each row with its line, as cells by column or as the reason why it is none.

    Args:
        stream: CSV with a header, in UTF-8.
        needed: Columns without which this is another table.

    Raises:
        UnkeptError: A column is missing.
    """
    with io.TextIOWrapper(stream, "utf-8-sig", errors="replace", newline="") as text:
        # In pieces, so that a file without line ends is not one line in memory.
        lines = csv.reader(iter(lambda: text.readline(_LONGEST_LINE), ""))
        header = _header(lines, needed)
        while True:
            try:
                cells = next(lines)
            except StopIteration:
                return
            except csv.Error as error:
                yield lines.line_num, UnkeptError("bad_cells", str(error))
                continue
            if cells:
                yield lines.line_num, _checked(header, cells)


def _header(lines: Iterator[list[str]], needed: tuple[str, ...]) -> list[str]:
    try:
        header = [name.strip().lower() for name in next(lines, [])]
    except csv.Error as error:
        raise UnkeptError("damaged", f"header: {error}") from None
    if missing := [name for name in needed if name not in header]:
        raise UnkeptError("damaged", f"there is no column {', '.join(missing)}")
    return header


def _checked(header: list[str], cells: list[str]) -> Cells | UnkeptError:
    if len(cells) != len(header):
        return UnkeptError("bad_cells", f"{len(cells)} cells instead of {len(header)}")
    if "\0" in "".join(cells):
        return UnkeptError("bad_text", "NUL")
    return dict(zip(header, map(str.strip, cells), strict=True))


def moment_of(cells: Cells, column: str, zone: tzinfo) -> datetime:
    """Return the time in a column: ISO-8601, or seconds or milliseconds since 1970."""
    moment = _moment(cells.get(column, ""), zone)
    if moment is None:
        raise UnkeptError("bad_time", f"{column}: {_shown(cells.get(column, ''))}")
    return moment


@lru_cache(maxsize=4_096)
def _moment(text: str, zone: tzinfo) -> datetime | None:
    try:
        if _NUMBER.fullmatch(text):
            found = parse_time(text)
        else:
            naive = datetime.fromisoformat(text)
            found = (naive if naive.tzinfo else naive.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return found if _FIRST <= found < _LAST else None


def bucket_of(cells: Cells, zone: tzinfo, notes: Notes) -> tuple[datetime, datetime]:
    """Return the bucket in which the old one began, and the end of the old one."""
    length = cells.get("bucket_ms", "")
    if length and number(length) != BUCKET_MS:
        raise UnkeptError("other_length", f"bucket_ms: {_shown(length)}")
    began = moment_of(cells, "bucket_ts", zone)
    start = bucket_start(began)
    if start != began:
        notes.append(("moved", f"bucket_ts: {cells['bucket_ts']}"))
    return start, began + timedelta(milliseconds=BUCKET_MS)


def number(text: str) -> float | None:
    """Return a finite number, or one for a truth in words; None when it is neither."""
    truth = _TRUTH.get(text.lower())
    if truth is not None:
        return truth
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def is_text(value: str) -> bool:
    """Whether the database can hold a text."""
    return "\0" not in value and not any("\ud800" <= sign <= "\udfff" for sign in value)


def _shown(text: str) -> str:
    return repr(text[:40])

"""How the report writes values: escaped, short, and a dash for what is not known."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import zip_longest

DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def escape(value: object) -> str:
    """Return a text of anybody's as HTML: also quotes, so that it may stand in an attribute."""
    return html.escape(str(value))


def number(value: float | None, digits: int = 1) -> str:
    """Return a number with a real minus sign; a dash for what is unknown."""
    if value is None:
        return DASH
    return f"{value:,.{digits}f}".replace("-", MINUS)


def percent(value: float | None) -> str:
    """Return a share in percent; nearly all and nearly nothing are neither all nor nothing."""
    if value is None:
        return DASH
    return f"{number(100 * value, 0 if value in {0.0, 1.0} else 2)} %"


def significant(value: float | None) -> str:
    """Return a number of any size with four digits that count."""
    if value is None or abs(value) >= 1_000:  # noqa: PLR2004 - from here on, 1e+03
        return number(value, 0)
    return f"{value:.4g}".replace("-", MINUS)


def clock(moment: datetime) -> str:
    """Return the time of day in UTC."""
    return f"{moment.astimezone(UTC):%H:%M:%S}"


def date_and_time(moment: datetime | None) -> str:
    """Return day and time in UTC."""
    return DASH if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def plain(value: object) -> str:
    """Return a JSON value, escaped; a text without its quotes."""
    return escape(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    style: str = "",
    ids: Sequence[str] = (),
) -> str:
    """Return a table of cells that are HTML already; a heading with ``#`` before it is a number's.

    Args:
        headings: Texts of the first row.
        rows: Cells.
        style: Class of the table.
        ids: Where links to each row lead; empty for rows without.
    """
    if not rows:
        return '<p class="none">None.</p>'
    classes = [' class="number"' if text.startswith("#") else "" for text in headings]
    head = "".join(
        f'<th scope="col"{kind}>{escape(text.lstrip("#"))}</th>'
        for text, kind in zip(headings, classes, strict=True)
    )
    body = "\n".join(
        (f'<tr id="{name}">' if name else "<tr>")
        + "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(row, classes, strict=True))
        + "</tr>"
        for row, name in zip_longest(rows, ids)
    )
    return (
        f'<div class="wide" tabindex="0"><table class="{style}"><thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )

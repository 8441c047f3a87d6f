"""The header Range (RFC 9110): which bytes of a file a player asks for."""

from __future__ import annotations

import re

from archiver.web.problems import Problem

_ONE = re.compile(r"bytes[ ]*=[ ]*(?P<first>[0-9]{0,18})-(?P<last>[0-9]{0,18})[ ]*")


def requested_bytes(header: str | None, size: int) -> tuple[int, int] | None:
    """Return first and last byte that are asked for; None for the whole file.

    Several ranges at once, other units and nonsense count as none, as the standard allows.

    Raises:
        Problem: 416, nothing of the file is in the range.
    """
    match = _ONE.fullmatch(header or "")
    if match is None or not (match["first"] or match["last"]):
        return None
    last = size - 1
    if not match["first"]:
        first = max(0, size - int(match["last"]))
    else:
        first = int(match["first"])
        last = min(last, int(match["last"] or last))
        if match["last"] and int(match["last"]) < first:
            return None
    if first > last:
        raise Problem(416, f"the file has {size} bytes", {"Content-Range": f"bytes */{size}"})
    return first, last

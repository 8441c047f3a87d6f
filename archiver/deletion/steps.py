"""What long work tells of itself: each thing that it has done, before it does the next."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class Done(StrEnum):
    """A thing that was done."""

    HOUR = "hour"
    """An hour was put down as one to delete."""
    FILE = "file"
    DETACHED = "detached"
    ROWS = "rows"
    LEDGER = "ledger"
    SPOOL = "spool"
    END = "end"


Step = Callable[[Done, str], None]


def unheard(_kind: Done, _what: str) -> None:
    """Tell nobody."""

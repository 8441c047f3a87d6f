"""What the doctor found about one thing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: whether it is well, and if not, what to do."""

    name: str
    is_well: bool
    text: str

"""All boards of this project."""

from __future__ import annotations

from dashboards import archive_health, knob_impact, overview, station, trace
from dashboards.links import DEFAULT_PUBLIC_URL
from dashboards.model import Board

_MAKERS = {
    "overview": overview.board,
    "station": station.board,
    "trace": trace.board,
    "knob_impact": knob_impact.board,
    "archive_health": archive_health.board,
}


def all_boards(public_url: str = DEFAULT_PUBLIC_URL) -> dict[str, Board]:
    """Return all boards by name.

    Args:
        public_url: Address of the drill-down page, without a slash at the end.
    """
    return {name: make(public_url) for name, make in _MAKERS.items()}

"""The benchmark of the drill-down's pages in small: that it asks and draws, not how fast."""

from __future__ import annotations

import pytest

from benchmarks import drilldown


def test_pages_are_drawn_and_what_they_ask_is_asked_again() -> None:
    """Each page is timed in each round, and a call's page asks for all of its pictures."""
    if not drilldown.CHROMIUM.exists():
        pytest.skip(f"no {drilldown.CHROMIUM}: make test-tools installs it")

    with drilldown.archive(1_000, buckets=2) as (settings, size):
        first, cold, warm = drilldown.measure(settings, rounds=2, cold_rounds=1)

    assert size > 0
    for waits, rounds in ((first, 2), (cold, 1), (warm, 2)):
        assert rounds == len(waits.drawn) == len(waits.answered)
        assert min(waits.drawn + waits.answered) > 0
    assert any("/api/v1/traces?" in asked for asked in first.asked)
    for waits in (cold, warm):
        pictures = [
            asked for asked in waits.asked if "/peaks?" in asked or "/spectrogram?" in asked
        ]
        assert 4 == len(pictures)

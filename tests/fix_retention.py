"""An archive of known calls, and one run of retention at a moment."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from archiver import Archiver
from archiver.deletion.retention import Retention
from archiver.deletion.space import Space
from archiver.migrations import migrate
from exporter.config import Settings
from exporter.model import EndReason, TraceEnded, TraceStarted
from exporter.selfmetrics import Tally
from tests.fix_archive import START_NS, bucket, settings

START = datetime.fromtimestamp(START_NS / 1e9, UTC)
HOUR = timedelta(hours=1)
BUCKETS_PER_HOUR = 720
PLENTY, FULL = Space(100, 100), Space(100, 1)


def fill(own: Settings, calls: dict[str, list[int]]) -> None:
    """Archive buckets of calls, by their number since the start of 2026."""
    migrate(own.db)
    archiver = Archiver(own, has_retention=False)
    archiver.start()
    for trace_id, numbers in calls.items():
        first, last = (START_NS + n * 5 * 10**9 for n in (numbers[0], numbers[-1] + 1))
        archiver.offer(TraceStarted(trace_id, first, "3333"))
        for number in numbers:
            archiver.offer(bucket(trace_id, number))
        archiver.offer(TraceEnded(trace_id, last, EndReason.HOST))
    assert archiver.flush(20)
    archiver.stop(5)


def run(own: Settings, at: timedelta, tally: Tally | None = None) -> dict[str, int]:
    """Run retention at a time since the start of 2026, on a disk with plenty of room."""
    retention = Retention(own, tally or Tally(), measure=lambda _: PLENTY)
    return retention.run(own.audio_path, START + at)


def names(own: Settings, table: str) -> list[str]:
    """Return the calls of which a table has a row."""
    with psycopg.connect(own.db) as connection:
        query = f"SELECT DISTINCT trace_id FROM {table} ORDER BY 1".encode()
        return [name for (name,) in connection.execute(query).fetchall()]


def files(own: Settings) -> list[str]:
    """Return the calls of which there is a file."""
    return sorted({path.parts[-4] for path in own.audio_path.rglob("*.wav")})


@pytest.fixture
def own(database: str, tmp_path: Path) -> Settings:
    """Return settings of an archive that keeps audio for 24 hours and numbers for 72."""
    return replace(settings(tmp_path, database), retention_audio_hours=24.0)

"""Rows without files and files without rows: which are mended, and which are none."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from archiver.batch import Batch, encode
from archiver.deletion.retention import Retention
from archiver.deletion.tree import Tree
from archiver.migrations import migrate
from exporter.config import Settings
from exporter.selfmetrics import Tally
from tests.fix_retention import HOUR, PLENTY, START, fill, names, run


def test_a_row_without_a_file_is_mended(own: Settings) -> None:
    """The row goes, the numbers stay, and the gauge says so."""
    fill(own, {"call-1": [0, 1]})
    min(own.audio_path.rglob("*.wav")).unlink()
    tally = Tally()

    assert 1 == run(own, HOUR, tally)["orphan_rows"]

    assert 1 == tally.get("audio_orphans", "row")
    assert ["call-1"] == names(own, "audio_segments_5s")
    assert 0 == run(own, HOUR, tally)["orphan_rows"] == tally.get("audio_orphans", "row")


def test_a_disk_that_is_not_there_costs_no_row(
    own: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """Where most files are missing, nothing is mended: somebody forgot to mount something."""
    fill(own, {"call-1": list(range(20))})
    own.audio_path.rename(own.audio_path.with_name("elsewhere"))

    assert (0, 20) == (
        (counts := run(own, HOUR))["orphan_rows"],
        counts["orphan_rows_left"],
    )
    assert "mounted" in caplog.text
    assert ["call-1"] == names(own, "audio_segments_5s")


def _orphan(own: Settings, trace_id: str, age: timedelta) -> Path:
    """Write a segment without a row; its bucket is of now, and it was written so long ago."""
    now = time.time()
    stamp = int(now // 5 * 5 * 1_000)
    folder = own.audio_path / f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d}" / trace_id
    path = folder / "St_3_3333" / "PRE" / f"segment_{stamp}.wav"
    path.parent.mkdir(parents=True)
    path.touch()
    os.utime(path, (now, now - age.total_seconds()))
    return path


def test_a_file_without_a_row_goes_when_it_is_old_enough(own: Settings) -> None:
    """After a day without a row a file is an orphan; before, its row may still come."""
    migrate(own.db)
    paths = [_orphan(own, f"call-{hours}", timedelta(hours=hours)) for hours in (1, 25)]

    counts = run(own, datetime.now(UTC) - START)

    assert 1 == counts["orphan_files"]
    assert [True, False] == [path.exists() for path in paths]


@pytest.mark.parametrize("where", ["batch", "bad batch", "bad record", "open call", "damaged"])
def test_a_file_whose_row_may_be_in_the_spool_is_no_orphan(own: Settings, where: str) -> None:
    """Whatever may still name a file keeps it: batches, those set aside, open calls, damage."""
    migrate(own.db)
    path = _orphan(own, "call-1", timedelta(days=2))
    relative = str(path.relative_to(own.audio_path))
    _leave_in_spool(own, where, relative)

    assert 0 == run(own, datetime.now(UTC) - START)["orphan_files"]
    assert path.exists()


def _leave_in_spool(own: Settings, where: str, relative: str) -> None:
    folder = own.spool_path / "some-process"
    (folder / "bad").mkdir(parents=True)
    entry = {
        "kind": "bucket",
        "trace_id": "call-1",
        "taps": [{"segment": {"file_path": relative}}, {"segment": None}],
    }
    batch = b"".join(encode(Batch("0" * 32, "boot", 1, 0, 0, (entry,))))
    match where:
        case "batch":
            (folder / "1.batch").write_bytes(batch)
        case "bad batch":
            (folder / "bad" / "1.batch").write_bytes(batch)
        case "bad record":
            (folder / "bad" / "1.json").write_text(json.dumps({"reason": "x", "entry": entry}))
        case "open call":
            (folder / "running.json").write_text(json.dumps({"open_traces": ["call-1"]}))
        case _:
            (folder / "1.batch").write_bytes(batch[:-1])


def test_a_link_leads_nowhere(own: Settings, tmp_path: Path) -> None:
    """A path from a row removes nothing outside the root, by no link and no dots."""
    outside = tmp_path / "outside"
    (outside / "c").mkdir(parents=True)
    (outside / "c" / "kept.wav").touch()
    own.audio_path.mkdir()
    (own.audio_path / "2026-01-01").symlink_to(outside)
    tree = Tree(own.audio_path)

    for path in ("2026-01-01/c/kept.wav", "../outside/c/kept.wav", str(outside / "c/kept.wav"), ""):
        assert tree.remove(path) is None
    assert [] == tree.files_of("..") == tree.files_of("c")
    assert (outside / "c" / "kept.wav").exists()


def test_a_walk_is_for_all_processes(own: Settings) -> None:
    """For six hours after a walk, nobody walks again unless told."""
    migrate(own.db)
    retention, now = Retention(own, Tally(), measure=lambda _: PLENTY), datetime.now(UTC)
    assert retention.walk_is_due(now)
    retention.run(own.audio_path, now)
    another = Retention(own, Tally())
    assert [False, True] == [another.walk_is_due(now + n * HOUR) for n in (5, 6)]


def test_a_late_file_of_an_erased_call_goes_with_the_next_walk(own: Settings) -> None:
    """What a process writes of an erased call before it learns of it is no matter of a day."""
    migrate(own.db)
    path = _orphan(own, "call-1", timedelta(0))
    with psycopg.connect(own.db) as connection:
        connection.execute("SELECT begin_erasure(gen_random_uuid(), '{call-1}', 'x')")

    assert 1 == run(own, datetime.now(UTC) - START)["orphan_erased_files"]
    assert not path.exists()

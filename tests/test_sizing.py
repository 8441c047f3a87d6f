"""The sizing page shows what was measured, and the measurement counts what there is."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import sizing

ROOT = Path(__file__).parents[1]


def test_the_page_shows_the_committed_result() -> None:
    """The tables of docs/sizing.md are those of benchmarks/SIZING.json, cell by cell."""
    result = json.loads(sizing.RESULT.read_text(encoding="utf-8"))["per_trace_hour"]
    page = sizing.PAGE.read_text(encoding="utf-8")

    assert sizing.tables(result) in page
    assert page == sizing.with_tables(page, result)


def test_an_hour_of_a_trace_has_its_files_and_rows(tmp_path: Path) -> None:
    """Of two stations with two taps there are 2,880 buckets an hour, each with file and row."""
    result = sizing.measure(traces=1, seconds=10.0)
    page = tmp_path / "page.md"
    page.write_text(f"before\n{sizing.BEGIN}old\n{sizing.END}after\n")
    sizing.write(result, tmp_path / "result.json", page)

    assert 2_880 == result["audio_files"] == result["rows.audio_segments_5s"]
    assert 2_880 == result["rows.tap_buckets_5s"] == 2 * result["rows.knob_snapshots_5s"]
    assert result["audio_bytes"] >= 2_880 * 160_044
    assert result["rows.metrics_agg_5s"] > 30 * 2_880
    assert min(result.values()) >= 0
    assert "| WAV files | 2,880 |" in page.read_text()
    assert "old" not in page.read_text()

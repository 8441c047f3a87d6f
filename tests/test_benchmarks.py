"""The benchmarks in small: ratios with slack, never absolute times."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks import analysis, exporter, lateness, naive, report, scrape, tap
from exporter.analysis.timedomain import COLUMNS, measure
from exporter.metrics import FRAME_METRICS


def test_tap_is_far_cheaper_than_the_naive_port() -> None:
    """A block at the tap costs at most a twentieth of measuring and publishing it there."""
    cost = tap.hot(rounds=15, calls=200)
    assert cost["naive"] / cost["ours"] >= 20


def test_cadence_times_every_side() -> None:
    """At a 20 ms cadence, too, the tap is cheaper than the naive port."""
    cost = tap.cadence(0.12, taps=5, turns=1)
    assert cost["naive"] > cost["ours"]


def test_analysis_is_far_faster_than_numpy_per_frame() -> None:
    """Batched analysis costs at most a tenth of numpy on every frame."""
    cost = analysis.compare(rounds=15)
    assert cost["time_per_frame"] / cost["time"] >= 10
    assert cost["all_per_frame"] / cost["all"] >= 5


def test_the_exporter_carries_many_times_what_one_trace_is() -> None:
    """The whole thread needs at most a fiftieth of a core for a trace, pairs included."""
    cost = exporter.compare(traces=4, seconds=10)
    assert cost["traces"] >= 50
    assert cost["pair_ms"] > 0


def test_lateness_knows_both_sides() -> None:
    """The loop is timed with monitoring and without, and the tap while the analysis runs."""
    cost = lateness.measure(traces=2, seconds=3, turns=1, warm_s=1)
    assert 0 < cost["pre_p50"] <= cost["pre_p999"]
    assert 0 < cost["with_p50"] <= cost["with_p999"]
    assert 0 < cost["without_p50"] <= cost["without_p999"]


def test_naive_port_measures_the_same() -> None:
    """The naive port computes the metrics that the analysis computes, so the race is fair."""
    frames = analysis.frames(1)
    frames[3, 10:15] = 32_767
    rows, naive_analysis = measure(frames, naive.SILENCE_DBFS), naive.NaiveAnalysis()
    for frame, row in zip(frames, rows, strict=True):
        values = naive.measure_frame(frame)
        assert set(COLUMNS) == set(values)
        assert {metric.key for metric in FRAME_METRICS} == set(naive_analysis.measure(frame))
        np.testing.assert_allclose([values[key] for key in COLUMNS], row, rtol=1e-9, atol=1e-12)


def test_scrape_is_far_cheaper_than_prometheus_client() -> None:
    """Rendering costs at most a third of generate_latest."""
    cost = scrape.compare(rounds=5, series=2_000)
    assert cost["peer"] / cost["ours"] >= 3


def test_both_pages_say_the_same() -> None:
    """Both renderings parse to the same values of the same series."""
    pages = scrape.Pages(200)
    ours = scrape.values(pages.ours())
    assert len(ours) == 200
    assert scrape.values(pages.peer()) == ours


def test_results_name_machine_and_missed_bars(tmp_path: Path) -> None:
    """The file holds the tables, what did not hold, and the versions; a run replaces its own."""
    path = tmp_path / "RESULTS.md"
    panel = report.Row("panel", "5 ms", "-", 50.0, "<= 250 ms", holds=True)
    report.write(path, report.PANELS, [panel])
    for ours in ("9 us", "1 us"):
        row = report.Row("tap", ours, "3 us", 3.0, ">= 200", holds=False)
        report.write(path, report.EXPORTER, [row])
    text = path.read_text()
    assert "| panel | 5 ms | - | 50.00 | <= 250 ms | yes |" in text
    assert "9 us" not in text
    assert "| tap | 1 us | 3 us | 3.00 | >= 200 | **no** |" in text
    assert f"- numpy: {np.__version__}" in text

"""Measure everything, print the table and write RESULTS.md."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import (
    analysis,
    drilldown,
    exporter,
    lateness,
    panels,
    report,
    scrape,
    sizing,
    tap,
)
from benchmarks.analysis import TRACE_SAMPLES
from benchmarks.exporter import BLOCK
from benchmarks.report import Row

RESULTS = Path(__file__).with_name("RESULTS.md")


def _tap_rows(place: str, cost: dict[str, float], bar_us: float | None) -> list[Row]:
    ours, append, naive = (cost[name] / 1e3 for name in ("ours", "append", "naive"))
    ratio = naive / ours
    bar = ">= 200" if bar_us is None else f"<= {bar_us} us, >= 200"
    holds = ratio >= 200 and (bar_us is None or ours <= bar_us)
    what, mine = f"`station.pre`, {place}", f"{ours:.3f} us"
    return [
        Row(f"{what}: naive port", mine, f"{naive:.1f} us", ratio, bar, holds),
        Row(f"{what}: bare `deque.append`", mine, f"{append:.3f} us", append / ours),
    ]


def _analysis_rows(cost: dict[str, float], widths: dict[str, float]) -> list[Row]:
    ours = {name: f"{cost[name]:.2f} ns/sample" for name in ("time", "all")}
    memcpy = f"{cost['memcpy']:.3f} ns/sample"
    rows: list[Row] = []
    for name, what in (("time", "time domain"), ("all", "time domain, spectrum, voice, loudness")):
        peer = cost[f"{name}_per_frame"]
        text = f"{peer:.0f} ns/sample"
        rows.append(Row(f"{what}: numpy per frame", ours[name], text, peer / cost[name]))
        rows.append(Row(f"{what}: memcpy", ours[name], memcpy, cost["memcpy"] / cost[name]))
    traces = 1e9 / (cost["all"] * TRACE_SAMPLES)
    what = "the same: traces that one core measures"
    rows.append(
        Row(what, f"{traces:.0f} traces", "1 trace", traces, ">= 800 (1,200)", traces >= 800)
    )
    if widths:
        on, off = widths["with"], widths["without"]
        texts = f"{off:.2f} ns/sample", f"{on:.2f} ns/sample"
        slower = "the same without AVX-512 (ratio: ours / with it)"
        rows.append(Row(slower, *texts, off / on, "<= 1.5", off / on <= 1.5))
    return rows


def _exporter_rows(cost: dict[str, float], naive_ns: float) -> list[Row]:
    naive = 1e9 / (naive_ns * TRACE_SAMPLES / BLOCK)
    rows: list[Row] = []
    for key, how in (
        ("traces", "pairs in all buckets"),
        ("sampled_traces", "pairs sampled above 0.8 of a core, as set up"),
    ):
        traces = cost[key]
        what = f"whole exporter thread, {how}: traces that one core carries; naive port"
        texts, ratio = (f"{traces:.0f} traces", f"{naive:.1f} traces"), traces / naive
        rows.append(Row(what, *texts, ratio, ">= 400 (700)", traces >= 400))
    for key, how in (("pair_ms", "delay as before"), ("searched_ms", "delay searched")):
        ms = cost[key]
        pairs = f"PRE against POST, {how}: CPU for a station and bucket"
        rows.append(Row(pairs, f"{ms:.2f} ms", "5 s of audio", 5e3 / ms, "<= 1.5 ms", ms <= 1.5))
    return rows


def _lateness_rows(cost: dict[str, float], host: str) -> list[Row]:
    late, alone = cost["with_p999"], cost["without_p999"]
    tap, texts = cost["pre_p999"], (f"{late:.0f} us", f"{alone:.0f} us")
    median_ = f"{cost['with_p50']:.0f} us", f"{cost['without_p50']:.0f} us"
    what, ratio = f"100 traces, 20 ms loop, {host}", alone / late
    usual = f"{cost['pre_p50']:.2f} us"
    return [
        Row(f"{what}: late at p99.9, without monitoring", *texts, ratio, "<= 2 ms", late <= 2e3),
        Row(f"{what}: late at the median", *median_, cost["without_p50"] / cost["with_p50"]),
        Row(
            f"{what}: `station.pre` at p99.9, its median",
            f"{tap:.1f} us",
            usual,
            cost["pre_p50"] / tap,
            "<= 50 us",
            tap <= 50,
        ),
    ]


def _scrape_rows(cost: dict[str, float]) -> list[Row]:
    ours, peer = cost["ours"], cost["peer"]
    texts = f"{ours / 1e6:.2f} ms", f"{peer / 1e6:.1f} ms"
    what = "10,000 gauge series: `generate_latest`"
    return [Row(what, *texts, peer / ours, ">= 10", peer / ours >= 10)]


INSTEAD = {
    "panels": "seed three days, time all panels, nothing else",
    "drilldown": "seed three days, time pages in Chromium, nothing else",
    "sizing": "measure what an hour of a trace takes, nothing else",
}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0, help="length of each cadence run")
    parser.add_argument("--late-seconds", type=float, default=120.0, help="of the 20 ms loop")
    parser.add_argument("--output", type=Path, default=RESULTS, help="file to write")
    instead = parser.add_mutually_exclusive_group()
    for name, text in INSTEAD.items():
        instead.add_argument(f"--{name}", action="store_true", help=text)
    options = parser.parse_args()
    if options.sizing:
        sizing.write(sizing.measure())
        return
    if options.panels:
        title, rows = report.PANELS, panels.rows()
    elif options.drilldown:
        title, rows = report.PAGES, drilldown.rows()
    else:
        title, rows = report.EXPORTER, _all_exporter_rows(options.seconds, options.late_seconds)
    print(report.table(rows), end="")
    report.write(options.output, title, rows)


def _all_exporter_rows(seconds: float, late_seconds: float) -> list[Row]:
    """Measure what is in the host's process."""
    hot = tap.hot()
    return [
        *_tap_rows("hot", hot, 0.5),
        *_tap_rows("100 taps at 20 ms", tap.cadence(seconds), None),
        *_analysis_rows(analysis.compare(), analysis.without_avx512()),
        *_exporter_rows(exporter.compare(), hot["naive"]),
        *_lateness_rows(lateness.in_process(late_seconds, favoured=True), "`favour_audio()`"),
        *_lateness_rows(lateness.in_process(late_seconds, favoured=False), "a host as it is"),
        *_scrape_rows(scrape.compare()),
    ]


if __name__ == "__main__":
    main()

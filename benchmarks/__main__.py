"""Measure everything, print the table and write RESULTS.md."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import analysis, report, scrape, tap
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
    ours, ratio = f"{cost['ours']:.2f} ns/sample", cost["per_frame"] / cost["ours"]
    per_frame, memcpy = f"{cost['per_frame']:.0f} ns/sample", f"{cost['memcpy']:.3f} ns/sample"
    what = "time domain, 64 taps x 1 s"
    rows = [
        Row(f"{what}: numpy per frame", ours, per_frame, ratio, ">= 100", ratio >= 100),
        Row(f"{what}: memcpy", ours, memcpy, cost["memcpy"] / cost["ours"]),
    ]
    if widths:
        on, off = widths["with"], widths["without"]
        texts = f"{off:.2f} ns/sample", f"{on:.2f} ns/sample"
        slower = "time domain without AVX-512 (ratio: ours / with it)"
        rows.append(Row(slower, *texts, off / on, "<= 1.5", off / on <= 1.5))
    return rows


def _scrape_rows(cost: dict[str, float]) -> list[Row]:
    ours, peer = cost["ours"], cost["peer"]
    texts = f"{ours / 1e6:.2f} ms", f"{peer / 1e6:.1f} ms"
    what = "10,000 gauge series: `generate_latest`"
    return [Row(what, *texts, peer / ours, ">= 10", peer / ours >= 10)]


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0, help="length of each cadence run")
    parser.add_argument("--output", type=Path, default=RESULTS, help="file to write")
    options = parser.parse_args()
    rows = _tap_rows("hot", tap.hot(), 0.5)
    rows += _tap_rows("100 taps at 20 ms", tap.cadence(options.seconds), None)
    rows += _analysis_rows(analysis.compare(), analysis.without_avx512())
    rows += _scrape_rows(scrape.compare())
    print(report.table(rows), end="")
    report.write(options.output, rows)


if __name__ == "__main__":
    main()

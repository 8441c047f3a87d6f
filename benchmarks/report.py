"""Results as a table, on the terminal and in RESULTS.md."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import thread_time

HEAD = ("what", "ours", "peer", "ratio", "bar", "holds")
EXPORTER, PANELS, PAGES = "Host and exporter", "Panels", "Pages of the drill-down"
SECTIONS = (EXPORTER, PANELS, PAGES, "Machine")
INTRODUCTION = """# Results

Written by `make bench`, each section by a run of its own. Peer and ours take turns in one run;
costs are medians over the rounds. A ratio says how many times the peer costs what ours costs,
unless the row says otherwise. The naive port measures each frame with numpy and tells 30 gauges
and 30 histograms of prometheus_client, labels looked up once: the same metrics of a frame. A trace
is two stations with two taps each at 16 kHz; what is counted of the exporter is CPU time of its
thread. Panels (`make bench ARGS=--panels`) are asked on a seeded archive of three days; their
ratio is how often the worse of both times goes into the bar. Pages of the drill-down (`make bench
ARGS=--drilldown`) are opened on such an archive, in a Chromium that runs already. Absolute times
belong to the machine below.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; ``holds`` is None where there is no bar."""

    what: str
    ours: str
    peer: str
    ratio: float
    bar: str = ""
    holds: bool | None = None

    def cells(self) -> tuple[str, ...]:
        """Return the line's cells as text."""
        held = {None: "", True: "yes", False: "**no**"}[self.holds]
        digits = 0 if self.ratio >= 100 else 2
        return self.what, self.ours, self.peer, f"{self.ratio:,.{digits}f}", self.bar, held


def table(rows: Iterable[Row]) -> str:
    """Render a Markdown table."""
    lines = [HEAD, ("---",) * len(HEAD), *(row.cells() for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def machine() -> str:
    """Describe what the numbers depend on, one item a line."""
    items = {
        "Processor": f"{_processor()}, {os.cpu_count()} cores",
        "System": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
        "numpy": version("numpy"),
        "prometheus_client": version("prometheus-client"),
    }
    return "".join(f"- {name}: {value}\n" for name, value in items.items())


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    text = information.read_text() if information.exists() else ""
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.processor()


def write(path: Path, title: str, rows: list[Row]) -> None:
    """Write one section of the results, in the place of what it said before.

    Args:
        path: The file; its other sections stay.
        title: Which section, one of ``SECTIONS``.
        rows: Its lines.
    """
    sections = _sections(path.read_text(encoding="utf-8")) if path.exists() else {}
    sections[title] = f"{_circumstances()}\n\n{table(rows)}"
    sections["Machine"] = machine()
    known = [f"## {name}\n\n{sections[name]}" for name in SECTIONS if name in sections]
    path.write_text("\n".join([INTRODUCTION, *known]), encoding="utf-8")


def _sections(text: str) -> dict[str, str]:
    """Part a file of results by its headings."""
    parts = [part.partition("\n\n") for part in text.split("\n## ")[1:]]
    return {title: f"{content.strip()}\n" for title, _, content in parts}


def _circumstances() -> str:
    today, load = datetime.now(UTC).date(), os.getloadavg()[1]
    return (
        f"{today}, {load:.1f} processes running on average over the five minutes before its end;\n"
        f"a million additions in Python took {_additions_ms():.0f} ms then."
    )


def _additions_ms(rounds: int = 9) -> float:
    """Tell how fast the machine happens to be: others may share its cores."""
    times: list[float] = []
    for _ in range(rounds):
        begun, total = thread_time(), 0
        for number in range(1_000_000):
            total += number
        times.append(thread_time() - begun)
    return 1e3 * median(times)

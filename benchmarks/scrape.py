"""Cost of rendering 10,000 gauge series, against prometheus_client's ``generate_latest``."""

from __future__ import annotations

import math
import random

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.timing import Contender, take_turns
from exporter.breath import Breath
from exporter.exposition import Exposition
from exporter.live import Layout
from exporter.metrics import METRICS

FAMILIES = 20
LABELS = ("station", "tap", "direction")

Values = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Pages:
    """The same series on both sides.

    Attributes:
        series: How many.
    """

    def __init__(self, series: int) -> None:
        per_family = series // FAMILIES
        self.series = per_family * FAMILIES
        self._draw = random.Random(1)
        self._labels = [(f"St_{index}", "pre", "inbound") for index in range(per_family)]
        self._texts = [
            ",".join(f'{key}="{value}"' for key, value in zip(LABELS, each, strict=True))
            for each in self._labels
        ]
        self._exposition = Exposition(Layout(METRICS), self.series, 60.0, breath=Breath(math.inf))
        self._registry = CollectorRegistry()
        self._gauges = [
            Gauge(f"monitoring_g{index}", "A gauge.", LABELS, registry=self._registry)
            for index in range(FAMILIES)
        ]
        self._rows: list[list[tuple[str, float]]] = []
        self.change()

    def change(self) -> None:
        """Give every series a new value, on both sides."""
        self._rows = [
            [(text, self._draw.gauss(0.0, 100.0)) for text in self._texts] for _ in range(FAMILIES)
        ]
        for gauge, rows in zip(self._gauges, self._rows, strict=True):
            for labels, (_, value) in zip(self._labels, rows, strict=True):
                gauge.labels(*labels).set(value)

    def ours(self) -> bytes:
        """Render with the project's templates."""
        pieces: list[str] = []
        for index, rows in enumerate(self._rows):
            name = f"monitoring_g{index}"
            pieces += (f"# HELP {name} A gauge.\n# TYPE {name} gauge\n",)
            pieces += self._exposition.lines(name, rows)
        return "".join(pieces).encode()

    def peer(self) -> bytes:
        """Render with prometheus_client."""
        return generate_latest(self._registry)


def values(page: bytes) -> Values:
    """Parse a page into the value of each series."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def compare(rounds: int = 15, series: int = 10_000) -> dict[str, float]:
    """Render both pages with new values in every round.

    Returns:
        ns per page of ``ours`` and ``peer``.

    Raises:
        RuntimeError: The two pages do not say the same.
    """
    pages = Pages(series)
    if values(pages.ours()) != values(pages.peer()):
        raise RuntimeError("the rendered page and prometheus_client's differ")
    contenders = {
        "ours": Contender(pages.ours, 1),
        "peer": Contender(pages.peer, 1, pages.change),
    }
    return take_turns(contenders, rounds)

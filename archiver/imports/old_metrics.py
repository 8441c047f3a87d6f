"""One row of an old ``metrics*.csv`` as a row of ``metrics_agg_5s``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

from archiver.imports.accounts import UnkeptError
from archiver.imports.fields import Cells, Notes, Reading, bucket_of, number
from archiver.imports.old_ids import call_of, station_of
from exporter.metrics import METRIC_KEY_PATTERN, MetricRegistry, Per
from exporter.model import Tap

METRIC_NEEDED = ("trace_id", "station_key", "metric_key", "bucket_ts", "count")
FACTS = {"station_group": "group", "layer": "layer", "direction": "direction"}
"""Columns that tell of a station, by the name under which its calls have them as attributes."""
_ROUNDING = 1e-3
_TAPS = frozenset(Tap)
_NUMBERS = ("min", "max", "sum", "avg", "last")


@dataclass(frozen=True, slots=True)
class OldMetric:
    """One metric in one bucket at one tap.

    Attributes:
        raw_trace: The call's id in the export.
        row: Columns of ``archiver.rows.METRICS``.
        facts: What the row tells of its station.
        notes: What was changed or assumed.
    """

    raw_trace: str
    row: tuple[str, str, str, datetime, str, int, float, float, float, float, float, datetime]
    facts: dict[str, str]
    notes: tuple[tuple[str, str], ...]

    @property
    def trace_id(self) -> str:
        """The call's id here."""
        return self.row[0]


def parse_metric(cells: Cells, registry: MetricRegistry, reading: Reading) -> OldMetric:
    """Return the row that is kept.

    Raises:
        UnkeptError: It cannot be kept.
    """
    notes: Notes = []
    bucket_ts, until = bucket_of(cells, reading.zone, notes)
    trace_id = call_of(cells["trace_id"], bucket_ts, reading, notes)
    station = station_of(cells["station_key"], notes)
    key = cells["metric_key"]
    if not METRIC_KEY_PATTERN.fullmatch(key):
        raise UnkeptError("bad_metric_key", f"metric_key: {key[:40]!r}")
    tap = _tap(cells.get("tap", ""), key, registry, notes)
    count = _count(cells["count"])
    low, high, total, average, last = _numbers(cells, count, notes)
    if key not in registry:
        notes.append(("unknown_metric", key))
    elif not registry[key].low <= low <= high <= registry[key].high:
        allowed = f"{registry[key].low:g} to {registry[key].high:g}"
        raise UnkeptError("out_of_range", f"{key}: {low:g} to {high:g} is not within {allowed}")
    row = (trace_id, station, tap, bucket_ts, key, count, low, high, total, average, last, until)
    facts = {name: cells[column] for column, name in FACTS.items() if cells.get(column)}
    return OldMetric(cells["trace_id"], row, facts, tuple(notes))


def _tap(text: str, key: str, registry: MetricRegistry, notes: Notes) -> str:
    if text.upper() in _TAPS:
        return text.upper()
    # What a host reports is of POST unless it says so; what is measured could be of either.
    if text or (key in registry and registry[key].per is not Per.OBSERVE):
        raise UnkeptError("bad_tap", f"tap: {text[:40]!r}")
    notes.append(("tap_assumed", ""))
    return Tap.POST


def _count(text: str) -> int:
    count = number(text)
    if count is None or count < 1 or count != int(count) or count >= 1 << 63:
        raise UnkeptError("no_count", f"count: {text[:40]!r}")
    return int(count)


def _numbers(cells: Cells, count: int, notes: Notes) -> tuple[float, float, float, float, float]:
    """Return min, max, sum, avg and last, which fit together."""
    found = {name: _number(name, cells.get(name, "")) for name in _NUMBERS}
    if found["sum"] is None and found["avg"] is not None:
        found["sum"] = found["avg"] * count
        notes.append(("derived", "sum"))
    if found["avg"] is None and found["sum"] is not None:
        found["avg"] = found["sum"] / count
        notes.append(("derived", "avg"))
    low, high, total, average, last = (_present(name, found[name]) for name in _NUMBERS)
    slack = _ROUNDING * max(1.0, abs(average))
    fits = (
        math.isfinite(total)
        and abs(average - total / count) <= slack
        and low <= last <= high
        and low - slack <= average <= high + slack
    )
    if not fits:
        raise UnkeptError("contradiction", f"count {count}, {found}")
    return low, high, total, total / count, last


def _number(name: str, text: str) -> float | None:
    value = number(text)
    if value is None and text:
        raise UnkeptError("not_a_number", f"{name}: {text[:40]!r}")
    return value


def _present(name: str, value: float | None) -> float:
    if value is None:
        raise UnkeptError("no_value", f"{name} is empty")
    return value

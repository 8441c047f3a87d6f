"""Whatever stands in an old export, nothing breaks, and every row is counted exactly once."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archiver.imports.accounts import REASONS, UnkeptError
from archiver.imports.fields import Reading, read_rows
from archiver.imports.old_knobs import parse_event, parse_snapshot
from archiver.imports.old_metrics import METRIC_NEEDED, parse_metric
from exporter.knobs import shipped_registry
from exporter.metrics import METRICS, shipped_metrics
from exporter.model import KEY_PATTERN
from tests.fix_old_export import (
    EVENT_COLUMNS,
    METRIC_COLUMNS,
    ONE,
    SNAPSHOT_COLUMNS,
    STATION,
    event,
    metric,
    snapshot,
    stamp,
    write_csv,
)
from tests.fix_seeded import Seeded

FILES = {
    "metrics": (METRIC_COLUMNS, metric()),
    "knob_snapshots": (SNAPSHOT_COLUMNS, snapshot(0, {"pcm.input_gain_db": 1.0})),
    "knob_events": (EVENT_COLUMNS, event(0)),
}
LONG = {
    "<digits>": "9" * 400,
    "<deep>": '{"a":' * 2_000 + "1" + "}" * 2_000,
    "<open>": '{"a": ' * 500,
    "<key>": "\N{SNOWMAN}" * 70,
    "<huge>": "x" * 140_000,
}
"""Cells that no failing example should have to show."""
CELLS = st.one_of(
    st.sampled_from(
        [
            *("", "0", "1", "-1", "5000", "1e400", "NaN", "-inf", "true", "FALSE", "1_0", "null"),
            *("GLOBAL", "global", ONE, STATION, "PRE", "pre", "pcm.rms_dbfs", "pcm.input_gain_db"),
            *(stamp(), stamp(0.3), "1767463500000", "2026-02-30T00:00:00", "{}", "[]"),
            *('{"a": {"b": null}}', '{"pcm.input_gain_db": 1e999}', '{"\\u0000": 1}', "\0"),
            *LONG,
        ]
    ),
    st.text(max_size=30),
    st.floats().map(str),
)


@st.composite
def rows(draw: st.DrawFn, kind: str) -> list[dict[str, object]]:
    """Draw good rows with some cells replaced."""
    columns, good = FILES[kind]
    found: list[dict[str, object]] = []
    for _ in range(draw(st.integers(0, 6))):
        spoiled = draw(st.dictionaries(st.sampled_from(columns), CELLS, max_size=4))
        found.append(good | spoiled)
    return found


def written(row: dict[str, object]) -> dict[str, object]:
    """Return a row with its long cells in full."""
    return {name: LONG.get(str(cell), cell) for name, cell in row.items()}


def records(path: Path) -> int:
    """Count the rows of a file; one with a huge cell ends there, and its rest is one of its own."""
    count = 0
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.reader(stream)
        next(reader)
        while True:
            try:
                count += bool(next(reader))
            except csv.Error:
                count += 1
            except StopIteration:
                return count


@given(st.sampled_from(sorted(FILES)).flatmap(lambda kind: st.tuples(st.just(kind), rows(kind))))
@settings(max_examples=200, deadline=None)
def test_a_row_is_kept_or_has_a_reason(case: tuple[str, list[dict[str, object]]]) -> None:
    """Any cells become a row with valid keys and finite numbers, or one of the known reasons."""
    kind, content = case
    for row in content:
        cells = dict.fromkeys(FILES[kind][0], "") | {k: str(v) for k, v in written(row).items()}
        try:
            if kind == "metrics":
                found = parse_metric(cells, shipped_metrics(), Reading(UTC))
                low, high, total, average, last = found.row[6:11]
                assert low <= last <= high
                assert average == total / found.row[5]
                key = found.row[4]
                assert key not in METRICS or METRICS[key].low <= low <= high <= METRICS[key].high
                assert KEY_PATTERN.fullmatch(found.trace_id)
            elif kind == "knob_snapshots":
                taken = parse_snapshot(cells, shipped_registry(), Reading(UTC))
                json.dumps(taken.knobs, allow_nan=False).encode()
                assert KEY_PATTERN.fullmatch(taken.trace_id)
            else:
                turned = parse_event(cells, shipped_registry(), Reading(UTC))
                json.dumps([turned.old_value, turned.new_value], allow_nan=False).encode()
        except UnkeptError as error:
            assert error.reason in REASONS  # noqa: PT017 - which of them, the input decides


@given(st.binary(max_size=2_000))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_read_as_rows(content: bytes) -> None:
    """Bytes that are no CSV at all are rows that are none, to the end of the file."""
    header = ",".join(METRIC_NEEDED).encode() + b"\n"
    expected = list(csv.reader(io.StringIO(content.decode("utf-8", "replace"), newline="")))

    found = list(read_rows(io.BytesIO(header + content), METRIC_NEEDED))

    assert len([cells for cells in expected if cells]) == len(found)


@given(st.fixed_dictionaries({kind: rows(kind) for kind in FILES}))
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_sums_are_exact_whatever_is_offered(
    archive: Seeded, content: dict[str, list[dict[str, object]]]
) -> None:
    """Twice, every row of every file is kept, there or rejected; the second time none is kept."""
    with TemporaryDirectory() as folder:
        offered = {}
        for kind, found in content.items():
            path = Path(folder) / f"{kind}.csv"
            write_csv(path, FILES[kind][0], [written(row) for row in found])
            offered[kind] = records(path)
            assert offered[kind] >= len(found)
        reports = []
        for _ in range(2):
            code, out, err = archive.call("import", folder, "--json")
            assert 0 == code, err
            reports.append(json.loads(out)["kinds"])
    for number, report in enumerate(reports):
        for kind, count in offered.items():
            account = report[kind]
            rejected = sum(account["rejected"].values())
            assert count == account["offered"]
            assert count == account["kept"] + account["already_there"] + rejected
            assert number == 0 or account["kept"] == 0

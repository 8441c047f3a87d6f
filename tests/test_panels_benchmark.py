"""The benchmark of panels in small: what it seeds is an archive, and every query finds its rows."""

from __future__ import annotations

import psycopg

from archiver.migrations import migrate
from benchmarks import panels
from benchmarks.seed import seed


def test_every_panel_is_timed_on_a_seeded_archive(database: str) -> None:
    """Aggregates as many as asked for; each SQL query of each board is timed and finds rows."""
    migrate(database)
    seeded = seed(database, aggregates=60_000, hours=6)
    with psycopg.connect(database) as connection:
        row = connection.execute(
            "SELECT count(DISTINCT metric_key), count(DISTINCT (station_key, tap)), "
            "(SELECT sum(residual) FROM reconciliation(now() - interval '1 day', now())) "
            "FROM metrics_agg_5s"
        ).fetchone()

    costs = list(panels.measure(database, seeded, rounds=1))

    assert row is not None
    assert (4, 0) == row[1:]
    assert row[0] > 50
    assert 30_000 < seeded.aggregates < 120_000
    assert {"overview", "station", "trace", "knob_impact", "archive_health"} == {
        cost.board for cost in costs
    }
    empty = {cost.panel for cost in costs if not cost.rows}
    assert empty <= {"Gaps", "Knob changes", "Gaps, losses first"}

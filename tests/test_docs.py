"""What the pages say of metrics, settings and SQL is what the code and the schema have."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from archiver.migrations import migrate
from exporter.config import ENVIRONMENT_VARIABLES, Limits, load_settings
from exporter.health import DEFECTS
from exporter.metrics import METRICS, Metric
from exporter.selfmetrics import SELF_METRICS

ROOT = Path(__file__).parents[1]
DOCS = [f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))]
PAGES = ["README.md", "ARCHITECTURE.md", "RUNBOOK.md", *DOCS]


def page(name: str) -> str:
    """Return the text of a page of the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


def table_rows(text: str, first_column: str) -> list[list[str]]:
    """Return the cells of the Markdown table whose first column has this heading."""
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith(f"| {first_column} |"):
            break
    next(lines)
    rows: list[list[str]] = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows


def described(metric: Metric) -> list[str]:
    """Return the cells that docs/metrics.md has to show for a metric."""
    extremes = ", `_min`, `_max`" if metric.extremes else ""
    histogram = ", `_distribution`" if metric.borders else ""
    return [
        f"`{metric.key}`",
        metric.per,
        metric.unit,
        f"{metric.low:g} to {metric.high:g}",
        f"`{metric.prometheus}`{extremes}{histogram}",
        metric.help,
    ]


def test_metrics_page_lists_the_registry() -> None:
    """The metric table has one row for each registry entry, in order, with its exact words."""
    rows = table_rows(page("docs/metrics.md"), "key")

    assert [described(metric) for metric in METRICS] == rows


def test_metrics_page_lists_the_own_metrics() -> None:
    """The table of own metrics has one row for each entry, in order, with its exact words."""
    expected = [
        [
            f"`monitoring_{metric.name}`",
            metric.type,
            ", ".join(f"`{label}`" for label in metric.labels) or "-",
            metric.help,
        ]
        for metric in SELF_METRICS.values()
    ]

    assert expected == table_rows(page("docs/metrics.md"), "name")


def test_metrics_page_lists_the_weights_of_health() -> None:
    """The table of health has one row for each defect, in order, with its points."""
    rows = [row[:3] for row in table_rows(page("docs/metrics.md"), "defect")]

    assert [[f"`{name}`", f"{w.points:g}", f"{w.full_at:g}"] for name, w in DEFECTS.items()] == rows


def test_readme_names_every_setting() -> None:
    """The settings table names every environment variable that is read, once, and no other."""
    rows = table_rows(page("README.md"), "variable")

    assert sorted(ENVIRONMENT_VARIABLES) == sorted(row[0].strip("`") for row in rows)


def test_readme_configuration_is_valid(tmp_path: Path) -> None:
    """The configuration file that the README shows is accepted, and its values arrive."""
    (block,) = re.findall(r"^```json\n(.*?)^```", page("README.md"), flags=re.MULTILINE | re.DOTALL)
    path = tmp_path / "monitoring.config.json"
    path.write_text(block, encoding="utf-8")

    settings = load_settings({"MONITORING_CONFIG": str(path)})

    assert Limits() == settings.limits
    assert {"pcm.input_gain_db": 3.0} == settings.stations["St_3_3333"].knobs
    assert -3.0 == settings.knobs["limiter.threshold_dbfs"]


@pytest.mark.parametrize("number", range(4))
def test_readme_queries_fit_the_schema(database: str, number: int) -> None:
    """Each example query of the README runs on a fresh database."""
    queries = re.findall(r"^```sql\n(.*?)^```", page("README.md"), flags=re.MULTILINE | re.DOTALL)
    assert 4 == len(queries)
    migrate(database)

    with psycopg.connect(database) as connection:
        found = connection.execute(queries[number].encode())

        assert [] == found.fetchall()


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "ARCHITECTURE.md",
        "RUNBOOK.md",
        *(f"docs/{each.name}" for each in sorted((ROOT / "docs").glob("*.md"))),
    ],
)
def test_links_lead_somewhere(name: str) -> None:
    """Every relative link of a page names a file of the repository."""
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page(name))

    assert [] == [each for each in targets if not (ROOT / name).parent.joinpath(each).exists()]

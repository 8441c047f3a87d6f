"""RUNBOOK.md has an entry for each alert, with its rule, its five parts, and names that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dashboards.alert import Alert
from dashboards.alerts import ALERTS
from dashboards.annotations import anchor
from exporter.config import ENVIRONMENT_VARIABLES
from exporter.knobs import shipped_registry
from exporter.metrics import METRICS
from tests.known_names import shown_names

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "RUNBOOK.md").read_text(encoding="utf-8")
PARTS = ["Means", "Callers hear", "Look at", "Do", "Gone when"]
# Dotted names that are neither metric nor knob: an attribute of traces, a section of the settings.
_OTHERS = {"asterisk.channel_state", "limits.max_series"}


def entries() -> dict[str, str]:
    """Return the text of each entry by its heading."""
    parts = re.split(r"^## (.*)\n", TEXT, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_every_alert_has_one_entry() -> None:
    """None is missing, none is stale; they stand in the order of the alerts."""
    assert [alert.name for alert in ALERTS] == list(entries())


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_entry_says_all_there_is_to_say(alert: Alert) -> None:
    """An entry has the rule as it is, and its five parts in order."""
    text = entries()[alert.name]

    assert f"Rule: `{alert.rule}`" in text
    assert PARTS == re.findall(r"^- \*\*(.*):\*\* ", text, flags=re.MULTILINE)


def test_a_link_is_made_from_the_name() -> None:
    """What an alert links to is the heading as pages that show Markdown name it."""
    assert {anchor(name) for name in entries()} == {alert.name.lower() for alert in ALERTS}
    targets = set(re.findall(r"\]\(#([^)]*)\)", TEXT))
    assert set() == targets - {anchor(name) for name in entries()}


def test_every_name_exists() -> None:
    """Series, metrics, knobs and settings that the runbook names are in their registries."""
    named = set(re.findall(r"`([^`]+)`", TEXT))
    series = {name for name in named if re.fullmatch(r"monitoring_[a-z0-9_]+", name)}
    dotted = {name for name in named if re.fullmatch(r"[a-z0-9_]+\.[a-z0-9_]+", name)}
    settings = {name for name in named if re.fullmatch(r"MONITORING_[A-Z_]+", name)}
    keys = {metric.key for metric in METRICS} | {knob.key for knob in shipped_registry()}

    assert set() == series - shown_names() - {"monitoring_retention", "monitoring_erasure"}
    assert set() == dotted - keys - _OTHERS
    assert set() == settings - set(ENVIRONMENT_VARIABLES)


def test_links_lead_somewhere() -> None:
    """Every relative link names a file of the repository."""
    targets = re.findall(r"\]\(([^)#:]+)\)", TEXT)

    assert [] == [each for each in targets if not (ROOT / each).exists()]

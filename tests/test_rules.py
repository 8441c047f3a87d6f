"""Prometheus's rules: promtool accepts them, and each fires when it should and only then."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards.alert import Alert
from dashboards.alerts import ALERTS
from dashboards.annotations import Addresses
from dashboards.provisioning import PROMETHEUS_RULES, files
from dashboards.rules import prometheus_rules
from tests.fix_prometheus import promtool
from tests.rule_cases import CASES, Case

_ADDRESSES = Addresses("https://calls.test", "https://grafana.test", "https://docs.test/RUNBOOK.md")


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """Yield the file of rules with links to hosts of the tests."""
    path = tmp_path / "rules.yaml"
    path.write_text(files(_ADDRESSES)[PROMETHEUS_RULES])
    return path


def expected_annotations(alert: Alert, case: Case) -> dict[str, str]:
    """Return what the alert has to tell, spelled out."""
    station = case.labels.get("station")
    board = f"https://grafana.test/d/{alert.dashboard}"
    found = {
        "summary": case.summary,
        "description": alert.description,
        "dashboard": f"{board}?var-station={station}" if station else board,
        "runbook_url": f"https://docs.test/RUNBOOK.md#{alert.name.lower()}",
    }
    if station:
        found["drilldown"] = (
            f"https://calls.test/go?station={station}&metric={alert.metric}&at={case.seconds}"
        )
    return found


def expected_alert(alert: Alert, case: Case) -> dict[str, dict[str, str]]:
    """Return the firing alert in promtool's form."""
    host = {"job": "monitoring", "instance": "host:9464"}
    if alert.name == "MonitoringRetentionStuck":
        del host["instance"]
    return {
        "exp_labels": {"severity": alert.severity.value} | host | case.labels,
        "exp_annotations": expected_annotations(alert, case),
    }


def unit_tests(alert: Alert, case: Case) -> Iterator[dict[str, Any]]:
    """Yield promtool's tests of one alert: it fires, not too early; it stays silent."""
    for series, expected in ((case.firing, [expected_alert(alert, case)]), (case.silent, [])):
        looks = [(case.seconds, expected)]
        if case.early is not None:
            looks.insert(0, (case.early, []))
        yield {
            "interval": f"{case.step}s",
            "input_series": [{"series": key, "values": values} for key, values in series.items()],
            "alert_rule_test": [
                {"alertname": alert.name, "eval_time": f"{seconds}s", "exp_alerts": exp}
                for seconds, exp in looks
            ],
        }


def test_every_alert_has_its_cases() -> None:
    """There is one case that fires and one that stays silent for each alert, and no other."""
    assert [alert.name for alert in ALERTS] == list(CASES)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_fires_when_it_should_and_only_then(
    alert: Alert, rules: Path, tmp_path: Path
) -> None:
    """Promtool sees it fire with its labels, summary and links; not too early, not for less."""
    document = {
        "rule_files": [str(rules)],
        "evaluation_interval": "10s",
        "tests": list(unit_tests(alert, CASES[alert.name])),
    }
    path = tmp_path / "tests.yaml"
    path.write_text(json.dumps(document))

    code, said = promtool("test", "rules", path)

    assert (0, alert.name) == (code, alert.name), said


def test_no_target_at_all_is_told(rules: Path, tmp_path: Path) -> None:
    """An alert says that Prometheus knows of no host, which no series could say."""
    alert = next(alert for alert in ALERTS if alert.name == "MonitoringTargetDown")
    summary = "no host: live metrics cannot be scraped; 0 calls running"
    expected = expected_alert(alert, Case({}, {}, summary))
    expected["exp_labels"] = {"severity": "critical", "instance": "no host"}
    look = {"alertname": alert.name, "eval_time": "2m", "exp_alerts": [expected]}
    path = tmp_path / "tests.yaml"
    test = {"interval": "5s", "input_series": [], "alert_rule_test": [look]}
    path.write_text(
        json.dumps({"rule_files": [str(rules)], "evaluation_interval": "10s", "tests": [test]})
    )

    code, said = promtool("test", "rules", path)

    assert 0 == code, said


def test_promtool_accepts_the_rules(rules: Path) -> None:
    """`promtool check rules` finds nothing, and as many rules as there are alerts."""
    code, said = promtool("check", "rules", rules)

    assert 0 == code, said
    assert f"{len(ALERTS)} rules found" in said


def test_the_file_is_what_was_meant() -> None:
    """A reader of YAML finds in the text what the rules consist of."""
    text = files(_ADDRESSES)[PROMETHEUS_RULES]

    assert prometheus_rules(ALERTS, _ADDRESSES) == yaml.safe_load(text)

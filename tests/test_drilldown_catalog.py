"""What the API says of each metric is what the registry says."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from archiver.drilldown import create_app
from exporter.metrics import host_metric, shipped_metrics
from tests.fix_drilldown import LocalClient, settings_for


def test_metrics_are_those_of_the_registry_and_of_the_settings(tmp_path: Path) -> None:
    """Each entry has unit, range and words of the registry, also one that a host declared."""
    registry = shipped_metrics()
    registry.register(host_metric("asr.words", "1/min", low=0, high=500, help="Words a minute."))
    # No database is asked.
    settings = replace(settings_for("port=1", tmp_path), metrics=registry)
    with LocalClient(create_app(settings)) as client:
        items = {item["key"]: item for item in client.get("/api/v1/metrics").json()["items"]}

    assert [metric.key for metric in registry] == list(items)
    for metric in registry:
        item = items[metric.key]
        assert (metric.unit, metric.help) == (item["unit"], item["description"])
        high = None if math.isinf(metric.high) else metric.high
        assert (metric.low, high) == (item["low"], item["high"])
    assert ("RMS", "tap") == (items["pcm.rms_dbfs"]["title"], items["pcm.rms_dbfs"]["scope"])
    assert ("gain", "pair") == (items["pair.gain_db"]["title"], items["pair.gain_db"]["scope"])
    assert ("words", "1/min") == (items["asr.words"]["title"], items["asr.words"]["unit"])

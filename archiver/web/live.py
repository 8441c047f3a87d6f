"""What is live now: from /metrics where it answers, else from the newest buckets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from http.client import HTTPException
from pathlib import Path
from urllib.request import Request, urlopen

from archiver import moments
from archiver.pool import Row
from archiver.web.site import Site
from exporter.config import Settings
from exporter.metrics import Form, MetricRegistry

SHOWN = {
    "rms_dbfs": "pcm.rms_dbfs",
    "peak_dbfs": "pcm.peak_dbfs",
    "clipping_ratio": "pcm.clipping_ratio",
    "silence_ratio": "pcm.silence_detected",
    "speech_ratio": "pcm.speech_ratio",
    "snr_db": "pcm.snr_estimate",
    "lufs_short_term": "advanced.lufs_short_term",
    "drop_ratio": "pipe.frame_drop_ratio",
    "latency_ms": "pipe.processing_latency_ms",
    "score": "health.audio_score",
}
"""Names in the answer, and the metrics that they are."""
TIMEOUT_S = 1.0
_MOST_BYTES = 16 * 1024**2
_SAMPLE = re.compile(
    r'(?P<name>[a-z0-9_]+)\{station="(?P<station>[^"\\]+)"(?:,tap="(?P<tap>PRE|POST)")?\} '
    r"(?P<value>\S+)"
)
_ACTIVE = "monitoring_active_traces"


def live_stations(site: Site) -> Row:
    """Return each station with its running calls and the newest values of its taps."""
    pages = [page for address in _addresses(site.settings) if (page := _fetch(address))]
    if pages:
        found = _from_pages(pages, site.settings.metrics)
        return {"stations": found, "source": "metrics"}
    with site.connections.reading() as connection:
        rows = moments.live_stations(connection, tuple(SHOWN.values()), site.now())
    return {"stations": _from_rows(rows), "source": "database"}


def _addresses(settings: Settings) -> Iterator[str]:
    """Yield where /metrics may be: at the one port, or where processes wrote that they are."""
    if len(settings.metrics_ports) == 1:
        yield f"{settings.metrics_host}:{settings.metrics_ports[0]}"
        return
    for path in _target_files(settings.targets_path):
        try:
            (target,) = json.loads(path.read_text(encoding="utf-8"))
            yield str(target["targets"][0])
        except (OSError, ValueError, LookupError, TypeError):
            continue  # it ended in this moment


def _target_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("monitoring-*.json"))


def _fetch(address: str) -> str:
    """Return the page at an address of our own settings, empty when there is none."""
    request = Request(f"http://{address}/metrics")
    try:
        with urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - as above
            return str(answer.read(_MOST_BYTES).decode("utf-8", "replace"))
    except (OSError, HTTPException, ValueError):
        return ""


def _from_pages(pages: Iterable[str], registry: MetricRegistry) -> list[Row]:
    names = {}
    for name, key in SHOWN.items():
        if key in registry and registry[key].form is Form.GAUGE:
            names[registry[key].prometheus] = (name, registry[key].scale)
    stations: dict[str, Row] = {}
    for sample in (match for page in pages for match in _SAMPLE.finditer(page)):
        if sample["name"] == _ACTIVE:
            _station(stations, sample["station"])["active"] += int(float(sample["value"]))
        elif sample["name"] in names and sample["tap"]:
            name, scale = names[sample["name"]]
            taps = _station(stations, sample["station"])["taps"]
            taps.setdefault(sample["tap"], {})[name] = float(sample["value"]) / scale
    return [stations[key] for key in sorted(stations)]


def _from_rows(rows: Iterable[Row]) -> list[Row]:
    names = {key: name for name, key in SHOWN.items()}
    stations: dict[str, Row] = {}
    for row in rows:
        station = _station(stations, row["station_key"])
        station["active"] = max(station["active"], row["calls"])
        values = station["taps"].setdefault(row["tap"], {})
        if row["metric_key"] is not None:
            values[names[row["metric_key"]]] = row["value"]
    return [stations[key] for key in sorted(stations)]


def _station(stations: dict[str, Row], key: str) -> Row:
    return stations.setdefault(key, {"station_key": key, "active": 0, "taps": {}})

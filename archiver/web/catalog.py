"""The endpoint that says what each metric is: those that ship and those of the host's settings."""

from __future__ import annotations

from archiver.pool import Row
from archiver.web.schemas import page, ref
from archiver.web.site import Ask, Operation
from exporter.metrics import Metric

_TITLES = {
    "health.audio_score": "health score",
    "advanced.lufs_momentary": "momentary loudness",
    "advanced.lufs_short_term": "short-term loudness",
    "advanced.lufs_integrated": "integrated loudness",
}
_ABBREVIATIONS = {"dc": "DC", "rms": "RMS", "snr": "SNR", "vad": "VAD"}
_UNIT_ENDINGS = ("_dbfs", "_db", "_ms", "_lu")


def list_metrics(ask: Ask) -> Row:
    """Answer the registry; a range without an end has null there."""
    return {"items": [_item(metric) for metric in ask.site.settings.metrics], "next": None}


def _item(metric: Metric) -> Row:
    return {
        "key": metric.key,
        "title": _title(metric.key),
        "description": metric.help,
        "unit": metric.unit,
        "low": metric.low,
        "high": metric.high,
        "per": str(metric.per),
        "scope": "pair" if metric.is_pair else "tap",
        "prometheus": metric.prometheus,
    }


def _title(key: str) -> str:
    """Return the name in words: ``pcm.rms_dbfs`` is "RMS", for its unit is said beside it."""
    name = key.partition(".")[2]
    for ending in _UNIT_ENDINGS:
        name = name.removesuffix(ending)
    words = (_ABBREVIATIONS.get(word, word) for word in name.split("_"))
    return _TITLES.get(key, " ".join(words))


OPERATIONS = (
    Operation(
        "/api/v1/metrics",
        "What each metric is: those that ship, and those of the host that the settings name.",
        list_metrics,
        answer=page(ref("Metric")),
    ),
)

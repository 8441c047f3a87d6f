"""Small builders of records for the archive's tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from deploy.postgres import free_port
from exporter.aggregates import Aggregate, Aggregates
from exporter.config import Settings, load_settings
from exporter.model import Bucket, Run, Tap, TapBucket

START_NS = 1_767_225_600 * 10**9
"""2026-01-01T00:00:00Z."""
RATE = 16_000


def bucket(
    trace_id: str = "call-1", number: int = 0, *, first: int = 0, values: tuple[float, ...] = (1.0,)
) -> Bucket:
    """Return a bucket with 1,600 samples at PRE from offset `first`; `values` of one metric."""
    at = START_NS + number * 5 * 10**9
    last_ns = at + first * 10**9 // RATE
    rms = Aggregate(
        "pcm.rms_dbfs", len(values), min(values), max(values), sum(values), values[-1], last_ns
    )
    frames = Aggregate("stream.frames", 1, 5.0, 5.0, 5.0, 5.0, last_ns)
    run = Run(first, b"\x01\x02" * 1_600)
    tap = TapBucket(Tap.PRE, RATE, first, 1_600, (run,), (), Aggregates.of((rms, frames)))
    return Bucket(trace_id, "St_3_3333", at, (tap,), {"pcm.input_gain_db": 0.0})


def settings(folder: Path, conninfo: str) -> Settings:
    """Return settings with all paths below `folder`."""
    return Settings(
        db=conninfo,
        audio_path=folder / "audio",
        spool_path=folder / "spool",
        retention_free_share=0.0,  # the disk of the tests may be full
    )


def host_settings(folder: Path, conninfo: str) -> Settings:
    """Return settings as a host loads them, with all paths below `folder` and a free port."""
    return replace(
        load_settings({}),
        db=conninfo,
        audio_path=folder / "audio",
        spool_path=folder / "spool",
        targets_path=folder,
        metrics_ports=(free_port(),),
    )


__all__ = ["RATE", "START_NS", "bucket", "host_settings", "settings"]

"""What the monitoring tells about itself: the registry of its own counters and gauges.

Both packages report through it, so that dashboards and alerts have one list of names. Every
name is exposed as ``monitoring_<name>``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

from exporter.model import SelfSample


@dataclass(frozen=True, slots=True)
class SelfMetric:
    """One own number.

    Attributes:
        name: Without ``monitoring_``.
        type: Prometheus type.
        help: One sentence for /metrics.
        labels: Names of its labels.
        known: Values of the labels that are shown from the start.
    """

    name: str
    type: str
    help: str
    labels: tuple[str, ...] = ()
    known: tuple[tuple[str, ...], ...] = ()


_C, _G = "counter", "gauge"


def _each(*reasons: str) -> tuple[tuple[str, ...], ...]:
    return tuple((reason,) for reason in reasons)


_RECORDS = ("bucket", "trace_started", "trace_ended", "consent_changed", "knob_changed")
_LOSSES = ("overrun", "too_late", "disk_full", "spool_full", "queue_full", "invalid")
_DROPS = (
    *(
        (kind, reason)
        for kind in _RECORDS
        for reason in ("queue_full", "spool_full", "invalid", "erased")
    ),
    ("segment", "disk_full"),
    ("batch", "spool_full"),
)

SELF_METRICS: dict[str, SelfMetric] = {
    metric.name: metric
    for metric in (
        SelfMetric("blocks_rejected_total", _C, "Blocks refused at the tap.", ("reason",)),
        SelfMetric(
            "samples_dropped_total",
            _C,
            "Samples lost before the archive.",
            ("reason",),
            known=_each(*_LOSSES, "erased"),
        ),
        SelfMetric("start_timestamp_seconds", _G, "When monitoring was started."),
        SelfMetric("accounting_residual_samples", _G, "Samples that the books lack.", ("part",)),
        SelfMetric("active_calls", _G, "Traces that are running in this process."),
        SelfMetric("traces_refused_total", _C, "Traces refused at their start.", ("reason",)),
        SelfMetric("trace_id_suffixed_total", _C, "Known trace ids that started again."),
        SelfMetric("observations_refused_total", _C, "Reported values refused.", ("reason",)),
        SelfMetric("pair_buckets_total", _C, "Buckets in which PRE was compared with POST."),
        SelfMetric("pair_buckets_left_out_total", _C, "Buckets in which it was not.", ("reason",)),
        SelfMetric("worker_passes_total", _C, "Passes of the exporter thread."),
        SelfMetric("worker_errors_total", _C, "Passes or stations that failed; see the log."),
        SelfMetric("worker_seconds_total", _C, "CPU time of the exporter thread."),
        SelfMetric("heartbeat_timestamp_seconds", _G, "Last sign of life.", ("thread",)),
        SelfMetric("series", _G, "Station series on this page."),
        SelfMetric("series_limit", _G, "Most station series that this page will have."),
        SelfMetric("series_overflow_total", _C, "Series left out because of the limit."),
        SelfMetric("scrapes_rejected_total", _C, "Scrapes refused: too many at once."),
        SelfMetric("forks_total", _C, "Forks that left this process without monitoring."),
        SelfMetric("samples_adopted_total", _C, "Samples in batches that dead processes left."),
        SelfMetric("samples_archived_total", _C, "Samples of audio whose rows are in SQL."),
        SelfMetric("samples_quarantined_total", _C, "Samples whose rows were set aside."),
        SelfMetric("records_total", _C, "Records offered to the archive.", ("kind",)),
        SelfMetric(
            "records_dropped_total", _C, "Records dropped.", ("kind", "reason"), known=_DROPS
        ),
        SelfMetric("records_archived_total", _C, "Records in the database.", ("kind",)),
        SelfMetric(
            "records_quarantined_total",
            _C,
            "Records set aside.",
            ("reason",),
            known=_each("poison", "trace_conflict", "unusable"),
        ),
        SelfMetric("queue_length", _G, "Records waiting in memory.", ("queue",)),
        SelfMetric("queue_capacity", _G, "Most records that may wait.", ("queue",)),
        SelfMetric("spool_batches", _G, "Batch files waiting for the database."),
        SelfMetric("spool_bytes", _G, "Bytes of these files."),
        SelfMetric("spool_limit_bytes", _G, "Most bytes of these files."),
        SelfMetric("spool_free_bytes", _G, "Free bytes where the spool is."),
        SelfMetric("spool_oldest_timestamp_seconds", _G, "Time of the oldest batch file; 0: none."),
        SelfMetric("spool_write_errors_total", _C, "Batch files that could not be written."),
        SelfMetric("spool_corrupt_batches_total", _C, "Damaged batch files set aside."),
        SelfMetric("audio_segments_written_total", _C, "Segment files written."),
        SelfMetric("audio_write_errors_total", _C, "Segment files that could not be written."),
        SelfMetric("audio_withdrawn_total", _C, "Segment files removed: the callers refused."),
        SelfMetric("audio_free_bytes", _G, "Free bytes where the segments are."),
        SelfMetric("audio_size_bytes", _G, "Bytes, free or not, where the segments are."),
        SelfMetric("db_up", _G, "1 while the database answers."),
        SelfMetric("db_attempts_total", _C, "Uploads tried.", ("result",)),
        SelfMetric("db_watchdog_kills_total", _C, "Hung database connections cut."),
        SelfMetric("db_last_success_timestamp_seconds", _G, "Last upload that went through."),
        SelfMetric("batches_deduplicated_total", _C, "Batches that the database had already."),
        SelfMetric("highest_closed_bucket_timestamp_seconds", _G, "Newest bucket offered."),
        SelfMetric("highest_archived_bucket_timestamp_seconds", _G, "Newest bucket in SQL."),
        SelfMetric("retention_deleted_total", _C, "Things that retention deleted.", ("kind",)),
        SelfMetric(
            "retention_last_success_timestamp_seconds",
            _G,
            "Last complete retention; at first, its start.",
        ),
        SelfMetric("erasures_total", _C, "Erased calls refused, erasures completed.", ("result",)),
        SelfMetric("audio_orphans", _G, "Orphans that the last walk found.", ("kind",)),
        SelfMetric("unclean_shutdowns_total", _C, "Earlier processes that died."),
        SelfMetric("thread_errors_total", _C, "Steps that failed; see the log.", ("thread",)),
    )
}
"""All own metrics by name."""


def zeros() -> list[SelfSample]:
    """Return the counters whose labels are known, at 0, so that their first event can be seen."""
    return [
        SelfSample(metric.name, 0.0, labels)
        for metric in SELF_METRICS.values()
        if metric.type == _C
        for labels in metric.known or (() if metric.labels else ((),))
    ]


class Tally:
    """Counts and gauges by name and labels; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[tuple[str, tuple[str, ...]], float] = {}

    def renew_lock(self) -> None:
        """Take a new lock: in the child of a fork, nobody would release the old one."""
        self._lock = threading.Lock()

    def add(self, name: str, *labels: str, by: float = 1) -> None:
        """Add ``by`` to a counter; KeyError for a name that the registry lacks."""
        self._check(name, labels)
        with self._lock:
            key = (name, labels)
            self._values[key] = self._values.get(key, 0) + by

    def set(self, name: str, value: float, *labels: str) -> None:
        """Set a gauge; KeyError for a name that the registry lacks."""
        self._check(name, labels)
        with self._lock:
            self._values[name, labels] = value

    def get(self, name: str, *labels: str) -> float:
        """Return a value, 0 when nothing was counted."""
        self._check(name, labels)
        return self._values.get((name, labels), 0)

    def total(self, name: str) -> float:
        """Return the sum over all labels."""
        with self._lock:
            return sum(value for (key, _), value in self._values.items() if key == name)

    def samples(self) -> list[SelfSample]:
        """Return all values."""
        with self._lock:
            return [
                SelfSample(name, value, labels) for (name, labels), value in self._values.items()
            ]

    @staticmethod
    def _check(name: str, labels: Iterable[str]) -> None:
        if len(SELF_METRICS[name].labels) != len(tuple(labels)):
            raise KeyError(f"{name} takes labels {SELF_METRICS[name].labels}")

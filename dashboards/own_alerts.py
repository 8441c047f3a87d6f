"""Alerts of the archive and of the monitoring itself."""

from __future__ import annotations

from functools import partial

from dashboards import conditions
from dashboards.alert import Alert, Group, Limit, Severity, Unit
from dashboards.links import ARCHIVE_HEALTH
from dashboards.thresholds import Direction, threshold

_ANY = Limit(Direction.ABOVE, 0.0)
_UP = Limit(Direction.BELOW, 1.0)
_HOUR_S = 3_600
_archive = partial(Alert, group=Group.ARCHIVE, dashboard=ARCHIVE_HEALTH)
_host = partial(Alert, group=Group.HOST, dashboard=ARCHIVE_HEALTH)

OWN_ALERTS = (
    _archive(
        name="MonitoringRecordsDropped",
        severity=Severity.CRITICAL,
        summary="{instance} dropped about {value} records in five minutes",
        description="What was heard did not reach the archive, and will not.",
        condition=conditions.grown("records_dropped_total", where='reason!="erased"'),
        limit=_ANY,
        window_s=300,
    ),
    _archive(
        name="MonitoringRecordsQuarantined",
        severity=Severity.WARNING,
        summary="{instance} set about {value} records aside in five minutes",
        description="The database refuses records; they wait beside the spool for a person.",
        condition=conditions.grown("records_quarantined_total"),
        limit=_ANY,
        window_s=300,
    ),
    _archive(
        name="MonitoringArchiveLagging",
        severity=Severity.WARNING,
        summary="{instance}: SQL is {value} behind",
        description="Buckets are closed faster than they come into the database.",
        condition=conditions.archive_lag,
        limit=Limit.of(threshold("archive.lag_seconds")),
        unit=Unit.SECONDS,
        hold_s=30,
    ),
    _archive(
        name="MonitoringSpoolOld",
        severity=Severity.WARNING,
        summary="{instance}: a batch has waited for the database for {value}",
        description="The oldest batch is not uploaded. Nothing is lost while the spool has room.",
        condition=conditions.spool_age,
        limit=Limit.of(threshold("spool.oldest_seconds")),
        unit=Unit.SECONDS,
        hold_s=30,
    ),
    _archive(
        name="MonitoringSpoolFilling",
        severity=Severity.CRITICAL,
        summary="{instance}: the spool is {value} full",
        description="When the spool is full, its oldest batches are dropped.",
        condition=conditions.spool_fill,
        limit=Limit.of(threshold("spool.fill_ratio")),
        unit=Unit.SHARE,
        hold_s=30,
    ),
    _archive(
        name="MonitoringDatabaseDown",
        severity=Severity.CRITICAL,
        summary="{instance}: the database does not take data",
        description="Calls are heard and kept in the spool; SQL and drill-down stand still.",
        condition=conditions.database_up,
        limit=_UP,
        hold_s=30,
    ),
    _archive(
        name="MonitoringDiskLow",
        severity=Severity.WARNING,
        summary="{instance}: {value} of the disk with the sound is free",
        description="Little room is left where the segments are written.",
        condition=conditions.disk_free,
        limit=Limit.of(threshold("disk.free_ratio")),
        unit=Unit.SHARE,
        hold_s=300,
    ),
    _archive(
        name="MonitoringDiskFullSoon",
        severity=Severity.CRITICAL,
        summary="{instance}: the disk with the {disk} is full in {value}",
        description="At the pace of the last hour there will be no room to write.",
        condition=conditions.time_to_full,
        limit=Limit.of(threshold("disk.hours_to_full"), _HOUR_S),
        unit=Unit.SECONDS,
        hold_s=600,
        window_s=_HOUR_S,
        labels=("instance", "disk"),
    ),
    _archive(
        name="MonitoringRetentionStuck",
        severity=Severity.WARNING,
        summary="{job}: nothing was deleted by age for {value}",
        description="Retention is due every five minutes. Old calls stay, and the disk fills.",
        condition=conditions.retention_age,
        limit=Limit.of(threshold("retention.age_seconds")),
        unit=Unit.SECONDS,
        labels=("job",),
    ),
    _archive(
        name="MonitoringBooksWrong",
        severity=Severity.CRITICAL,
        summary="{instance}: the books of the {part} lack {value} samples",
        description="Samples are neither kept nor archived nor counted as lost: our defect.",
        condition=conditions.residual,
        limit=Limit.of(threshold("archive.residual_samples")),
        window_s=30,
        hold_s=120,
        labels=("instance", "part"),
    ),
    _host(
        name="MonitoringThreadStuck",
        severity=Severity.CRITICAL,
        summary="{instance}: no sign of life of the {thread} thread for {value}",
        description="A thread of the monitoring hangs or has died. The calls go on.",
        condition=conditions.heartbeat_age,
        limit=Limit.of(threshold("archive.heartbeat_age_seconds")),
        unit=Unit.SECONDS,
        hold_s=15,
        labels=("instance", "thread"),
    ),
    _host(
        name="MonitoringUncleanShutdown",
        severity=Severity.WARNING,
        summary="{instance}: {value} earlier processes ended without a stop",
        description="A process died: the buckets open then, and the last second, are lost.",
        condition=conditions.deaths,
        limit=_ANY,
        window_s=_HOUR_S,
    ),
    _host(
        name="MonitoringSeriesLimit",
        severity=Severity.WARNING,
        summary="{instance}: about {value} series were left out in five minutes",
        description="The page of live metrics has reached its limit; not all metrics are on it.",
        condition=conditions.grown("series_overflow_total"),
        limit=_ANY,
        window_s=300,
    ),
    _host(
        name="MonitoringTargetDown",
        severity=Severity.CRITICAL,
        summary="{instance}: live metrics cannot be scraped",
        description="Prometheus does not reach a host, or knows of none: its calls go unseen.",
        condition=conditions.targets_up,
        limit=_UP,
        hold_s=60,
    ),
)
"""What the monitoring says of itself."""

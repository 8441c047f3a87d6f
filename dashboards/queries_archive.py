"""PromQL about the archive and the monitoring itself: every query is a function with a name."""

from __future__ import annotations

_ERRORS = (
    "worker_errors_total",
    "thread_errors_total",
    "spool_write_errors_total",
    "spool_corrupt_batches_total",
    "audio_write_errors_total",
    "scrapes_rejected_total",
    "series_overflow_total",
    "unclean_shutdowns_total",
    "forks_total",
)


def _rate(name: str, by: str) -> str:
    return f"sum by ({by}) (rate(monitoring_{name}[$__rate_interval]))"


def lag() -> str:
    """Seconds between the newest closed bucket and the newest one in SQL, of the worst process."""
    closed = "monitoring_highest_closed_bucket_timestamp_seconds"
    archived = "monitoring_highest_archived_bucket_timestamp_seconds"
    return f"max({closed} - {archived})"


def database_up() -> str:
    """Whether every process reaches the database."""
    return "min(monitoring_db_up)"


def uploads() -> str:
    """Uploads a second, by what became of them."""
    return _rate("db_attempts_total", "result")


def hung_connections() -> str:
    """Connections that were cut because the database hung."""
    return "sum(increase(monitoring_db_watchdog_kills_total[$__range]))"


def since_last_upload() -> str:
    """Seconds since the last upload that went through, of the worst process."""
    return "max(time() - monitoring_db_last_success_timestamp_seconds)"


def queue_fill() -> str:
    """How full the queues in memory are."""
    return "max by (queue) (monitoring_queue_length / monitoring_queue_capacity)"


def spool_bytes() -> str:
    """Bytes that wait for the database."""
    return "sum(monitoring_spool_bytes)"


def spool_fill() -> str:
    """How full the spool is, of the worst process."""
    return "max(monitoring_spool_bytes / monitoring_spool_limit_bytes)"


def spool_batches() -> str:
    """Batch files that wait for the database."""
    return "sum(monitoring_spool_batches)"


def spool_oldest() -> str:
    """Age of the oldest batch file; 0 without one."""
    stamp = "monitoring_spool_oldest_timestamp_seconds"
    return f"max((time() - {stamp}) * ({stamp} > bool 0))"


def disk_free_ratio() -> str:
    """Free share of the disk with the sound."""
    return "min(monitoring_audio_free_bytes / monitoring_audio_size_bytes)"


def disk_free() -> str:
    """Free bytes where the sound and where the spool is."""
    return " or ".join(
        _named(f"min(monitoring_{name})", name) for name in ("audio_free_bytes", "spool_free_bytes")
    )


def disk_hours_to_full() -> str:
    """Hours until the disk is full if it goes on like this; at most a month."""
    left = "monitoring_audio_free_bytes"
    speed = f"deriv({left}[$__range])"
    hours = f"{left} / clamp_min(-({speed}), 1) / 3600"
    return f"min(clamp_max({hours}, 720))"


def retention_age() -> str:
    """Seconds since the last complete retention, of the process that had the newest."""
    return "time() - max(monitoring_retention_last_success_timestamp_seconds)"


def deleted() -> str:
    """Things that retention deleted, by kind."""
    return "sum by (kind) (increase(monitoring_retention_deleted_total[$__range]))"


def heartbeat_age() -> str:
    """Seconds since the last sign of life of each thread."""
    return "max by (thread) (time() - monitoring_heartbeat_timestamp_seconds)"


def residual() -> str:
    """Samples that the books do not explain."""
    return "sum by (part) (monitoring_accounting_residual_samples)"


def dropped_samples() -> str:
    """Samples lost before the archive, by reason, in the time that is looked at."""
    return "sum by (reason) (increase(monitoring_samples_dropped_total[$__range]))"


def dropped_records() -> str:
    """Records dropped, by kind and reason, in the time that is looked at."""
    return "sum by (kind, reason) (increase(monitoring_records_dropped_total[$__range]))"


def quarantined() -> str:
    """Records set aside, by reason, in the time that is looked at."""
    return "sum by (reason) (increase(monitoring_records_quarantined_total[$__range]))"


def records() -> str:
    """Records a second that come into the database, by kind."""
    return _rate("records_archived_total", "kind")


def errors() -> str:
    """Steps, writes and scrapes that failed, in the time that is looked at."""
    return " or ".join(
        _named(f"sum(increase(monitoring_{name}[$__range]))", name) for name in _ERRORS
    )


def _named(query: str, name: str) -> str:
    words = name.removesuffix("_total").replace("_", " ")
    return f'label_replace({query}, "what", "{words}", "", "")'


def worker_load() -> str:
    """Share of a core that the exporter thread uses."""
    return "sum(rate(monitoring_worker_seconds_total[$__rate_interval]))"


def series_fill() -> str:
    """How much of the limit the series on the page use."""
    return "max(monitoring_series / monitoring_series_limit)"

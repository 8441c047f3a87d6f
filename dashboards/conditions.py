"""What alerts look at, as named functions: PromQL for Prometheus, SQL where that can name a call.

Each function returns an expression without its limit; ``alerts`` compares it. A gauge of
``/metrics`` spans all calls of a station, and so an expression takes ``_max`` or ``_min``, that of
the worst call, never the mean. What holds for more than half of a window is *sustained*.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dashboards.thresholds import Direction, threshold
from exporter.metrics import METRICS
from exporter.model import LOSS

Condition = Callable[[int], str]
"""From the seconds that are looked back on to an expression."""

_STATION = "on (job, instance, station)"
_RUNNING = f"and {_STATION} monitoring_active_traces > 0"
_STEPS = 12
_LEAST = 3
# A bucket is in SQL when it is over and its batch is in.
_BUCKET_LAG_S = 15
_CAUSES = "|".join(sorted(LOSS))
_TARGETS = 'up{job=~"monitoring.*"}'


@dataclass(frozen=True, slots=True)
class Search:
    """How Grafana finds the calls concerned in SQL.

    Attributes:
        value: One row for each call, station and tap, with the number to compare as ``value``.
        moment: One row for each of them, with the ``bucket`` to look at and its Unix time ``at``.
        span_s: How far back the two look.
    """

    value: str
    moment: str
    span_s: int


def sustained(key: str, direction: Direction) -> Condition:
    """Return the median over the window of the worst call's value, on three occasions or more."""
    metric = METRICS[key]
    series = metric.prometheus + ("_max" if direction is Direction.ABOVE else "_min")

    def condition(window_s: int) -> str:
        span = f"[{window_s}s:{max(1, window_s // _STEPS)}s]"
        return (
            f"quantile_over_time(0.5, {series}{span})\n"
            f"and count_over_time({series}{span}) >= {_LEAST}\n{_RUNNING}"
        )

    return condition


def sustained_in_call(key: str, direction: Direction) -> Callable[[int], Search]:
    """Return the calls with the median over the window of each bucket's worst value."""
    metric = METRICS[key]
    column, order = ("max", "DESC") if direction is Direction.ABOVE else ("min", "ASC")
    scale = "" if metric.scale == 1.0 else f" * {metric.scale!r}"
    known = f"FROM v_metrics AS m\nWHERE m.metric_key = '{key}' AND $__timeFilter(m.bucket_ts)"
    value = (
        "SELECT m.trace_id, m.station_key AS station, m.tap,\n"
        f"    percentile_cont(0.5) WITHIN GROUP (ORDER BY m.{column}){scale} AS value\n"
        f"{known}\nGROUP BY m.trace_id, m.station_key, m.tap\nHAVING count(*) >= {_LEAST}"
    )
    moment = _moment(known, f"m.{column} {order}")
    return lambda window_s: Search(value, moment, window_s + _BUCKET_LAG_S)


def loudest(window_s: int) -> str:
    """Return the loudest frame at either tap of a station on which calls run."""
    level = f"max_over_time({METRICS['pcm.rms_dbfs'].prometheus}_max[{window_s}s])"
    return f"max by (job, instance, station) ({level})\n{_RUNNING}"


def loudest_in_call(window_s: int) -> Search:
    """Return the calls with their loudest frame at any tap of any station."""
    known = (
        "FROM v_metrics AS m\nWHERE m.metric_key = 'pcm.rms_dbfs' AND $__timeFilter(m.bucket_ts)"
    )
    value = (
        "SELECT m.trace_id, min(m.station_key) AS station, max(m.max) AS value\n"
        f"{known}\nGROUP BY m.trace_id\nHAVING count(DISTINCT m.bucket_ts) >= {_LEAST}"
    )
    moment = (
        f"SELECT m.trace_id, min(m.station_key) AS station,\n    {_bucket('max(m.bucket_ts)')}\n"
        f"{known}\nGROUP BY m.trace_id"
    )
    return Search(value, moment, window_s + _BUCKET_LAG_S)


def silent_beside_speech(window_s: int) -> str:
    """Return by how much a silent tap lies below the other, which speaks."""
    level = f"max_over_time({METRICS['pcm.rms_dbfs'].prometheus}_max{{tap=%s}}[{window_s}s])"
    speaks, silent = f"{level} {_limit('tap.speaks_dbfs')}", f"{level} {_limit('tap.silent_dbfs')}"
    both = [
        f"({speaks % _quoted(loud)})\n- ignoring (tap) group_right () ({silent % _quoted(quiet)})"
        for loud, quiet in (("PRE", "POST"), ("POST", "PRE"))
    ]
    return f"({both[0]}\nor\n{both[1]})\n{_RUNNING}"


def silent_beside_speech_in_call(window_s: int) -> Search:
    """Return the calls and stations of which one tap is silent while the other speaks."""
    known = (
        "FROM v_metrics AS m\nWHERE m.metric_key = 'pcm.rms_dbfs' AND $__timeFilter(m.bucket_ts)"
    )
    value = (
        "SELECT t.trace_id, t.station, CASE WHEN t.pre > t.post THEN 'POST' ELSE 'PRE' END AS tap,"
        "\n    abs(t.pre - t.post) AS value\nFROM (\n"
        "SELECT m.trace_id, m.station_key AS station,\n"
        "    max(m.max) FILTER (WHERE m.tap = 'PRE') AS pre,\n"
        "    max(m.max) FILTER (WHERE m.tap = 'POST') AS post\n"
        f"{known}\nGROUP BY m.trace_id, m.station_key\n"
        f"HAVING count(DISTINCT m.bucket_ts) >= {_LEAST}\n) AS t\n"
        f"WHERE least(t.pre, t.post) {_limit('tap.silent_dbfs')}"
        f" AND greatest(t.pre, t.post) {_limit('tap.speaks_dbfs')}"
    )
    return Search(value, _moment(known, "m.max ASC"), window_s + _BUCKET_LAG_S)


def samples_lost(window_s: int) -> str:
    """Return how many samples that were due were lost."""
    lost = f'increase(monitoring_gap_samples_total{{cause=~"{_CAUSES}"}}[{window_s}s])'
    return f"sum by (job, instance, station, tap) ({lost})"


def samples_lost_in_call(window_s: int) -> Search:
    """Return the calls with how many samples each of their taps lost."""
    known = "FROM v_gaps AS m\nWHERE m.is_loss AND $__timeFilter(m.bucket_ts)"
    value = (
        "SELECT m.trace_id, m.station_key AS station, m.tap,\n"
        "    sum(m.samples)::double precision AS value\n"
        f"{known}\nGROUP BY m.trace_id, m.station_key, m.tap"
    )
    return Search(value, _moment(known, "m.samples DESC"), window_s + _BUCKET_LAG_S)


def grown(counter: str, where: str = "") -> Condition:
    """Return by how much a counter of the monitoring's own has grown, of the series ``where``."""
    series = f"monitoring_{counter}" + (f"{{{where}}}" if where else "")
    return lambda window_s: f"sum by (job, instance) (increase({series}[{window_s}s]))"


def archive_lag(_: int) -> str:
    """Return the seconds between the newest bucket that was closed and that in SQL."""
    name = "monitoring_highest_{}_bucket_timestamp_seconds"
    return f"{name.format('closed')} - {name.format('archived')}"


def spool_age(_: int) -> str:
    """Return the age of the oldest batch that waits."""
    return "time() - (monitoring_spool_oldest_timestamp_seconds > 0)"


def spool_fill(_: int) -> str:
    """Return the share of the spool's limit that is used."""
    return "monitoring_spool_bytes / monitoring_spool_limit_bytes"


def database_up(_: int) -> str:
    """Return 1 while the database takes data."""
    return "monitoring_db_up"


def disk_free(_: int) -> str:
    """Return the free share of the disk with the segments."""
    return "monitoring_audio_free_bytes / monitoring_audio_size_bytes"


def time_to_full(window_s: int) -> str:
    """Return the seconds until the disk of segments or spool is full, as it filled so far."""
    parts = [
        f"label_replace(monitoring_{name}_free_bytes / clamp_min("
        f'-deriv(monitoring_{name}_free_bytes[{window_s}s]), 1), "disk", "{name}", "", "")'
        for name in ("audio", "spool")
    ]
    return "\nor\n".join(parts)


def retention_age(_: int) -> str:
    """Return the time since any process last completed its retention."""
    return "time() - max by (job) (monitoring_retention_last_success_timestamp_seconds)"


def residual(window_s: int) -> str:
    """Return how many samples the books lack at every look."""
    return (
        "max by (job, instance, part) (min_over_time("
        f"abs(monitoring_accounting_residual_samples)[{window_s}s:5s]))"
    )


def heartbeat_age(_: int) -> str:
    """Return the time since a thread's last sign of life."""
    return "time() - monitoring_heartbeat_timestamp_seconds"


def deaths(window_s: int) -> str:
    """Return how many earlier processes were found dead; most are found before the first scrape."""
    died = "monitoring_unclean_shutdowns_total"
    young = f"on (job, instance) time() - monitoring_start_timestamp_seconds < {window_s}"
    return f"sum by (job, instance) (({died} and {young})\nor increase({died}[{window_s}s]))"


def targets_up(_: int) -> str:
    """Return 1 while a target answers, 0 where it does not, and 0 where there is none at all."""
    none = f'label_replace(absent({_TARGETS}) - 1, "instance", "no host", "", "")'
    return f"min by (job, instance) ({_TARGETS})\nor {none}"


def _moment(known: str, order: str) -> str:
    return (
        "SELECT DISTINCT ON (m.trace_id, m.station_key, m.tap)\n"
        f"    m.trace_id, m.station_key AS station, m.tap,\n    {_bucket('m.bucket_ts')}\n"
        f"{known}\nORDER BY m.trace_id, m.station_key, m.tap, {order}, m.bucket_ts DESC"
    )


def _bucket(start: str) -> str:
    return (
        f"""to_char({start} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS bucket,\n"""
        f"    extract(epoch FROM {start})::double precision AS at"
    )


def _limit(key: str) -> str:
    limit = threshold(key)
    return f"{limit.sign} {limit.critical:g}"


def _quoted(text: str) -> str:
    return f'"{text}"'

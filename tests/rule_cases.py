"""For each alert, series that make it fire and series that just do not.

Series are in promtool's notation, ``start+step x times``; all of them have ``{HOST}``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

HOST = 'job="monitoring",instance="host:9464"'
_PRE = f'{{{HOST},station="St_3_3333",tap="PRE"}}'
_POST = f'{{{HOST},station="St_3_3333",tap="POST"}}'
_OTHER = f'{{{HOST},station="St_9_9999",tap="POST"}}'
_RUNNING = {f'monitoring_active_traces{{{HOST},station="St_3_3333"}}': "3x400"}
_OVER = {f'monitoring_active_traces{{{HOST},station="St_9_9999"}}': "0x400"}
_CALLS = {f"monitoring_active_calls{{{HOST}}}": "7x2000"}
_OWN = f"{{{HOST}}}"


@dataclass(frozen=True)
class Case:
    """What makes one alert fire.

    Attributes:
        firing: Series, from time 0 on.
        silent: Series that look alike and are no reason.
        summary: What is told.
        labels: Labels beside job, instance and severity.
        seconds: When it is looked at.
        step: Seconds between two samples.
        early: A time at which it does not fire yet; None where it fires at once.
    """

    firing: dict[str, str]
    silent: dict[str, str]
    summary: str
    labels: dict[str, str] = field(default_factory=dict)
    seconds: int = 120
    step: int = 5
    early: int | None = 20


def _at_post(series: str, bad: str, nearly: str, summary: str) -> Case:
    """A case of a value that is bad at POST of a station with three calls."""
    once = f"{nearly}x5 {bad} {nearly}x40"
    return Case(
        {f"{series}{_POST}": f"{bad}x40"} | _RUNNING,
        {
            f"{series}{_PRE}": f"{nearly}x40",
            f"{series}{_POST}": once,
            f"{series}{_OTHER}": f"{bad}x40",  # its calls are over
        }
        | _RUNNING
        | _OVER,
        f"{summary}; worst of 3 calls",
        {"station": "St_3_3333", "tap": "POST"},
    )


def _own(series: str, bad: str, nearly: str, summary: str, **rest: object) -> Case:
    """A case of a value of the monitoring itself, on a host with seven calls."""
    return Case(
        {f"{series}{_OWN}": bad} | _CALLS,
        {f"{series}{_OWN}": nearly} | _CALLS,
        f"host:9464{summary}; 7 calls running",
        **rest,  # type: ignore[arg-type] # fields of a case
    )


def _merged(case: Case, both: dict[str, str]) -> Case:
    """A case with series that belong to firing and silence alike."""
    return Case(
        case.firing | both,
        case.silent | both,
        case.summary,
        case.labels,
        case.seconds,
        case.step,
        case.early,
    )


_LEVEL = "monitoring_pcm_rms_dbfs_max"
_MISSING = f'monitoring_gap_samples_total{{{HOST},station="St_3_3333",tap="PRE",cause="%s"}}'

CASES: dict[str, Case] = {
    "CallClipping": _at_post(
        "monitoring_pcm_clipping_ratio_max",
        "0.2",
        "0.009",
        "St_3_3333 POST clips: 20% of the samples of a frame (pcm.clipping_ratio)",
    ),
    "CallLimiting": _at_post(
        "monitoring_pair_limited_ratio_max",
        "0.25",
        "0.04",
        "St_3_3333 POST limits: 25% of the samples are held down (pair.limited_ratio)",
    ),
    "CallSpeechLost": _at_post(
        "monitoring_pair_speech_lost_ratio_max",
        "0.125",
        "0.09",
        "St_3_3333 POST is choppy: 12.5% of the speech is missing (pair.speech_lost_ratio)",
    ),
    "CallTooLoud": _at_post(
        "monitoring_pcm_active_level_dbfs_max",
        "-8.5",
        "-10.5",
        "St_3_3333 POST is too loud: active level -8.5 dBFS (pcm.active_level_dbfs)",
    ),
    "CallTooQuiet": _at_post(
        "monitoring_pcm_active_level_dbfs_min",
        "-55",
        "-41",
        "St_3_3333 POST is too quiet: active level -55.0 dBFS (pcm.active_level_dbfs)",
    ),
    "CallSlow": _at_post(
        "monitoring_pipe_processing_latency_seconds_max",
        "0.05",
        "0.019",
        "St_3_3333 POST is slow: a block takes 50ms (pipe.processing_latency_ms)",
    ),
    "CallDeadAir": Case(
        {f"{_LEVEL}{_PRE}": "-72x40", f"{_LEVEL}{_POST}": "-80x40"} | _RUNNING,
        {
            f"{_LEVEL}{_PRE}": "-72x1 -30 -72x1 -30 -72x1 -30 -72x1 -30 -72x1 -30 -72x1 -30 -72x9",
            f"{_LEVEL}{_POST}": "-49x40",
            f"{_LEVEL}{_OTHER}": "-90x40",
        }
        | _RUNNING
        | _OVER,
        "St_3_3333 is dead: the loudest frame has -72.0 dBFS (pcm.rms_dbfs); worst of 3 calls",
        {"station": "St_3_3333"},
        early=10,
    ),
    "CallTapSilent": Case(
        {f"{_LEVEL}{_PRE}": "-18.5x40", f"{_LEVEL}{_POST}": "-80x40"} | _RUNNING,
        {
            f"{_LEVEL}{_PRE}": "-45x40",  # neither speaks nor is silent
            f"{_LEVEL}{_POST}": "-80x40",
            f'{_LEVEL}{{{HOST},station="St_9_9999",tap="PRE"}}': "-20x40",
            f"{_LEVEL}{_OTHER}": "-90x40",
        }
        | _RUNNING
        | _OVER,
        "St_3_3333 POST is silent while the other tap speaks, 61.5 dB louder (pcm.rms_dbfs); "
        "worst of 3 calls",
        {"station": "St_3_3333", "tap": "POST"},
        early=10,
    ),
    "CallSamplesLost": Case(
        {_MISSING % "not_received": "0x10 1600x40", _MISSING % "idle": "0+80x60"} | _RUNNING,
        {_MISSING % "not_received": "1600x60", _MISSING % "hold": "0+80x60"} | _RUNNING,
        "St_3_3333 PRE lost about 1600 samples in five minutes (pipe.frame_drop_ratio); "
        "worst of 3 calls",
        {"station": "St_3_3333", "tap": "PRE"},
        early=40,
    ),
    "MonitoringRecordsDropped": Case(
        {
            f'monitoring_records_dropped_total{{{HOST},kind="bucket",reason="{reason}"}}': values
            for reason, values in (("queue_full", "0x10 30x40"), ("spool_full", "0x40"))
        }
        | _CALLS,
        {f'monitoring_records_dropped_total{{{HOST},kind="bucket",reason="invalid"}}': "4x40"},
        "host:9464 dropped about 30 records in five minutes; 7 calls running",
        early=40,
    ),
    "MonitoringRecordsQuarantined": Case(
        {f'monitoring_records_quarantined_total{{{HOST},reason="poison"}}': "0x10 2x40"} | _CALLS,
        {f'monitoring_records_quarantined_total{{{HOST},reason="poison"}}': "2x40"},
        "host:9464 set about 2 records aside in five minutes; 7 calls running",
        early=40,
    ),
    "MonitoringArchiveLagging": _merged(
        _own(
            "monitoring_highest_archived_bucket_timestamp_seconds",
            "1000x40",
            "1000+5x40",
            ": SQL is 2m 0s behind",
            early=50,
        ),
        {f"monitoring_highest_closed_bucket_timestamp_seconds{_OWN}": "1000+5x40"},
    ),
    "MonitoringSpoolOld": _own(
        "monitoring_spool_oldest_timestamp_seconds",
        "1x40",
        "0x40",  # none waits
        ": a batch has waited for the database for 1m 59s",
        early=80,
    ),
    "MonitoringSpoolFilling": _merged(
        _own("monitoring_spool_bytes", "60x40", "49x40", ": the spool is 60% full"),
        {f"monitoring_spool_limit_bytes{_OWN}": "100x40"},
    ),
    "MonitoringDatabaseDown": _own(
        "monitoring_db_up", "0x40", "1x5 0x2 1x40", ": the database does not take data"
    ),
    "MonitoringDiskLow": _merged(
        _own(
            "monitoring_audio_free_bytes",
            "9x400",
            "11x400",
            ": 9% of the disk with the sound is free",
            seconds=900,
            early=240,
        ),
        {f"monitoring_audio_size_bytes{_OWN}": "100x400"},
    ),
    "MonitoringDiskFullSoon": _own(
        "monitoring_spool_free_bytes",
        "36e9-50e6x400",
        "36e9-10e6x400",
        ": the disk with the spool is full in 45m 0s",
        labels={"disk": "spool"},
        seconds=900,
        early=500,
    ),
    "MonitoringRetentionStuck": Case(
        {
            f"monitoring_retention_last_success_timestamp_seconds{_OWN}": "0x200",
            'monitoring_retention_last_success_timestamp_seconds{job="monitoring",instance="b"}': (
                "300x200"
            ),
        }
        | _CALLS,
        {
            f"monitoring_retention_last_success_timestamp_seconds{_OWN}": "0x200",
            # One process at a time does it for all.
            'monitoring_retention_last_success_timestamp_seconds{job="monitoring",instance="b"}': (
                "3600x200"
            ),
        },
        "monitoring: nothing was deleted by age for 2h 5m 0s; 7 calls running",
        seconds=7_800,
        step=60,
        early=7_200,
    ),
    "MonitoringBooksWrong": Case(
        {f'monitoring_accounting_residual_samples{{{HOST},part="archiver"}}': "-320x80"} | _CALLS,
        {
            f'monitoring_accounting_residual_samples{{{HOST},part="archiver"}}': " ".join(
                ["0 -320 320"] * 27
            )
        },
        "host:9464: the books of the archiver lack 320 samples; 7 calls running",
        {"part": "archiver"},
        seconds=300,
        early=100,
    ),
    "MonitoringThreadStuck": Case(
        {f'monitoring_heartbeat_timestamp_seconds{{{HOST},thread="spool"}}': "30x40"} | _CALLS,
        {f'monitoring_heartbeat_timestamp_seconds{{{HOST},thread="spool"}}': "-14+5x40"},
        "host:9464: no sign of life of the spool thread for 1m 30s; 7 calls running",
        {"thread": "spool"},
        early=50,
    ),
    "MonitoringUncleanShutdown": _merged(
        _own(
            "monitoring_unclean_shutdowns_total",
            "2x40",
            "0x40",
            ": 2 earlier processes ended without a stop",
            early=None,
        ),
        {
            f"monitoring_start_timestamp_seconds{_OWN}": "0x40",
            # Found dead by a process that has run for long.
            'monitoring_unclean_shutdowns_total{job="monitoring",instance="old:1"}': "2x40",
            'monitoring_start_timestamp_seconds{job="monitoring",instance="old:1"}': "-9999x40",
        },
    ),
    "MonitoringSeriesLimit": _own(
        "monitoring_series_overflow_total",
        "0x10 500x40",
        "500x40",
        ": about 500 series were left out in five minutes",
        early=40,
    ),
    "MonitoringTargetDown": _own(
        "up",
        "1x2 0x40",
        "1x5 0x2 1x40",
        ": live metrics cannot be scraped",
        early=40,
    ),
}
"""By the alert's name; there is one for each."""

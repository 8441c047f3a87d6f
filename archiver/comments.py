r"""What each column in SQL means: one text for one word, and the registry's for every metric.

``archiver.migrations`` brings these texts into the database after the migrations, as COMMENTs, so
that ``\d+`` in psql and every other client shows them. A later table says what its columns are in
its own migration; a column that is called as one below may leave that to this module, by an entry
in ``_RELATIONS``.
"""

from __future__ import annotations

from exporter.metrics import METRICS, Metric, Per

_TABLES = {
    "schema_migrations": "Migrations that have been run here; each runs once.",
}
_RELATIONS = frozenset(
    {
        "applied_batches",
        "archived_calls",
        "audio_segments_5s",
        "bucket_wide",
        "call_list",
        "gaps",
        "knob_events",
        "knob_snapshots_5s",
        "listens",
        "metrics_agg_5s",
        "schema_migrations",
        "tap_buckets_5s",
        "traces",
        "v_batches",
        "v_defects",
        "v_gaps",
        "v_health",
        "v_knob_events",
        "v_knob_snapshots",
        "v_metrics",
        "v_segments",
        "v_tap_buckets",
    }
)

_COLUMNS = {
    # The key of almost everything.
    "trace_id": "The call: its key in traces, in file names and in addresses.",
    "station_key": "The station, such as St_3_3333.",
    "tap": "PRE, as it arrived at the station, or POST, after its work.",
    "bucket_ts": "Start of the five seconds: a multiple of 5 s, UTC.",
    "bucket_ms": "Length of the bucket in milliseconds.",
    # A call.
    "started_at": "When the call began.",
    "ended_at": "When the call ended; NULL while it runs, or when nobody could tell.",
    "end_reason": "What ended the call: host, idle (no audio for a minute), crash, max (too long).",
    "src_extension": "Who called; eight hex digits stand for a phone number, of more than six "
    "digits. Empty when only the end of the call is known.",
    "dst_extension": "Who was called; likewise. NULL when not known.",
    "call_id": "The host's own name of the call; several traces may share it. NULL when not given.",
    "attributes": "What the host said of the call, such as lang, vendor, build: a JSON object.",
    "sample_rate": "Rate of the call in Hz, as the host said; each tap has its own.",
    "channels": "Channels: 1.",
    "consent": "What the callers agreed to: unknown, announced, given, refused.",
    # Samples: due = received + gaps.
    "sample_rate_hz": "Sampling rate of the tap in Hz.",
    "due_samples": "Samples that were due: received plus missing, whatever the cause. NULL for "
    "a bucket of an earlier installation: nobody knows.",
    "received_samples": "Samples that came. NULL where an earlier installation kept no sound.",
    "lost_samples": "Samples that are missing by a cause that is loss.",
    "loss_ratio": "Samples lost over samples due, 0 to 1, over all taps.",
    "ranges": "Which samples of the bucket are accounted for, as offsets; halves may not overlap.",
    "first_sample": "Offset in the bucket of the first sample that is meant, 0 at bucket_ts.",
    "samples": "How many samples.",
    "cause": "Why samples are missing. Loss: not_received, slow, overrun, too_late, disk_full, "
    "spool_full, host_crash. Not loss: idle, hold, disabled, masked, format_change, erased.",
    "is_loss": "Whether the cause counts in drop ratios, health and alerts.",
    "tap_buckets": "How many buckets there are, each tap counted.",
    # A metric.
    "metric_key": "Key of the metric, such as pcm.rms_dbfs; the comments on bucket_wide define it.",
    "count": "How many values; at least 1.",
    "min": "Smallest value, in the metric's unit.",
    "max": "Largest value, in the metric's unit.",
    "sum": "Sum of the values: adds up over buckets, as count does.",
    "avg": "Mean of the values: sum / count. Of decibels it is no mean of power; see docs/sql.md.",
    "last": "The newest value.",
    "last_ts": "Time of the newest value.",
    "health": "Points that each defect cost of the 100 of health.audio_score, as a JSON object.",
    "score": "health.audio_score of the bucket, 0 to 100; 100 is nothing wrong.",
    "defect": "What cost points: clipping, limiting, noise, mute, freeze, loss, lost_speech. NULL "
    "when nothing did.",
    "points": "How many of the 100 points it cost.",
    # A segment.
    "format": "Format of the file.",
    "file_path": "Path of the file below MONITORING_AUDIO_PATH.",
    "file_bytes": "Size of the file in bytes.",
    "sha256": "SHA-256 of the file, in hex.",
    "written_at": "When the file had this hash; of two halves of a bucket the later one counts.",
    "sketch": "What pictures of a long time show of it: peaks of each 100 ms, levels by frequency "
    "of each second, as bytes. NULL when an earlier version wrote the file.",
    # Knobs.
    "knob_values": "All knobs in force at the first due sample of the bucket, as a JSON object.",
    "knobs": "All knobs in force at the first due sample of the bucket, as a JSON object.",
    "changed": "Knobs that changed inside the bucket: a JSON list of knob_key, old, new, sample.",
    "event_id": "The change.",
    "knob_key": "The knob, such as pcm.input_gain_db.",
    "old_value": "Value before, at this scope.",
    "new_value": "Value after; JSON null when the change was taken back.",
    "changed_by": "Who turned it.",
    "reason": "Why, in the words of who turned it.",
    "scope": "How far it reaches: trace_station, trace, station, global.",
    "created_at": "When it was asked for.",
    "counts_from": "Time of the first sample that it counts for, where that is one moment; NULL "
    "elsewhere, and changed in the snapshots tells.",
    # Batches and migrations.
    "batch_id": "The batch file.",
    "boot_id": "The process that wrote it.",
    "seq": "Rises by one with every batch of a process: a hole is a batch that is not here.",
    "records": "How many records it held.",
    "quarantined": "How many of its records were set aside.",
    "cum_offered": "Samples offered to the archive by that process so far.",
    "cum_dropped": "Samples dropped by that process so far.",
    "applied_at": "When it was brought into this database.",
    "number": "Number of the migration.",
    "name": "File name of the migration.",
    # A list of calls, and of who listened.
    "stations": "Stations that the call has passed.",
    "first_ts": "Start of the first bucket.",
    "length_s": "Length of the call in seconds; so far, while it runs.",
    "worst_score": "Lowest health.audio_score of any bucket and tap.",
    "worst_bucket_ts": "Bucket that has it.",
    "worst_station_key": "Station that has it.",
    "worst_tap": "Tap that has it.",
    "token_name": "Who listened: name of the token.",
    "from_ts": "Start of the segment or range that was asked for.",
    "to_ts": "Its end.",
    "began_at": "When the first answer went out.",
    "last_at": "When the last answer went out.",
    "answers": "How many answers with audio it took.",
}
_HERE = {
    ("applied_batches", "samples"): "Samples of audio that its records stand for.",
    ("call_list", "health"): "Mean of health.audio_score over all taps and buckets.",
    ("call_list", "last_ts"): "End of the last bucket.",
    ("gaps", "first_sample"): "Offset in the bucket of the first missing sample.",
    ("gaps", "samples"): "How many samples are missing.",
    ("listens", "tap"): "PRE, POST, or DELTA for what the station took away.",
    ("v_batches", "seq"): "Number of the batch in its process, from 1 on.",
    ("v_batches", "samples"): "Samples of audio that its records stand for.",
    ("v_gaps", "first_sample"): "Offset in the bucket of the first missing sample.",
    ("v_gaps", "samples"): "How many samples are missing.",
    ("audio_segments_5s", "first_sample"): "Offset in the file of the first due sample.",
    ("v_segments", "first_sample"): "Offset in the file of the first due sample.",
    ("schema_migrations", "sha256"): "SHA-256 of the migration's text.",
    ("schema_migrations", "applied_at"): "When it was run.",
}

_AGGREGATES = {
    "pcm.peak_dbfs": "max",
    "pcm.clipped_samples": "sum",
    "pcm.clipping_ratio": "max",
    "pcm.consecutive_clipped": "max",
    "pipe.processing_latency_ms": "max",
    "pipe.queue_depth": "max",
    "advanced.lufs_integrated": "last",
}
_WORDS = {
    "avg": "mean over the bucket",
    "max": "largest value of the bucket",
    "sum": "sum over the bucket",
    "last": "last value of the bucket",
}
_SIDES = {
    "due_samples": "Samples that were due at {tap}; NULL when the station has nothing there.",
    "received_samples": "Samples that came at {tap}.",
    "lost_samples": "Samples missing at {tap} by a cause that is loss.",
    "other_gap_samples": "Samples missing at {tap} by a cause that is not loss, such as hold.",
}


def aggregate(metric: Metric) -> str:
    """Return which aggregate of a metric ``bucket_wide`` shows: avg, max, sum or last."""
    return _AGGREGATES.get(metric.key, "avg")


def wide_metrics() -> dict[str, tuple[Metric, str]]:
    """Return metric and tap of every column that ``bucket_wide`` can have for a metric."""
    found: dict[str, tuple[Metric, str]] = {}
    for metric in METRICS:
        name = metric.key.replace(".", "_")
        if metric.is_pair:
            found[name] = (metric, "POST")
        else:
            found |= {f"{tap.lower()}_{name}": (metric, tap) for tap in ("PRE", "POST")}
    return found


def text_of(relation: str, column: str | None) -> str | None:
    """Return what a table, view or column means; None for what others describe.

    Args:
        relation: Table or view.
        column: Its column; None for the relation itself.
    """
    if column is None:
        return _TABLES.get(relation)
    if relation not in _RELATIONS:
        return None
    own = _HERE.get((relation, column)) or _COLUMNS.get(column)
    if own is None and relation == "bucket_wide":
        return _wide_text(column)
    return own


def _wide_text(column: str) -> str | None:
    side, _, name = column.partition("_")
    if name in _SIDES:
        return _SIDES[name].format(tap=side.upper())
    found = wide_metrics().get(column)
    return _metric_text(*found) if found else None


def _metric_text(metric: Metric, tap: str) -> str:
    """Return the definition of a metric as the registry has it, with its unit and range."""
    unit = f"{metric.unit}, {metric.low:g} to {metric.high:g}"
    at = "PRE against POST" if metric.is_pair else f"at {tap}"
    is_single = metric.per is Per.BUCKET
    how = "one value a bucket" if is_single else _WORDS[aggregate(metric)]
    return f"{metric.key} {at}, {how} ({unit}): {metric.help}"

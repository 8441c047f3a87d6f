"""SQL: every query is a function with a name; the work is done in sql/005_panels.sql.

Grafana's macros take no parenthesis inside their arguments; ``$__timeFrom()`` becomes a literal.
"""

from __future__ import annotations

from dashboards import links
from exporter.metrics import METRICS

_TIME = "$__timeFrom(), $__timeTo()"
_WITHIN = "BETWEEN $__timeFrom() AND $__timeTo()"
# Bins of graphs over long times; buckets are five seconds.
_WIDTH = "greatest(interval '5 seconds', make_interval(secs => $__interval_ms / 1000.0))"
_STATIONS = "ARRAY[${station:sqlstring}]::text[]"
_TRACE = "${trace:sqlstring}"
_STATION = "${station:sqlstring}"
_KNOB = "${knob:sqlstring}"


def _ms(moment: str) -> str:
    return f"(extract(epoch FROM {moment}) * 1000)::bigint"


def _iso(moment: str) -> str:
    return f"to_char({moment} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"


def status() -> str:
    """One line: complete until, lost, behind."""
    return (
        'SELECT complete_until AS "data complete until", lost_seconds AS "lost", '
        f'behind_seconds AS "behind" FROM data_status({_TIME})'
    )


# Variables.


def stations() -> str:
    """Stations of the time that is looked at."""
    return f"SELECT station_key FROM stations_between({_TIME})"


def calls() -> str:
    """Calls to choose from, the worst first."""
    text = (
        "to_char(started_at AT TIME ZONE 'UTC', 'MM-DD HH24:MI:SS') || '  ' || src_extension "
        "|| coalesce(' > ' || dst_extension, '') || coalesce('  health ' || round(worst_score), '')"
    )
    return (
        f"SELECT trace_id AS __value, {text} AS __text "
        f"FROM trace_search({_TIME}, ${{extension:sqlstring}})"
    )


def stations_of_call() -> str:
    """Stations that the chosen call passed."""
    return f"SELECT station_key FROM trace_stations({_TRACE})"


def turned_knobs() -> str:
    """Knobs that were turned, and all of them."""
    return (
        "SELECT 'all' AS __text, '' AS __value UNION ALL (SELECT DISTINCT knob_key, knob_key "
        f"FROM v_knob_events WHERE created_at {_WITHIN} ORDER BY 1)"
    )


def changes() -> str:
    """Changes to choose from, the newest first."""
    return (
        "SELECT event_id::text AS __value, to_char(created_at AT TIME ZONE 'UTC', "
        "'MM-DD HH24:MI:SS') || '  ' || knob_key || ' -> ' || coalesce(new_value #>> '{}', '-') "
        "AS __text FROM v_knob_events "
        f"WHERE created_at {_WITHIN} AND {_KNOB} IN ('', knob_key) "
        "ORDER BY created_at DESC LIMIT 200"
    )


# Calls and buckets.


def worst_buckets() -> str:
    """The worst five seconds of the chosen stations."""
    return (
        'SELECT bucket_ts AS "when", station_key AS "station", tap, score AS "health", '
        'defects AS "why", trace_id AS "call", '
        f"{_iso('bucket_ts')} AS iso "
        f"FROM worst_buckets({_TIME}, {_STATIONS})"
    )


def search() -> str:
    """Calls, the worst first."""
    return (
        'SELECT started_at AS "began", trace_id AS "call", src_extension AS "from", '
        'dst_extension AS "to", lang AS "languages", length_s AS "length", '
        'worst_score AS "worst health", mean_score AS "mean health", '
        'worst_station_key AS "worst at", worst_tap AS "tap", worst_defect AS "why", '
        'worst_bucket_ts AS "worst moment", lost_samples AS "lost samples", '
        f"{_ms('started_at')} AS starts_ms, "
        f"{_ms('coalesce(ended_at, now())')} AS ends_ms, "
        f"{_iso('worst_bucket_ts')} AS iso "
        f"FROM trace_search({_TIME}, ${{extension:sqlstring}})"
    )


def call() -> str:
    """The chosen call in one line."""
    return (
        'SELECT t.started_at AS "began", extract(epoch FROM coalesce(t.ended_at, now()) '
        "- t.started_at)::float8 AS \"length\", t.src_extension || coalesce(' > ' "
        "|| t.dst_extension, '') AS \"who\", coalesce(t.end_reason, 'running') AS \"ended by\" "
        f"FROM call_list t WHERE t.trace_id = {_TRACE}"
    )


def timeline() -> str:
    """The chosen metric of the chosen call, PRE and POST, with band."""
    columns = ", ".join(
        f"max({value}) FILTER (WHERE tap = '{tap}') AS \"{tap} {name}\""
        for tap in ("PRE", "POST")
        for value, name in (("low", "min"), ("mean", "mean"), ("high", "max"))
    )
    return (
        f'SELECT "time", {columns} '
        f"FROM trace_timeline({_TRACE}, {_STATION}, ${{metric:sqlstring}}, {_TIME}) "
        "GROUP BY 1 ORDER BY 1"
    )


def call_metric(key: str) -> str:
    """One metric of the chosen call over time, PRE and POST; KeyError for an unknown key."""
    name = METRICS[key].key
    return (
        'SELECT "time", max(mean) FILTER (WHERE tap = \'PRE\') AS "PRE", '
        "max(mean) FILTER (WHERE tap = 'POST') AS \"POST\" "
        f"FROM trace_timeline({_TRACE}, {_STATION}, '{name}', {_TIME}) GROUP BY 1 ORDER BY 1"
    )


def call_defects() -> str:
    """What each defect cost the chosen call at the chosen station, over time."""
    return (
        "SELECT bucket_ts AS \"time\", defect || ' at ' || tap AS metric, points "
        f"FROM v_defects WHERE trace_id = {_TRACE} AND station_key = {_STATION} "
        "AND $__timeFilter(bucket_ts) ORDER BY 1, 2"
    )


def _player(tap: str) -> str:
    address = links.audio(
        f"' || {_TRACE} || '",
        "' || station_key || '",
        tap=tap,
        bucket_ms=f"' || {_ms('bucket_ts')} || '",
    ).replace("${public_url}", "${public_url:raw}")
    return (
        f'CASE WHEN has_{tap.lower()} THEN \'<audio controls preload="none" src="{address}">'
        "</audio>' END"
    )


def buckets() -> str:
    """The five seconds of the chosen call with players for both taps."""
    return (
        'SELECT bucket_ts AS "when", station_key AS "station", score AS "health", '
        f'{_player("PRE")} AS "PRE sound", {_player("POST")} AS "POST sound", defects AS "why", '
        'pre_level AS "PRE level", post_level AS "POST level", speech_lost AS "speech lost", '
        'limited, post_clipping AS "POST clipping", gap_samples AS "missing samples", '
        'changed_knobs AS "turned", \'open\' AS "listen", '
        f"{_ms('bucket_ts')} AS bucket_ms, "
        f"{_iso('bucket_ts')} AS iso "
        f"FROM bucket_detail({_TRACE}, ARRAY(SELECT trace_stations({_TRACE})), {_TIME})"
    )


def gaps_of_call() -> str:
    """What is missing of the chosen call."""
    return (
        'SELECT begins AS "begins", station_key AS "station", tap, cause, is_loss AS "loss", '
        f'seconds AS "length" FROM gap_list({_TIME}, {_TRACE})'
    )


def gaps() -> str:
    """What is missing at any call, losses first."""
    return (
        'SELECT begins AS "begins", station_key AS "station", tap, cause, is_loss AS "loss", '
        f'seconds AS "length", trace_id AS "call" FROM gap_list({_TIME})'
    )


def defects() -> str:
    """What each defect cost over time at the chosen station."""
    return (
        'SELECT "time", defect AS metric, points '
        f"FROM defect_timeline({_TIME}, {_STATIONS}, {_WIDTH}) ORDER BY 1, 2"
    )


def health() -> str:
    """Health of the chosen stations over time."""
    return (
        'SELECT "time", max(low) FILTER (WHERE tap = \'PRE\') AS "PRE min", '
        "max(mean) FILTER (WHERE tap = 'PRE') AS \"PRE mean\", "
        "max(low) FILTER (WHERE tap = 'POST') AS \"POST min\", "
        "max(mean) FILTER (WHERE tap = 'POST') AS \"POST mean\" "
        f"FROM health_timeline({_TIME}, {_STATIONS}, {_WIDTH}) GROUP BY 1 ORDER BY 1"
    )


# Knobs.


def knobs_now() -> str:
    """Knobs in force at the chosen station."""
    return (
        'SELECT knob_key AS "knob", value, calls, changed_at AS "turned", changed_by AS "by", '
        f"reason FROM knobs_in_force({_STATION}, {_TIME})"
    )


def knobs_of_call() -> str:
    """Knobs in force in the chosen call at the chosen station."""
    return (
        'SELECT knob_key AS "knob", value, changed_at AS "turned", changed_by AS "by", reason '
        f"FROM knobs_in_force({_STATION}, {_TIME}, {_TRACE})"
    )


def knob_marks() -> str:
    """Knob changes as annotations, at the chosen stations."""
    return f'SELECT "time", text, tags FROM knob_changes({_TIME}, {_STATIONS})'


def knob_marks_of_call() -> str:
    """Knob changes as annotations, of the chosen call."""
    return f'SELECT "time", text, tags FROM knob_changes({_TIME}, NULL, {_TRACE})'


_IMPACT = f"{_TIME}, ${{around:raw}}, {_STATIONS}, {_KNOB}"


def verdicts() -> str:
    """What each change did, in one word."""
    return (
        'SELECT changed_at AS "when", knob_key AS "knob", old_value AS "old", new_value AS "new", '
        'verdict, better AS "became better", worse AS "became worse", '
        'before_buckets AS "before", after_buckets AS "after", changed_by AS "by", reason, scope, '
        'coalesce(station_key, \'all\') AS "station", trace_id AS "call", '
        "event_id::text AS change, "
        f"{_ms('changed_at')} - 120000 AS from_ms, "
        f"{_ms('changed_at')} + 120000 AS to_ms "
        f"FROM knob_verdicts({_IMPACT})"
    )


def verdict_counts() -> str:
    """How many changes had which verdict."""
    names = ("better", "worse", "no effect", "not enough speech")
    columns = ", ".join(
        f"count(*) FILTER (WHERE verdict = '{name}') AS \"{name}\"" for name in names
    )
    return f"SELECT {columns} FROM knob_verdicts({_IMPACT})"


def impact() -> str:
    """What the chosen change did to each metric."""
    return (
        'SELECT metric_key AS "metric", before_mean AS "before", before_spread AS "± before", '
        'after_mean AS "after", after_spread AS "± after", delta AS "change", verdict, '
        'before_buckets AS "buckets before", after_buckets AS "buckets after" '
        "FROM knob_impact($__timeFrom(), $__timeTo(), ${around:raw}, "
        "change => nullif(${change:sqlstring}, '')::uuid)"
    )


# The archive.


def reconciliation() -> str:
    """Due = received + gaps, at each tap."""
    return (
        'SELECT station_key AS "station", tap, due_samples AS "due", received_samples AS '
        '"received", gap_samples AS "missing", lost_samples AS "lost", residual AS "unexplained" '
        f"FROM reconciliation({_TIME}) ORDER BY abs(residual) DESC, 1, 2 DESC"
    )


def processes() -> str:
    """What each process brought."""
    return (
        'SELECT boot_id AS "process", first_at AS "first batch", last_at AS "last batch", batches, '
        'missing_batches AS "missing batches", samples, quarantined, dropped '
        f"FROM archive_processes({_TIME})"
    )


def arrivals() -> str:
    """Samples and batches that came into the database over time."""
    return (
        'SELECT "time", samples::float8 / extract(epoch FROM width)::float8 AS "samples a second" '
        f"FROM (SELECT {_WIDTH} AS width) w, archive_rate({_TIME}, w.width) ORDER BY 1"
    )


def sizes() -> str:
    """Bytes of each table."""
    return "SELECT kind, bytes FROM archive_sizes()"


def sound_growth() -> str:
    """Bytes of sound of each hour."""
    return f'SELECT "time", bytes AS "sound of an hour" FROM audio_growth({_TIME})'

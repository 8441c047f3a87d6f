-- What the panels of Grafana read. Views for the reader, and functions over them: STABLE, bounded in
-- time by their arguments, and SECURITY INVOKER, so that they see no more than who calls them and
-- the planner can look into them.

CREATE INDEX applied_batches_applied_at ON applied_batches USING brin (applied_at);

CREATE OR REPLACE VIEW v_tap_buckets AS
    SELECT trace_id, station_key, tap, bucket_ts, sample_rate_hz, due_samples, received_samples,
           health, score
    FROM tap_buckets_5s;

CREATE VIEW v_defects AS
    SELECT b.trace_id, b.station_key, b.tap, b.bucket_ts, part.key AS defect,
           part.value::double precision AS points
    FROM tap_buckets_5s b CROSS JOIN LATERAL jsonb_each_text(b.health) AS part
    WHERE b.health <> '{}';
COMMENT ON VIEW v_defects IS
    'What each defect cost of the 100 points of health, where one cost any. Unlike v_health it '
    'needs no look at the metrics.';

CREATE VIEW v_batches AS
    SELECT boot_id, seq, records, samples, quarantined, cum_offered, cum_dropped, applied_at
    FROM applied_batches;
COMMENT ON VIEW v_batches IS 'When which process brought how much into this database.';

-- Is it all there?

CREATE FUNCTION data_status(from_ts timestamptz, to_ts timestamptz)
RETURNS TABLE (
    complete_until timestamptz, lost_seconds double precision, behind_seconds double precision
) LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH newest AS (
        SELECT trace_id, max(bucket_ts) + interval '5 seconds' AS until
        FROM v_tap_buckets WHERE bucket_ts > now() - interval '1 hour'
        GROUP BY trace_id
    ), running AS (
        SELECT min(n.until) AS until
        FROM newest n JOIN call_list t USING (trace_id)
        WHERE t.ended_at IS NULL
          -- A call from which nothing came while others went on is dead; its end comes with the
          -- next start of its process.
          AND n.until > (SELECT max(until) FROM newest) - interval '90 seconds'
    ), lost AS (
        SELECT sum(g.samples::double precision / b.sample_rate_hz) AS seconds
        FROM v_gaps g JOIN v_tap_buckets b USING (trace_id, station_key, tap, bucket_ts)
        WHERE g.is_loss AND g.bucket_ts BETWEEN from_ts AND to_ts
    )
    SELECT coalesce(r.until, now()), coalesce(l.seconds, 0),
           greatest(0, extract(epoch FROM now() - coalesce(r.until, now())))::double precision
    FROM running r CROSS JOIN lost l
$$;
COMMENT ON FUNCTION data_status IS
    'Until when all running calls are in the archive, how many seconds of audio were lost in the '
    'time asked for, and how far the archive is behind now. Without a running call it is complete.';

CREATE FUNCTION reconciliation(from_ts timestamptz, to_ts timestamptz)
RETURNS TABLE (
    station_key text, tap text, due_samples bigint, received_samples bigint, gap_samples bigint,
    lost_samples bigint, residual bigint
) LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH due AS (
        SELECT station_key, tap, sum(due_samples)::bigint AS due,
               sum(received_samples)::bigint AS received
        FROM v_tap_buckets WHERE bucket_ts BETWEEN from_ts AND to_ts
        GROUP BY station_key, tap
    ), missing AS (
        SELECT station_key, tap, sum(samples)::bigint AS samples,
               coalesce(sum(samples) FILTER (WHERE is_loss), 0)::bigint AS lost
        FROM v_gaps WHERE bucket_ts BETWEEN from_ts AND to_ts
        GROUP BY station_key, tap
    )
    SELECT d.station_key, d.tap, d.due, d.received, coalesce(m.samples, 0), coalesce(m.lost, 0),
           d.due - d.received - coalesce(m.samples, 0)
    FROM due d LEFT JOIN missing m USING (station_key, tap)
$$;
COMMENT ON FUNCTION reconciliation IS
    'Due = received + gaps, station by station and tap by tap. Residual is what that does not '
    'explain: 0, or the archive has lost something without saying so.';

CREATE FUNCTION archive_processes(from_ts timestamptz, to_ts timestamptz)
RETURNS TABLE (
    boot_id text, first_at timestamptz, last_at timestamptz, batches bigint, missing_batches bigint,
    samples bigint, quarantined bigint, dropped bigint
) LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT boot_id, min(applied_at), max(applied_at), count(*),
           max(seq) - min(seq) + 1 - count(*), sum(samples)::bigint, sum(quarantined)::bigint,
           max(cum_dropped) - min(cum_dropped)
    FROM v_batches WHERE applied_at BETWEEN from_ts AND to_ts
    GROUP BY boot_id ORDER BY max(applied_at) DESC LIMIT 50
$$;
COMMENT ON FUNCTION archive_processes IS
    'What each process brought: a hole in its numbers is a batch that never came (or is on its '
    'way); dropped are samples it lost before they were in a batch, within the time asked for.';

CREATE FUNCTION archive_rate(from_ts timestamptz, to_ts timestamptz, width interval)
RETURNS TABLE ("time" timestamptz, batches bigint, records bigint, samples bigint)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT date_bin(width, applied_at, 'epoch'), count(*), sum(records)::bigint,
           sum(samples)::bigint
    FROM v_batches WHERE applied_at BETWEEN from_ts AND to_ts
    GROUP BY 1 ORDER BY 1
$$;
COMMENT ON FUNCTION archive_rate IS 'What came into the database over time.';

CREATE FUNCTION archive_sizes() RETURNS TABLE (kind text, bytes bigint)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT parent, sum(pg_total_relation_size(part.relid))::bigint
    FROM unnest(ARRAY['metrics_agg_5s', 'tap_buckets_5s', 'audio_segments_5s', 'knob_snapshots_5s',
                      'gaps', 'traces', 'knob_events', 'applied_batches']) AS parent
    CROSS JOIN LATERAL (
        SELECT relid FROM pg_partition_tree(parent::regclass) WHERE isleaf
        UNION SELECT parent::regclass
    ) part
    GROUP BY parent ORDER BY 2 DESC
$$;
COMMENT ON FUNCTION archive_sizes IS 'Bytes on disk of each table with its indexes.';

CREATE FUNCTION audio_growth(from_ts timestamptz, to_ts timestamptz)
RETURNS TABLE ("time" timestamptz, segments bigint, bytes bigint)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT date_trunc('hour', bucket_ts, 'UTC'), count(*), sum(file_bytes)::bigint
    FROM v_segments WHERE bucket_ts BETWEEN from_ts AND to_ts
    GROUP BY 1 ORDER BY 1
$$;
COMMENT ON FUNCTION audio_growth IS 'Sound files of each hour: how fast the disk fills.';

-- Which call, which five seconds?

CREATE FUNCTION trace_stations(trace text) RETURNS TABLE (station_key text)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT unnest(stations) FROM call_list WHERE trace_id = trace ORDER BY 1
$$;
COMMENT ON FUNCTION trace_stations IS 'The stations that a call passed.';

CREATE FUNCTION stations_between(from_ts timestamptz, to_ts timestamptz)
RETURNS TABLE (station_key text) LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT DISTINCT station_key FROM v_tap_buckets WHERE bucket_ts BETWEEN from_ts AND to_ts
    ORDER BY 1
$$;
COMMENT ON FUNCTION stations_between IS 'The stations from which there is something in that time.';

CREATE FUNCTION trace_search(
    from_ts timestamptz, to_ts timestamptz, extension text DEFAULT '',
    stations text[] DEFAULT NULL, most integer DEFAULT 50
) RETURNS TABLE (
    trace_id text, started_at timestamptz, ended_at timestamptz, length_s double precision,
    src_extension text, dst_extension text, lang text, worst_score double precision,
    mean_score double precision, worst_station_key text, worst_tap text,
    worst_bucket_ts timestamptz, worst_defect text, lost_samples bigint
) LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH scores AS (
        SELECT trace_id, min(score) AS worst, avg(score) AS mean
        FROM v_tap_buckets
        WHERE bucket_ts BETWEEN from_ts AND to_ts
          AND (stations IS NULL OR station_key = ANY (stations))
        GROUP BY trace_id
    ), found AS (
        SELECT t.trace_id, t.started_at, t.ended_at, t.src_extension, t.dst_extension,
               t.attributes, t.lost_samples, s.worst, s.mean
        FROM call_list t LEFT JOIN scores s USING (trace_id)
        WHERE t.started_at BETWEEN from_ts - interval '1 day' AND to_ts
          AND coalesce(t.ended_at, now()) >= from_ts
          AND (extension = '' OR extension IN (t.src_extension, t.dst_extension)
               OR t.trace_id = extension OR t.call_id = extension)
          AND (trace_search.stations IS NULL OR s.trace_id IS NOT NULL)
        ORDER BY s.worst NULLS LAST, t.started_at DESC LIMIT most
    )
    SELECT f.trace_id, f.started_at, f.ended_at,
           extract(epoch FROM coalesce(f.ended_at, now()) - f.started_at)::double precision,
           f.src_extension, f.dst_extension, f.attributes ->> 'lang', f.worst, f.mean,
           w.station_key, w.tap, w.bucket_ts, d.defect, f.lost_samples::bigint
    FROM found f
    LEFT JOIN LATERAL (
        SELECT station_key, tap, bucket_ts FROM v_tap_buckets b
        WHERE b.trace_id = f.trace_id AND b.score IS NOT NULL
          -- Ten minutes are for clocks that differ.
          AND b.bucket_ts BETWEEN greatest(from_ts, f.started_at - interval '10 minutes')
                              AND least(to_ts, coalesce(f.ended_at, now()) + interval '10 minutes')
          AND (trace_search.stations IS NULL OR b.station_key = ANY (trace_search.stations))
        ORDER BY b.score, b.bucket_ts LIMIT 1
    ) w ON true
    LEFT JOIN LATERAL (
        SELECT defect FROM v_defects v
        WHERE (v.trace_id, v.station_key, v.tap, v.bucket_ts)
            = (f.trace_id, w.station_key, w.tap, w.bucket_ts)
        ORDER BY points DESC LIMIT 1
    ) d ON true
    ORDER BY f.worst NULLS LAST, f.started_at DESC
$$;
COMMENT ON FUNCTION trace_search IS
    'Calls of that time, the worst first, with their worst five seconds and what made them bad. '
    'extension is that of caller or called, a call id or a trace id; empty for all.';

CREATE FUNCTION worst_buckets(
    from_ts timestamptz, to_ts timestamptz, stations text[] DEFAULT NULL, most integer DEFAULT 20
) RETURNS TABLE (
    trace_id text, station_key text, tap text, bucket_ts timestamptz, score double precision,
    defects text
) LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT w.trace_id, w.station_key, w.tap, w.bucket_ts, w.score, d.defects
    FROM (
        SELECT trace_id, station_key, tap, bucket_ts, score FROM v_tap_buckets
        WHERE score IS NOT NULL AND bucket_ts BETWEEN from_ts AND to_ts
          AND (stations IS NULL OR station_key = ANY (stations))
        ORDER BY score, bucket_ts DESC LIMIT most
    ) w
    LEFT JOIN LATERAL (
        SELECT string_agg(defect || ' ' || round(points::numeric), ', ' ORDER BY points DESC)
               AS defects
        FROM v_defects v
        WHERE (v.trace_id, v.station_key, v.tap, v.bucket_ts)
            = (w.trace_id, w.station_key, w.tap, w.bucket_ts)
    ) d ON true
    ORDER BY w.score, w.bucket_ts DESC
$$;
COMMENT ON FUNCTION worst_buckets IS
    'The worst five seconds of that time with what each defect cost of their health.';

CREATE FUNCTION trace_timeline(
    trace text, station text, metric text, from_ts timestamptz, to_ts timestamptz
) RETURNS TABLE (
    "time" timestamptz, tap text, low double precision, mean double precision,
    high double precision
) LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT bucket_ts, tap, min, avg, max FROM v_metrics
    WHERE trace_id = trace AND station_key = station AND tap = ANY (ARRAY['PRE', 'POST'])
      AND metric_key = metric AND bucket_ts BETWEEN from_ts AND to_ts
    ORDER BY bucket_ts, tap
$$;
COMMENT ON FUNCTION trace_timeline IS 'One metric of one call at one station over time, PRE and POST.';

CREATE FUNCTION bucket_detail(
    trace text, stations text[], from_ts timestamptz, to_ts timestamptz
) RETURNS TABLE (
    bucket_ts timestamptz, station_key text, score double precision, defects text,
    pre_level double precision, post_level double precision, pre_clipping double precision,
    post_clipping double precision, speech_lost double precision, limited double precision,
    gap_samples bigint, has_pre boolean, has_post boolean, changed_knobs text
) LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH numbers AS (
        SELECT bucket_ts, station_key,
               min(last) FILTER (WHERE metric_key = 'health.audio_score') AS score,
               max(avg) FILTER (WHERE metric_key = 'pcm.rms_dbfs' AND tap = 'PRE') AS pre_level,
               max(avg) FILTER (WHERE metric_key = 'pcm.rms_dbfs' AND tap = 'POST') AS post_level,
               max(max) FILTER (WHERE metric_key = 'pcm.clipping_ratio' AND tap = 'PRE')
                   AS pre_clipping,
               max(max) FILTER (WHERE metric_key = 'pcm.clipping_ratio' AND tap = 'POST')
                   AS post_clipping,
               max(last) FILTER (WHERE metric_key = 'pair.speech_lost_ratio') AS speech_lost,
               max(last) FILTER (WHERE metric_key = 'pair.limited_ratio') AS limited
        FROM v_metrics
        WHERE trace_id = trace AND station_key = ANY (stations) AND tap = ANY (ARRAY['PRE', 'POST'])
          AND metric_key = ANY (ARRAY['health.audio_score', 'pcm.rms_dbfs', 'pcm.clipping_ratio',
                                      'pair.speech_lost_ratio', 'pair.limited_ratio'])
          AND bucket_ts BETWEEN from_ts AND to_ts
        GROUP BY bucket_ts, station_key
    ), sounds AS (
        SELECT bucket_ts, station_key, bool_or(tap = 'PRE') AS has_pre,
               bool_or(tap = 'POST') AS has_post
        FROM v_segments
        WHERE trace_id = trace AND station_key = ANY (stations)
          AND bucket_ts BETWEEN from_ts AND to_ts
        GROUP BY bucket_ts, station_key
    ), missing AS (
        SELECT bucket_ts, station_key, sum(samples)::bigint AS samples FROM v_gaps
        WHERE trace_id = trace AND station_key = ANY (stations)
          AND bucket_ts BETWEEN from_ts AND to_ts
        GROUP BY bucket_ts, station_key
    ), reasons AS (
        SELECT bucket_ts, station_key,
               string_agg(tap || ' ' || defect || ' ' || round(points::numeric), ', '
                          ORDER BY points DESC) AS defects
        FROM v_defects
        WHERE trace_id = trace AND station_key = ANY (stations)
          AND bucket_ts BETWEEN from_ts AND to_ts
        GROUP BY bucket_ts, station_key
    ), turned AS (
        SELECT bucket_ts, station_key,
               (SELECT string_agg(each ->> 'knob_key', ', ') FROM jsonb_array_elements(changed) each)
                   AS knobs
        FROM v_knob_snapshots
        WHERE trace_id = trace AND station_key = ANY (stations)
          AND bucket_ts BETWEEN from_ts AND to_ts AND changed <> '[]'
    )
    SELECT bucket_ts, station_key, n.score, r.defects, n.pre_level, n.post_level, n.pre_clipping,
           n.post_clipping, n.speech_lost, n.limited, coalesce(m.samples, 0),
           coalesce(s.has_pre, false), coalesce(s.has_post, false), t.knobs
    FROM numbers n FULL JOIN sounds s USING (bucket_ts, station_key)
    LEFT JOIN missing m USING (bucket_ts, station_key)
    LEFT JOIN reasons r USING (bucket_ts, station_key)
    LEFT JOIN turned t USING (bucket_ts, station_key)
    ORDER BY bucket_ts, station_key
$$;
COMMENT ON FUNCTION bucket_detail IS
    'The five seconds of a call one by one: how good, why not, and whether there is sound to hear.';

CREATE FUNCTION gap_list(
    from_ts timestamptz, to_ts timestamptz, trace text DEFAULT NULL, stations text[] DEFAULT NULL,
    most integer DEFAULT 200
) RETURNS TABLE (
    bucket_ts timestamptz, trace_id text, station_key text, tap text, cause text, is_loss boolean,
    begins timestamptz, seconds double precision
) LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT g.bucket_ts, g.trace_id, g.station_key, g.tap, g.cause, g.is_loss,
           g.bucket_ts + make_interval(secs => g.first_sample::double precision / b.sample_rate_hz),
           g.samples::double precision / b.sample_rate_hz
    FROM v_gaps g JOIN v_tap_buckets b USING (trace_id, station_key, tap, bucket_ts)
    WHERE g.bucket_ts BETWEEN from_ts AND to_ts AND (trace IS NULL OR g.trace_id = trace)
      AND (stations IS NULL OR g.station_key = ANY (stations))
    ORDER BY g.is_loss DESC, g.bucket_ts DESC LIMIT most
$$;
COMMENT ON FUNCTION gap_list IS 'What is missing, losses first, the newest first, and why.';

CREATE FUNCTION defect_timeline(
    from_ts timestamptz, to_ts timestamptz, stations text[], width interval
) RETURNS TABLE ("time" timestamptz, defect text, points double precision)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    -- Name by name in one pass: taking each object apart into rows costs ten times as much.
    WITH costs AS (
        SELECT date_bin(width, bucket_ts, 'epoch') AS bin, count(*) AS buckets,
               sum((health -> 'clipping')::float8) AS clipping,
               sum((health -> 'limiting')::float8) AS limiting,
               sum((health -> 'noise')::float8) AS noise,
               sum((health -> 'mute')::float8) AS mute,
               sum((health -> 'freeze')::float8) AS freeze,
               sum((health -> 'loss')::float8) AS loss,
               sum((health -> 'lost_speech')::float8) AS lost_speech
        FROM v_tap_buckets
        WHERE bucket_ts BETWEEN from_ts AND to_ts AND station_key = ANY (stations)
        GROUP BY 1
    )
    SELECT c.bin, each.defect, each.points / c.buckets
    FROM costs c CROSS JOIN LATERAL (
        VALUES ('clipping', c.clipping), ('limiting', c.limiting), ('noise', c.noise),
               ('mute', c.mute), ('freeze', c.freeze), ('loss', c.loss),
               ('lost_speech', c.lost_speech)
    ) AS each (defect, points)
    WHERE each.points > 0 ORDER BY 1, 2
$$;
COMMENT ON FUNCTION defect_timeline IS
    'What each defect cost of health over time: points a bucket, over all buckets of both taps.';

CREATE FUNCTION health_timeline(
    from_ts timestamptz, to_ts timestamptz, stations text[], width interval
) RETURNS TABLE ("time" timestamptz, tap text, low double precision, mean double precision)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT date_bin(width, bucket_ts, 'epoch'), tap, min(score), avg(score) FROM v_tap_buckets
    WHERE score IS NOT NULL AND bucket_ts BETWEEN from_ts AND to_ts
      AND station_key = ANY (stations)
    GROUP BY 1, 2 ORDER BY 1, 2
$$;
COMMENT ON FUNCTION health_timeline IS 'Health of all calls at these stations over time.';

-- What did a knob do?

CREATE FUNCTION knobs_in_force(
    station text, from_ts timestamptz, to_ts timestamptz, trace text DEFAULT NULL
) RETURNS TABLE (
    knob_key text, value text, calls bigint, changed_at timestamptz, changed_by text, reason text
) LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH newest AS (
        SELECT max(bucket_ts) AS bucket_ts FROM v_knob_snapshots
        WHERE station_key = station AND bucket_ts BETWEEN from_ts AND to_ts
          AND (trace IS NULL OR trace_id = trace)
    ), held AS (
        SELECT each.key, each.value, count(*) AS calls
        FROM newest n JOIN v_knob_snapshots s
          ON s.bucket_ts BETWEEN n.bucket_ts - interval '5 seconds' AND n.bucket_ts
         AND s.station_key = station AND (trace IS NULL OR s.trace_id = trace)
         -- Of each call the newest: one that is a bucket late still counts.
         AND NOT EXISTS (
             SELECT FROM v_knob_snapshots later
             WHERE later.trace_id = s.trace_id AND later.station_key = s.station_key
               AND later.bucket_ts > s.bucket_ts AND later.bucket_ts <= n.bucket_ts)
        CROSS JOIN LATERAL jsonb_each(s.knob_values) AS each
        GROUP BY each.key, each.value
    ), turned AS (
        -- Who set this value: what was done in one call is not said of those that kept another one.
        SELECT DISTINCT ON (knob_key, new_value) knob_key, new_value, created_at, changed_by, reason
        FROM v_knob_events
        WHERE created_at <= to_ts AND (station_key IS NULL OR station_key = station)
          AND (trace IS NULL OR trace_id IS NULL OR trace_id = trace)
        ORDER BY knob_key, new_value, created_at DESC
    )
    SELECT h.key, h.value #>> '{}', h.calls, t.created_at, t.changed_by, t.reason
    FROM held h LEFT JOIN turned t ON (t.knob_key, t.new_value) = (h.key, h.value)
    ORDER BY t.created_at DESC NULLS LAST, h.key, h.calls DESC
$$;
COMMENT ON FUNCTION knobs_in_force IS
    'Knob values at a station in the newest bucket of that time, in how many calls, and who set '
    'each value last; what was set last comes first.';

CREATE FUNCTION knob_changes(
    from_ts timestamptz, to_ts timestamptz, stations text[] DEFAULT NULL, trace text DEFAULT NULL
) RETURNS TABLE ("time" timestamptz, text text, tags text)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(counts_from, created_at),
           knob_key || ': ' || coalesce(old_value #>> '{}', '-') || ' -> '
               || coalesce(new_value #>> '{}', '-')
               || CASE reason WHEN '' THEN '' ELSE ' (' || reason || ')' END,
           concat_ws(',', changed_by, scope, station_key)
    FROM v_knob_events
    WHERE created_at BETWEEN from_ts AND to_ts
      AND (stations IS NULL OR station_key IS NULL OR station_key = ANY (stations))
      AND (trace IS NULL OR trace_id IS NULL OR trace_id = trace)
    ORDER BY 1 LIMIT 500
$$;
COMMENT ON FUNCTION knob_changes IS 'Knobs that were turned, as annotations.';

CREATE FUNCTION knob_impact_metrics()
RETURNS TABLE (metric_key text, better integer, aim double precision, matters double precision)
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    VALUES ('health.audio_score', 1, NULL::double precision, 3.0::double precision),
           ('pcm.active_level_dbfs', -1, -26, 2.0),
           ('pcm.snr_estimate', 1, NULL, 3.0),
           ('pcm.clipping_ratio', -1, NULL, 0.0005),
           ('pair.limited_ratio', -1, NULL, 0.005),
           ('pair.speech_lost_ratio', -1, NULL, 0.01),
           ('pair.added_silence_ratio', -1, NULL, 0.01),
           ('pair.segmental_snr_db', 1, NULL, 2.0),
           ('pair.log_spectral_distance_db', -1, NULL, 1.0),
           ('pair.coherence', 1, NULL, 0.05),
           ('pipe.processing_latency_ms', -1, NULL, 1.0),
           ('pipe.border_click_ratio', -1, NULL, 0.02)
$$;
COMMENT ON FUNCTION knob_impact_metrics IS
    'What a knob is judged by, at POST: whether more is better (1) or worse (-1), the value that is '
    'aimed at (then the distance from it counts; ITU-T P.56 levels are set for -26 dBFS), and the '
    'smallest difference that matters.';

CREATE FUNCTION knob_impact(
    from_ts timestamptz, to_ts timestamptz, around integer DEFAULT 12,
    stations text[] DEFAULT NULL, knob text DEFAULT '', change uuid DEFAULT NULL,
    most integer DEFAULT 20
) RETURNS TABLE (
    event_id uuid, changed_at timestamptz, knob_key text, old_value text, new_value text,
    changed_by text, reason text, scope text, trace_id text, station_key text, metric_key text,
    before_buckets bigint, after_buckets bigint, before_mean double precision,
    before_spread double precision, after_mean double precision, after_spread double precision,
    delta double precision, verdict text
) LANGUAGE sql STABLE PARALLEL SAFE
-- Compiling a plan for hundreds of partitions takes seconds, running it milliseconds.
SET jit = off
AS $$
    WITH events AS MATERIALIZED (
        SELECT v.*, coalesce(counts_from, created_at) AS changed_at FROM v_knob_events v
        WHERE created_at BETWEEN from_ts AND to_ts AND (knob = '' OR v.knob_key = knob)
          AND (change IS NULL OR v.event_id = change)
          AND (stations IS NULL OR v.station_key IS NULL OR v.station_key = ANY (stations))
        ORDER BY created_at DESC LIMIT most
    ), reached AS (
        -- A change of a station or of everything reaches all calls that run.
        SELECT DISTINCT e.event_id, e.changed_at, e.knob_key, s.trace_id, s.station_key
        FROM events e JOIN v_knob_snapshots s
          ON s.bucket_ts BETWEEN e.changed_at - interval '10 seconds'
                             AND e.changed_at + interval '10 seconds'
         AND (e.trace_id IS NULL OR s.trace_id = e.trace_id)
         AND (e.station_key IS NULL OR s.station_key = e.station_key)
         AND (stations IS NULL OR s.station_key = ANY (stations))
    ), edges AS (
        -- The knobs of the last whole bucket before and of the first whole one after it. Where they
        -- agree on the knob, something of higher priority kept the change from this call.
        SELECT r.*, b.knob_values AS before_values, a.knob_values AS after_values
        FROM reached r
        CROSS JOIN LATERAL (
            SELECT s.knob_values FROM v_knob_snapshots s
            WHERE s.trace_id = r.trace_id AND s.station_key = r.station_key AND s.changed = '[]'
              AND s.bucket_ts BETWEEN r.changed_at - interval '1 minute'
                                  AND r.changed_at - interval '5 seconds'
            ORDER BY s.bucket_ts DESC LIMIT 1
        ) b
        CROSS JOIN LATERAL (
            SELECT s.knob_values FROM v_knob_snapshots s
            WHERE s.trace_id = r.trace_id AND s.station_key = r.station_key AND s.changed = '[]'
              AND s.bucket_ts BETWEEN r.changed_at AND r.changed_at + interval '1 minute'
            ORDER BY s.bucket_ts LIMIT 1
        ) a
        WHERE b.knob_values -> r.knob_key IS DISTINCT FROM a.knob_values -> r.knob_key
    ), chosen AS MATERIALIZED (
        -- The nearest buckets with speech in which exactly these knobs were in force throughout.
        SELECT e.event_id, e.trace_id, e.station_key, side.is_after, near.bucket_ts
        FROM edges e
        CROSS JOIN LATERAL (
            VALUES (false, e.changed_at - around * interval '20 seconds',
                    e.changed_at - interval '5 seconds', e.before_values),
                   (true, e.changed_at, e.changed_at + around * interval '20 seconds',
                    e.after_values)
        ) AS side (is_after, low_ts, high_ts, held)
        CROSS JOIN LATERAL (
            SELECT s.bucket_ts FROM v_knob_snapshots s
            WHERE s.trace_id = e.trace_id AND s.station_key = e.station_key
              AND s.bucket_ts BETWEEN side.low_ts AND side.high_ts
              AND s.changed = '[]' AND s.knob_values = side.held
              AND s.bucket_ts = ANY (ARRAY(
                  SELECT m.bucket_ts FROM v_metrics m
                  WHERE m.trace_id = e.trace_id AND m.station_key = e.station_key
                    AND m.tap = 'PRE' AND m.metric_key = 'pcm.speech_ratio' AND m.last >= 0.2
                    AND m.bucket_ts BETWEEN side.low_ts AND side.high_ts))
            ORDER BY abs(extract(epoch FROM s.bucket_ts - e.changed_at)) LIMIT around
        ) near
    ), sides AS (
        SELECT c.event_id, k.metric_key, c.is_after, count(*) AS n, avg(m.avg) AS mean,
               coalesce(stddev_samp(m.avg), 0) AS spread,
               avg(k.better * coalesce(abs(m.avg - k.aim), m.avg)) AS merit,
               coalesce(var_samp(coalesce(abs(m.avg - k.aim), m.avg)), 0) / count(*) AS doubt
        FROM chosen c CROSS JOIN LATERAL (
            SELECT v.metric_key, v.avg FROM v_metrics v
            WHERE v.trace_id = c.trace_id AND v.station_key = c.station_key AND v.tap = 'POST'
              AND v.metric_key = ANY (ARRAY(SELECT metric_key FROM knob_impact_metrics()))
              AND v.bucket_ts = c.bucket_ts
            OFFSET 0  -- a look into the index for each bucket, never a join with everything
        ) m JOIN knob_impact_metrics() k USING (metric_key)
        GROUP BY c.event_id, k.metric_key, c.is_after
    )
    SELECT e.event_id, e.changed_at, e.knob_key, e.old_value #>> '{}', e.new_value #>> '{}',
           e.changed_by, e.reason, e.scope, e.trace_id, e.station_key, k.metric_key,
           coalesce(b.n, 0), coalesce(a.n, 0), b.mean, b.spread, a.mean, a.spread,
           a.mean - b.mean,
           CASE WHEN least(coalesce(a.n, 0), coalesce(b.n, 0)) < 3 THEN 'not enough speech'
                WHEN abs(a.merit - b.merit) < greatest(k.matters, 2 * sqrt(a.doubt + b.doubt))
                    THEN 'no effect'
                WHEN a.merit > b.merit THEN 'better'
                ELSE 'worse' END
    FROM events e CROSS JOIN knob_impact_metrics() k
    LEFT JOIN sides b ON (b.event_id, b.metric_key) = (e.event_id, k.metric_key) AND NOT b.is_after
    LEFT JOIN sides a ON (a.event_id, a.metric_key) = (e.event_id, k.metric_key) AND a.is_after
    ORDER BY e.changed_at DESC, e.event_id, k.metric_key
$$;
COMMENT ON FUNCTION knob_impact IS
    'What each change did to each metric: mean and spread of the buckets with speech before and '
    'after it (at most around of each call, nearest first; buckets in which a knob changed are left '
    'out), and a verdict. A difference counts when it matters (knob_impact_metrics) and is larger '
    'than twice its standard error.';

CREATE FUNCTION knob_verdicts(
    from_ts timestamptz, to_ts timestamptz, around integer DEFAULT 12,
    stations text[] DEFAULT NULL, knob text DEFAULT '', most integer DEFAULT 20
) RETURNS TABLE (
    event_id uuid, changed_at timestamptz, knob_key text, old_value text, new_value text,
    changed_by text, reason text, scope text, trace_id text, station_key text,
    before_buckets bigint, after_buckets bigint, verdict text, better text, worse text
) LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT event_id, changed_at, knob_key, old_value, new_value, changed_by, reason, scope,
           trace_id, station_key, max(before_buckets), max(after_buckets),
           CASE WHEN bool_and(verdict = 'not enough speech') THEN 'not enough speech'
                -- Health weighs the defects against each other; where it says nothing, one metric
                -- that became worse is enough.
                ELSE coalesce(
                    max(verdict) FILTER (WHERE metric_key = 'health.audio_score'
                                           AND verdict IN ('better', 'worse')),
                    max(verdict) FILTER (WHERE verdict = 'worse'),
                    max(verdict) FILTER (WHERE verdict = 'better'),
                    'no effect') END,
           string_agg(metric_key, ', ') FILTER (WHERE verdict = 'better'),
           string_agg(metric_key, ', ') FILTER (WHERE verdict = 'worse')
    FROM knob_impact(from_ts, to_ts, around, stations, knob, NULL, most)
    GROUP BY event_id, changed_at, knob_key, old_value, new_value, changed_by, reason, scope,
             trace_id, station_key
    ORDER BY changed_at DESC
$$;
COMMENT ON FUNCTION knob_verdicts IS
    'What each change did, in one word (better, worse, no effect, not enough speech), and to which '
    'metrics.';

REVOKE ALL ON FUNCTION
    data_status, reconciliation, archive_processes, archive_rate, archive_sizes, audio_growth,
    trace_stations, stations_between, trace_search, worst_buckets, trace_timeline, bucket_detail,
    gap_list, defect_timeline, health_timeline, knobs_in_force, knob_changes, knob_impact_metrics,
    knob_impact, knob_verdicts
    FROM PUBLIC;

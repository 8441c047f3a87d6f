-- Calls of an earlier installation: what came is known, what was due is not.

ALTER TABLE tap_buckets_5s ALTER COLUMN due_samples DROP NOT NULL;
ALTER TABLE tap_buckets_5s ALTER COLUMN received_samples DROP NOT NULL;

-- As before, but what is not known of every bucket is not known of the call.
CREATE OR REPLACE VIEW archived_calls AS
    SELECT t.trace_id, t.started_at, t.ended_at, t.end_reason, t.src_extension, t.dst_extension,
           t.call_id, t.attributes,
           count(b.*) AS tap_buckets,
           CASE WHEN count(b.due_samples) = count(b.*) THEN coalesce(sum(b.due_samples), 0) END
               AS due_samples,
           CASE WHEN count(b.received_samples) = count(b.*)
               THEN coalesce(sum(b.received_samples), 0) END AS received_samples,
           t.consent
    FROM traces t LEFT JOIN tap_buckets_5s b USING (trace_id)
    GROUP BY t.trace_id;

-- As before, but a sum of nothing known adds nothing.
CREATE OR REPLACE FUNCTION add_to_call_totals() RETURNS trigger
LANGUAGE plpgsql SET search_path = public, pg_temp
AS $$
BEGIN
    INSERT INTO call_totals AS t (
        trace_id, stations, first_ts, last_ts, due_samples, received_samples, score_sum,
        score_count, worst_score, worst_bucket_ts, worst_station_key, worst_tap
    )
    SELECT trace_id, array_agg(DISTINCT station_key), min(bucket_ts),
           max(bucket_ts) + interval '5 seconds', coalesce(sum(due_samples), 0),
           coalesce(sum(received_samples), 0), coalesce(sum(score), 0), count(score), min(score),
           (array_agg(bucket_ts ORDER BY score, bucket_ts, station_key, tap))[1],
           (array_agg(station_key ORDER BY score, bucket_ts, station_key, tap))[1],
           (array_agg(tap ORDER BY score, bucket_ts, station_key, tap))[1]
    FROM added GROUP BY trace_id ORDER BY trace_id
    ON CONFLICT (trace_id) DO UPDATE SET
        stations = CASE WHEN t.stations @> excluded.stations THEN t.stations ELSE
            ARRAY(SELECT DISTINCT unnest(t.stations || excluded.stations) ORDER BY 1) END,
        first_ts = least(t.first_ts, excluded.first_ts),
        last_ts = greatest(t.last_ts, excluded.last_ts),
        due_samples = t.due_samples + excluded.due_samples,
        received_samples = t.received_samples + excluded.received_samples,
        score_sum = t.score_sum + excluded.score_sum,
        score_count = t.score_count + excluded.score_count,
        (worst_score, worst_bucket_ts, worst_station_key, worst_tap) = (
            SELECT w.score, w.bucket_ts, w.station_key, w.tap FROM (
                VALUES (t.worst_score, t.worst_bucket_ts, t.worst_station_key, t.worst_tap),
                       (excluded.worst_score, excluded.worst_bucket_ts,
                        excluded.worst_station_key, excluded.worst_tap)
            ) AS w (score, bucket_ts, station_key, tap)
            ORDER BY score, bucket_ts, station_key, tap LIMIT 1
        );
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION renew_call_totals() RETURNS trigger
LANGUAGE plpgsql SET search_path = public, pg_temp
AS $$
BEGIN
    UPDATE call_totals t SET
        due_samples = coalesce(s.due_samples, 0),
        received_samples = coalesce(s.received_samples, 0),
        score_sum = s.score_sum, score_count = s.score_count, worst_score = s.worst[1].score,
        worst_bucket_ts = s.worst[1].bucket_ts, worst_station_key = s.worst[1].station_key,
        worst_tap = s.worst[1].tap
    FROM (
        SELECT b.trace_id, sum(b.due_samples) AS due_samples,
               sum(b.received_samples) AS received_samples,
               coalesce(sum(b.score), 0) AS score_sum, count(b.score) AS score_count,
               array_agg(b ORDER BY b.score, b.bucket_ts, b.station_key, b.tap) AS worst
        FROM tap_buckets_5s b
        WHERE b.trace_id IN (SELECT trace_id FROM changed) GROUP BY b.trace_id
    ) s
    WHERE t.trace_id = s.trace_id;
    RETURN NULL;
END
$$;

-- As before, but where nobody knows what was due, what came is no evidence either.
CREATE OR REPLACE FUNCTION reconciliation(from_ts timestamptz, to_ts timestamptz)
RETURNS TABLE (
    station_key text, tap text, due_samples bigint, received_samples bigint, gap_samples bigint,
    lost_samples bigint, residual bigint
) LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH due AS (
        SELECT station_key, tap, sum(due_samples)::bigint AS due,
               sum(received_samples)::bigint AS received
        FROM v_tap_buckets
        WHERE bucket_ts BETWEEN from_ts AND to_ts AND due_samples IS NOT NULL
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

-- The drill-down: who may ask, who has listened, and the list of calls.

CREATE TABLE access_tokens (
    token_hash text PRIMARY KEY CHECK (token_hash ~ '^[0-9a-f]{64}$'),
    name       text NOT NULL CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}$'),
    roles      text[] NOT NULL CHECK (
        cardinality(roles) > 0
        AND roles <@ ARRAY['numbers', 'listen', 'download', 'change', 'erase']
    ),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz
);
CREATE UNIQUE INDEX access_tokens_name ON access_tokens (name) WHERE revoked_at IS NULL;
COMMENT ON TABLE access_tokens IS
    'Who may ask the drill-down from another machine. The token itself is nowhere.';
COMMENT ON COLUMN access_tokens.token_hash IS 'SHA-256 of the token, in hex.';
COMMENT ON COLUMN access_tokens.name IS 'Who holds it; stands in the access log.';
COMMENT ON COLUMN access_tokens.roles IS 'What it allows: numbers, listen, download, change, erase.';
COMMENT ON COLUMN access_tokens.created_at IS 'When it was made.';
COMMENT ON COLUMN access_tokens.expires_at IS 'From when on it is refused; NULL is never.';
COMMENT ON COLUMN access_tokens.revoked_at IS 'When it was taken back; NULL is not.';

CREATE TABLE audio_access (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    token_name  text NOT NULL,
    role        text NOT NULL,
    trace_id    text NOT NULL,
    station_key text NOT NULL,
    tap         text NOT NULL,
    from_ts     timestamptz NOT NULL,
    to_ts       timestamptz NOT NULL,
    first_byte  bigint NOT NULL,
    last_byte   bigint NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('listen', 'download', 'export')),
    client_hash text NOT NULL
);
CREATE INDEX audio_access_at ON audio_access (at);
CREATE INDEX audio_access_trace ON audio_access (trace_id, at);
COMMENT ON TABLE audio_access IS
    'Every answer with audio, written before its first byte left. It outlives the audio: rows are '
    'never changed, and retention does not touch them.';
COMMENT ON COLUMN audio_access.id IS 'Order of writing.';
COMMENT ON COLUMN audio_access.at IS 'When.';
COMMENT ON COLUMN audio_access.token_name IS
    'Name of the token; "local" for this machine without one, "link" for a signed address.';
COMMENT ON COLUMN audio_access.role IS 'Role that allowed it.';
COMMENT ON COLUMN audio_access.trace_id IS 'Call whose sound it was.';
COMMENT ON COLUMN audio_access.station_key IS 'Station where it was heard.';
COMMENT ON COLUMN audio_access.tap IS 'PRE, POST, or DELTA for what the station took away.';
COMMENT ON COLUMN audio_access.from_ts IS 'Start of the segment or range that was asked for.';
COMMENT ON COLUMN audio_access.to_ts IS 'Its end.';
COMMENT ON COLUMN audio_access.first_byte IS 'First byte of the file that was sent.';
COMMENT ON COLUMN audio_access.last_byte IS 'Last byte of the file that was sent.';
COMMENT ON COLUMN audio_access.kind IS 'listen, download (a file to keep) or export (a bundle).';
COMMENT ON COLUMN audio_access.client_hash IS
    'Keyed hash of the network address: tells clients apart and names none.';

CREATE FUNCTION audio_access_is_append_only() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'audio_access is append-only' USING ERRCODE = 'insufficient_privilege';
END
$$;
COMMENT ON FUNCTION audio_access_is_append_only IS 'Refuses to change the access log.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audio_access
    FOR EACH STATEMENT EXECUTE FUNCTION audio_access_is_append_only();

CREATE VIEW listens AS
    WITH marked AS (
        SELECT *, coalesce(at - lag(at) OVER same > interval '10 minutes', true) AS begins
        FROM audio_access
        WHERE kind = 'listen'
        WINDOW same AS (
            PARTITION BY token_name, trace_id, station_key, tap, from_ts, to_ts ORDER BY at, id
        )
    ), numbered AS (
        SELECT *, count(*) FILTER (WHERE begins) OVER (
            PARTITION BY token_name, trace_id, station_key, tap, from_ts, to_ts ORDER BY at, id
        ) AS number
        FROM marked
    )
    SELECT token_name, trace_id, station_key, tap, from_ts, to_ts,
           min(at) AS began_at, max(at) AS last_at, count(*) AS answers
    FROM numbered
    GROUP BY token_name, trace_id, station_key, tap, from_ts, to_ts, number;
COMMENT ON VIEW listens IS
    'One row for each time that somebody listened: answers to one token for one segment or range, '
    'none more than ten minutes after the one before. A player fetches a file in several parts.';

-- The newest calls, and those that run.
CREATE INDEX traces_newest ON traces (started_at DESC, trace_id DESC);
CREATE INDEX traces_running ON traces (started_at) WHERE ended_at IS NULL;
CREATE INDEX knob_events_trace ON knob_events (trace_id);

ALTER TABLE tap_buckets_5s ADD COLUMN score double precision;
COMMENT ON COLUMN tap_buckets_5s.score IS
    'health.audio_score of the bucket, as in metrics_agg_5s; NULL where it is unknown.';
UPDATE tap_buckets_5s b SET score = m.last FROM metrics_agg_5s m
    WHERE (m.trace_id, m.station_key, m.tap, m.bucket_ts)
        = (b.trace_id, b.station_key, b.tap, b.bucket_ts)
      AND m.metric_key = 'health.audio_score';
-- The worst buckets of any time, without a look at the others.
CREATE INDEX tap_buckets_5s_worst ON tap_buckets_5s (score, bucket_ts DESC, trace_id)
    INCLUDE (station_key, tap) WHERE score IS NOT NULL;

-- Sums of each call. A page of the list reads one row for a call; to sum up fifty calls of an hour
-- anew would take a second.
CREATE TABLE call_totals (
    trace_id          text PRIMARY KEY,
    stations          text[] NOT NULL DEFAULT '{}',
    first_ts          timestamptz,
    last_ts           timestamptz,
    due_samples       bigint NOT NULL DEFAULT 0,
    received_samples  bigint NOT NULL DEFAULT 0,
    lost_samples      bigint NOT NULL DEFAULT 0,
    score_sum         double precision NOT NULL DEFAULT 0,
    score_count       bigint NOT NULL DEFAULT 0,
    worst_score       double precision,
    worst_bucket_ts   timestamptz,
    worst_station_key text,
    worst_tap         text
) WITH (fillfactor = 50);
COMMENT ON TABLE call_totals IS
    'Sums over the buckets of a call, kept by triggers as buckets come; read it through call_list.';
COMMENT ON COLUMN call_totals.trace_id IS 'The call.';
COMMENT ON COLUMN call_totals.stations IS 'Stations that it has passed, in order.';
COMMENT ON COLUMN call_totals.first_ts IS 'Start of the first bucket.';
COMMENT ON COLUMN call_totals.last_ts IS 'End of the last bucket.';
COMMENT ON COLUMN call_totals.due_samples IS 'Samples that were due, at all taps.';
COMMENT ON COLUMN call_totals.received_samples IS 'Samples that came, at all taps.';
COMMENT ON COLUMN call_totals.lost_samples IS 'Samples missing by a cause that is loss.';
COMMENT ON COLUMN call_totals.score_sum IS 'Sum of the scores of all buckets and taps.';
COMMENT ON COLUMN call_totals.score_count IS 'How many scores that are.';
COMMENT ON COLUMN call_totals.worst_score IS 'Lowest health.audio_score of any bucket and tap.';
COMMENT ON COLUMN call_totals.worst_bucket_ts IS 'Bucket that has it, the first of equals.';
COMMENT ON COLUMN call_totals.worst_station_key IS 'Station that has it.';
COMMENT ON COLUMN call_totals.worst_tap IS 'Tap that has it.';

CREATE FUNCTION add_to_call_totals() RETURNS trigger
LANGUAGE plpgsql SET search_path = public, pg_temp
AS $$
BEGIN
    INSERT INTO call_totals AS t (
        trace_id, stations, first_ts, last_ts, due_samples, received_samples, score_sum,
        score_count, worst_score, worst_bucket_ts, worst_station_key, worst_tap
    )
    SELECT trace_id, array_agg(DISTINCT station_key), min(bucket_ts),
           max(bucket_ts) + interval '5 seconds', sum(due_samples), sum(received_samples),
           coalesce(sum(score), 0), count(score), min(score),
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
COMMENT ON FUNCTION add_to_call_totals IS 'Adds new buckets to the sums of their calls.';
CREATE TRIGGER call_totals_of_new AFTER INSERT ON tap_buckets_5s
    REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION add_to_call_totals();

-- A second half of a bucket changes its row: rare, and worth to sum up that call anew.
CREATE FUNCTION renew_call_totals() RETURNS trigger
LANGUAGE plpgsql SET search_path = public, pg_temp
AS $$
BEGIN
    UPDATE call_totals t SET
        due_samples = s.due_samples, received_samples = s.received_samples,
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
COMMENT ON FUNCTION renew_call_totals IS 'Sums up calls of which a bucket has changed.';
CREATE TRIGGER call_totals_of_changed AFTER UPDATE ON tap_buckets_5s
    REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION renew_call_totals();

CREATE FUNCTION add_gaps_to_call_totals() RETURNS trigger
LANGUAGE plpgsql SET search_path = public, pg_temp
AS $$
BEGIN
    INSERT INTO call_totals AS t (trace_id, lost_samples)
    SELECT trace_id, sum(samples) FROM added
    WHERE cause IN ('not_received', 'slow', 'overrun', 'too_late', 'disk_full', 'spool_full',
                    'host_crash')
    GROUP BY trace_id ORDER BY trace_id
    ON CONFLICT (trace_id) DO UPDATE SET lost_samples = t.lost_samples + excluded.lost_samples;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION add_gaps_to_call_totals IS 'Adds new losses to the sums of their calls.';
CREATE TRIGGER call_totals_of_gaps AFTER INSERT ON gaps
    REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION add_gaps_to_call_totals();

CREATE FUNCTION forget_call_totals() RETURNS trigger
LANGUAGE plpgsql SET search_path = public, pg_temp
AS $$
BEGIN
    DELETE FROM call_totals WHERE trace_id IN (SELECT trace_id FROM removed);
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION forget_call_totals IS 'Removes the sums of calls that are removed.';
CREATE TRIGGER call_totals_of_removed AFTER DELETE ON traces
    REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION forget_call_totals();

INSERT INTO call_totals (
    trace_id, stations, first_ts, last_ts, due_samples, received_samples, lost_samples, score_sum,
    score_count, worst_score, worst_bucket_ts, worst_station_key, worst_tap
)
SELECT b.trace_id, array_agg(DISTINCT b.station_key), min(b.bucket_ts),
       max(b.bucket_ts) + interval '5 seconds', sum(b.due_samples), sum(b.received_samples),
       coalesce((SELECT sum(g.samples) FROM v_gaps g WHERE g.trace_id = b.trace_id AND g.is_loss),
                0),
       coalesce(sum(b.score), 0), count(b.score), min(b.score),
       (array_agg(b.bucket_ts ORDER BY b.score, b.bucket_ts, b.station_key, b.tap))[1],
       (array_agg(b.station_key ORDER BY b.score, b.bucket_ts, b.station_key, b.tap))[1],
       (array_agg(b.tap ORDER BY b.score, b.bucket_ts, b.station_key, b.tap))[1]
FROM tap_buckets_5s b GROUP BY b.trace_id;

CREATE VIEW call_list AS
    SELECT t.trace_id, t.call_id, t.started_at, t.ended_at, t.end_reason, t.src_extension,
           t.dst_extension, t.attributes, coalesce(s.stations, '{}') AS stations,
           s.first_ts, s.last_ts,
           extract(epoch FROM coalesce(t.ended_at, s.last_ts) - t.started_at)::double precision
               AS length_s,
           coalesce(s.due_samples, 0) AS due_samples,
           coalesce(s.received_samples, 0) AS received_samples,
           coalesce(s.lost_samples, 0) AS lost_samples,
           s.lost_samples::double precision / nullif(s.due_samples, 0) AS loss_ratio,
           s.score_sum / nullif(s.score_count, 0) AS health,
           s.worst_score,
           CASE WHEN s.worst_score IS NOT NULL THEN s.worst_bucket_ts END AS worst_bucket_ts,
           CASE WHEN s.worst_score IS NOT NULL THEN s.worst_station_key END AS worst_station_key,
           CASE WHEN s.worst_score IS NOT NULL THEN s.worst_tap END AS worst_tap
    FROM traces t LEFT JOIN call_totals s USING (trace_id);
COMMENT ON VIEW call_list IS
    'One row for each call with its length, health, worst bucket and losses.';
COMMENT ON COLUMN call_list.health IS 'Mean of health.audio_score over all taps and buckets.';
COMMENT ON COLUMN call_list.loss_ratio IS 'Samples lost over samples due, of all taps.';

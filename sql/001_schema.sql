-- The archive: what was heard of every call, in buckets of five seconds.
-- Runs in one transaction; roles exist already where the login may create them (archiver.migrations).

CREATE TABLE traces (
    trace_id      text PRIMARY KEY,
    started_at    timestamptz NOT NULL,
    ended_at      timestamptz,
    src_extension text NOT NULL,
    dst_extension text,
    sample_rate   integer NOT NULL DEFAULT 16000,
    channels      integer NOT NULL DEFAULT 1,
    call_id       text,
    attributes    jsonb NOT NULL DEFAULT '{}',
    end_reason    text CHECK (end_reason IN ('host', 'idle', 'crash', 'max')),
    consent       text NOT NULL DEFAULT 'unknown'
                  CHECK (consent IN ('unknown', 'announced', 'given', 'refused'))
);
CREATE INDEX traces_started_at ON traces (started_at);
COMMENT ON TABLE traces IS 'One call with all its directions.';

CREATE TABLE tap_buckets_5s (
    trace_id         text NOT NULL,
    station_key      text NOT NULL,
    tap              text NOT NULL CHECK (tap IN ('PRE', 'POST')),
    bucket_ts        timestamptz NOT NULL,
    sample_rate_hz   integer NOT NULL,
    due_samples      integer NOT NULL,
    received_samples integer NOT NULL,
    ranges           int4multirange NOT NULL,
    PRIMARY KEY (trace_id, station_key, tap, bucket_ts)
) PARTITION BY RANGE (bucket_ts);
COMMENT ON TABLE tap_buckets_5s IS
    'What was due and received at one tap in one bucket; due = received + samples of its gaps. '
    'The sample ranges decide whether two halves of a bucket may be merged.';

CREATE TABLE metrics_agg_5s (
    trace_id    text NOT NULL,
    station_key text NOT NULL,
    tap         text NOT NULL,
    metric_key  text NOT NULL,
    bucket_ts   timestamptz NOT NULL,
    bucket_ms   integer NOT NULL DEFAULT 5000,
    count       bigint NOT NULL CHECK (count > 0),
    min         double precision NOT NULL,
    max         double precision NOT NULL,
    sum         double precision NOT NULL,
    avg         double precision NOT NULL,
    last        double precision NOT NULL,
    last_ts     timestamptz NOT NULL,
    PRIMARY KEY (trace_id, station_key, tap, metric_key, bucket_ts)
) PARTITION BY RANGE (bucket_ts);
CREATE INDEX metrics_agg_5s_bucket_ts ON metrics_agg_5s USING brin (bucket_ts);
COMMENT ON TABLE metrics_agg_5s IS
    'Count, min, max, sum, avg and last of one metric in one bucket at one tap.';

CREATE TABLE audio_segments_5s (
    trace_id         text NOT NULL,
    station_key      text NOT NULL,
    tap              text NOT NULL,
    bucket_ts        timestamptz NOT NULL,
    bucket_ms        integer NOT NULL DEFAULT 5000,
    sample_rate_hz   integer NOT NULL,
    channels         integer NOT NULL DEFAULT 1,
    format           text NOT NULL DEFAULT 'WAV_PCM_S16LE_MONO',
    file_path        text NOT NULL,
    first_sample     integer NOT NULL,
    due_samples      integer NOT NULL,
    received_samples integer NOT NULL,
    file_bytes       bigint NOT NULL,
    sha256           text NOT NULL,
    written_at       timestamptz NOT NULL,
    PRIMARY KEY (trace_id, station_key, tap, bucket_ts)
) PARTITION BY RANGE (bucket_ts);
CREATE INDEX audio_segments_5s_bucket_ts ON audio_segments_5s USING brin (bucket_ts);
COMMENT ON TABLE audio_segments_5s IS
    'The sound of one bucket at one tap: exactly five seconds, silence where there is a gap.';
COMMENT ON COLUMN audio_segments_5s.file_path IS 'Relative to MONITORING_AUDIO_PATH.';
COMMENT ON COLUMN audio_segments_5s.written_at IS
    'When the file had this hash; of two halves of a bucket the later one counts.';

CREATE TABLE knob_snapshots_5s (
    trace_id    text NOT NULL,
    station_key text NOT NULL,
    bucket_ts   timestamptz NOT NULL,
    knob_values jsonb NOT NULL,
    changed     jsonb NOT NULL DEFAULT '[]',
    PRIMARY KEY (trace_id, station_key, bucket_ts)
) PARTITION BY RANGE (bucket_ts);
CREATE INDEX knob_snapshots_5s_bucket_ts ON knob_snapshots_5s USING brin (bucket_ts);
COMMENT ON TABLE knob_snapshots_5s IS
    'The knobs in force at the first due sample of a bucket; changed lists what changed inside, '
    'with the sample (offset in the bucket) from which it counts.';

CREATE TABLE knob_events (
    event_id    uuid PRIMARY KEY,
    trace_id    text,
    station_key text,
    knob_key    text NOT NULL,
    old_value   jsonb,
    new_value   jsonb,
    changed_by  text NOT NULL,
    created_at  timestamptz NOT NULL,
    reason      text NOT NULL DEFAULT '',
    scope       text NOT NULL CHECK (scope IN ('trace_station', 'trace', 'station', 'global')),
    counts_from timestamptz
);
CREATE INDEX knob_events_created_at ON knob_events (created_at);
COMMENT ON TABLE knob_events IS 'Who turned which knob, and why.';
COMMENT ON COLUMN knob_events.counts_from IS
    'Time of the first sample that it counts for, where that is one moment (scope trace_station).';

CREATE TABLE gaps (
    trace_id     text NOT NULL,
    station_key  text NOT NULL,
    tap          text NOT NULL,
    bucket_ts    timestamptz NOT NULL,
    first_sample integer NOT NULL,
    samples      integer NOT NULL CHECK (samples > 0),
    cause        text NOT NULL,
    PRIMARY KEY (trace_id, station_key, tap, bucket_ts, first_sample)
);
CREATE INDEX gaps_bucket_ts ON gaps (bucket_ts);
COMMENT ON TABLE gaps IS 'Samples that were due and are missing, with the cause.';

CREATE TABLE applied_batches (
    batch_id    uuid PRIMARY KEY,
    boot_id     text NOT NULL,
    seq         bigint NOT NULL,
    records     integer NOT NULL,
    samples     bigint NOT NULL,
    quarantined integer NOT NULL DEFAULT 0,
    cum_offered bigint NOT NULL,
    cum_dropped bigint NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX applied_batches_boot ON applied_batches (boot_id, seq);
COMMENT ON TABLE applied_batches IS
    'Every batch file that is in this database: a replay is a no-op, a hole in seq is a loss.';

-- Partitions: one for each hour and table, made before rows come. There is no default partition,
-- because a row in it would block its hour for ever.

CREATE FUNCTION ensure_partitions(stamps timestamptz[]) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp SET lock_timeout = '200ms' SET timezone = 'UTC'
AS $$
DECLARE
    parent text;
    hour   timestamptz;
    child  text;
    made   integer := 0;
BEGIN
    -- One maker at a time; a second one finds everything there.
    PERFORM pg_advisory_xact_lock(hashtext('monitoring_v2.ensure_partitions'));
    FOR hour IN SELECT DISTINCT date_trunc('hour', stamp) FROM unnest(stamps) AS stamp ORDER BY 1 LOOP
        FOREACH parent IN ARRAY ARRAY['tap_buckets_5s', 'metrics_agg_5s', 'audio_segments_5s',
                                      'knob_snapshots_5s'] LOOP
            child := parent || '_' || to_char(hour, 'YYYYMMDDHH24');
            -- One that retention detached and did not come to drop is attached again.
            IF NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass(child)) THEN
                EXECUTE format('CREATE TABLE IF NOT EXISTS %I '
                               '(LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', child, parent);
                EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                               parent, child, hour, hour + interval '1 hour');
                made := made + 1;
            END IF;
        END LOOP;
    END LOOP;
    RETURN made;
END
$$;
COMMENT ON FUNCTION ensure_partitions IS 'Makes the hourly partitions that rows of these times need.';
REVOKE ALL ON FUNCTION ensure_partitions FROM PUBLIC;

CREATE VIEW archived_calls AS
    SELECT t.trace_id, t.started_at, t.ended_at, t.end_reason, t.src_extension, t.dst_extension,
           t.call_id, t.attributes,
           count(b.*) AS tap_buckets,
           coalesce(sum(b.due_samples), 0) AS due_samples,
           coalesce(sum(b.received_samples), 0) AS received_samples
    FROM traces t LEFT JOIN tap_buckets_5s b USING (trace_id)
    GROUP BY t.trace_id;
COMMENT ON VIEW archived_calls IS 'One row for each call, with how much of it was due and received.';

-- What the reader (Grafana) sees: no paths, no hashes, no batches.

CREATE VIEW v_tap_buckets AS
    SELECT trace_id, station_key, tap, bucket_ts, sample_rate_hz, due_samples, received_samples
    FROM tap_buckets_5s;
COMMENT ON VIEW v_tap_buckets IS 'What was due and received at one tap in one bucket.';

CREATE VIEW v_metrics AS
    SELECT trace_id, station_key, tap, metric_key, bucket_ts, bucket_ms, count, min, max, avg,
           last, sum, last_ts
    FROM metrics_agg_5s;
COMMENT ON VIEW v_metrics IS 'One metric in one bucket at one tap.';

CREATE VIEW v_segments AS
    SELECT trace_id, station_key, tap, bucket_ts, bucket_ms, sample_rate_hz, channels, format,
           first_sample, due_samples, received_samples, file_bytes
    FROM audio_segments_5s;
COMMENT ON VIEW v_segments IS 'Which sound there is; the drill-down page plays it.';

CREATE VIEW v_gaps AS
    SELECT trace_id, station_key, tap, bucket_ts, first_sample, samples, cause,
           cause IN ('not_received', 'slow', 'overrun', 'too_late', 'disk_full', 'spool_full',
                     'host_crash') AS is_loss
    FROM gaps;
COMMENT ON VIEW v_gaps IS 'Missing samples with their cause; is_loss says which count in alerts.';

CREATE VIEW v_knob_snapshots AS
    SELECT trace_id, station_key, bucket_ts, knob_values, changed FROM knob_snapshots_5s;
COMMENT ON VIEW v_knob_snapshots IS 'The knobs in force at the first due sample of a bucket.';

CREATE VIEW v_knob_events AS
    SELECT event_id, trace_id, station_key, knob_key, old_value, new_value, changed_by, created_at,
           reason, scope, counts_from
    FROM knob_events;
COMMENT ON VIEW v_knob_events IS 'Who turned which knob, and why.';

-- What the callers agreed to, and whose numbers the masked extensions stand for.

ALTER TABLE traces ADD COLUMN consent_at timestamptz;
COMMENT ON COLUMN traces.consent_at IS
    'When the consent last changed; NULL while it is as it was at the start of the call.';

CREATE TABLE phone_numbers (
    trace_id text NOT NULL REFERENCES traces ON DELETE CASCADE,
    side     text NOT NULL CHECK (side IN ('src', 'dst')),
    number   text NOT NULL,
    PRIMARY KEY (trace_id, side)
);
CREATE INDEX phone_numbers_number ON phone_numbers (number);
COMMENT ON TABLE phone_numbers IS
    'The phone numbers for which traces has eight hex digits; goes with its call. Neither the '
    'reader nor the drill-down sees it.';
COMMENT ON COLUMN phone_numbers.trace_id IS 'The call.';
COMMENT ON COLUMN phone_numbers.side IS 'src: who called; dst: who was called.';
COMMENT ON COLUMN phone_numbers.number IS 'Personal: the number as the host gave it.';

-- The writer does not delete; this much it may, and only of calls that have refused.
CREATE FUNCTION withdraw_audio(call text) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    removed integer;
BEGIN
    IF NOT EXISTS (SELECT FROM traces WHERE trace_id = call AND consent = 'refused') THEN
        RETURN 0;
    END IF;
    -- Due stays received + gaps: where there was audio, there is a gap now.
    INSERT INTO gaps (trace_id, station_key, tap, bucket_ts, first_sample, samples, cause)
    SELECT b.trace_id, b.station_key, b.tap, b.bucket_ts, lower(part), upper(part) - lower(part),
           'erased'
    FROM audio_segments_5s s
    JOIN tap_buckets_5s b USING (trace_id, station_key, tap, bucket_ts)
    CROSS JOIN LATERAL unnest(b.ranges - coalesce((
        SELECT range_agg(int4range(g.first_sample, g.first_sample + g.samples)) FROM gaps g
        WHERE (g.trace_id, g.station_key, g.tap, g.bucket_ts)
            = (b.trace_id, b.station_key, b.tap, b.bucket_ts)
    ), '{}')) AS part
    WHERE s.trace_id = call;
    UPDATE tap_buckets_5s b SET received_samples = 0
    FROM audio_segments_5s s
    WHERE s.trace_id = call AND (b.trace_id, b.station_key, b.tap, b.bucket_ts)
        = (s.trace_id, s.station_key, s.tap, s.bucket_ts);
    DELETE FROM audio_segments_5s WHERE trace_id = call;
    GET DIAGNOSTICS removed = ROW_COUNT;
    RETURN removed;
END
$$;
COMMENT ON FUNCTION withdraw_audio IS
    'Removes the segments of a call whose callers have refused, and writes gaps in their place; '
    'returns how many. Of any other call it removes nothing.';
REVOKE ALL ON FUNCTION withdraw_audio FROM PUBLIC;

CREATE OR REPLACE VIEW archived_calls AS
    SELECT t.trace_id, t.started_at, t.ended_at, t.end_reason, t.src_extension, t.dst_extension,
           t.call_id, t.attributes,
           count(b.*) AS tap_buckets,
           coalesce(sum(b.due_samples), 0) AS due_samples,
           coalesce(sum(b.received_samples), 0) AS received_samples,
           t.consent
    FROM traces t LEFT JOIN tap_buckets_5s b USING (trace_id)
    GROUP BY t.trace_id;

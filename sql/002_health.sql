-- Why a bucket has its health score: what each defect cost.

ALTER TABLE tap_buckets_5s ADD COLUMN health jsonb NOT NULL DEFAULT '{}';
COMMENT ON COLUMN tap_buckets_5s.health IS
    'Points that each defect cost of the 100 of health.audio_score; empty where nothing did. '
    'Of two halves of a bucket that with more samples counts.';

CREATE VIEW v_health AS
    SELECT b.trace_id, b.station_key, b.tap, b.bucket_ts, m.last AS score,
           part.key AS defect, part.value::double precision AS points
    FROM tap_buckets_5s b
    JOIN metrics_agg_5s m
      ON (m.trace_id, m.station_key, m.tap, m.bucket_ts) = (b.trace_id, b.station_key, b.tap, b.bucket_ts)
     AND m.metric_key = 'health.audio_score'
    LEFT JOIN LATERAL jsonb_each_text(b.health) AS part ON true;
COMMENT ON VIEW v_health IS
    'The health score of a bucket with one row for each defect that cost points; one row without a '
    'defect where none did.';

-- What analysts ask of five seconds, in one row.

CREATE VIEW bucket_wide AS
SELECT t.call_id, t.started_at, t.attributes, w.*
FROM (
    -- One aggregation over all parts, not a join of several: a bound on trace_id, station_key or
    -- bucket_ts, which are what is grouped by, reaches each table, and with it its partitions and
    -- indexes. What is not selected is not computed.
    SELECT trace_id, station_key, bucket_ts,
        (array_agg(knob_values) FILTER (WHERE knob_values IS NOT NULL))[1] AS knobs,
        (array_agg(changed) FILTER (WHERE changed IS NOT NULL))[1] AS changed,
        -- NULL at a tap where nothing was due: that is something else than nothing lost.
        max(due) FILTER (WHERE tap = 'PRE') AS pre_due_samples,
        max(received) FILTER (WHERE tap = 'PRE') AS pre_received_samples,
        sum(lost) FILTER (WHERE tap = 'PRE') AS pre_lost_samples,
        sum(other) FILTER (WHERE tap = 'PRE') AS pre_other_gap_samples,
        max(due) FILTER (WHERE tap = 'POST') AS post_due_samples,
        max(received) FILTER (WHERE tap = 'POST') AS post_received_samples,
        sum(lost) FILTER (WHERE tap = 'POST') AS post_lost_samples,
        sum(other) FILTER (WHERE tap = 'POST') AS post_other_gap_samples,
        -- There is one row for each metric and tap: max() takes its number out. Levels, shares and
        -- scores show their mean over the bucket, peaks and delays their maximum, what is counted
        -- its sum, and loudness since the start of the call its last value.
        max(avg) FILTER (WHERE metric_key = 'pcm.rms_dbfs' AND tap = 'PRE') AS pre_pcm_rms_dbfs,
        max(max) FILTER (WHERE metric_key = 'pcm.peak_dbfs' AND tap = 'PRE') AS pre_pcm_peak_dbfs,
        max(avg) FILTER (WHERE metric_key = 'pcm.energy' AND tap = 'PRE') AS pre_pcm_energy,
        max(avg) FILTER (WHERE metric_key = 'pcm.crest_factor' AND tap = 'PRE')
            AS pre_pcm_crest_factor,
        max(avg) FILTER (WHERE metric_key = 'pcm.dc_offset' AND tap = 'PRE') AS pre_pcm_dc_offset,
        max(sum) FILTER (WHERE metric_key = 'pcm.clipped_samples' AND tap = 'PRE')
            AS pre_pcm_clipped_samples,
        max(max) FILTER (WHERE metric_key = 'pcm.clipping_ratio' AND tap = 'PRE')
            AS pre_pcm_clipping_ratio,
        max(max) FILTER (WHERE metric_key = 'pcm.consecutive_clipped' AND tap = 'PRE')
            AS pre_pcm_consecutive_clipped,
        max(avg) FILTER (WHERE metric_key = 'pcm.silence_detected' AND tap = 'PRE')
            AS pre_pcm_silence_detected,
        max(avg) FILTER (WHERE metric_key = 'pcm.muted_signal' AND tap = 'PRE')
            AS pre_pcm_muted_signal,
        max(avg) FILTER (WHERE metric_key = 'pcm.frozen_signal' AND tap = 'PRE')
            AS pre_pcm_frozen_signal,
        max(avg) FILTER (WHERE metric_key = 'pcm.zero_crossing_rate' AND tap = 'PRE')
            AS pre_pcm_zero_crossing_rate,
        max(avg) FILTER (WHERE metric_key = 'fft.dominant_frequency' AND tap = 'PRE')
            AS pre_fft_dominant_frequency,
        max(avg) FILTER (WHERE metric_key = 'fft.spectral_centroid' AND tap = 'PRE')
            AS pre_fft_spectral_centroid,
        max(avg) FILTER (WHERE metric_key = 'fft.spectral_bandwidth' AND tap = 'PRE')
            AS pre_fft_spectral_bandwidth,
        max(avg) FILTER (WHERE metric_key = 'fft.spectral_rolloff' AND tap = 'PRE')
            AS pre_fft_spectral_rolloff,
        max(avg) FILTER (WHERE metric_key = 'fft.spectral_flatness' AND tap = 'PRE')
            AS pre_fft_spectral_flatness,
        max(avg) FILTER (WHERE metric_key = 'fft.spectral_flux' AND tap = 'PRE')
            AS pre_fft_spectral_flux,
        max(avg) FILTER (WHERE metric_key = 'fft.harmonic_ratio' AND tap = 'PRE')
            AS pre_fft_harmonic_ratio,
        max(avg) FILTER (WHERE metric_key = 'fft.low_band_energy' AND tap = 'PRE')
            AS pre_fft_low_band_energy,
        max(avg) FILTER (WHERE metric_key = 'fft.mid_band_energy' AND tap = 'PRE')
            AS pre_fft_mid_band_energy,
        max(avg) FILTER (WHERE metric_key = 'fft.high_band_energy' AND tap = 'PRE')
            AS pre_fft_high_band_energy,
        max(avg) FILTER (WHERE metric_key = 'pcm.noise_floor' AND tap = 'PRE')
            AS pre_pcm_noise_floor,
        max(avg) FILTER (WHERE metric_key = 'pcm.snr_estimate' AND tap = 'PRE')
            AS pre_pcm_snr_estimate,
        max(avg) FILTER (WHERE metric_key = 'pcm.vad_probability' AND tap = 'PRE')
            AS pre_pcm_vad_probability,
        max(avg) FILTER (WHERE metric_key = 'advanced.lufs_momentary' AND tap = 'PRE')
            AS pre_advanced_lufs_momentary,
        max(avg) FILTER (WHERE metric_key = 'advanced.lufs_short_term' AND tap = 'PRE')
            AS pre_advanced_lufs_short_term,
        max(avg) FILTER (WHERE metric_key = 'stream.frames' AND tap = 'PRE') AS pre_stream_frames,
        max(avg) FILTER (WHERE metric_key = 'stream.sample_rate' AND tap = 'PRE')
            AS pre_stream_sample_rate,
        max(avg) FILTER (WHERE metric_key = 'stream.pace' AND tap = 'PRE') AS pre_stream_pace,
        max(avg) FILTER (WHERE metric_key = 'pipe.frame_drop_ratio' AND tap = 'PRE')
            AS pre_pipe_frame_drop_ratio,
        max(max) FILTER (WHERE metric_key = 'pipe.queue_depth' AND tap = 'PRE')
            AS pre_pipe_queue_depth,
        max(avg) FILTER (WHERE metric_key = 'pipe.border_click_ratio' AND tap = 'PRE')
            AS pre_pipe_border_click_ratio,
        max(avg) FILTER (WHERE metric_key = 'pcm.speech_ratio' AND tap = 'PRE')
            AS pre_pcm_speech_ratio,
        max(avg) FILTER (WHERE metric_key = 'pcm.active_level_dbfs' AND tap = 'PRE')
            AS pre_pcm_active_level_dbfs,
        max(avg) FILTER (WHERE metric_key = 'fft.hum_detected' AND tap = 'PRE')
            AS pre_fft_hum_detected,
        max(avg) FILTER (WHERE metric_key = 'fft.hiss_detected' AND tap = 'PRE')
            AS pre_fft_hiss_detected,
        max(last) FILTER (WHERE metric_key = 'advanced.lufs_integrated' AND tap = 'PRE')
            AS pre_advanced_lufs_integrated,
        max(avg) FILTER (WHERE metric_key = 'advanced.dynamic_range' AND tap = 'PRE')
            AS pre_advanced_dynamic_range,
        max(avg) FILTER (WHERE metric_key = 'health.audio_score' AND tap = 'PRE')
            AS pre_health_audio_score,
        max(avg) FILTER (WHERE metric_key = 'stt.confidence_score' AND tap = 'PRE')
            AS pre_stt_confidence_score,
        max(avg) FILTER (WHERE metric_key = 'stt.input_latency' AND tap = 'PRE')
            AS pre_stt_input_latency,
        max(avg) FILTER (WHERE metric_key = 'tts.synthesis_latency' AND tap = 'PRE')
            AS pre_tts_synthesis_latency,
        max(avg) FILTER (WHERE metric_key = 'tts.prosody_stability' AND tap = 'PRE')
            AS pre_tts_prosody_stability,
        max(avg) FILTER (WHERE metric_key = 'rtp.packet_loss_rate' AND tap = 'PRE')
            AS pre_rtp_packet_loss_rate,
        max(avg) FILTER (WHERE metric_key = 'rtp.jitter' AND tap = 'PRE') AS pre_rtp_jitter,
        max(avg) FILTER (WHERE metric_key = 'pcm.rms_dbfs' AND tap = 'POST') AS post_pcm_rms_dbfs,
        max(max) FILTER (WHERE metric_key = 'pcm.peak_dbfs' AND tap = 'POST') AS post_pcm_peak_dbfs,
        max(avg) FILTER (WHERE metric_key = 'pcm.energy' AND tap = 'POST') AS post_pcm_energy,
        max(avg) FILTER (WHERE metric_key = 'pcm.crest_factor' AND tap = 'POST')
            AS post_pcm_crest_factor,
        max(avg) FILTER (WHERE metric_key = 'pcm.dc_offset' AND tap = 'POST') AS post_pcm_dc_offset,
        max(sum) FILTER (WHERE metric_key = 'pcm.clipped_samples' AND tap = 'POST')
            AS post_pcm_clipped_samples,
        max(max) FILTER (WHERE metric_key = 'pcm.clipping_ratio' AND tap = 'POST')
            AS post_pcm_clipping_ratio,
        max(max) FILTER (WHERE metric_key = 'pcm.consecutive_clipped' AND tap = 'POST')
            AS post_pcm_consecutive_clipped,
        max(avg) FILTER (WHERE metric_key = 'pcm.silence_detected' AND tap = 'POST')
            AS post_pcm_silence_detected,
        max(avg) FILTER (WHERE metric_key = 'pcm.muted_signal' AND tap = 'POST')
            AS post_pcm_muted_signal,
        max(avg) FILTER (WHERE metric_key = 'pcm.frozen_signal' AND tap = 'POST')
            AS post_pcm_frozen_signal,
        max(avg) FILTER (WHERE metric_key = 'pcm.zero_crossing_rate' AND tap = 'POST')
            AS post_pcm_zero_crossing_rate,
        max(avg) FILTER (WHERE metric_key = 'fft.dominant_frequency' AND tap = 'POST')
            AS post_fft_dominant_frequency,
        max(avg) FILTER (WHERE metric_key = 'fft.spectral_centroid' AND tap = 'POST')
            AS post_fft_spectral_centroid,
        max(avg) FILTER (WHERE metric_key = 'fft.spectral_bandwidth' AND tap = 'POST')
            AS post_fft_spectral_bandwidth,
        max(avg) FILTER (WHERE metric_key = 'fft.spectral_rolloff' AND tap = 'POST')
            AS post_fft_spectral_rolloff,
        max(avg) FILTER (WHERE metric_key = 'fft.spectral_flatness' AND tap = 'POST')
            AS post_fft_spectral_flatness,
        max(avg) FILTER (WHERE metric_key = 'fft.spectral_flux' AND tap = 'POST')
            AS post_fft_spectral_flux,
        max(avg) FILTER (WHERE metric_key = 'fft.harmonic_ratio' AND tap = 'POST')
            AS post_fft_harmonic_ratio,
        max(avg) FILTER (WHERE metric_key = 'fft.low_band_energy' AND tap = 'POST')
            AS post_fft_low_band_energy,
        max(avg) FILTER (WHERE metric_key = 'fft.mid_band_energy' AND tap = 'POST')
            AS post_fft_mid_band_energy,
        max(avg) FILTER (WHERE metric_key = 'fft.high_band_energy' AND tap = 'POST')
            AS post_fft_high_band_energy,
        max(avg) FILTER (WHERE metric_key = 'pcm.noise_floor' AND tap = 'POST')
            AS post_pcm_noise_floor,
        max(avg) FILTER (WHERE metric_key = 'pcm.snr_estimate' AND tap = 'POST')
            AS post_pcm_snr_estimate,
        max(avg) FILTER (WHERE metric_key = 'pcm.vad_probability' AND tap = 'POST')
            AS post_pcm_vad_probability,
        max(avg) FILTER (WHERE metric_key = 'advanced.lufs_momentary' AND tap = 'POST')
            AS post_advanced_lufs_momentary,
        max(avg) FILTER (WHERE metric_key = 'advanced.lufs_short_term' AND tap = 'POST')
            AS post_advanced_lufs_short_term,
        max(avg) FILTER (WHERE metric_key = 'stream.frames' AND tap = 'POST') AS post_stream_frames,
        max(avg) FILTER (WHERE metric_key = 'stream.sample_rate' AND tap = 'POST')
            AS post_stream_sample_rate,
        max(avg) FILTER (WHERE metric_key = 'stream.pace' AND tap = 'POST') AS post_stream_pace,
        max(max) FILTER (WHERE metric_key = 'pipe.processing_latency_ms' AND tap = 'POST')
            AS post_pipe_processing_latency_ms,
        max(avg) FILTER (WHERE metric_key = 'pipe.frame_drop_ratio' AND tap = 'POST')
            AS post_pipe_frame_drop_ratio,
        max(max) FILTER (WHERE metric_key = 'pipe.queue_depth' AND tap = 'POST')
            AS post_pipe_queue_depth,
        max(avg) FILTER (WHERE metric_key = 'pipe.border_click_ratio' AND tap = 'POST')
            AS post_pipe_border_click_ratio,
        max(avg) FILTER (WHERE metric_key = 'pcm.speech_ratio' AND tap = 'POST')
            AS post_pcm_speech_ratio,
        max(avg) FILTER (WHERE metric_key = 'pcm.active_level_dbfs' AND tap = 'POST')
            AS post_pcm_active_level_dbfs,
        max(avg) FILTER (WHERE metric_key = 'fft.hum_detected' AND tap = 'POST')
            AS post_fft_hum_detected,
        max(avg) FILTER (WHERE metric_key = 'fft.hiss_detected' AND tap = 'POST')
            AS post_fft_hiss_detected,
        max(last) FILTER (WHERE metric_key = 'advanced.lufs_integrated' AND tap = 'POST')
            AS post_advanced_lufs_integrated,
        max(avg) FILTER (WHERE metric_key = 'advanced.dynamic_range' AND tap = 'POST')
            AS post_advanced_dynamic_range,
        max(avg) FILTER (WHERE metric_key = 'health.audio_score' AND tap = 'POST')
            AS post_health_audio_score,
        max(avg) FILTER (WHERE metric_key = 'stt.confidence_score' AND tap = 'POST')
            AS post_stt_confidence_score,
        max(avg) FILTER (WHERE metric_key = 'stt.input_latency' AND tap = 'POST')
            AS post_stt_input_latency,
        max(avg) FILTER (WHERE metric_key = 'tts.synthesis_latency' AND tap = 'POST')
            AS post_tts_synthesis_latency,
        max(avg) FILTER (WHERE metric_key = 'tts.prosody_stability' AND tap = 'POST')
            AS post_tts_prosody_stability,
        max(avg) FILTER (WHERE metric_key = 'rtp.packet_loss_rate' AND tap = 'POST')
            AS post_rtp_packet_loss_rate,
        max(avg) FILTER (WHERE metric_key = 'rtp.jitter' AND tap = 'POST') AS post_rtp_jitter,
        max(avg) FILTER (WHERE metric_key = 'pair.delay_ms' AND tap = 'POST') AS pair_delay_ms,
        max(avg) FILTER (WHERE metric_key = 'pair.polarity_inverted' AND tap = 'POST')
            AS pair_polarity_inverted,
        max(avg) FILTER (WHERE metric_key = 'pair.gain_db' AND tap = 'POST') AS pair_gain_db,
        max(avg) FILTER (WHERE metric_key = 'pair.segmental_snr_db' AND tap = 'POST')
            AS pair_segmental_snr_db,
        max(avg) FILTER (WHERE metric_key = 'pair.log_spectral_distance_db' AND tap = 'POST')
            AS pair_log_spectral_distance_db,
        max(avg) FILTER (WHERE metric_key = 'pair.coherence' AND tap = 'POST') AS pair_coherence,
        max(avg) FILTER (WHERE metric_key = 'pair.limited_ratio' AND tap = 'POST')
            AS pair_limited_ratio,
        max(avg) FILTER (WHERE metric_key = 'pair.speech_lost_ratio' AND tap = 'POST')
            AS pair_speech_lost_ratio,
        max(avg) FILTER (WHERE metric_key = 'pair.added_silence_ratio' AND tap = 'POST')
            AS pair_added_silence_ratio,
        max(avg) FILTER (WHERE metric_key = 'pair.loudness_delta_lu' AND tap = 'POST')
            AS pair_loudness_delta_lu
    FROM (
        SELECT trace_id, station_key, bucket_ts, tap, metric_key, avg, max, sum, last,
            NULL::integer AS due, NULL::integer AS received, NULL::integer AS lost,
            NULL::integer AS other, NULL::jsonb AS knob_values, NULL::jsonb AS changed
        FROM metrics_agg_5s
        UNION ALL
        SELECT trace_id, station_key, bucket_ts, tap, NULL, NULL, NULL, NULL, NULL,
            due_samples, received_samples, 0, 0, NULL, NULL
        FROM tap_buckets_5s
        UNION ALL
        SELECT trace_id, station_key, bucket_ts, tap, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
            CASE WHEN is_loss THEN samples ELSE 0 END, CASE WHEN is_loss THEN 0 ELSE samples END,
            NULL, NULL
        FROM v_gaps
        UNION ALL
        SELECT trace_id, station_key, bucket_ts, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
            NULL, NULL, knob_values, changed
        FROM knob_snapshots_5s
    ) AS part
    GROUP BY trace_id, station_key, bucket_ts
) AS w
LEFT JOIN traces AS t USING (trace_id);
COMMENT ON VIEW bucket_wide IS
    'One row for each call, station and bucket: what PRE and POST were, what was lost, which knobs '
    'were in force. Give bounds on bucket_ts, or a trace_id.';

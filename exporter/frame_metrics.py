"""The table of metrics that are measured as frames come; formulas are in ``exporter.analysis``."""

from __future__ import annotations

import math

from exporter.metric import LEVEL_BORDERS, SMALL_BORDERS, Form, Metric, Per

_LOUDNESS_BORDERS = (-60.0, -50.0, -40.0, -35.0, -30.0, -27.0, -24.0, -21.0, -18.0, -14.0, -10.0)
_SNR_BORDERS = (0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0, 60.0)
_MAX_FRAME = 960
_INT16 = 32_768.0
_F = Per.FRAME

TIME_METRICS: tuple[Metric, ...] = (
    Metric(
        "pcm.rms_dbfs",
        _F,
        "dBFS",
        -120.0,
        0.0,
        "Root mean square level of a 20 ms frame re full scale 32768, floored at -120 dBFS.",
        extremes=True,
        borders=LEVEL_BORDERS,
    ),
    Metric(
        "pcm.peak_dbfs",
        _F,
        "dBFS",
        -120.0,
        0.0,
        "Largest absolute sample of a 20 ms frame re full scale 32768, floored at -120 dBFS.",
        extremes=True,
        borders=LEVEL_BORDERS,
    ),
    Metric("pcm.peak_amplitude", _F, "int16", 0.0, _INT16, "Largest absolute sample of a frame."),
    Metric(
        "pcm.peak_to_peak", _F, "int16", 0.0, 65_535.0, "Largest minus smallest sample of a frame."
    ),
    Metric("pcm.average_absolute", _F, "int16", 0.0, _INT16, "Mean absolute sample of a frame."),
    Metric("pcm.energy", _F, "ratio", 0.0, 1.0, "Mean square of a frame re full scale squared."),
    Metric(
        "pcm.crest_factor",
        _F,
        "ratio",
        1.0,
        math.sqrt(_MAX_FRAME),
        "Peak over RMS of a frame; absent at digital silence.",
    ),
    Metric(
        "pcm.dc_offset",
        _F,
        "ratio",
        -1.0,
        1.0,
        "Mean sample of a frame re full scale.",
        name="pcm_dc_offset_ratio",
    ),
    Metric(
        "pcm.clipped_samples",
        _F,
        "count",
        0.0,
        _MAX_FRAME,
        "Samples at 32760 or beyond in either direction.",
        name="pcm_clipped_samples_total",
        form=Form.COUNTER,
    ),
    Metric(
        "pcm.clipping_ratio",
        _F,
        "ratio",
        0.0,
        1.0,
        "Share of clipped samples in a frame.",
        extremes=True,
        borders=SMALL_BORDERS,
    ),
    Metric(
        "pcm.consecutive_clipped",
        _F,
        "count",
        0.0,
        _MAX_FRAME,
        "Longest run of clipped samples inside a frame.",
        extremes=True,
    ),
    Metric(
        "pcm.silence_detected",
        _F,
        "bool",
        0.0,
        1.0,
        "Share of frames below the silence threshold (-50 dBFS unless set otherwise).",
        name="pcm_silence_ratio",
    ),
    Metric(
        "pcm.muted_signal",
        _F,
        "bool",
        0.0,
        1.0,
        "Share of frames in which all samples are 0.",
        name="pcm_muted_ratio",
    ),
    Metric(
        "pcm.frozen_signal",
        _F,
        "bool",
        0.0,
        1.0,
        "Share of frames in which all samples are equal.",
        name="pcm_frozen_ratio",
    ),
    Metric(
        "pcm.zero_crossing_rate",
        _F,
        "ratio",
        0.0,
        1.0,
        "Sign changes over sample pairs of a frame, zero counted as positive.",
        name="pcm_zero_crossing_ratio",
    ),
)
"""Measured on the samples of one frame."""

SPECTRAL_METRICS: tuple[Metric, ...] = (
    Metric(
        "fft.dominant_frequency",
        _F,
        "Hz",
        0.0,
        24_000.0,
        "Frequency of the largest bin above DC of a frame (Hann window); absent at silence.",
        name="fft_dominant_frequency_hertz",
    ),
    Metric(
        "fft.spectral_centroid",
        _F,
        "Hz",
        0.0,
        24_000.0,
        "Power-weighted mean frequency of a frame; absent at digital silence.",
        name="fft_spectral_centroid_hertz",
    ),
    Metric(
        "fft.spectral_bandwidth",
        _F,
        "Hz",
        0.0,
        24_000.0,
        "Power-weighted standard deviation about the centroid; absent at digital silence.",
        name="fft_spectral_bandwidth_hertz",
    ),
    Metric(
        "fft.spectral_rolloff",
        _F,
        "Hz",
        0.0,
        24_000.0,
        "Frequency below which 85 % of the power of a frame lies; absent at digital silence.",
        name="fft_spectral_rolloff_hertz",
    ),
    Metric(
        "fft.spectral_flatness",
        _F,
        "ratio",
        0.0,
        1.0,
        "Geometric over arithmetic mean of the power spectrum; absent at digital silence.",
    ),
    Metric(
        "fft.spectral_flux",
        _F,
        "ratio",
        0.0,
        1.415,
        "L2 distance of successive magnitude spectra of L2 norm 1; absent after a gap.",
    ),
    Metric(
        "fft.harmonic_ratio",
        _F,
        "ratio",
        0.0,
        1.0,
        "Largest normalised autocorrelation at a lag of 60 to 400 Hz over this and the previous "
        "frame, clamped at 0; absent after a gap.",
    ),
    *(
        Metric(
            f"fft.{name}_band_energy",
            _F,
            "dB",
            -120.0,
            0.0,
            f"Mean square {band} re full scale squared, floored at -120 dB.",
            name=f"fft_{name}_band_energy_db",
        )
        for name, band in (
            ("low", "below 500 Hz"),
            ("mid", "from 500 to 2000 Hz"),
            ("high", "from 2000 to 8000 Hz (half the rate at most)"),
        )
    ),
)
"""Measured on the spectrum of a frame; switched by ``monitoring.fft_analysis_enabled``."""

VOICE_METRICS: tuple[Metric, ...] = (
    Metric(
        "pcm.noise_floor",
        _F,
        "dBFS",
        -120.0,
        0.0,
        "10th percentile of the level of the frames of the last 3 s; absent with fewer than 50.",
        name="pcm_noise_floor_dbfs",
    ),
    Metric(
        "pcm.snr_estimate",
        _F,
        "dB",
        0.0,
        120.0,
        "Level minus noise floor on speech frames, clamped at 0.",
        name="pcm_snr_db",
        extremes=True,
        borders=_SNR_BORDERS,
    ),
    Metric(
        "pcm.vad_probability",
        _F,
        "ratio",
        0.0,
        1.0,
        "Voice activity of a frame from level above the noise, spectrum and periodicity by a "
        "logistic function, with hangover; speech at 0.5 or more.",
    ),
)
"""Measured on a frame and those of the three seconds before it."""

LOUDNESS_METRICS: tuple[Metric, ...] = (
    Metric(
        "advanced.lufs_momentary",
        _F,
        "LUFS",
        -70.0,
        5.0,
        "Loudness of the last 400 ms by ITU-R BS.1770-5, one channel; absent below -70 LUFS.",
        extremes=True,
        borders=_LOUDNESS_BORDERS,
    ),
    Metric(
        "advanced.lufs_short_term",
        _F,
        "LUFS",
        -70.0,
        5.0,
        "Loudness of the last 3 s by ITU-R BS.1770-5, one channel; absent below -70 LUFS.",
        extremes=True,
    ),
)
"""Measured on windows of many frames."""

FRAME_METRICS: tuple[Metric, ...] = (
    *TIME_METRICS,
    *SPECTRAL_METRICS,
    *VOICE_METRICS,
    *LOUDNESS_METRICS,
)
"""The columns of a frame's measurement, in order."""

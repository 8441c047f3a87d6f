"""Station: PRE against POST, live; what it does to level, loudness, spectrum and speech."""

from __future__ import annotations

from dashboards import links, queries_live, queries_sql, shared, variables
from dashboards._compat import data_link
from dashboards.grammar import (
    BANDS,
    NO_LIMITS,
    STACKED,
    Look,
    of_metric,
    of_unit,
    strokes,
)
from dashboards.model import Board, Panel, PgTarget, PromTarget, Row, Target
from dashboards.panels import heat, lines, states, table

_BY_TAP = "by (tap)"


def board(public_url: str) -> Board:
    """Return the board."""
    return Board(
        uid=links.STATION,
        title="Monitoring: station",
        description="One station, PRE against POST, over all its calls; knob changes are marked.",
        variables=(
            variables.PROMETHEUS,
            variables.POSTGRES,
            variables.LIVE_STATION,
            variables.public_url(public_url),
        ),
        rows=(
            shared.status(),
            Row("Health", 7, _health()),
            Row("Level and loudness", 8, _level()),
            Row("Distributions", 8, _distributions()),
            Row("PRE against POST", 7, _pairs()),
            Row("Speech and noise", 7, _speech()),
            Row("Spectrum", 8, _spectrum()),
            Row("Time", 7, _time()),
            Row("What the host reports", 7, _host()),
            Row("Knobs", 10, (_knobs(),)),
        ),
        annotations=(shared.STATION_MARKS,),
        time_from="now-15m",
        links=shared.MENU,
    )


def _linked(key: str) -> Look:
    address = links.worst_calls("$station", key, at=links.POINT_TIME)
    return of_metric(key).plus(links=[data_link("Worst calls of this moment", address)])


def _band(key: str) -> tuple[Target, ...]:
    """Min, mean and max at each tap."""
    return (
        PromTarget(queries_live.low(key, _BY_TAP), "{{tap}} min"),
        PromTarget(queries_live.mean(key, _BY_TAP), "{{tap}} mean"),
        PromTarget(queries_live.high(key, _BY_TAP), "{{tap}} max"),
    )


def _banded(title: str, description: str, key: str, width: int = 12) -> Panel:
    look = _linked(key).plus(*BANDS)
    return lines(title, description, targets=_band(key), look=look, width=width)


def _means(title: str, description: str, width: int, *parts: tuple[str, str]) -> Panel:
    """Return means at each tap of several metrics that share a unit, told apart by stroke."""
    targets = tuple(
        PromTarget(queries_live.mean(key, _BY_TAP), f"{{{{tap}}}} {name}".rstrip())
        for name, key in parts
    )
    look = _linked(parts[0][1]).plus(*strokes(*(name for name, _ in parts if name)))
    return lines(title, description, targets=targets, look=look, width=width)


def _worst(title: str, description: str, key: str) -> Panel:
    """Return mean and worst call at each tap."""
    targets = (
        PromTarget(queries_live.mean(key, _BY_TAP), "{{tap}} mean"),
        PromTarget(queries_live.worst(key, _BY_TAP), "{{tap}} worst call"),
    )
    look = _linked(key).plus(*strokes("mean", "worst call"))
    return lines(title, description, targets=targets, look=look, width=6)


def _health() -> tuple[Panel, ...]:
    reasons = lines(
        "What cost health",
        "Points of 100 that each defect cost, a bucket, over all calls and both taps. The "
        "tallest is what to work on.",
        targets=(PgTarget(queries_sql.defects(), is_series=True),),
        look=of_unit("none").plus(custom=STACKED),
        width=12,
    )
    blocks = states(
        "Health of the worst call",
        "Green is 80 and more. A red block: click it for the calls of that moment.",
        targets=(PromTarget(queries_live.worst("health.audio_score", _BY_TAP), "{{tap}}"),),
        look=_linked("health.audio_score"),
        width=12,
    )
    return blocks, reasons


def _level() -> tuple[Panel, ...]:
    return (
        _banded(
            "Level",
            "RMS of 20 ms frames: the band from the quietest to the loudest frame of any call, "
            "the mean as a line. POST far from PRE: look at the gains.",
            "pcm.rms_dbfs",
        ),
        _means(
            "Loudness",
            "ITU-R BS.1770: of 400 ms, of 3 s, and since the call's start. PRE and POST should "
            "run in parallel; where they do not, the compressor or the limiter works.",
            12,
            ("momentary", "advanced.lufs_momentary"),
            ("short term", "advanced.lufs_short_term"),
            ("integrated", "advanced.lufs_integrated"),
        ),
        _banded(
            "Peak",
            "Largest sample of a frame. At 0 dBFS it clips.",
            "pcm.peak_dbfs",
        ),
        _banded(
            "Active speech level",
            "Level of speech alone (ITU-T P.56). -26 dBFS is what telephony aims at; above "
            "-14 dBFS turn the gain down, below -36 dBFS up.",
            "pcm.active_level_dbfs",
        ),
    )


def _heat(tap: str, what: str, key: str, description: str) -> Panel:
    target = PromTarget(
        queries_live.distribution(key, tap), "{{le}}", format="heatmap", exemplar=True
    )
    return heat(f"{tap}: {what}", description, targets=(target,), look=of_metric(key), width=12)


def _distributions() -> tuple[Panel, ...]:
    level = "How often frames have which level. A dot is a call: click it for that call."
    loudness = "How often which momentary loudness occurs. Two bands are two kinds of callers."
    return (
        _heat("PRE", "level", "pcm.rms_dbfs", level),
        _heat("POST", "level", "pcm.rms_dbfs", level),
        _heat("PRE", "loudness", "advanced.lufs_momentary", loudness),
        _heat("POST", "loudness", "advanced.lufs_momentary", loudness),
    )


def _pairs() -> tuple[Panel, ...]:
    return (
        _worst(
            "Speech lost",
            "Share of speech at PRE that is silent at POST: missing syllables. A gate or a "
            "mute is the usual cause.",
            "pair.speech_lost_ratio",
        ),
        _worst(
            "Limited",
            "Share of samples that limiting cut by more than 0.5 dB. Above 5 %: less gain, or a "
            "higher threshold.",
            "pair.limited_ratio",
        ),
        _worst(
            "Added silence",
            "Share of frames that are muted at POST and not at PRE.",
            "pair.added_silence_ratio",
        ),
        _worst(
            "Clipping",
            "Share of clipped samples. At PRE: the host's input; at POST only: gain.",
            "pcm.clipping_ratio",
        ),
        _worst(
            "Gain",
            "Level of POST over PRE on speech. It should follow the gain knobs.",
            "pair.gain_db",
        ),
        _worst(
            "Loudness difference",
            "Loudness of POST over PRE on speech.",
            "pair.loudness_delta_lu",
        ),
        _worst(
            "Segmental SNR",
            "How much of POST is PRE. Low: the station adds noise or changes the sound much.",
            "pair.segmental_snr_db",
        ),
        _worst(
            "Spectral distance",
            "How far the spectra are apart after gain. High: filters or codecs at work.",
            "pair.log_spectral_distance_db",
        ),
        _worst(
            "Coherence",
            "1 where POST is PRE through a filter. Low with good level: something distorts, or "
            "POST is other audio.",
            "pair.coherence",
        ),
        _worst(
            "Delay",
            "Lag of POST behind PRE. It should be constant; jumps are lost or added audio.",
            "pair.delay_ms",
        ),
        _means(
            "Polarity",
            "1 where POST is upside down: harmless alone, bad when mixed with PRE.",
            6,
            ("", "pair.polarity_inverted"),
        ),
        _means(
            "Border clicks",
            "Share of block borders that click. Above 5 %: a filter forgets its state at each "
            "block.",
            6,
            ("", "pipe.border_click_ratio"),
        ),
    )


def _speech() -> tuple[Panel, ...]:
    return (
        _banded(
            "SNR",
            "Speech over noise. POST below PRE: the station adds noise.",
            "pcm.snr_estimate",
            6,
        ),
        _means(
            "Noise floor",
            "Level of the quietest tenth. Above -50 dBFS callers hear it.",
            6,
            ("", "pcm.noise_floor"),
        ),
        _means(
            "Speech",
            "Share of frames with speech. POST below PRE: speech goes missing.",
            6,
            ("", "pcm.speech_ratio"),
        ),
        _means(
            "Silence and mute",
            "Share of silent frames, and of frames that are all zero (dashed).",
            6,
            ("silent", "pcm.silence_detected"),
            ("muted", "pcm.muted_signal"),
        ),
        _means("Hum", "Share of calls with mains hum.", 6, ("", "fft.hum_detected")),
        _means("Hiss", "Share of calls with hiss.", 6, ("", "fft.hiss_detected")),
        _means(
            "DC offset",
            "Mean of the samples. Above 1 %: a high-pass filter takes it away.",
            6,
            ("", "pcm.dc_offset"),
        ),
        _means(
            "Dynamic range",
            "From quiet to loud frames. POST much below PRE: the compressor works hard.",
            6,
            ("", "advanced.dynamic_range"),
        ),
    )


def _spectrum() -> tuple[Panel, ...]:
    return (
        _means(
            "Bands",
            "Below 500 Hz (solid), to 2 kHz (dashed), above (dotted). What is missing at POST "
            "went into a filter.",
            12,
            ("low", "fft.low_band_energy"),
            ("mid", "fft.mid_band_energy"),
            ("high", "fft.high_band_energy"),
        ),
        _means(
            "Centroid and roll-off",
            "Where the middle of the spectrum lies, and below which frequency 85 % of it.",
            12,
            ("centroid", "fft.spectral_centroid"),
            ("roll-off", "fft.spectral_rolloff"),
        ),
    )


def _time() -> tuple[Panel, ...]:
    key = "pipe.processing_latency_ms"
    quantiles = tuple(
        PromTarget(queries_live.quantile(key, share), f"POST {name}", exemplar=True)
        for share, name in ((0.5, "p50"), (0.99, "p99"))
    )
    return (
        lines(
            "Latency",
            "From PRE to POST of a block. Above 20 ms the host falls behind. Dots are calls.",
            targets=quantiles,
            look=_linked(key).plus(*strokes("p50", "p99")),
            width=8,
        ),
        _means(
            "Pace",
            "Seconds of audio in a second of time. Below 0.98 the host is too slow, above 1.02 "
            "it sends ahead.",
            8,
            ("", "stream.pace"),
        ),
        _means(
            "Backlog of the tap",
            "Frames that waited when the exporter came. Growing: the machine is too busy.",
            8,
            ("", "pipe.queue_depth"),
        ),
    )


_VENDOR = "From the host; nothing here means that it does not report it (station.observe)."


def _host() -> tuple[Panel, ...]:
    return (
        _means("Confidence of speech-to-text", _VENDOR, 6, ("", "stt.confidence_score")),
        _means(
            "Latency of speech-to-text and text-to-speech",
            f"Solid: to text; dashed: to speech. {_VENDOR}",
            6,
            ("to text", "stt.input_latency"),
            ("to speech", "tts.synthesis_latency"),
        ),
        _means("Packets lost", _VENDOR, 6, ("", "rtp.packet_loss_rate")),
        _means("Jitter", _VENDOR, 6, ("", "rtp.jitter")),
    )


def _knobs() -> Panel:
    return table(
        "Knobs in force",
        "In the newest five seconds: value, in how many calls, and who set it last. Knob impact "
        "(menu above) says what each change did.",
        targets=(PgTarget(queries_sql.knobs_now()),),
        look=Look({"thresholds": NO_LIMITS}),
        width=24,
    )

"""From which value on a number deserves a look, and from which on somebody has to act.

One table for panels and alerts, so that what is red in Grafana is what rings. Limits of metrics are
in the unit of SQL; ``prometheus()`` turns them into that of ``/metrics``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from exporter.metrics import METRICS


class Direction(StrEnum):
    """On which side of a limit it is bad."""

    ABOVE = "above"
    BELOW = "below"


@dataclass(frozen=True, slots=True)
class Threshold:
    """The two limits of one number on one side.

    Attributes:
        direction: Where it is bad.
        warn: From here on it deserves a look.
        critical: From here on somebody has to act.
    """

    direction: Direction
    warn: float
    critical: float

    @property
    def sign(self) -> str:
        """The comparison that is true where it is bad, in PromQL and SQL."""
        return ">" if self.direction is Direction.ABOVE else "<"

    def scaled(self, factor: float) -> Threshold:
        """Return the same limits in another unit."""
        # Rounded: 3 percent are 0.03, not 0.030000000000000002.
        warn, critical = (float(f"{value * factor:.12g}") for value in (self.warn, self.critical))
        return Threshold(self.direction, warn, critical)


def _above(warn: float, critical: float) -> Threshold:
    return Threshold(Direction.ABOVE, warn, critical)


def _below(warn: float, critical: float) -> Threshold:
    return Threshold(Direction.BELOW, warn, critical)


THRESHOLDS: Mapping[str, tuple[Threshold, ...]] = MappingProxyType(
    {
        "health.audio_score": (_below(80.0, 60.0),),
        "pcm.clipping_ratio": (_above(0.001, 0.01),),
        "pcm.peak_dbfs": (_above(-1.0, -0.1),),
        "pcm.rms_dbfs": (_above(-12.0, -6.0),),
        "pcm.active_level_dbfs": (_above(-14.0, -10.0), _below(-36.0, -42.0)),
        "advanced.lufs_short_term": (_above(-14.0, -10.0), _below(-38.0, -44.0)),
        "advanced.lufs_integrated": (_above(-14.0, -10.0), _below(-38.0, -44.0)),
        "pcm.snr_estimate": (_below(20.0, 12.0),),
        "pcm.noise_floor": (_above(-50.0, -40.0),),
        "pcm.dc_offset": (_above(0.01, 0.05),),
        "pcm.silence_detected": (_above(0.9, 0.99),),
        "pcm.muted_signal": (_above(0.5, 0.9),),
        "pcm.frozen_signal": (_above(0.5, 0.9),),
        "fft.hum_detected": (_above(0.2, 0.5),),
        "fft.hiss_detected": (_above(0.2, 0.5),),
        "stream.pace": (_above(1.02, 1.1), _below(0.98, 0.9)),
        "pipe.processing_latency_ms": (_above(10.0, 20.0),),
        "pipe.frame_drop_ratio": (_above(0.001, 0.01),),
        "pipe.queue_depth": (_above(50.0, 500.0),),
        "pipe.border_click_ratio": (_above(0.05, 0.1),),
        "pair.delay_ms": (_above(60.0, 150.0),),
        "pair.gain_db": (_above(12.0, 20.0), _below(-12.0, -20.0)),
        "pair.segmental_snr_db": (_below(10.0, 3.0),),
        "pair.log_spectral_distance_db": (_above(8.0, 12.0),),
        "pair.coherence": (_below(0.7, 0.4),),
        "pair.limited_ratio": (_above(0.01, 0.05),),
        "pair.speech_lost_ratio": (_above(0.02, 0.1),),
        "pair.added_silence_ratio": (_above(0.02, 0.1),),
        "pair.loudness_delta_lu": (_above(8.0, 14.0), _below(-8.0, -14.0)),
        "stt.confidence_score": (_below(0.8, 0.6),),
        "stt.input_latency": (_above(800.0, 1_500.0),),
        "tts.synthesis_latency": (_above(500.0, 1_000.0),),
        "rtp.packet_loss_rate": (_above(1.0, 3.0),),
        "rtp.jitter": (_above(20.0, 50.0),),
        # What counts as silence, and as somebody who speaks; between them it is neither.
        "tap.silent_dbfs": (_below(-50.0, -50.0),),
        "tap.speaks_dbfs": (_above(-40.0, -40.0),),
        # What panels and alerts compute of the monitoring itself; seconds, shares, hours, samples.
        "archive.database_up": (_below(1.0, 1.0),),
        "archive.lag_seconds": (_above(15.0, 30.0),),
        "archive.heartbeat_age_seconds": (_above(10.0, 15.0),),
        "archive.queue_fill_ratio": (_above(0.25, 0.75),),
        "archive.residual_samples": (_above(0.0, 0.0),),
        "spool.fill_ratio": (_above(0.2, 0.5),),
        "spool.oldest_seconds": (_above(30.0, 60.0),),
        "disk.free_ratio": (_below(0.2, 0.1),),
        "disk.hours_to_full": (_below(24.0, 4.0),),
        "retention.age_seconds": (_above(5_400.0, 7_200.0),),
    }
)
"""Limits by metric key, or by the name of a computed number; at most one for each direction."""


def threshold(key: str, direction: Direction | None = None) -> Threshold:
    """Return the limits of ``key`` in the unit of SQL; the first unless a direction is asked for.

    Raises:
        KeyError: There are none.
    """
    for found in THRESHOLDS[key]:
        if direction in {None, found.direction}:
            return found
    raise KeyError(f"{key} has no limit {direction}")


def prometheus(key: str, direction: Direction | None = None) -> Threshold:
    """Return the limits of ``key`` in the unit of ``/metrics``."""
    scale = METRICS[key].scale if key in METRICS else 1.0
    return threshold(key, direction).scaled(scale)

"""The table of knobs that every installation has, and what one entry of it is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from exporter.errors import KnobError
from exporter.model import KnobValue

KNOB_TYPES: dict[str, type] = {"bool": bool, "int": int, "float": float, "enum": str}
"""Python type of each knob type."""


@dataclass(frozen=True, slots=True)
class Knob:
    """One registry entry.

    Attributes:
        key: Name, such as ``pcm.input_gain_db``.
        type: ``bool``, ``int``, ``float`` or ``enum``.
        default: Value when nobody sets it.
        low: Smallest value of a number.
        high: Largest value of a number.
        choices: Values of an enum.
        unit: Unit of a number.
        live: Whether a change counts in a running call.
        stage: Part of the processing that it belongs to.
    """

    key: str
    type: str
    default: KnobValue
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    unit: str = ""
    live: bool = True
    stage: str = "HOST"

    def check(self, value: object) -> KnobValue:
        """Return ``value`` in the knob's type; KnobError when it is none of its values."""
        if self.type == "float" and type(value) is int:
            value = float(value)
        if type(value) is not KNOB_TYPES[self.type]:
            raise KnobError(f"knob {self.key!r}: {value!r} is not {self.describe()}")
        if isinstance(value, str) and value not in self.choices:
            raise KnobError(f"knob {self.key!r}: {value!r} is not {self.describe()}")
        if isinstance(value, int | float) and not self._in_range(value):
            raise KnobError(f"knob {self.key!r}: {value!r} is not {self.describe()}")
        return value  # type: ignore[return-value] # narrowed by the table of types above

    def _in_range(self, value: float) -> bool:
        if self.low is None or self.high is None:
            return math.isfinite(value)
        return self.low <= value <= self.high

    def describe(self) -> str:
        """Say in words what a valid value is."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.low is None:
            return f"a {self.type}"
        return f"a {self.type} from {self.low:g} to {self.high:g} {self.unit}".rstrip()


SHIPPED_KNOBS: tuple[Knob, ...] = (
    Knob(
        "pcm.input_gain_db", "float", 0.0, low=-24.0, high=24.0, unit="dB", stage="PRE_PROCESSING"
    ),
    Knob(
        "pcm.output_gain_db", "float", 0.0, low=-24.0, high=24.0, unit="dB", stage="POST_PROCESSING"
    ),
    Knob(
        "pcm.target_level_dbfs",
        "float",
        -12.0,
        low=-30.0,
        high=0.0,
        unit="dBFS",
        stage="NORMALIZATION",
    ),
    Knob("limiter.enabled", "bool", True, stage="DYNAMICS_STAGE"),
    Knob(
        "limiter.threshold_dbfs",
        "float",
        -6.0,
        low=-30.0,
        high=-1.0,
        unit="dBFS",
        stage="DYNAMICS_STAGE",
    ),
    Knob(
        "limiter.release_ms", "float", 50.0, low=1.0, high=1000.0, unit="ms", stage="DYNAMICS_STAGE"
    ),
    Knob(
        "limiter.lookahead_ms", "float", 5.0, low=0.0, high=10.0, unit="ms", stage="DYNAMICS_STAGE"
    ),
    Knob("compressor.enabled", "bool", False, stage="DYNAMICS_STAGE"),
    Knob(
        "compressor.threshold_dbfs",
        "float",
        -20.0,
        low=-40.0,
        high=-6.0,
        unit="dBFS",
        stage="DYNAMICS_STAGE",
    ),
    Knob(
        "compressor.ratio", "float", 4.0, low=1.0, high=20.0, unit="ratio", stage="DYNAMICS_STAGE"
    ),
    Knob(
        "compressor.attack_ms",
        "float",
        10.0,
        low=0.1,
        high=100.0,
        unit="ms",
        stage="DYNAMICS_STAGE",
    ),
    Knob(
        "compressor.release_ms",
        "float",
        100.0,
        low=10.0,
        high=1000.0,
        unit="ms",
        stage="DYNAMICS_STAGE",
    ),
    Knob(
        "compressor.makeup_gain_db",
        "float",
        0.0,
        low=0.0,
        high=24.0,
        unit="dB",
        stage="DYNAMICS_STAGE",
    ),
    Knob("noise_gate.enabled", "bool", False, stage="NOISE_STAGE"),
    Knob(
        "noise_gate.threshold_dbfs",
        "float",
        -50.0,
        low=-80.0,
        high=-20.0,
        unit="dBFS",
        stage="NOISE_STAGE",
    ),
    Knob("noise_gate.attack_ms", "float", 1.0, low=0.1, high=10.0, unit="ms", stage="NOISE_STAGE"),
    Knob("noise_gate.hold_ms", "float", 10.0, low=0.0, high=1000.0, unit="ms", stage="NOISE_STAGE"),
    Knob(
        "noise_gate.release_ms",
        "float",
        100.0,
        low=10.0,
        high=5000.0,
        unit="ms",
        stage="NOISE_STAGE",
    ),
    Knob("noise_reduction.enabled", "bool", False, stage="NOISE_STAGE"),
    Knob(
        "noise_reduction.strength",
        "float",
        0.5,
        low=0.0,
        high=1.0,
        unit="ratio",
        stage="NOISE_STAGE",
    ),
    Knob(
        "noise_reduction.learning_rate",
        "float",
        0.1,
        low=0.01,
        high=1.0,
        unit="ratio",
        stage="NOISE_STAGE",
    ),
    Knob(
        "noise_reduction.preserve_voice_threshold",
        "float",
        -40.0,
        low=-60.0,
        high=-20.0,
        unit="dBFS",
        stage="NOISE_STAGE",
    ),
    Knob(
        "noise_reduction.spectral_subtraction_factor",
        "float",
        1.0,
        low=0.0,
        high=2.0,
        unit="factor",
        stage="NOISE_STAGE",
    ),
    Knob("agc.enabled", "bool", False, stage="AGC_STAGE"),
    Knob(
        "agc.target_level_dbfs",
        "float",
        -18.0,
        low=-30.0,
        high=-6.0,
        unit="dBFS",
        stage="AGC_STAGE",
    ),
    Knob("agc.max_gain_db", "float", 12.0, low=0.0, high=30.0, unit="dB", stage="AGC_STAGE"),
    Knob("agc.attack_ms", "float", 100.0, low=10.0, high=1000.0, unit="ms", stage="AGC_STAGE"),
    Knob("agc.release_ms", "float", 1000.0, low=100.0, high=5000.0, unit="ms", stage="AGC_STAGE"),
    Knob("vad.enabled", "bool", False, stage="VAD_STAGE"),
    Knob(
        "vad.energy_threshold_dbfs",
        "float",
        -45.0,
        low=-80.0,
        high=-20.0,
        unit="dBFS",
        stage="VAD_STAGE",
    ),
    Knob("vad.frequency_threshold_hz", "int", 85, low=50, high=500, unit="Hz", stage="VAD_STAGE"),
    Knob("vad.hangover_ms", "int", 300, low=0, high=2000, unit="ms", stage="VAD_STAGE"),
    Knob("vad.pre_trigger_ms", "int", 100, low=0, high=500, unit="ms", stage="VAD_STAGE"),
    Knob("eq.enabled", "bool", False, stage="EQ_STAGE"),
    Knob("eq.low_shelf_freq_hz", "float", 100.0, low=20.0, high=500.0, unit="Hz", stage="EQ_STAGE"),
    Knob("eq.low_shelf_gain_db", "float", 0.0, low=-12.0, high=12.0, unit="dB", stage="EQ_STAGE"),
    Knob("eq.mid_freq_hz", "float", 1000.0, low=500.0, high=4000.0, unit="Hz", stage="EQ_STAGE"),
    Knob("eq.mid_gain_db", "float", 0.0, low=-12.0, high=12.0, unit="dB", stage="EQ_STAGE"),
    Knob("eq.mid_q", "float", 1.0, low=0.1, high=10.0, unit="Q", stage="EQ_STAGE"),
    Knob(
        "eq.high_shelf_freq_hz",
        "float",
        4000.0,
        low=2000.0,
        high=10000.0,
        unit="Hz",
        stage="EQ_STAGE",
    ),
    Knob("eq.high_shelf_gain_db", "float", 0.0, low=-12.0, high=12.0, unit="dB", stage="EQ_STAGE"),
    Knob("highpass.enabled", "bool", False, stage="FILTER_STAGE"),
    Knob("highpass.cutoff_hz", "int", 80, low=0, high=1000, unit="Hz", stage="FILTER_STAGE"),
    Knob("highpass.order", "int", 2, low=1, high=4, unit="order", stage="FILTER_STAGE"),
    Knob("lowpass.enabled", "bool", False, stage="FILTER_STAGE"),
    Knob("lowpass.cutoff_hz", "int", 3400, low=1000, high=8000, unit="Hz", stage="FILTER_STAGE"),
    Knob("voice.enhancement_enabled", "bool", False, stage="VOICE_STAGE"),
    Knob(
        "voice.enhancement_mode",
        "enum",
        "moderate",
        choices=("off", "mild", "moderate", "aggressive"),
        stage="VOICE_STAGE",
    ),
    Knob(
        "voice.frequency_boost_db", "float", 3.0, low=0.0, high=12.0, unit="dB", stage="VOICE_STAGE"
    ),
    Knob(
        "voice.clarity_amount", "float", 0.5, low=0.0, high=1.0, unit="ratio", stage="VOICE_STAGE"
    ),
    Knob("deesser.enabled", "bool", False, stage="DEESSER_STAGE"),
    Knob(
        "deesser.threshold_dbfs",
        "float",
        -25.0,
        low=-40.0,
        high=-10.0,
        unit="dBFS",
        stage="DEESSER_STAGE",
    ),
    Knob(
        "deesser.frequency_hz",
        "float",
        6000.0,
        low=4000.0,
        high=10000.0,
        unit="Hz",
        stage="DEESSER_STAGE",
    ),
    Knob(
        "deesser.reduction_db", "float", 6.0, low=0.0, high=12.0, unit="dB", stage="DEESSER_STAGE"
    ),
    Knob("aec.enabled", "bool", False, live=False, stage="AEC_STAGE"),
    Knob(
        "aec.tail_length_ms", "int", 128, low=50, high=500, unit="ms", live=False, stage="AEC_STAGE"
    ),
    Knob("aec.convergence_speed", "float", 0.5, low=0.1, high=1.0, unit="ratio", stage="AEC_STAGE"),
    Knob(
        "aec.suppression_level",
        "enum",
        "moderate",
        choices=("low", "moderate", "high"),
        stage="AEC_STAGE",
    ),
    Knob("aec.nlp_enabled", "bool", True, stage="AEC_STAGE"),
    Knob("feedback.suppression_enabled", "bool", False, stage="FEEDBACK_STAGE"),
    Knob("feedback.notch_q", "float", 30.0, low=10.0, high=100.0, unit="Q", stage="FEEDBACK_STAGE"),
    Knob("feedback.max_notches", "int", 5, low=1, high=10, unit="count", stage="FEEDBACK_STAGE"),
    Knob(
        "feedback.reaction_time_ms",
        "float",
        100.0,
        low=10.0,
        high=1000.0,
        unit="ms",
        stage="FEEDBACK_STAGE",
    ),
    Knob("smoothing.enabled", "bool", False, stage="SMOOTHING_STAGE"),
    Knob("smoothing.window_ms", "int", 20, low=0, high=100, unit="ms", stage="SMOOTHING_STAGE"),
    Knob(
        "smoothing.type",
        "enum",
        "exponential",
        choices=("none", "moving_average", "exponential", "gaussian"),
        stage="SMOOTHING_STAGE",
    ),
    Knob(
        "safety.max_output_level_dbfs",
        "float",
        -1.0,
        low=-30.0,
        high=0.0,
        unit="dBFS",
        stage="SAFETY_STAGE",
    ),
    Knob(
        "safety.min_output_level_dbfs",
        "float",
        -60.0,
        low=-80.0,
        high=-30.0,
        unit="dBFS",
        stage="SAFETY_STAGE",
    ),
    Knob("safety.clipping_protection", "bool", True, stage="SAFETY_STAGE"),
    Knob("safety.emergency_mute", "bool", False, stage="SAFETY_STAGE"),
    Knob(
        "safety.emergency_boost_db",
        "float",
        6.0,
        low=0.0,
        high=20.0,
        unit="dB",
        stage="SAFETY_STAGE",
    ),
    Knob("jitterbuffer.enabled", "bool", True, live=False, stage="RTP_STAGE"),
    Knob(
        "jitterbuffer.type",
        "enum",
        "adaptive",
        choices=("fixed", "adaptive"),
        live=False,
        stage="RTP_STAGE",
    ),
    Knob("jitterbuffer.size_ms", "int", 100, low=20, high=500, unit="ms", stage="RTP_STAGE"),
    Knob("jitterbuffer.target_delay_ms", "int", 50, low=10, high=200, unit="ms", stage="RTP_STAGE"),
    Knob("monitoring.metrics_enabled", "bool", True, stage="MONITORING"),
    Knob("monitoring.audio_capture_enabled", "bool", True, stage="MONITORING"),
    Knob("monitoring.pre_tap_enabled", "bool", True, stage="MONITORING"),
    Knob("monitoring.post_tap_enabled", "bool", True, stage="MONITORING"),
    Knob("monitoring.fft_analysis_enabled", "bool", False, stage="MONITORING"),
    Knob("auto.gain_adjustment_allowed", "bool", False, stage="AUTO_CONTROL"),
    Knob(
        "auto.max_gain_adjustment_db",
        "float",
        6.0,
        low=0.0,
        high=12.0,
        unit="dB",
        stage="AUTO_CONTROL",
    ),
    Knob("auto.noise_reduction_allowed", "bool", False, stage="AUTO_CONTROL"),
    Knob("auto.eq_adjustment_allowed", "bool", False, stage="AUTO_CONTROL"),
    Knob("ai.optimization_allowed", "bool", False, stage="AI_CONTROL"),
    Knob(
        "ai.max_adjustment_percent",
        "float",
        20.0,
        low=0.0,
        high=50.0,
        unit="percent",
        stage="AI_CONTROL",
    ),
    Knob("ai.rollback_on_failure", "bool", True, stage="AI_CONTROL"),
)
"""The knobs of every installation; a host registers its own beside them."""

"""The sections of ``monitoring.config.json``: stations, knobs, metrics, limits, health.

Each parser checks one section and raises :class:`~exporter.errors.ConfigError` with key and value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from exporter.errors import ConfigError, KnobError
from exporter.health import BEST, DEFECTS, Weight
from exporter.knobs import KnobRegistry
from exporter.metrics import MetricRegistry, Per, host_metric
from exporter.model import KEY_PATTERN, Encoding, JsonObject, Kind, KnobValue, Pace, Recording

DEFAULT_RATE = 16_000


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the monitoring takes on before it refuses, and says so.

    Attributes:
        max_stations: Stations in one process and trace.
        max_traces: Traces that run at the same time.
        max_series: Station series on /metrics.
        max_backlog_s: Audio that may wait at one tap, in seconds; beyond, the oldest is a gap.
        idle_end_s: A trace without a block for so many seconds ends itself.
        stale_after_s: Gauges vanish so many seconds after a station's last trace.
        silence_dbfs: Frames below are silent.
        pair_load: Share of one core that the exporter thread may use before PRE and POST are
            compared in a sample of the buckets only.
    """

    max_stations: int = 256
    max_traces: int = 1_000
    max_series: int = 20_000
    max_backlog_s: float = 30.0
    idle_end_s: float = 60.0
    stale_after_s: float = 60.0
    silence_dbfs: float = -50.0
    pair_load: float = 0.8


@dataclass(frozen=True, slots=True)
class StationSpec:
    """What is declared of a station; see DESIGN vocabulary in ARCHITECTURE.md.

    Attributes:
        key: ``St_3_3333``.
        group: Free name of the part of the pipeline.
        direction: ``RX``, ``TX`` or empty.
        kind: What POST is to PRE.
        pace: How audio arrives.
        rate: Sampling rate in Hz, 8,000 to 48,000, divisible by 50.
        encoding: Sample format of the blocks.
        recording: How much is kept.
        implements: Knobs that the host's own chain obeys.
        knobs: Baseline values that differ from the registry's defaults.
    """

    key: str
    group: str = ""
    direction: str = ""
    kind: Kind = Kind.PROCESS
    pace: Pace = Pace.LIVE
    rate: int = DEFAULT_RATE
    encoding: Encoding = Encoding.S16LE
    recording: Recording = Recording.AUDIO
    implements: frozenset[str] = frozenset()
    knobs: Mapping[str, KnobValue] = field(default_factory=dict)


SHIPPED_STATIONS: dict[str, JsonObject] = {
    "St_3_3333": {"group": "STTTTS_PCM_INGRESS", "direction": "RX"},
    "St_3_4444": {"group": "STTTTS_PCM_INGRESS", "direction": "TX"},
}


_SECTIONS = ("stations", "knobs", "metrics", "limits", "health")


def check_names(document: JsonObject) -> None:
    """Refuse a section that nobody knows."""
    for name in document:
        if name not in _SECTIONS:
            raise ConfigError(f"unknown section {name!r}; known are {', '.join(_SECTIONS)}")


_METRIC_FIELDS = {"key": str, "unit": str, "min": int | float, "max": int | float, "help": str}


def parse_metrics(section: object, registry: MetricRegistry) -> MetricRegistry:
    """Add the host's own metrics; a bare key names one that is there already."""
    if not isinstance(section, list):
        raise ConfigError(f"metrics: expected a list, got {section!r}")
    for entry in section:
        if isinstance(entry, dict):
            _add_metric(entry, registry)
        elif not (isinstance(entry, str) and entry in registry) or (
            registry[entry].per is not Per.OBSERVE
        ):
            raise ConfigError(
                f"metrics: {entry!r} is an unknown metric, or none that a host reports"
            )
    return registry


def _add_metric(entry: JsonObject, registry: MetricRegistry) -> None:
    for name in entry.keys() | _METRIC_FIELDS:
        kind = _METRIC_FIELDS.get(name)
        value = entry.get(name)
        if kind is None or isinstance(value, bool) or not isinstance(value, kind):
            known = ", ".join(_METRIC_FIELDS)
            raise ConfigError(f"metrics: {entry!r}: {name} is {value!r}; a metric has {known}")
    low, high = float(str(entry["min"])), float(str(entry["max"]))
    key, unit, text = (str(entry[name]) for name in ("key", "unit", "help"))
    registry.register(host_metric(key, unit, low=low, high=high, help=text))


def parse_weights(section: JsonObject) -> dict[str, Weight]:
    """Return the weights of the health score, changed as the section says."""
    weights = dict(DEFECTS)
    for name, value in section.items():
        if name not in DEFECTS:
            raise ConfigError(f"health: unknown defect {name!r}; known are {', '.join(DEFECTS)}")
        if not isinstance(value, dict) or not value.keys() <= {"points", "full_at"}:
            raise ConfigError(f"health.{name}: expected points and full_at, got {value!r}")
        weights[name] = replace(weights[name], **value)
        for each in ("points", "full_at"):
            number = getattr(weights[name], each)
            if isinstance(number, bool) or not isinstance(number, int | float):
                raise ConfigError(f"health.{name}.{each}: {number!r} is not a number")
            if not (0 <= number <= BEST if each == "points" else number > 0):
                raise ConfigError(f"health.{name}.{each}: {number!r} is out of range")
    return weights


def section_of(document: JsonObject, name: str) -> JsonObject:
    """Return a section that is an object; empty when it is missing."""
    section = document.get(name, {})
    if not isinstance(section, dict):
        raise ConfigError(f"{name}: expected an object, got {section!r}")
    return section


def parse_limits(section: JsonObject) -> Limits:
    """Return the limits, changed as the section says."""
    defaults = Limits()
    for key, value in section.items():
        if key not in Limits.__slots__:
            raise ConfigError(f"limits: unknown limit {key!r}; known are {Limits.__slots__}")
        kind = type(getattr(defaults, key))
        if isinstance(value, bool) or not isinstance(value, int | kind):
            raise ConfigError(f"limits.{key}: {value!r} is not a {kind.__name__}")
        if key != "silence_dbfs" and value <= 0:
            raise ConfigError(f"limits.{key}: {value!r} is not above 0")
    return Limits(**section)  # type: ignore[arg-type] # checked above


def parse_knobs(section: JsonObject, registry: KnobRegistry, where: str) -> dict[str, KnobValue]:
    """Return checked knob values; ``where`` names the section in messages."""
    values: dict[str, KnobValue] = {}
    for key, value in section.items():
        try:
            values[key] = registry[key].check(value)
        except KnobError as error:
            raise ConfigError(f"{where}: {error}") from None
    return values


def parse_stations(section: JsonObject, registry: KnobRegistry) -> dict[str, StationSpec]:
    """Return the declared stations, the shipped ones among them."""
    declared = {key: dict(SHIPPED_STATIONS[key]) for key in SHIPPED_STATIONS}
    for key, value in section.items():
        if not isinstance(value, dict):
            raise ConfigError(f"stations.{key}: expected an object, got {value!r}")
        declared[key] = declared.get(key, {}) | value
    return {key: station_spec(key, value, registry) for key, value in declared.items()}


def station_spec(key: str, options: JsonObject, registry: KnobRegistry) -> StationSpec:
    """Check a station's declaration, from the configuration or from code.

    Raises:
        ConfigError: A name or value is wrong, or not supported by this version.
    """
    where = f"stations.{key}"
    if not KEY_PATTERN.fullmatch(key):
        raise ConfigError(f"station key {key!r} does not match {KEY_PATTERN.pattern}")
    values: dict[str, object] = {}
    for name, value in options.items():
        parse = _STATION_OPTIONS.get(name)
        if parse is None:
            known = ", ".join(_STATION_OPTIONS)
            raise ConfigError(f"{where}: unknown option {name!r}; known are {known}")
        try:
            values[name] = parse(value, registry)
        except (ValueError, KnobError) as error:
            raise ConfigError(f"{where}.{name}: {error}") from None
    return StationSpec(key, **values)  # type: ignore[arg-type] # each parser returns its type


def _label(value: object, _: KnobRegistry) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_.-]{0,64}", value):
        raise ValueError(f"{value!r} is not a name of up to 64 letters, digits, '_', '.' or '-'")
    return value


def _one_of(*supported: str) -> Callable[[object, KnobRegistry], str]:
    def parse(value: object, _: KnobRegistry) -> str:
        if value not in supported:
            raise ValueError(f"{value!r} is not supported; use {' or '.join(supported)}")
        return str(value)

    return parse


def check_rate(value: object) -> int:
    """Return a sampling rate in Hz; ValueError unless 8,000 to 48,000 and divisible by 50."""
    if type(value) is not int or not 8_000 <= value <= 48_000 or value % 50:
        raise ValueError(f"{value!r} is not a rate of 8000 to 48000 Hz that is divisible by 50")
    return value


def _implements(value: object, registry: KnobRegistry) -> frozenset[str]:
    if isinstance(value, str) or not isinstance(value, list | tuple | set | frozenset):
        raise ValueError(f"{value!r} is not a list of knobs")
    return frozenset(registry[key].key for key in value)


def _baseline(value: object, registry: KnobRegistry) -> dict[str, KnobValue]:
    if not isinstance(value, dict):
        raise ValueError(f"{value!r} is not an object of knobs")
    return {key: registry[key].check(knob) for key, knob in value.items()}


_STATION_OPTIONS: dict[str, Callable[[object, KnobRegistry], object]] = {
    "group": _label,
    "direction": _label,
    "kind": lambda value, registry: Kind(_one_of("process")(value, registry)),
    "pace": lambda value, registry: Pace(_one_of("live")(value, registry)),
    "rate": lambda value, _: check_rate(value),
    "encoding": lambda value, registry: Encoding(_one_of("s16le")(value, registry)),
    "recording": lambda value, registry: Recording(_one_of(*Recording)(value, registry)),
    "implements": _implements,
    "knobs": _baseline,
}

"""Settings: environment over ``monitoring.config.json`` over defaults, validated at the start.

Every mistake is a :class:`~exporter.errors.ConfigError` that names the key and the value. This is
the only module of the exporter that reads the environment.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from exporter.errors import ConfigError, KnobError
from exporter.knobs import KnobRegistry, shipped_registry
from exporter.metrics import METRICS
from exporter.model import KEY_PATTERN, Encoding, JsonObject, Kind, KnobValue, Pace

DEFAULT_RATE = 16_000
_STATE_DIRECTORY = "monitoring_v2"
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}
_CONSENT_POLICIES = ("audio",)


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
    """

    max_stations: int = 256
    max_traces: int = 1_000
    max_series: int = 20_000
    max_backlog_s: float = 30.0
    idle_end_s: float = 60.0
    stale_after_s: float = 60.0
    silence_dbfs: float = -50.0


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
    implements: frozenset[str] = frozenset()
    knobs: Mapping[str, KnobValue] = field(default_factory=dict)


SHIPPED_STATIONS: dict[str, JsonObject] = {
    "St_3_3333": {"group": "STTTTS_PCM_INGRESS", "direction": "RX"},
    "St_3_4444": {"group": "STTTTS_PCM_INGRESS", "direction": "TX"},
}
SHIPPED_KNOB_VALUES: dict[str, KnobValue] = {"monitoring.fft_analysis_enabled": True}


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set; each field is a setting of the README's table."""

    enabled: bool = True
    db: str = "dbname=monitoring_v2"
    audio_path: Path = Path("/var/monitoring/audio")
    spool_path: Path = Path("/var/monitoring/spool")
    spool_max_bytes: int = 2 * 1024**3
    log_path: Path = Path("/var/monitoring/logs")
    retention_hours: float = 72.0
    metrics_host: str = "127.0.0.1"
    metrics_ports: tuple[int, ...] = (9464,)
    targets_path: Path = Path("/var/monitoring/targets")
    public_url: str = ""
    consent_unknown: str = "audio"
    limits: Limits = Limits()
    stations: Mapping[str, StationSpec] = field(default_factory=dict)
    knobs: Mapping[str, KnobValue] = field(default_factory=lambda: dict(SHIPPED_KNOB_VALUES))
    registry: KnobRegistry = field(default_factory=shipped_registry)

    def station(self, key: str) -> StationSpec:
        """Return the declaration of ``key``, or the defaults for a station nobody declared."""
        return self.stations.get(key) or station_spec(key, {}, self.registry)


def load_settings(
    environ: Mapping[str, str] | None = None, registry: KnobRegistry | None = None
) -> Settings:
    """Read and check all settings.

    Args:
        environ: The environment; the process's own unless given.
        registry: The knobs that exist, with the host's own.

    Raises:
        ConfigError: A value is wrong; the message names the key and the value.
    """
    env = os.environ if environ is None else environ
    knobs = registry or shipped_registry()
    document = _read_document(env)
    _check_names(document)
    values: dict[str, object] = {
        "limits": _limits(_section(document, "limits")),
        "registry": knobs,
        "knobs": SHIPPED_KNOB_VALUES | _knob_values(_section(document, "knobs"), knobs, "knobs"),
        "stations": _stations(_section(document, "stations"), knobs),
    }
    for name, (variable, parse) in _VARIABLES.items():
        raw = env.get(variable)
        if raw is not None:
            values[name] = _parsed(variable, raw, parse)
    return Settings(**values)  # type: ignore[arg-type] # each parser returns its field's type


def _parsed(variable: str, raw: str, parse: Callable[[str], object]) -> object:
    try:
        return parse(raw)
    except ValueError as error:
        raise ConfigError(f"{variable}={raw!r}: {error}") from None


def _flag(raw: str) -> bool:
    if raw.lower() not in _TRUE | _FALSE:
        raise ValueError("expected true or false")
    return raw.lower() in _TRUE


def _conninfo(raw: str) -> str:
    if "=" in raw or raw.startswith(("postgres://", "postgresql://")):
        return raw
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,63}", raw):
        raise ValueError("expected a database's name or a libpq connection string")
    return f"dbname={raw}"


def _size(raw: str) -> int:
    size = int(raw)
    if size < 1024**2:
        raise ValueError("expected a number of bytes of at least 1048576")
    return size


def _hours(raw: str) -> float:
    hours = float(raw)
    if not 0 < hours < 24 * 3_660:
        raise ValueError("expected hours above 0")
    return hours


def _ports(raw: str) -> tuple[int, ...]:
    first, _, last = raw.partition("-")
    low, high = int(first), int(last or first)
    if not (0 <= low <= high <= 65_535 and high - low < 1_000):
        raise ValueError("expected a port such as 9464, or a range such as 9464-9479")
    return tuple(range(low, high + 1))


def _url(raw: str) -> str:
    if not re.fullmatch(r"https?://[^\s\"'<>]+", raw):
        raise ValueError("expected an address that begins with http:// or https://")
    return raw.rstrip("/")


def _consent(raw: str) -> str:
    if raw not in _CONSENT_POLICIES:
        raise ValueError(f"this version knows {' or '.join(_CONSENT_POLICIES)} only")
    return raw


def _text(raw: str) -> str:
    if not raw:
        raise ValueError("expected a value")
    return raw


_VARIABLES: dict[str, tuple[str, Callable[[str], object]]] = {
    "enabled": ("MONITORING_ENABLED", _flag),
    "db": ("MONITORING_DB", _conninfo),
    "audio_path": ("MONITORING_AUDIO_PATH", Path),
    "spool_path": ("MONITORING_SPOOL_PATH", Path),
    "spool_max_bytes": ("MONITORING_SPOOL_MAX_BYTES", _size),
    "log_path": ("MONITORING_LOG_PATH", Path),
    "retention_hours": ("MONITORING_RETENTION_HOURS", _hours),
    "metrics_host": ("MONITORING_METRICS_HOST", _text),
    "metrics_ports": ("MONITORING_METRICS_PORT", _ports),
    "targets_path": ("MONITORING_METRICS_TARGETS_PATH", Path),
    "public_url": ("MONITORING_PUBLIC_URL", _url),
    "consent_unknown": ("MONITORING_CONSENT_UNKNOWN", _consent),
}

ENVIRONMENT_VARIABLES = ("MONITORING_CONFIG", *(name for name, _ in _VARIABLES.values()))
"""Every variable that this project reads, for the docs and the backup."""


def state_directory(environ: Mapping[str, str] | None = None) -> Path:
    """Return the user's state directory: where paths fall back to when they cannot be made."""
    env = os.environ if environ is None else environ
    base = env.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / _STATE_DIRECTORY


def usable_path(path: Path, warn: Callable[[str], None], fallback: Path | None = None) -> Path:
    """Make ``path``, or one of the same name in the user's state directory, said in one line."""
    try:
        path.mkdir(mode=0o750, parents=True, exist_ok=True)
    except OSError as error:
        other = (fallback or state_directory()) / path.name
        warn(f"cannot make {path} ({error.strerror}); using {other} instead")
        other.mkdir(mode=0o750, parents=True, exist_ok=True)
        return other
    return path


def _read_document(env: Mapping[str, str]) -> JsonObject:
    named = env.get("MONITORING_CONFIG")
    path = Path(named or "monitoring.config.json")
    if not path.exists():
        if named:
            raise ConfigError(f"MONITORING_CONFIG={named!r}: there is no such file")
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: expected an object, got {type(document).__name__}")
    return document


_SECTIONS = ("stations", "knobs", "metrics", "limits")


def _check_names(document: JsonObject) -> None:
    for name in document:
        if name not in _SECTIONS:
            raise ConfigError(f"unknown section {name!r}; known are {', '.join(_SECTIONS)}")
    metrics = document.get("metrics", [])
    if not isinstance(metrics, list):
        raise ConfigError(f"metrics: expected a list of keys, got {metrics!r}")
    for key in metrics:
        if key not in METRICS:
            raise ConfigError(f"metrics: unknown metric {key!r}")


def _section(document: JsonObject, name: str) -> JsonObject:
    section = document.get(name, {})
    if not isinstance(section, dict):
        raise ConfigError(f"{name}: expected an object, got {section!r}")
    return section


def _limits(section: JsonObject) -> Limits:
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


def _knob_values(section: JsonObject, registry: KnobRegistry, where: str) -> dict[str, KnobValue]:
    values: dict[str, KnobValue] = {}
    for key, value in section.items():
        try:
            values[key] = registry[key].check(value)
        except KnobError as error:
            raise ConfigError(f"{where}: {error}") from None
    return values


def _stations(section: JsonObject, registry: KnobRegistry) -> dict[str, StationSpec]:
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
    "implements": _implements,
    "knobs": _baseline,
}

__all__ = [
    "DEFAULT_RATE",
    "ENVIRONMENT_VARIABLES",
    "Limits",
    "Settings",
    "StationSpec",
    "check_rate",
    "load_settings",
    "state_directory",
    "station_spec",
    "usable_path",
]

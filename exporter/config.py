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

from exporter.document import (
    DEFAULT_RATE,
    Limits,
    StationSpec,
    check_names,
    check_rate,
    parse_knobs,
    parse_limits,
    parse_metrics,
    parse_stations,
    parse_weights,
    section_of,
    station_spec,
)
from exporter.errors import ConfigError
from exporter.health import DEFECTS, Weight
from exporter.knobs import KnobRegistry, shipped_registry
from exporter.metrics import MetricRegistry, shipped_metrics
from exporter.model import JsonObject, KnobValue, Recording

_STATE_DIRECTORY = "monitoring_v2"
# Of a connection string, as a value and within an address.
_PASSWORD = re.compile(r"(password\s*=\s*|://[^:@/\s]*:)[^\s@/]+", re.IGNORECASE)
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}
SHIPPED_KNOB_VALUES: dict[str, KnobValue] = {"monitoring.fft_analysis_enabled": True}


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set; each field is a setting of the README's table."""

    enabled: bool = True
    db: str = field(default="dbname=monitoring_v2", repr=False)  # it may hold a password
    audio_path: Path = Path("/var/monitoring/audio")
    spool_path: Path = Path("/var/monitoring/spool")
    spool_max_bytes: int = 2 * 1024**3
    log_path: Path = Path("/var/monitoring/logs")
    retention_hours: float = 72.0
    retention_audio_hours: float | None = None
    retention_knob_events_hours: float = 90 * 24.0
    retention_access_hours: float = 365 * 24.0
    retention_free_share: float = 0.1
    metrics_host: str = "127.0.0.1"
    metrics_ports: tuple[int, ...] = (9464,)
    targets_path: Path = Path("/var/monitoring/targets")
    public_url: str = ""
    serve_host: str = "127.0.0.1"
    serve_ports: tuple[int, ...] = (9465,)
    local_roles: tuple[str, ...] = ("numbers", "listen", "download")
    signing_key_file: Path | None = None
    privacy_key_file: Path | None = None
    consent_unknown: Recording = Recording.AUDIO
    limits: Limits = field(default_factory=Limits)
    stations: Mapping[str, StationSpec] = field(default_factory=dict)
    knobs: Mapping[str, KnobValue] = field(default_factory=lambda: dict(SHIPPED_KNOB_VALUES))
    registry: KnobRegistry = field(default_factory=shipped_registry)
    metrics: MetricRegistry = field(default_factory=shipped_metrics)
    health: Mapping[str, Weight] = field(default_factory=lambda: dict(DEFECTS))

    @property
    def audio_hours(self) -> float:
        """For how long audio is kept: as long as numbers, unless it is less."""
        return self.retention_audio_hours or self.retention_hours

    def station(self, key: str) -> StationSpec:
        """Return the declaration of ``key``, or the defaults for a station nobody declared."""
        return self.stations.get(key) or station_spec(key, {}, self.registry)


def load_settings(
    environ: Mapping[str, str] | None = None,
    registry: KnobRegistry | None = None,
    metrics: MetricRegistry | None = None,
) -> Settings:
    """Read and check all settings.

    Args:
        environ: The environment; the process's own unless given.
        registry: The knobs that exist, with the host's own.
        metrics: The metrics that exist, with the host's own; the file's are added to them.

    Raises:
        ConfigError: A value is wrong; the message names the key and the value.
    """
    env = os.environ if environ is None else environ
    knobs = registry or shipped_registry()
    document = _read_document(env)
    check_names(document)
    values: dict[str, object] = {
        "limits": parse_limits(section_of(document, "limits")),
        "health": parse_weights(section_of(document, "health")),
        "registry": knobs,
        "metrics": parse_metrics(document.get("metrics", []), metrics or shipped_metrics()),
        "knobs": SHIPPED_KNOB_VALUES | parse_knobs(section_of(document, "knobs"), knobs, "knobs"),
        "stations": parse_stations(section_of(document, "stations"), knobs),
    }
    for name, (variable, parse) in _VARIABLES.items():
        raw = env.get(variable)
        if raw is not None:
            values[name] = _parsed(variable, raw, parse)
    settings = Settings(**values)  # type: ignore[arg-type] # each parser returns its field's type
    if settings.audio_hours > settings.retention_hours:
        raise ConfigError(
            f"MONITORING_RETENTION_AUDIO_HOURS={settings.audio_hours:g}: audio cannot outlive its "
            f"numbers (MONITORING_RETENTION_HOURS={settings.retention_hours:g})"
        )
    return settings


def check_variable(variable: str, raw: str) -> None:
    """Make sure that an environment variable may have this value.

    Raises:
        ConfigError: It may not, or there is no such variable.
    """
    for name, parse in _VARIABLES.values():
        if name == variable:
            _parsed(variable, raw, parse)
            return
    raise ConfigError(f"unknown variable {variable!r}")


def _parsed(variable: str, raw: str, parse: Callable[[str], object]) -> object:
    try:
        return parse(raw)
    except ValueError as error:
        shown = re.sub(_PASSWORD, r"\1***", raw)
        raise ConfigError(f"{variable}={shown!r}: {error}") from None


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


def _access_hours(raw: str) -> float:
    hours = _hours(raw)
    if hours < 30 * 24:
        raise ValueError("the access log is kept for 720 hours or more")
    return hours


def _free_share(raw: str) -> float:
    share = float(raw)
    if not 0 <= share <= 0.9:
        raise ValueError("expected a share from 0 (never) to 0.9")
    return share


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


def _consent(raw: str) -> Recording:
    if raw not in set(Recording):
        raise ValueError(f"expected {', '.join(Recording)}")
    return Recording(raw)


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
    "retention_audio_hours": ("MONITORING_RETENTION_AUDIO_HOURS", _hours),
    "retention_knob_events_hours": ("MONITORING_RETENTION_KNOB_EVENTS_HOURS", _hours),
    "retention_access_hours": ("MONITORING_RETENTION_ACCESS_HOURS", _access_hours),
    "retention_free_share": ("MONITORING_RETENTION_FREE_SHARE", _free_share),
    "metrics_host": ("MONITORING_METRICS_HOST", _text),
    "metrics_ports": ("MONITORING_METRICS_PORT", _ports),
    "targets_path": ("MONITORING_METRICS_TARGETS_PATH", Path),
    "public_url": ("MONITORING_PUBLIC_URL", _url),
    "serve_host": ("MONITORING_SERVE_HOST", _text),
    "serve_ports": ("MONITORING_SERVE_PORT", _ports),
    "local_roles": ("MONITORING_LOCAL_ROLES", lambda raw: tuple(filter(None, raw.split(",")))),
    "signing_key_file": ("MONITORING_SIGNING_KEY_FILE", Path),
    "privacy_key_file": ("MONITORING_PRIVACY_KEY_FILE", Path),
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


def existing_path(path: Path, fallback: Path | None = None) -> Path:
    """Return where ``usable_path`` has put things: there, or in the user's state directory."""
    other = (fallback or state_directory()) / path.name
    return path if path.exists() or not other.exists() else other


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


__all__ = [
    "DEFAULT_RATE",
    "ENVIRONMENT_VARIABLES",
    "Limits",
    "Settings",
    "StationSpec",
    "check_rate",
    "check_variable",
    "existing_path",
    "load_settings",
    "state_directory",
    "station_spec",
    "usable_path",
]

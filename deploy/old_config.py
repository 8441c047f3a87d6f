"""The ``monitoring.config.json`` of an earlier installation, as settings of this one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from archiver.imports.accounts import UnkeptError
from exporter.config import check_variable, station_spec
from exporter.errors import ConfigError, KnobError
from exporter.knobs import KnobRegistry
from exporter.model import BUCKET_MS, KnobValue

_PLAIN = re.compile(r"[^\s'\\]+")
_DATABASE = {
    "host": "host",
    "port": "port",
    "database": "dbname",
    "dbname": "dbname",
    "name": "dbname",
    "user": "user",
    "username": "user",
    "sslmode": "sslmode",
}
_SECRETS = {"password", "pass", "secret"}
_ADDRESSES = {"connectionstring", "url", "uri", "dsn"}
_STATION = {
    "group": "group",
    "stationgroup": "group",
    "direction": "direction",
    "rate": "rate",
    "samplerate": "rate",
}
_CAPTURE = "monitoring.audio_capture_enabled"
_ENVIRONMENT = {
    ("metricsemitter", "host"): "MONITORING_METRICS_HOST",
    ("metricsemitter", "port"): "MONITORING_METRICS_PORT",
    ("audiowriter", "path"): "MONITORING_AUDIO_PATH",
    ("audiowriter", "basepath"): "MONITORING_AUDIO_PATH",
    ("audiowriter", "basedir"): "MONITORING_AUDIO_PATH",
    ("audiowriter", "outputdir"): "MONITORING_AUDIO_PATH",
    ("audiowriter", "directory"): "MONITORING_AUDIO_PATH",
    ("retentionhours",): "MONITORING_RETENTION_HOURS",
}
_KNOBS = {
    ("metricsemitter", "enabled"): "monitoring.metrics_enabled",
    ("audiowriter", "enabled"): _CAPTURE,
    ("audiorecorder", "enabled"): _CAPTURE,
}
# What this version does not let choose, with the one value that it has.
_FIXED: dict[str, object] = {
    "bucketms": BUCKET_MS,
    "segmentms": BUCKET_MS,
    "channels": 1,
    "bitdepth": 16,
    "bitspersample": 16,
    "format": "wav",
}
_FIXED_IN = {"metricsemitter", "audiowriter", "audiorecorder"}

Path = tuple[str, ...]


@dataclass(slots=True)
class Proposal:
    """A new configuration.

    Attributes:
        knobs: Section ``knobs`` of ``monitoring.config.json``.
        stations: Section ``stations``, each station with its options.
        station_knobs: The knobs of each station.
        environment: ``MONITORING_*`` variables beside it.
        kept: Old keys that are in one of the two, or mean what is always so here.
        rejected: Old key, reason, detail.
    """

    knobs: dict[str, KnobValue] = field(default_factory=dict)
    stations: dict[str, dict[str, object]] = field(default_factory=dict)
    station_knobs: dict[str, dict[str, KnobValue]] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    rejected: list[tuple[str, str, str]] = field(default_factory=list)

    def file(self) -> str:
        """Return the text of the configuration file."""
        stations = {key: dict(options) for key, options in self.stations.items()}
        for key, knobs in self.station_knobs.items():
            stations.setdefault(key, {})["knobs"] = knobs
        return json.dumps({"stations": stations, "knobs": self.knobs}, indent=2) + "\n"

    def variables(self) -> str:
        """Return the text of a file with the variables, one a line."""
        return "".join(f"{name}={value}\n" for name, value in sorted(self.environment.items()))


def translate(content: bytes, registry: KnobRegistry) -> Proposal:
    """Return what an old configuration means here; each of its values is kept or rejected."""
    proposal = Proposal()
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        proposal.rejected.append(("", "damaged", str(error)[:80]))
        return proposal
    translator = _Translator(proposal, registry)
    for path, value in _leaves(document, ()):
        key = ".".join(path)
        try:
            translator.take(path, value)
        except UnkeptError as error:
            proposal.rejected.append((key, error.reason, error.detail))
        except (ConfigError, KnobError) as error:
            proposal.rejected.append((key, "untranslated", str(error)))
        else:
            proposal.kept.append(key)
    return proposal


def _leaves(value: object, path: Path) -> Iterator[tuple[Path, object]]:
    if isinstance(value, dict) and value:
        for key, part in value.items():
            yield from _leaves(part, (*path, key))
    else:
        yield path, value


class _Translator:
    """Takes one value after the other into a proposal, or raises."""

    def __init__(self, proposal: Proposal, registry: KnobRegistry) -> None:
        self._proposal = proposal
        self._registry = registry
        self._connection: dict[str, str] = {}

    def take(self, path: Path, value: object) -> None:
        names = tuple(name.lower() for name in path)
        section, rest = names[:1], names[1:]
        if section == ("database",) and len(rest) == 1:
            self._database(rest[0], value)
        elif section == ("stations",) and len(path) > 2:  # noqa: PLR2004 - stations.KEY.option
            self._station(path[1:], value)
        elif names in _ENVIRONMENT:
            self._variable(_ENVIRONMENT[names], value)
        elif names in _KNOBS:
            self._knob(_KNOBS[names], value)
        elif section and section[0] in _FIXED_IN and _FIXED.get(names[-1]) is not None:
            expected = _FIXED[names[-1]]
            if (value.lower() if isinstance(value, str) else value) != expected:
                raise UnkeptError("untranslated", f"always {expected} here")
        else:
            raise UnkeptError("untranslated")

    def _database(self, name: str, value: object) -> None:
        if name in _SECRETS:
            raise UnkeptError("secret", "give it as PGPASSWORD, or in ~/.pgpass")
        if name in _ADDRESSES and isinstance(value, str):
            if re.search(r"//[^/@]*:[^/@]*@|password\s*=", value):
                raise UnkeptError("secret", "set MONITORING_DB, with the password in ~/.pgpass")
            self._variable("MONITORING_DB", value)
            return
        if name not in _DATABASE or isinstance(value, bool) or not isinstance(value, str | int):
            raise UnkeptError("untranslated")
        connection = self._connection | {_DATABASE[name]: _quoted(str(value))}
        self._variable("MONITORING_DB", " ".join(f"{k}={v}" for k, v in connection.items()))
        self._connection = connection

    def _variable(self, name: str, value: object) -> None:
        text = value if isinstance(value, str) else json.dumps(value)
        if not text.isprintable():
            raise UnkeptError("untranslated", "it has a line break or another sign of that kind")
        check_variable(name, text)
        self._proposal.environment[name] = text

    def _knob(self, key: str, value: object) -> None:
        knobs, checked = self._proposal.knobs, self._registry[key].check(value)
        # Two switches for one thing: on where both were.
        knobs[key] = bool(knobs[key] and checked) if key == _CAPTURE and key in knobs else checked

    def _station(self, path: Path, value: object) -> None:
        key, option, rest = path[0], path[1].lower(), path[2:]
        if key.lower() == "knobs":
            self._knob(".".join(path[1:]), value)
            return
        station_spec(key, {}, self._registry)
        if option == "knobs" and rest:
            knob = ".".join(rest)
            checked = self._registry[knob].check(value)
            self._proposal.station_knobs.setdefault(key, {})[knob] = checked
        elif option in _STATION and not rest:
            station_spec(key, {_STATION[option]: value}, self._registry)
            self._proposal.stations.setdefault(key, {})[_STATION[option]] = value
        else:
            raise UnkeptError("untranslated")


def _quoted(value: str) -> str:
    """Return a value as libpq's connection strings have it."""
    if _PLAIN.fullmatch(value):
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"

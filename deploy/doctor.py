"""The doctor: looks at everything that this installation needs, and says what to do."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from archiver.database import AnyDatabaseError
from archiver.migrations import shipped, version
from exporter.config import Settings, state_directory
from exporter.keeping import KEPT
from exporter.keyfile import KEY_BYTES
from exporter.model import Recording
from exporter.privacy import KEY_FILE, KEY_SETTING

FREE_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: whether it is well, and if not, what to do."""

    name: str
    is_well: bool
    text: str


def examine(settings: Settings) -> list[Finding]:
    """Look at settings, paths, port, database, consent and key."""
    checks: list[Callable[[Settings], Finding]] = [_enabled, _database, _port, _consent, _key]
    folders = [("audio", settings.audio_path), ("spool", settings.spool_path)]
    return [*(check(settings) for check in checks), *(_folder(*pair) for pair in folders)]


def _enabled(settings: Settings) -> Finding:
    text = "on" if settings.enabled else "off: nothing is heard; unset MONITORING_ENABLED"
    return Finding("monitoring", settings.enabled, text)


def _database(settings: Settings) -> Finding:
    try:
        found, wanted = version(settings.db), shipped()[-1][0]
    except AnyDatabaseError as error:
        text = str(error).strip().splitlines()[0]
        return Finding("database", False, f"{text}; set MONITORING_DB or start the server")
    if found != wanted:
        return Finding(
            "database", False, f"schema {found}, need {wanted}: run `monitoring db init`"
        )
    return Finding("database", True, f"schema {found}")


def _port(settings: Settings) -> Finding:
    for port in settings.metrics_ports:
        with socket.socket() as probe:
            if probe.connect_ex((settings.metrics_host, port)):
                return Finding("port", True, f"{settings.metrics_host}:{port} is free")
    ports = f"{settings.metrics_ports[0]}-{settings.metrics_ports[-1]}"
    text = f"{ports} in use: a host of ours, or set MONITORING_METRICS_PORT"
    return Finding("port", False, text)


def _consent(settings: Settings) -> Finding:
    kept, refused = KEPT[settings.consent_unknown], KEPT[Recording.NUMBERS]
    less = [
        f"{spec.key} {spec.recording}"
        for spec in settings.stations.values()
        if spec.recording is not Recording.AUDIO
    ]
    stations = f"; recording: {', '.join(less)}" if less else ""
    return Finding("consent", True, f"unknown: {kept} kept; refused: {refused} kept{stations}")


def _key(settings: Settings) -> Finding:
    path = settings.privacy_key_file or state_directory() / KEY_FILE
    if settings.privacy_key_file is None and not path.exists():
        return Finding("privacy key", True, f"made at the first phone number: {path}")
    try:
        key, mode = path.read_bytes().strip(), path.stat().st_mode
    except OSError as error:
        text = f"{path}: {error.strerror}; name a file that the host can read in {KEY_SETTING}"
        return Finding("privacy key", False, text)
    if len(key) < KEY_BYTES:
        text = f"{path}: shorter than {KEY_BYTES} bytes; make another one"
        return Finding("privacy key", False, text)
    if mode & 0o007:
        text = f"{path}: every user of this machine can read it; chmod 600 it"
        return Finding("privacy key", False, text)
    return Finding("privacy key", True, f"{path}; keep it with the backups: it finds numbers again")


def _folder(name: str, path: Path) -> Finding:
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        variable = f"MONITORING_{name.upper()}_PATH"
        return Finding(name, False, f"{path} cannot be written; make it, or set {variable}")
    usage = shutil.disk_usage(existing)
    text = f"{path}: {usage.free / 1e9:.1f} GB free of {usage.total / 1e9:.1f}"
    if usage.free < FREE_SHARE * usage.total:
        return Finding(name, False, text + "; make space or lower MONITORING_RETENTION_HOURS")
    return Finding(name, True, text)

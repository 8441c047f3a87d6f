"""Settings of the commands; the only module of this package that reads the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from exporter.config import Settings


def postgres_bin_dir(environ: Mapping[str, str] | None = None) -> Path | None:
    """Return the folder of PostgreSQL's programs that MONITORING_PG_BIN names, or None."""
    value = (os.environ if environ is None else environ).get("MONITORING_PG_BIN", "")
    return Path(value).expanduser() if value else None


def set_variables(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables that begin with MONITORING_, as they are set."""
    env = os.environ if environ is None else environ
    return {name: env[name] for name in sorted(env) if name.startswith("MONITORING_")}


def child_environment(
    settings: Settings, environ: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the environment in which a child process has these settings for what it serves."""
    ports = (settings.serve_ports[0], settings.serve_ports[-1])
    return {
        **(os.environ if environ is None else environ),
        "MONITORING_DB": settings.db,
        "MONITORING_AUDIO_PATH": str(settings.audio_path),
        "MONITORING_METRICS_HOST": settings.metrics_host,
        "MONITORING_METRICS_PORT": str(settings.metrics_ports[0]),
        "MONITORING_SERVE_HOST": settings.serve_host,
        "MONITORING_SERVE_PORT": "-".join(map(str, ports)),
        "MONITORING_SIGNING_KEY_FILE": str(settings.signing_key_file),
    }


def secret_files(settings: Settings, environ: Mapping[str, str] | None = None) -> list[Path]:
    """Return the files with secrets that settings and libpq's variables name."""
    named = (os.environ if environ is None else environ).get("PGPASSFILE")
    found = [settings.signing_key_file, settings.privacy_key_file, Path(named) if named else None]
    return [path for path in found if path is not None]

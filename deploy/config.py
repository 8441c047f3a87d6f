"""Settings of the commands; the only module of this package that reads the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def postgres_bin_dir(environ: Mapping[str, str] | None = None) -> Path | None:
    """Return the folder of PostgreSQL's programs that MONITORING_PG_BIN names, or None."""
    value = (os.environ if environ is None else environ).get("MONITORING_PG_BIN", "")
    return Path(value).expanduser() if value else None

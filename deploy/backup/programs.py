"""PostgreSQL's own pg_dump and pg_restore: which one to run, and how it logs in.

A pg_dump that is older than the server refuses; a newer one writes what an older server does not
know. So the nearest release from the server's on is taken.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg

from deploy.backup.errors import BackupError
from deploy.pg_binaries import CLEAN_ENVIRONMENT, bin_dirs

SERVICE: Final = "monitoring_v2"
_OURS: Final = {"service", "servicefile", "passfile", "dbname", "application_name"}


@dataclass(frozen=True, slots=True)
class Login:
    """How a program logs in: keywords for `subprocess`, with ``service=monitoring_v2``.

    Attributes:
        environment: Names the service file.
        descriptor: The service file, which is in memory alone.
    """

    environment: dict[str, str]
    descriptor: int


def find_program(name: str, server: int, wanted: Path | None = None) -> tuple[int, Path]:
    """Return `name` of the server's release or the next newer: which, and where.

    Args:
        name: ``pg_dump`` or ``pg_restore``.
        server: Major release of the server, such as 15.
        wanted: The folder that MONITORING_PG_BIN names; no other is looked at then.

    Raises:
        BackupError: There is none.
    """
    found = sorted(
        (release, path)
        for folder in ([wanted] if wanted else bin_dirs())
        if (release := _release(path := folder / name)) is not None
    )
    for release, path in found:
        if release >= server:
            return release, path
    have = ", ".join(str(release) for release, _ in found) or "none"
    raise BackupError(
        f"the server is PostgreSQL {server}, and {name} has to be of that release or newer "
        f"(found: {have}): apt-get install postgresql-client-{server}, or set MONITORING_PG_BIN to "
        "the folder that has it"
    )


@contextmanager
def login(connection: psycopg.Connection, dbname: str) -> Iterator[Login]:
    """Yield how a program logs in as `connection` did, for the time of the block.

    Host, user and password are in a file that has no name, and is gone however this process ends:
    not in the arguments of a process, which everybody on the machine can see.
    """
    known = connection.info.get_parameters()
    if known.get("sslcertmode") == "allow":
        del known["sslcertmode"]  # the default, which libpq writes out and an older one knows not
    values = {name: value for name, value in known.items() if name not in _OURS}
    values |= {"dbname": dbname, "password": connection.info.password}
    if any("\n" in value for value in values.values()):
        raise BackupError("the database's connection string has a line break in it")
    lines = (f"{name}={value}\n" for name, value in values.items() if value)
    text = f"[{SERVICE}]\n{''.join(lines)}"
    descriptor = os.memfd_create("monitoring-login")
    try:
        os.write(descriptor, text.encode())
        path = f"/proc/self/fd/{descriptor}"
        environment = {**CLEAN_ENVIRONMENT, "HOME": str(Path.home()), "PGSERVICEFILE": path}
        yield Login(environment, descriptor)
    finally:
        os.close(descriptor)


def _release(program: Path) -> int | None:
    """Return the major release of a program, None when there is none that runs."""
    if not os.access(program, os.X_OK):
        return None
    said = subprocess.run(
        [program, "--version"], check=False, capture_output=True, text=True, env=CLEAN_ENVIRONMENT
    )
    found = re.search(r"\) (\d+)", said.stdout)
    return int(found[1]) if found else None

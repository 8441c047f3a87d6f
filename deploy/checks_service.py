"""The doctor's look at what deploy/install.sh has made: accounts, folders, units, backups."""

from __future__ import annotations

import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from deploy.finding import Finding

INSTALLED = Path("etc/monitoring/installed")
BACKUPS = Path("var/backups/monitoring")
OLDEST_BACKUP_H = 36.0
SERVICE, TIMERS = "monitoring-drilldown.service", ("retention", "backup", "restore-drill")
FOLDERS = {
    "var/monitoring/audio": ("monitoring", "monitoring-audio", 0o3770),
    "var/monitoring/spool": ("monitoring", "monitoring", 0o3770),
    "var/monitoring/logs": ("monitoring", "monitoring", 0o2770),
    "var/backups/monitoring": ("monitoring", "monitoring", 0o700),
    "etc/monitoring": ("root", "monitoring", 0o750),
}
"""Owner, group and mode of each; those of deploy/install.sh."""
_REPEAT = "run deploy/install.sh again"


def service_findings(root: Path = Path("/")) -> Iterator[Finding]:
    """Look at the service, where one is installed.

    Args:
        root: Where it is installed; another than ``/`` is asked for its files alone.
    """
    if not (root / INSTALLED).exists():
        return
    users, groups = _numbers(root / "etc/passwd"), _numbers(root / "etc/group")
    yield _accounts(root, users, groups)
    for name, (user, group, mode) in FOLDERS.items():
        if {user} <= users.keys() and {group} <= groups.keys():
            wanted = (users[user], groups[group], mode)
            yield _folder(f"folder /{name}", root / name, wanted, f"{user}:{group}")
    yield _secret(root / "etc/monitoring/monitoring.env")
    if shutil.which("systemctl"):
        for unit in (SERVICE, *(f"monitoring-{name}.timer" for name in TIMERS)):
            yield _unit(unit, root)
        for name in TIMERS:
            yield from _last_run(f"monitoring-{name}.service", root)
    yield _backup(root / BACKUPS, time.time())


def _numbers(path: Path) -> dict[str, int]:
    """Return the numbers of users or groups by name; of those from a directory service, none."""
    fields = (line.split(":") for line in path.read_text(encoding="utf-8").splitlines())
    return {each[0]: int(each[2]) for each in fields if len(each) > 2 and each[2].isdigit()}  # noqa: PLR2004 - name, password, number


def _accounts(root: Path, users: dict[str, int], groups: dict[str, int]) -> Finding:
    missing = {"monitoring"} - users.keys() | {"monitoring", "monitoring-audio"} - groups.keys()
    if missing:
        return Finding("accounts", False, f"{', '.join(sorted(missing))} missing: {_REPEAT}")
    lines = (root / "etc/group").read_text(encoding="utf-8").splitlines()
    members = next(line for line in lines if line.startswith("monitoring-audio:")).split(":")[3]
    if "monitoring" not in members.split(","):
        hint = "usermod -aG monitoring-audio monitoring"
        return Finding("accounts", False, f"user monitoring may not hear sound: {hint}")
    return Finding("accounts", True, "user monitoring, groups monitoring and monitoring-audio")


def _folder(name: str, path: Path, wanted: tuple[int, int, int], owner: str) -> Finding:
    try:
        status = path.stat()
    except FileNotFoundError:
        return Finding(name, False, f"{path} is missing: {_REPEAT}")
    except OSError as error:
        return Finding(name, False, f"{path}: {error.strerror}: ask as root or as user monitoring")
    if (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) != wanted:
        fix = f"chown {owner} {path}; chmod {wanted[2]:o} {path}"
        return Finding(name, False, f"owner or mode ({stat.filemode(status.st_mode)}): {fix}")
    return Finding(name, True, f"{path}: {owner} {wanted[2]:04o}")


def _secret(path: Path) -> Finding:
    if not path.exists():
        return Finding("settings", False, f"{path} is missing: {_REPEAT}")
    if path.stat().st_mode & 0o007:
        return Finding(
            "settings", False, f"every user of this machine can read {path}: chmod o= it"
        )
    return Finding("settings", True, str(path))


def _systemctl(root: Path, *arguments: str) -> str:
    where = [] if root == Path("/") else [f"--root={root}"]
    done = subprocess.run(
        ["systemctl", *where, *arguments],  # noqa: S607 - found on the PATH
        check=False,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def _unit(unit: str, root: Path) -> Finding:
    state = _systemctl(root, "is-enabled", unit)
    if state != "enabled":
        text = f"{state or 'not known to systemd'}: systemctl enable --now {unit}"
        return Finding(unit, False, text)
    if root == Path("/") and (active := _systemctl(root, "is-active", unit)) != "active":
        return Finding(unit, False, f"{active}: systemctl start {unit}; journalctl -u {unit}")
    return Finding(unit, True, "enabled")


def _last_run(unit: str, root: Path) -> Iterator[Finding]:
    """Say how a timer's last run ended, and when; only a running systemd knows."""
    if root != Path("/"):
        return
    names = ("Result", "ExecMainExitTimestamp")
    shown = _systemctl(root, "show", unit, *(f"--property={name}" for name in names))
    values = dict(line.partition("=")[::2] for line in shown.splitlines())
    when = values.get("ExecMainExitTimestamp") or "never"
    is_well = values.get("Result", "success") == "success"
    hint = "" if is_well else f": {values['Result']}; journalctl -u {unit}"
    yield Finding(unit, is_well, f"last run {when}{hint}")


def _backup(folder: Path, now_s: float) -> Finding:
    try:
        folder.stat()
        newest = max(
            (path.stat().st_mtime for path in folder.glob("monitoring-*.tar*")), default=None
        )
    except OSError as error:
        return Finding("backup", False, f"{folder}: {error.strerror}")
    if newest is None:
        return Finding("backup", False, "there is none: systemctl start monitoring-backup")
    hours = (now_s - newest) / 3_600
    text = f"the newest is {hours:.0f} h old"
    if hours > OLDEST_BACKUP_H:
        return Finding("backup", False, f"{text}: journalctl -u monitoring-backup")
    return Finding("backup", True, text)

"""The doctor's looks at this machine: disks, secrets, clock, ports."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import stat
import struct
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from archiver.batch import CorruptBatchError, UnknownBatchError, decode
from archiver.spool import SUFFIX
from deploy.config import secret_files
from deploy.finding import Finding
from exporter.config import Settings

FREE_SHARE = 0.1
_EVERYBODY = 0o007
_UNSYNCHRONISED = 0x0040  # STA_UNSYNC of adjtimex(2)
_STATUS_AT = 40  # of struct timex where long has 64 bits
_ANSWER_S = 2.0


def host_findings(settings: Settings) -> Iterator[Finding]:
    """Look at folders, secrets, clock and ports."""
    for name, path in (("audio", settings.audio_path), ("spool", settings.spool_path)):
        yield _folder(name, path)
    yield _room(settings)
    yield from _strangers(settings.spool_path)
    yield from map(_secret, secret_files(settings))
    yield _clock()
    yield _port("port", settings.metrics_host, settings.metrics_ports, "/metrics")
    yield _port("serve port", settings.serve_host, settings.serve_ports, "/openapi.json")


def _existing(path: Path) -> Path:
    return next(parent for parent in (path, *path.parents) if parent.exists())


def _folder(name: str, path: Path) -> Finding:
    existing = _existing(path)
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        variable = f"MONITORING_{name.upper()}_PATH"
        return Finding(name, False, f"{path} cannot be written; make it, or set {variable}")
    usage, files = shutil.disk_usage(existing), os.statvfs(existing)
    text = f"{path}: {usage.free / 1e9:.1f} GB free of {usage.total / 1e9:.1f}"
    if usage.free < FREE_SHARE * usage.total:
        return Finding(name, False, text + "; make space or lower MONITORING_RETENTION_HOURS")
    if files.f_favail < FREE_SHARE * files.f_files:  # 0 of 0: a file system that has no limit
        text = f"{path}: {files.f_favail:,} files free of {files.f_files:,}"
        return Finding(name, False, text + "; lower MONITORING_RETENTION_HOURS, or make it anew")
    if path.is_dir() and path.stat().st_mode & _EVERYBODY:
        return Finding(name, False, f"every user of this machine can look into {path}: chmod o= it")
    return Finding(name, True, text)


def _room(settings: Settings) -> Finding:
    used = sum(path.stat().st_size for path in _batches(settings.spool_path))
    limit, free = settings.spool_max_bytes, shutil.disk_usage(_existing(settings.spool_path)).free
    text = f"{used / 1e6:,.1f} MB wait, of at most {limit / 1e6:,.0f}"
    if 2 * used > limit:
        hint = "is the database there? beyond the limit, the oldest batches are dropped"
        return Finding("spool room", False, f"{text}; {hint}")
    if free < limit - used:
        hint = f"the disk has {free / 1e6:,.0f}: make space or lower MONITORING_SPOOL_MAX_BYTES"
        return Finding("spool room", False, f"{text}; {hint}")
    return Finding("spool room", True, text)


def _batches(spool: Path) -> Iterator[Path]:
    try:
        yield from spool.glob(f"*/*{SUFFIX}")
    except OSError:  # not ours to see; the folder's own finding says so
        return


def _strangers(spool: Path) -> Iterator[Finding]:
    """Find what this version cannot upload: of a later version, or set aside as unusable."""
    later = 0
    for path in _batches(spool):
        try:
            decode(path.read_bytes())
        except UnknownBatchError:
            later += 1
        except (CorruptBatchError, OSError):
            continue
    if later:
        text = f"{later} batches are of a later version: install that again, and it uploads them"
        yield Finding("spool format", False, text)
    bad = list(spool.glob("*/bad/*")) if spool.is_dir() else []
    if bad:
        text = f"{len(bad)} files were set aside, such as {bad[0]}: look why, then remove them"
        yield Finding("spool bad", False, text)


def _secret(path: Path) -> Finding:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        return Finding("secret", False, f"{path}: {error.strerror}")
    if mode & _EVERYBODY:
        return Finding("secret", False, f"every user of this machine can read {path}: chmod o= it")
    return Finding("secret", True, f"{path} has mode {mode:04o}")


def _clock() -> Finding:
    buffer = ctypes.create_string_buffer(256)
    ctypes.CDLL(None).adjtimex(buffer)
    (status,) = struct.unpack_from("i", buffer, _STATUS_AT)
    if status & _UNSYNCHRONISED:
        hint = "buckets of two machines drift apart: apt-get install chrony"
        return Finding("clock", False, f"nothing keeps this machine's clock right; {hint}")
    return Finding("clock", True, "kept right")


def _port(name: str, host: str, ports: Sequence[int], path: str) -> Finding:
    ours: list[int] = []
    for port in ports:
        with socket.socket() as probe:
            if probe.connect_ex((host, port)):
                return Finding(name, True, _free(host, port, ours))
        if not _is_ours(host, port, path):
            continue
        ours.append(port)
    if ours:
        return Finding(name, True, f"monitoring answers on {host}:{ours[0]}")
    shown = f"{ports[0]}-{ports[-1]}" if len(ports) > 1 else str(ports[0])
    variable = "MONITORING_METRICS_PORT" if name == "port" else "MONITORING_SERVE_PORT"
    return Finding(name, False, f"{host}:{shown} is in use by another program; set {variable}")


def _free(host: str, port: int, ours: Sequence[int]) -> str:
    taken = f"; monitoring answers on {', '.join(map(str, ours))}" if ours else ""
    return f"{host}:{port} is free{taken}"


def _is_ours(host: str, port: int, path: str) -> bool:
    """Tell whether what answers there speaks of monitoring."""
    try:
        with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=_ANSWER_S) as answer:
            return b"monitoring" in answer.read(1_000_000)
    except (OSError, ValueError):
        return False

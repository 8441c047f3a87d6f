"""Secrets that live in a file of their own: read with a check, made once where none is named."""

from __future__ import annotations

import logging
import os
import secrets
from contextlib import suppress
from pathlib import Path

from exporter.config import state_directory
from exporter.errors import ConfigError

_log = logging.getLogger(__name__)

KEY_BYTES = 32


def load_key(setting: str, named: Path | None, default_name: str) -> bytes:
    """Read a secret; make it in the state directory, unless the settings name a file.

    Args:
        setting: Variable that names the file, for messages.
        named: The file that it names.
        default_name: Name of the file in the state directory otherwise.

    Raises:
        ConfigError: The file cannot be read or made, or is too short; names the setting.
    """
    path = named or state_directory() / default_name
    try:
        if named is None:
            make_key(path)
        key = path.read_bytes().strip()
        is_open = path.stat().st_mode & 0o007
    except OSError as error:
        raise ConfigError(f"{setting}={str(path)!r}: {error.strerror}") from None
    if len(key) < KEY_BYTES:
        raise ConfigError(f"{setting}={str(path)!r}: a key has at least {KEY_BYTES} bytes")
    if is_open:
        _log.warning("every user of this machine can read %s: chmod 600 it", path)
    return key


def make_key(path: Path) -> None:
    """Write a new secret where there is none, whole or not at all.

    Raises:
        OSError: It cannot be written.
    """
    if path.exists():
        return
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_hex(KEY_BYTES).encode())
        # Of two processes that start together, the first one's key stays.
        with suppress(FileExistsError):
            path.hardlink_to(temporary)
    finally:
        temporary.unlink()

"""Phone numbers: what stands for them in trace ids, file names, labels, logs and SQL.

An extension of the house (up to six digits) stands as it is. A longer one is somebody's number: it
is replaced by eight hex digits of a keyed hash, the same for the same number as long as the key is.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import threading
from pathlib import Path

from exporter.config import state_directory
from exporter.errors import ConfigError
from exporter.keyfile import KEY_BYTES, load_key

_log = logging.getLogger(__name__)

KEY_SETTING = "MONITORING_PRIVACY_KEY_FILE"
KEY_FILE = "privacy.key"
MOST_PLAIN_DIGITS = 6
MASK_DIGITS = 8
_NUMBER = re.compile(r"[+0-9 ()/.-]+")


def is_number(extension: str) -> bool:
    """Tell whether an extension is a phone number: it has more than six digits."""
    return sum(sign.isdigit() for sign in extension) > MOST_PLAIN_DIGITS


def masked_extension(extension: str, key: bytes) -> str:
    """Return what stands for an extension wherever it can be read.

    Signs that people put between digits make no difference: ``+49 170 1234567`` and
    ``491701234567`` are one number.

    Args:
        extension: As the host gave it.
        key: Content of the privacy key.

    Returns:
        An extension of up to six digits as it is; otherwise eight hex digits.
    """
    if not is_number(extension):
        return extension
    plain = "".join(sign for sign in extension.casefold() if sign.isalnum())
    digest = hmac.new(key, b"extension " + plain.encode("utf-8", "surrogatepass"), hashlib.sha256)
    return digest.hexdigest()[:MASK_DIGITS]


def masked_search(words: str | None, key_file: Path | None) -> str | None:
    """Return what stands in the archive for the phone number that somebody looks for.

    Args:
        words: What they typed.
        key_file: What ``MONITORING_PRIVACY_KEY_FILE`` names.

    Returns:
        None when it is no phone number, or when there is no key that could be read.
    """
    path = key_file or state_directory() / KEY_FILE
    if not words or not _NUMBER.fullmatch(words) or not is_number(words) or not path.exists():
        return None
    try:
        return masked_extension(words, load_key(KEY_SETTING, path, KEY_FILE))
    except ConfigError as error:
        _log.warning("phone numbers cannot be searched for: %s", error)
        return None


class Masker:
    """Masks extensions; a key that nobody named is read, or made, when the first number comes.

    Args:
        key_file: What ``MONITORING_PRIVACY_KEY_FILE`` names.

    Raises:
        ConfigError: The named file cannot be used.
    """

    def __init__(self, key_file: Path | None) -> None:
        self._lock = threading.Lock()
        self._key = load_key(KEY_SETTING, key_file, KEY_FILE) if key_file else None

    def renew_lock(self) -> None:
        """Take a new lock: in the child of a fork, nobody would release the old one."""
        self._lock = threading.Lock()

    def split(self, extension: str) -> tuple[str, str | None]:
        """Return what stands for an extension, and the number itself where these differ."""
        plain = str(extension)  # hosts count on it that 3333 will do
        masked = self.mask(plain)
        return masked, None if masked == plain else plain

    def mask(self, extension: str) -> str:
        """Return what stands for an extension."""
        if not is_number(extension):
            return extension
        with self._lock:
            if self._key is None:
                self._key = _own_key()
        return masked_extension(extension, self._key)


def _own_key() -> bytes:
    """Return the key of the state directory, or one for this process when there can be none."""
    try:
        return load_key(KEY_SETTING, None, KEY_FILE)
    except ConfigError as error:
        _log.warning(
            "no key for phone numbers can be kept (%s): until the next start they are masked with "
            "a key that nobody knows then, so that calls of one number are not found together; "
            "name a file of 32 bytes or more in %s",
            error,
            KEY_SETTING,
        )
        return secrets.token_bytes(KEY_BYTES)

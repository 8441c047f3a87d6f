"""Signed addresses: whoever has one hears that sound, and no other, until it expires."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from urllib.parse import urlencode

from exporter import keyfile
from exporter.config import Settings

LONGEST_S = 12 * 3_600
DEFAULT_S = 3_600
KEY_FILE = "signing.key"


class Signer:
    """Signs paths with their parameters, and checks signatures.

    Args:
        key: The secret, 32 bytes or more.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def address(self, path: str, parameters: Mapping[str, str], expires_at: int) -> str:
        """Return a path with its parameters, when it expires (Unix time), and the signature."""
        signed = [*parameters.items(), ("exp", str(expires_at))]
        return f"{path}?{urlencode([*signed, ('sig', self._signature(path, signed))])}"

    def is_good(self, path: str, parameters: Iterable[tuple[str, str]], now: float) -> bool:
        """Tell whether a path with these parameters was signed by us and has not expired."""
        signed = list(parameters)
        values = dict(signed)
        if len(values) != len(signed):  # one name twice: which would count?
            return False
        signature = values.pop("sig", "").encode("utf-8", "surrogatepass")
        expected = self._signature(path, values.items()).encode()
        if not hmac.compare_digest(signature, expected):
            return False
        return now < int(values.get("exp", "0")) <= now + LONGEST_S

    def client_hash(self, address: str) -> str:
        """Return what the access log has of a network address."""
        return hmac.new(self._key, b"client " + address.encode(), hashlib.sha256).hexdigest()[:16]

    def _signature(self, path: str, parameters: Iterable[tuple[str, str]]) -> str:
        query = urlencode(sorted(parameters), errors="surrogatepass")
        text = f"{path}\n{query}".encode("utf-8", "surrogatepass")
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()


def load_key(settings: Settings) -> bytes:
    """Read the secret; make it, unless the settings name a file.

    Raises:
        ConfigError: The file cannot be read or made, or is too short; names the setting.
    """
    return keyfile.load_key("MONITORING_SIGNING_KEY_FILE", settings.signing_key_file, KEY_FILE)

"""Who asks, and whether they may: tokens, this machine, signed addresses."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request

from archiver.pool import Connections
from archiver.tokens import LINK, LOCAL, Role, find_token
from archiver.web.problems import Problem
from archiver.web.signing import Signer
from exporter.config import Settings
from exporter.errors import ConfigError

COOKIE = "monitoring_token"
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
_LONGEST_TOKEN = 512


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    Attributes:
        name: Of the token; ``local`` or ``link`` without one.
        roles: What is allowed.
        client_hash: Keyed hash of the network address.
    """

    name: str
    roles: frozenset[Role]
    client_hash: str


class Gate:
    """Finds out who asks, and lets through who may.

    Args:
        settings: What this machine may do without a token.
        connections: Where the tokens are.
        signer: Of addresses.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        settings: Settings,
        connections: Connections,
        *,
        signer: Signer,
        clock: Callable[[], float] = time.time,
    ) -> None:
        try:
            self._local = frozenset(map(Role, settings.local_roles))
        except ValueError as error:
            raise ConfigError(
                f"MONITORING_LOCAL_ROLES={','.join(settings.local_roles)!r}: {error}; known are "
                f"{', '.join(Role)}"
            ) from None
        self._connections = connections
        self._signer = signer
        self._clock = clock

    def admit(self, request: Request, role: Role) -> Caller:
        """Return who asks, when they have the role.

        Raises:
            Problem: 401 for somebody unknown, 403 for somebody without the role.
        """
        caller = self._known(request)
        if role not in caller.roles:
            raise Problem(403, f"this needs the role {role}")
        return caller

    def admit_listener(self, request: Request, role: Role) -> Caller:
        """Return who asks for sound: as above, or the holder of a signed address.

        Raises:
            Problem: Also 403 for an address that is altered, expired or of another path.
        """
        if "sig" not in request.query_params and "exp" not in request.query_params:
            return self.admit(request, role)
        items = request.query_params.multi_items()
        if not self._signer.is_good(request.scope["path"], items, self._clock()):
            raise Problem(403, "this address is not valid, or not any more")
        # What else is asked for, such as a file to keep, is signed as well.
        roles = frozenset({role, Role.DOWNLOAD})
        return Caller(LINK, roles, self._client_hash(request))

    def token_roles(self, token: str) -> frozenset[Role] | None:
        """Return what a token allows; None when it is not good."""
        found = self._find(token)
        return found[1] if found else None

    def _known(self, request: Request) -> Caller:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme:
            found = self._find(token.strip()) if scheme.lower() == "bearer" else None
            if found is None:
                raise _unknown("this token is not valid, or not any more")
            return Caller(*found, self._client_hash(request))
        found = self._find(request.cookies.get(COOKIE, ""))
        if found is not None:
            return Caller(*found, self._client_hash(request))
        if is_local(request) and self._local:
            return Caller(LOCAL, self._local, self._client_hash(request))
        raise _unknown("log in, or send a token: Authorization: Bearer ...")

    def _find(self, token: str) -> tuple[str, frozenset[Role]] | None:
        if not token or len(token) > _LONGEST_TOKEN:
            return None
        with self._connections.reading() as connection:
            return find_token(connection, token)

    def _client_hash(self, request: Request) -> str:
        return self._signer.client_hash(request.client.host if request.client else "")


def is_local(request: Request) -> bool:
    """Tell whether a request was made on this machine, for this machine.

    The address must be one of loopback; so must the name that the client used, or a page of
    somebody else whose name leads to 127.0.0.1 could ask; and no proxy may have passed it on.
    """
    if request.client is None or any(name in request.headers for name in _FORWARDED):
        return False
    return _is_loopback(request.client.host) and _is_loopback(request.url.hostname or "")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _unknown(detail: str) -> Problem:
    return Problem(401, detail, {"WWW-Authenticate": "Bearer"})

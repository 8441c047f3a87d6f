"""Tokens: who may ask the drill-down, and for what. The database has their hashes alone."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import psycopg

from archiver.pool import fetch_one
from exporter.errors import MonitoringError

TOKEN_BYTES = 32
MOST_DAYS = 3_660.0
LOCAL = "local"
LINK = "link"
"""Who asks without a token: a client of this machine, and the holder of a signed address."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")


class Role(StrEnum):
    """What a token allows.

    ``numbers`` all that is not sound, ``listen`` sound in the page, ``download`` sound as a file,
    ``change`` knobs, ``erase`` calls.
    """

    NUMBERS = "numbers"
    LISTEN = "listen"
    DOWNLOAD = "download"
    CHANGE = "change"
    ERASE = "erase"


class TokenError(MonitoringError):
    """A token cannot be made or revoked; the message names it and says why."""


@dataclass(frozen=True, slots=True)
class Token:
    """What is known of a token.

    Attributes:
        name: Who holds it.
        roles: What it allows.
        created_at: When it was made.
        expires_at: From when on it is refused; None is never.
        revoked_at: When it was taken back; None is not.
    """

    name: str
    roles: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


def create_token(
    conninfo: str, name: str, roles: Iterable[str], *, days: float | None = None
) -> str:
    """Make a token and return it: this is the only time that it can be seen.

    Args:
        conninfo: libpq connection string of a login that may write ``access_tokens``.
        name: Who will hold it; stands in the access log.
        roles: Names of ``Role``.
        days: How long it is good; for ever unless given.

    Raises:
        TokenError: The name is taken or not valid, or a role is unknown.
        psycopg.Error: The server is not there or not able.
    """
    wanted = _checked(roles)
    if name in {LOCAL, LINK}:
        raise TokenError(f"{name!r} stands in the access log for those who have no token")
    if not _NAME.fullmatch(name):
        raise TokenError(f"{name!r} is no name of up to 64 letters, digits, '_', '.', '@' or '-'")
    if days is not None and not 0 < days <= MOST_DAYS:
        raise TokenError(f"{days:g} days: expected more than 0 and at most {MOST_DAYS:g}")
    token = secrets.token_urlsafe(TOKEN_BYTES)
    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
    try:
        with psycopg.connect(conninfo, connect_timeout=5) as connection:
            connection.execute(
                "INSERT INTO access_tokens (token_hash, name, roles, expires_at) "
                "VALUES (%s, %s, %s, %s)",
                [token_hash(token), name, wanted, expires_at],
            )
    except psycopg.errors.UniqueViolation:
        raise TokenError(f"there is a token {name!r} already; revoke it first") from None
    return token


def list_tokens(conninfo: str) -> list[Token]:
    """Return all tokens that were ever made, the newest first."""
    with psycopg.connect(conninfo, connect_timeout=5) as connection:
        rows = connection.execute(
            "SELECT name, roles, created_at, expires_at, revoked_at FROM access_tokens "
            "ORDER BY created_at DESC, name"
        ).fetchall()
    return [Token(*row) for row in rows]


def revoke_token(conninfo: str, name: str) -> None:
    """Take a token back, from the next request on.

    Raises:
        TokenError: There is none of this name that is not revoked already.
    """
    with psycopg.connect(conninfo, connect_timeout=5) as connection:
        revoked = connection.execute(
            "UPDATE access_tokens SET revoked_at = now() WHERE name = %s AND revoked_at IS NULL",
            [name],
        )
    if not revoked.rowcount:
        raise TokenError(f"there is no token {name!r} to revoke")


def find_token(connection: psycopg.Connection, token: str) -> tuple[str, frozenset[Role]] | None:
    """Return name and roles of a token that is good now; None for any other text."""
    row = fetch_one(
        connection,
        "SELECT name, roles FROM access_tokens WHERE token_hash = %(hash)s "
        "AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())",
        {"hash": token_hash(token)},
    )
    return (row["name"], frozenset(map(Role, row["roles"]))) if row else None


def token_hash(token: str) -> str:
    """Return what the database has of a token: 256 random bits need no slow hash."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _checked(roles: Iterable[str]) -> list[str]:
    known = {str(role) for role in Role}
    wanted = sorted(set(roles))
    for role in wanted:
        if role not in known:
            raise TokenError(f"unknown role {role!r}; known are {', '.join(Role)}")
    if not wanted:
        raise TokenError(f"a token needs a role; known are {', '.join(Role)}")
    return wanted

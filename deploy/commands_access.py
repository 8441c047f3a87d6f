"""The commands about access: tokens, and addresses at which a moment can be heard."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

from rich.console import Console
from rich.table import Table

from archiver.drilldown import address_of
from archiver.times import iso, parse_time
from archiver.tokens import create_token, list_tokens, revoke_token
from archiver.web.signing import LONGEST_S, Signer, load_key
from exporter.config import Settings
from exporter.errors import ConfigError
from exporter.model import KEY_PATTERN

_HOUR_S = 3_600


def tokens_create(arguments: argparse.Namespace, settings: Settings) -> int:
    """Make a token and show it, this once."""
    token = create_token(settings.db, arguments.name, arguments.role, days=arguments.days)
    if arguments.json:
        print(json.dumps({"name": arguments.name, "token": token}))
    else:
        print(token)
        note = "this is the only time that it is shown; the database has its hash alone"
        Console(stderr=True).print(note, style="dim")
    return 0


def tokens_list(arguments: argparse.Namespace, settings: Settings) -> int:
    """List all tokens that were ever made."""
    tokens = list_tokens(settings.db)
    if arguments.json:
        print(json.dumps([asdict(token) for token in tokens], default=iso, indent=2))
        return 0
    table = Table()
    for name in ("name", "roles", "created", "expires", "revoked"):
        table.add_column(name, overflow="fold")
    for token in tokens:
        times = (token.created_at, token.expires_at, token.revoked_at)
        table.add_row(token.name, ", ".join(token.roles), *map(_shown, times))
    Console().print(table)
    return 0


def tokens_revoke(arguments: argparse.Namespace, settings: Settings) -> int:
    """Take a token back."""
    revoke_token(settings.db, arguments.name)
    print(json.dumps({"revoked": arguments.name}) if arguments.json else "revoked")
    return 0


def traces_play_url(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print a signed address at which a moment of a tap is heard, without a token."""
    start, expires_at = _moment(arguments.at), int(time.time() + arguments.hours * _HOUR_S)
    for option, value in (("ID", arguments.trace_id), ("--station", arguments.station)):
        if not KEY_PATTERN.fullmatch(value):
            raise ConfigError(f"{option} {value!r} is no key of up to 64 letters and digits")
    if not 0 < arguments.seconds <= _HOUR_S:
        raise ConfigError(f"--seconds {arguments.seconds:g}: expected more than 0 and at most 3600")
    if not 0 < arguments.hours * _HOUR_S <= LONGEST_S:
        raise ConfigError(f"--hours {arguments.hours:g}: expected more than 0 and at most 12")
    tap = "delta" if arguments.tap == "DELTA" else arguments.tap
    path = f"/audio/{arguments.trace_id}/{arguments.station}/{tap}.wav"
    span = {"from": iso(start), "to": iso(start + timedelta(seconds=arguments.seconds))}
    signed = Signer(load_key(settings)).address(path, span, expires_at)
    base = settings.public_url or address_of(settings.serve_host, settings.serve_ports[0])
    address = base.rstrip("/") + signed
    if arguments.json:
        expires = iso(datetime.fromtimestamp(expires_at, UTC))
        print(json.dumps({"url": address, "expires_at": expires}))
    else:
        print(address)
    return 0


def _moment(text: str) -> datetime:
    try:
        return parse_time(text)
    except ValueError as error:
        raise ConfigError(f"--at {text!r}: {error}") from None


def _shown(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"

"""What every endpoint has at hand, and what an endpoint is."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from archiver.pool import Connections
from archiver.times import iso
from archiver.tokens import Role
from archiver.web.access import Caller, Gate
from archiver.web.parameters import Parameter, Schema
from archiver.web.signing import Signer
from archiver.web.sketches import Sketches
from exporter.config import Settings, state_directory

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Site:
    """The drill-down of one process.

    Attributes:
        settings: Paths, limits, addresses.
        connections: To the database.
        signer: Of addresses.
        gate: Who may do what.
        sketches: Of segments that were looked at and had none.
        drawing: Held while a picture is drawn from files. Two threads that read many files hand the
            interpreter to each other at every system call: both together take several times as
            long as one after the other.
        clock: Seconds since 1970.
    """

    settings: Settings
    connections: Connections
    signer: Signer
    gate: Gate
    sketches: Sketches = field(default_factory=Sketches)
    drawing: threading.Lock = field(default_factory=threading.Lock)
    clock: Callable[[], float] = time.time

    def now(self) -> datetime:
        """Return the time in UTC."""
        return datetime.fromtimestamp(self.clock(), UTC)

    @property
    def audio_root(self) -> Path:
        """Where the segments are: the archiver falls back to the state directory, so do we."""
        wanted = self.settings.audio_path
        fallback = state_directory() / wanted.name
        return fallback if not wanted.is_dir() and fallback.is_dir() else wanted


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, let in, with its parameters read."""

    site: Site
    request: Request
    caller: Caller
    values: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        """Return the value of a parameter."""
        return self.values[name]


@dataclass(frozen=True, slots=True)
class Operation:
    """One GET that the OpenAPI document describes.

    Attributes:
        path: With names in braces.
        summary: What it answers.
        run: Makes the answer: a response, or what is sent as JSON.
        parameters: Of path and query.
        answer: JSON schema of the answer, or None when it is no JSON.
        media: Media types of the answer.
        role: Who may ask.
        is_audio: Whether a signed address will do instead of a role.
        errors: Statuses beside those that every operation has.
        headers: Of the answer, with what they say.
    """

    path: str
    summary: str
    run: Callable[[Ask], object]
    parameters: tuple[Parameter, ...] = ()
    answer: Schema | None = None
    media: tuple[str, ...] = (JSON,)
    role: Role = Role.NUMBERS
    is_audio: bool = False
    errors: tuple[int, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the operation in the document."""
        return self.run.__name__


def route(site: Site, operation: Operation) -> Route:
    """Return the route of an operation; it runs in a thread, for it asks the database."""

    def endpoint(request: Request) -> Response:
        gate = site.gate
        admit = gate.admit_listener if operation.is_audio else gate.admit
        caller = admit(request, operation.role)
        given = {**request.query_params, **request.path_params}
        values = {each.name: each.read(given) for each in operation.parameters}
        found = operation.run(Ask(site, request, caller, values))
        return found if isinstance(found, Response) else json_answer(found)

    return Route(operation.path, endpoint, name=operation.name, methods=["GET"])


def json_answer(data: object) -> Response:
    """Return data as JSON: times in UTC; numbers that JSON lacks as null."""
    try:
        text = json.dumps(data, default=_plain, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_finite(data), default=_plain, separators=(",", ":"))
    return Response(text, media_type=JSON)


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return iso(value)
    raise TypeError(f"{value!r} has no place in JSON")


def _finite(data: object) -> object:
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data

"""The drill-down: from a number to the sound. An ASGI application, and the process that serves it.

It asks the database in read-only transactions under a role of its own, reads segments below the
audio root, and writes one thing: the access log.
"""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from archiver.outputs import own_version
from archiver.pool import Connections
from archiver.web import api, catalog, pictures, sound
from archiver.web.access import Gate
from archiver.web.headers import SecurityHeaders
from archiver.web.login import login_routes
from archiver.web.openapi import openapi_document
from archiver.web.pages import page_routes
from archiver.web.problems import HANDLERS
from archiver.web.signing import Signer, load_key
from archiver.web.site import Site, json_answer, route
from exporter.config import Settings
from exporter.errors import MonitoringError

OPERATIONS = (*api.OPERATIONS, *catalog.OPERATIONS, *pictures.OPERATIONS, *sound.OPERATIONS)
MOST_CONNECTIONS = 256
GRACE_S = 3


class NoPortError(MonitoringError):
    """The drill-down cannot listen; the message names the address and says why."""


def create_app(settings: Settings, *, clock: Callable[[], float] = time.time) -> Starlette:
    """Return the application; the database is asked when a request comes.

    Args:
        settings: Database, paths, roles of this machine, signing key.
        clock: Seconds since 1970.

    Raises:
        ConfigError: A setting is wrong; the message names the key and the value.
    """
    connections = Connections(settings.db)
    signer = Signer(load_key(settings))
    gate = Gate(settings, connections, signer=signer, clock=clock)
    site = Site(settings, connections, signer, gate, clock=clock)
    document = json_answer(openapi_document(OPERATIONS, own_version())).body

    async def openapi(_: Request) -> Response:
        return Response(document, media_type="application/json")

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        connections.close()

    return Starlette(
        routes=[
            *(route(site, operation) for operation in OPERATIONS),
            Route("/openapi.json", openapi, methods=["GET"]),
            *login_routes(site),
            *page_routes(),
        ],
        middleware=[Middleware(SecurityHeaders)],
        exception_handlers=HANDLERS,
        lifespan=lifespan,
    )


def serve(settings: Settings, *, on_ready: Callable[[str], None] = lambda _: None) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        settings: As above, and where to listen: the first free one of the ports.
        on_ready: Called with the address when connections are accepted.

    Raises:
        ConfigError: A setting is wrong.
        NoPortError: None of the ports is free.
    """
    app = create_app(settings)
    listener = _listen(settings.serve_host, settings.serve_ports)
    with listener:
        on_ready(address_of(settings.serve_host, listener.getsockname()[1]))
        build_server(app).run(sockets=[listener])


def build_server(app: Starlette) -> uvicorn.Server:
    """Return a server for the application, without sockets."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        # Who asks is decided by the connection: a proxy's word counts for nothing here.
        proxy_headers=False,
        http="h11",
        ws="none",
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=GRACE_S,
    )
    return uvicorn.Server(config)


def address_of(host: str, port: int) -> str:
    """Return the address of the drill-down's first page."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/"


def _listen(host: str, ports: Sequence[int]) -> socket.socket:
    reason = ""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in ports:
        try:
            listener = socket.create_server((host, port), family=family, backlog=128)
        except OSError as error:
            reason = error.strerror or str(error)
            continue
        # Its connections inherit it: head and body of an answer are sent one after the other, and
        # the second would wait 40 ms for the first one's acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    raise NoPortError(
        f"cannot serve the drill-down at {host} port {'-'.join(map(str, (ports[0], ports[-1])))} "
        f"({reason}); set MONITORING_SERVE_HOST and MONITORING_SERVE_PORT"
    )

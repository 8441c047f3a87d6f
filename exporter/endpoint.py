"""The HTTP endpoint for Prometheus: at most four threads, with deadlines, on 127.0.0.1.

A port that is in use never stops the host: it is logged once and tried again every five seconds.
"""

from __future__ import annotations

import io
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import TCPServer

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from exporter.exposition import Page
from exporter.selfmetrics import Tally

_log = logging.getLogger(__name__)

DEADLINE_S = 5.0
MAX_THREADS = 4
RETRY_S = 5.0
_END = b"# EOF\n"


class _DeadlineReader(io.RawIOBase):
    """Reads a request as long as its deadline allows, however slowly the bytes come."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._deadline = time.monotonic() + DEADLINE_S

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        self._connection.settimeout(max(0.001, self._deadline - time.monotonic()))
        return self._connection.recv(65_536 if size < 0 else size)

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override] # all that is ever passed
        received = self.read(len(buffer))
        buffer[: len(received)] = received
        return len(received)


class _Handler(BaseHTTPRequestHandler):
    """Answers GET /metrics."""

    server: _Server
    protocol_version = "HTTP/1.0"
    timeout = DEADLINE_S

    def setup(self) -> None:
        super().setup()
        self.rfile = io.BufferedReader(_DeadlineReader(self.connection))

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(404, "only /metrics is here")
            return
        wants_openmetrics = "application/openmetrics-text" in self.headers.get("Accept", "")
        body, content_type = self.server.answer(wants_openmetrics=wants_openmetrics)
        self.connection.settimeout(DEADLINE_S)
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Stay silent: requests are not state changes."""


class _Server(TCPServer):
    """A server that refuses what it has no thread for."""

    allow_reuse_address = True
    request_queue_size = 16

    def __init__(
        self, address: tuple[str, int], answer: Callable[..., tuple[bytes, str]], tally: Tally
    ) -> None:
        self.answer = answer
        self._tally = tally
        self._slots = threading.BoundedSemaphore(MAX_THREADS)
        super().__init__(address, _Handler)

    def process_request(self, request: object, client_address: object) -> None:
        if not self._slots.acquire(blocking=False):
            self._tally.add("scrapes_rejected_total")
            self.shutdown_request(request)  # type: ignore[arg-type] # the socket we were given
            return
        threading.Thread(
            target=self._serve,
            args=(request, client_address),
            name="monitoring-scrape",
            daemon=True,
        ).start()

    def _serve(self, request: socket.socket, client_address: object) -> None:
        try:
            self.finish_request(request, client_address)
        except OSError:
            pass  # The scraper went away, or was too slow: its loss.
        finally:
            self.shutdown_request(request)
            self._slots.release()


class Endpoint:
    """Serves the newest page, and the registry that the host gave.

    Attributes:
        port: The port in use, None while there is none.
    """

    def __init__(  # noqa: PLR0913 - keyword-only, all of it wiring
        self,
        *,
        host: str,
        ports: tuple[int, ...],
        page: Callable[[], Page],
        registry: CollectorRegistry | None,
        tally: Tally,
        targets_path: Path | None = None,
    ) -> None:
        self.port: int | None = None
        self._host = host
        self._ports = ports
        self._page = page
        self._registry = registry
        self._tally = tally
        self._targets_path = targets_path
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def start(self) -> None:
        """Serve from a thread of its own; bind at once when the port is free."""
        self._stopping.clear()
        self._bind(is_first=True)
        self._thread = threading.Thread(target=self._run, name="monitoring-endpoint", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and free the port."""
        self._stopping.set()
        if self._server is not None:
            self._server.shutdown()
        if self._thread is not None:
            self._thread.join(timeout=2 * DEADLINE_S)
        self._forget_target()

    def answer(self, *, wants_openmetrics: bool) -> tuple[bytes, str]:
        """Return body and content type: the prepared page, then the host's own metrics."""
        page = self._page()
        if wants_openmetrics:
            host = _host_openmetrics(self._registry)
            body = page.openmetrics + host.removesuffix(_END) + _END
            return body, openmetrics.CONTENT_TYPE_LATEST
        host = generate_latest(self._registry) if self._registry else b""
        return page.text + host, CONTENT_TYPE_PLAIN_0_0_4

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self._server is None:
                if self._stopping.wait(RETRY_S):
                    return
                self._bind(is_first=False)
                continue
            self._server.serve_forever(poll_interval=0.2)
            self._server.server_close()
            self._server, self.port = None, None

    def _bind(self, *, is_first: bool) -> None:
        error: OSError | None = None
        for port in self._ports:
            try:
                self._server = _Server((self._host, port), self.answer, self._tally)
            except OSError as failed:
                error = failed
                continue
            self.port = self._server.server_address[1]
            _log.info("metrics are at http://%s:%d/metrics", self._host, self.port)
            self._write_target()
            return
        if is_first:
            span = f"{self._ports[0]}" if len(self._ports) == 1 else "any of the ports"
            _log.warning(
                "cannot serve /metrics on %s port %s (%s); calls are archived all the same; trying "
                "again every %d s; free the port or set MONITORING_METRICS_PORT",
                self._host,
                span,
                error,
                RETRY_S,
            )

    def _write_target(self) -> None:
        """Tell Prometheus where we are, when the port was chosen from a range."""
        if len(self._ports) < 2 or self._targets_path is None:  # noqa: PLR2004 - a range
            return
        target = [{"targets": [f"{self._host}:{self.port}"], "labels": {"pid": str(os.getpid())}}]
        try:
            self._target_file().write_text(json.dumps(target), encoding="utf-8")
        except OSError as error:
            _log.warning("cannot write %s: %s", self._target_file(), error)

    def _forget_target(self) -> None:
        if self._targets_path is not None:
            self._target_file().unlink(missing_ok=True)

    def _target_file(self) -> Path:
        return (self._targets_path or Path()) / f"monitoring-{os.getpid()}.json"


def _host_openmetrics(registry: CollectorRegistry | None) -> bytes:
    if registry is None:
        return _END
    return bytes(openmetrics.generate_latest(registry))  # type: ignore[no-untyped-call] # theirs

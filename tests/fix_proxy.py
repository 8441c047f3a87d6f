"""A TCP proxy before the database, to make the network fail on purpose.

One thread accepts; each connection has two threads, one for each direction. `_open` is cleared
while the network is a black hole: bytes then wait, as they do when a cable is pulled.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import pytest
from psycopg.conninfo import make_conninfo

from deploy.postgres import HOST, EmbeddedPostgres, free_port

# CommandComplete of COMMIT in PostgreSQL's protocol: type, length, tag. It fits one packet.
_COMMIT_REPLY = b"C\x00\x00\x00\x0bCOMMIT\x00"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_CHUNK = 65_536
_PATIENCE_S = 5.0


class TcpProxy:
    """Passes connections on 127.0.0.1:`port` to `target_port`, until told otherwise.

    Attributes:
        port: Where clients connect; the same for the proxy's life.
        delay_s: Each piece of data waits so long, in both directions.
        accepted: Connections accepted so far.
    """

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self.delay_s = 0.0
        self.accepted = 0
        self._target_port = target_port
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self._lock = threading.Lock()
        self._links: dict[threading.Thread, tuple[socket.socket, socket.socket]] = {}
        self._open = threading.Event()
        self._stopping = threading.Event()
        self._cut_commit = threading.Event()

    def __enter__(self) -> Self:
        self.restore()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def conninfo(self, direct: str) -> str:
        """Return the connection string `direct` with the way through this proxy."""
        return make_conninfo(direct, host=HOST, port=self.port)

    def restore(self) -> None:
        """Accept connections and pass everything, at once; what waited is passed on."""
        self.delay_s = 0.0
        self._cut_commit.clear()
        self._open.set()
        if self._listener is None:
            self._listener = socket.create_server((HOST, self.port))
            self._acceptor = threading.Thread(
                target=self._accept, args=(self._listener,), name="proxy-accept", daemon=True
            )
            self._acceptor.start()

    def cut(self) -> None:
        """Refuse new connections and reset the open ones: the server is gone."""
        if self._listener is not None and self._acceptor is not None:
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the acceptor
            self._acceptor.join(_PATIENCE_S)
            self._listener.close()
            self._listener = None
        self.reset()

    def reset(self) -> None:
        """Reset the open connections; new ones pass."""
        with self._lock:
            links = dict(self._links)
        for pair in links.values():
            _hang_up(pair)
        was_open = self._open.is_set()
        self._open.set()  # what waits in a black hole finds its sockets closed
        for thread in links:
            thread.join(_PATIENCE_S)
        if not was_open:
            self._open.clear()

    def blackhole(self) -> None:
        """Accept connections and pass nothing, neither on new nor on open ones."""
        self._open.clear()

    def cut_next_commit_reply(self) -> None:
        """Reset the next connection on which the server says that it has committed."""
        self._cut_commit.set()

    def stop(self) -> None:
        """End all threads and connections."""
        self._stopping.set()
        self._open.set()
        self.cut()

    def _accept(self, listener: socket.socket) -> None:
        """Accept connections until the listener is shut down."""
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.socket()
            link = threading.Thread(
                target=self._serve, args=(client, server), name="proxy-link", daemon=True
            )
            with self._lock:
                self.accepted += 1
                self._links[link] = (client, server)
            link.start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        """Carry one connection until one side ends it."""
        with client, server:
            self._open.wait()
            with contextlib.suppress(OSError):
                server.connect((HOST, self._target_port))
                back = threading.Thread(
                    target=self._pump, args=(server, client), name="proxy-back", daemon=True
                )
                back.start()
                self._pump(client, server)
                back.join(_PATIENCE_S)
        with self._lock:
            self._links.pop(threading.current_thread(), None)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        """Pass bytes from `source` to `sink` until one of them is closed; then close both."""
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                self._stopping.wait(self.delay_s)
                self._open.wait()
                if self._cut_commit.is_set() and _COMMIT_REPLY in data:
                    self._cut_commit.clear()
                    break
                sink.sendall(data)
        _hang_up((source, sink))


def _hang_up(pair: tuple[socket.socket, socket.socket]) -> None:
    """Wake the threads on both sockets; their closing then resets the connections."""
    for end in pair:
        with contextlib.suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(postgres: EmbeddedPostgres) -> Iterator[TcpProxy]:
    """Yield a proxy before the run's server: `proxy.conninfo(database)` leads through it."""
    with TcpProxy(postgres.port) as running:
        yield running

"""Connections for reading: a few, kept, each use one transaction with few rights."""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from archiver.migrations import DRILLDOWN, may_become
from exporter.errors import MonitoringError

SIZE = 8
PATIENCE_S = 5.0
CONNECT_TIMEOUT_S = 5
_READ = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
# Compiling a plan over many partitions takes ten times as long as running it.
_LIMITS = "SET LOCAL statement_timeout = '10s'; SET LOCAL timezone = 'UTC'; SET LOCAL jit = off"


Row = dict[str, Any]


class PoolBusyError(MonitoringError):
    """All connections were in use for too long."""


class Connections:
    """A bounded pool; nothing is connected before it is needed.

    Each use is a transaction under the drill-down's role, where the login is a member of it, so
    that PgBouncer in transaction mode may lie between.

    Args:
        conninfo: libpq connection string.
        size: Connections at the same time.
    """

    def __init__(self, conninfo: str, size: int = SIZE) -> None:
        # A peer that is gone without a word is noticed within half a minute.
        self._conninfo = make_conninfo(
            conninfo,
            connect_timeout=CONNECT_TIMEOUT_S,
            application_name="monitoring_v2 drill-down",
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
            tcp_user_timeout=20_000,
        )
        self._slots = threading.BoundedSemaphore(size)
        self._idle: list[psycopg.Connection] = []
        self._take_role = ""

    @contextmanager
    def reading(self) -> Generator[psycopg.Connection]:
        """Yield a connection in a read-only transaction: all its statements see one state.

        Raises:
            PoolBusyError: All are in use.
            psycopg.Error: The server is not there or not able.
        """
        with self._use(_READ) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Generator[psycopg.Connection]:
        """Yield a connection in a transaction that is durable when the block ends.

        Raises:
            PoolBusyError: All are in use.
            psycopg.Error: The server is not there or not able; nothing was written.
        """
        with self._use("SET TRANSACTION READ WRITE") as connection:
            yield connection

    def close(self) -> None:
        """Close what is idle."""
        while kept := self._kept():
            kept.close()

    @contextmanager
    def _use(self, mode: str) -> Generator[psycopg.Connection]:
        if not self._slots.acquire(timeout=PATIENCE_S):
            raise PoolBusyError("the database connections of the drill-down are all in use")
        connection = None
        try:
            connection = self._begun(mode)
            yield connection
            connection.execute("COMMIT")
            self._idle.append(connection)
        except BaseException:
            if connection is not None:
                self._give_back(connection)
            raise
        finally:
            self._slots.release()

    def _begun(self, mode: str) -> psycopg.Connection:
        """Begin a transaction on a kept connection, or on a new one when the kept are broken."""
        while kept := self._kept():
            try:
                kept.execute(self._beginning(mode))
            except psycopg.OperationalError:
                kept.close()  # the server was restarted in the meantime
            else:
                return kept
        fresh = self._connected()
        try:
            fresh.execute(self._beginning(mode))
        except BaseException:
            fresh.close()
            raise
        return fresh

    def _kept(self) -> psycopg.Connection | None:
        """Return an idle connection, None when there is none; safe between threads."""
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _beginning(self, mode: str) -> bytes:
        return f"BEGIN; {mode}; {_LIMITS}{self._take_role}".encode()

    def _connected(self) -> psycopg.Connection:
        connection = psycopg.connect(self._conninfo, autocommit=True, prepare_threshold=None)
        may = may_become(connection, DRILLDOWN)
        self._take_role = f"; SET LOCAL ROLE {DRILLDOWN}" if may else ""
        return connection

    def _give_back(self, connection: psycopg.Connection) -> None:
        """Keep a connection whose transaction failed, when it can be rolled back."""
        with suppress(psycopg.Error):
            connection.execute("ROLLBACK")
            self._idle.append(connection)
            return
        connection.close()


def fetch(
    connection: psycopg.Connection, query: str, parameters: Mapping[str, object]
) -> list[Row]:
    """Return the rows of one of this package's own queries, by column name."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query.encode(), parameters).fetchall()


def fetch_one(
    connection: psycopg.Connection, query: str, parameters: Mapping[str, object]
) -> Row | None:
    """Return the first row, None when there is none."""
    return next(iter(fetch(connection, query, parameters)), None)

"""Asking the archive as Grafana does: with the reader's role, which sees views and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from archiver.migrations import READER

QueryError = psycopg.Error
"""The database refused a query, or is not there."""


class Reader:
    """One connection with the reader's rights, in transactions that cannot write."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def columns(self, query: str) -> tuple[list[str], list[Sequence[Any]]]:
        """Return the names of the columns and all rows.

        Raises:
            QueryError: The query is wrong, asks for more than the reader sees, or takes too long.
        """
        with self._connection.transaction():
            cursor = self._connection.execute(query.encode())
            names = [column.name for column in cursor.description or ()]
            return names, list(cursor.fetchall())


@contextmanager
def reader(conninfo: str) -> Iterator[Reader]:
    """Yield a reader; the login has to be a member of its role.

    Raises:
        QueryError: The server cannot be reached, or the login is none.
    """
    with psycopg.connect(conninfo, connect_timeout=5, autocommit=True) as connection:
        connection.execute(f"SET ROLE {READER}")
        # What the role has as defaults of its own logins.
        connection.execute("SET statement_timeout = '10s'")
        connection.execute("SET jit = off")
        connection.execute("SET default_transaction_read_only = on")
        yield Reader(connection)

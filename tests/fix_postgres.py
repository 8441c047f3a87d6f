"""A real PostgreSQL for the tests: one server for the run, one fresh database for each test."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import psycopg
import pytest

from deploy.config import postgres_bin_dir
from deploy.postgres import EmbeddedPostgres

_numbers = count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """Yield the run's server; a test that stops it starts it again before it ends."""
    with EmbeddedPostgres(bin_dir=postgres_bin_dir(), fsync=False) as server:
        yield server


@pytest.fixture
def database(postgres: EmbeddedPostgres) -> Iterator[str]:
    """Yield the connection string of an empty database that is dropped after the test."""
    name = f"test_{next(_numbers)}"
    _administer(postgres, f"CREATE DATABASE {name} TEMPLATE template0")
    yield postgres.conninfo(name)
    _administer(postgres, f"DROP DATABASE {name} WITH (FORCE)")


def is_allowed_to(role: str, statement: str, conninfo: str) -> bool:
    """Tell whether a role of the archive may run a statement there."""
    with psycopg.connect(conninfo) as connection:
        connection.execute(f"SET ROLE monitoring_{role}".encode())
        try:
            connection.execute(statement.encode())
        except psycopg.errors.InsufficientPrivilege:
            return False
    return True


def _administer(server: EmbeddedPostgres, statement: str) -> None:
    """Run one statement that cannot stand in a transaction."""
    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
        connection.execute(statement.encode())

"""One moment of the database that stays as it was while others go on writing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Final, Self

import psycopg
from psycopg import sql

# The lock of archiver.retention: shared here, so that two backups do not wait for each other.
_HOLD: Final = "SELECT pg_try_advisory_xact_lock_shared(hashtext('monitoring_v2.retention'))"
_WAIT: Final = "SELECT pg_advisory_xact_lock_shared(hashtext('monitoring_v2.retention'))"
# The same text for the same row, whatever the server's and the login's settings.
_PLAIN: Final = """
SET LOCAL extra_float_digits = 1; SET LOCAL datestyle = 'ISO'; SET LOCAL intervalstyle = 'postgres';
SET LOCAL timezone = 'UTC'; SET LOCAL bytea_output = 'hex'; SET LOCAL search_path = public;
SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0;
"""
_TABLES: Final = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
    AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY 1, 2
"""
# The sum does not depend on the order of rows; each row counts with 64 bits of its hash.
_DIGEST: Final = """
SELECT count(*), coalesce(sum(('x' || encode(substring(sha256(
    convert_to(entire_row::text, 'UTF8')) FOR 8), 'hex'))::bit(64)::bigint::numeric), 0)::text
FROM {} AS entire_row
"""
# Everybody to whom something was granted: the roles that have to be there before a restore.
_ROLES: Final = """
SELECT DISTINCT r.rolname FROM (
    SELECT relacl AS acl, relnamespace AS nsp FROM pg_class
    UNION ALL SELECT proacl, pronamespace FROM pg_proc
    UNION ALL SELECT nspacl, oid FROM pg_namespace
) o JOIN pg_namespace n ON n.oid = o.nsp, aclexplode(o.acl) a JOIN pg_roles r ON r.oid = a.grantee
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND r.rolname !~ '^pg_'
ORDER BY 1
"""
_SEGMENTS: Final = "FROM audio_segments_5s WHERE {}"
_FETCH: Final = 5_000


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its schema."""

    schema: str
    name: str

    def __str__(self) -> str:
        return self.name if self.schema == "public" else f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Contents:
    """What a table holds: two with the same rows, in any order, are equal."""

    rows: int
    digest: str


@dataclass(frozen=True, slots=True)
class Choice:
    """Which sound comes along.

    Attributes:
        has_audio: False: none.
        since: Buckets from here on; None: all.
        traces: These calls alone; empty: all.
    """

    has_audio: bool = True
    since: datetime | None = None
    traces: Sequence[str] = ()


class Snapshot:
    """A snapshot that pg_dump can share, held until the block ends; retention waits meanwhile.

    Args:
        conninfo: libpq connection string of a login that may read everything.
        on_wait: Called when a retention run has to end first.

    Attributes:
        connection: Stands in the snapshot, read only; for short questions about the catalogue.
        snapshot_id: What ``pg_dump --snapshot`` takes.
        at: The moment.
    """

    connection: psycopg.Connection
    snapshot_id: str
    at: datetime

    def __init__(self, conninfo: str, on_wait: Callable[[], None]) -> None:
        self._conninfo = conninfo
        self._on_wait = on_wait
        self._held = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as held:
            guard = held.enter_context(psycopg.connect(self._conninfo, connect_timeout=5))
            guard.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            row = guard.execute(_HOLD).fetchone()
            if row is None or not row[0]:
                self._on_wait()
                guard.execute(_WAIT)
            self.connection = held.enter_context(
                psycopg.connect(self._conninfo, connect_timeout=5, prepare_threshold=None)
            )
            self.connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            self.connection.read_only = True
            self.connection.execute(_PLAIN.encode())
            found = self.connection.execute("SELECT pg_export_snapshot(), now()").fetchone()
            assert found is not None  # noqa: S101 - a SELECT without FROM has one row
            self.snapshot_id, self.at = found
            self._held = held.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._held.close()

    @contextmanager
    def reader(self) -> Iterator[psycopg.Connection]:
        """Yield a connection of its own in this snapshot.

        A query takes locks on every part of a table and on its indexes, and keeps them until its
        transaction ends: those of all tables in one would be more than a server has.
        """
        with psycopg.connect(self._conninfo, connect_timeout=5) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            join = sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(self.snapshot_id))
            connection.execute(join)
            connection.execute(_PLAIN.encode())
            yield connection

    @property
    def server(self) -> int:
        """Major release of the server."""
        return major_release(self.connection)

    @property
    def encoding(self) -> str:
        """Encoding of the database, such as ``UTF8``."""
        return self.connection.info.parameter_status("server_encoding") or ""

    def schema(self) -> int:
        """Return the number of the newest migration; 0 when there is no archive."""
        found = self.connection.execute("SELECT to_regclass('schema_migrations')").fetchone()
        if found is None or found[0] is None:
            return 0
        newest = self.connection.execute("SELECT max(number) FROM schema_migrations").fetchone()
        return int(newest[0] or 0) if newest else 0

    def roles(self) -> list[str]:
        """Return who was granted something."""
        return [name for (name,) in self.connection.execute(_ROLES.encode())]

    def tables(self) -> list[Table]:
        """Return all tables; of partitioned ones, not the parts."""
        return tables(self.connection)

    def contents(self, table: Table, traces: Sequence[str] = ()) -> Contents:
        """Return what a table holds, or what it holds of these calls; reads all of it."""
        with self.reader() as connection:
            return contents(connection, table, traces)

    def audio_totals(self, choice: Choice) -> tuple[int, int]:
        """Return how many files there should be, and their bytes."""
        if not choice.has_audio:
            return 0, 0
        where, values = _where(choice)
        query = sql.SQL("SELECT count(*), coalesce(sum(file_bytes), 0)::bigint " + _SEGMENTS)
        with self.reader() as connection:
            found = connection.execute(query.format(where), values).fetchone()
        return (int(found[0]), int(found[1])) if found else (0, 0)

    def segments(self, choice: Choice) -> Iterator[tuple[str, str]]:
        """Yield path below the audio root and SHA-256 of each file that rows name."""
        if not choice.has_audio:
            return
        where, values = _where(choice)
        with self.reader() as connection, connection.cursor(name="segments") as cursor:
            cursor.itersize = _FETCH
            cursor.execute(sql.SQL("SELECT file_path, sha256 " + _SEGMENTS).format(where), values)
            yield from cursor


def tables(connection: psycopg.Connection) -> list[Table]:
    """Return all tables of a database; of partitioned ones, not the parts."""
    return [Table(schema, name) for schema, name in connection.execute(_TABLES.encode())]


def contents(connection: psycopg.Connection, table: Table, traces: Sequence[str] = ()) -> Contents:
    """Return what a table holds, or what it holds of these calls; reads all of it."""
    query = sql.SQL(_DIGEST).format(sql.Identifier(table.schema, table.name))
    if traces:
        query += sql.SQL("WHERE trace_id = ANY({})").format(sql.Literal(list(traces)))
    found = connection.execute(query).fetchone()
    assert found is not None  # noqa: S101 - an aggregate has one row
    return Contents(int(found[0]), str(found[1]))


def make_plain(connection: psycopg.Connection) -> None:
    """Let this transaction write values as a snapshot does."""
    connection.execute(_PLAIN.encode())


def major_release(connection: psycopg.Connection) -> int:
    """Return the major release of a server, such as 15."""
    return connection.info.server_version // 10_000


def _where(choice: Choice) -> tuple[sql.Composable, list[object]]:
    parts: list[sql.Composable] = [sql.SQL("true")]
    values: list[object] = []
    if choice.since is not None:
        parts.append(sql.SQL("bucket_ts >= %s"))
        values.append(choice.since)
    if choice.traces:
        parts.append(sql.SQL("trace_id = ANY(%s)"))
        values.append(list(choice.traces))
    return sql.SQL(" AND ").join(parts), values

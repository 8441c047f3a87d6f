"""The database that is restored: built beside the one in use, then put in its place by its name."""

from __future__ import annotations

from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import Any, Final, LiteralString, Self

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from archiver.migrations import make_roles, version
from deploy.backup.errors import RestoreError
from deploy.backup.programs import Login, login
from deploy.backup.snapshot import Contents, contents, major_release, make_plain, tables

_STAGE: Final = "_restoring"
_OLD: Final = "_before_restore"
_LONGEST: Final = 63 - len(_OLD)
_MAINTENANCE: Final = "postgres"
_PATIENCE_MS: Final = 10_000
# Until the connection ends.
_ALONE: Final = "SELECT pg_try_advisory_lock(hashtextextended('monitoring_v2.restore ' || %s, 0))"
_OTHERS: Final = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"


class DatabaseTarget:
    """A database by its final name, and its stage beside it.

    Args:
        conninfo: libpq connection string; the login may create databases and roles.

    Raises:
        RestoreError: The name is too long to have a stage beside it.
        psycopg.OperationalError: The server cannot be reached.
    """

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._admin = psycopg.connect(
            make_conninfo(conninfo, dbname=_MAINTENANCE), autocommit=True, connect_timeout=5
        )
        named = conninfo_to_dict(conninfo).get("dbname")
        self.name = str(named or self._admin.info.user)
        if len(self.name.encode()) > _LONGEST:
            self._admin.close()
            raise RestoreError(
                f"the database's name {self.name!r} has more than {_LONGEST} bytes: a stage beside "
                "it has a longer name still, which PostgreSQL does not take"
            )
        self.stage = self.name + _STAGE
        self._old = self.name + _OLD
        self._was_there = self._exists(self.name)

    @property
    def server(self) -> int:
        """Major release of the server."""
        return major_release(self._admin)

    @property
    def stage_conninfo(self) -> str:
        """How to connect to the stage."""
        return make_conninfo(self._conninfo, dbname=self.stage)

    @property
    def is_empty(self) -> bool:
        """Whether there is no such database, or one without tables."""
        if not self._was_there:
            return True
        with psycopg.connect(self._conninfo, connect_timeout=5) as connection:
            return not tables(connection)

    def keep_others_out(self) -> None:
        """Be the only restore into this database until the connection ends.

        Raises:
            RestoreError: Another one is running.
        """
        row = self._admin.execute(_ALONE, [self.name]).fetchone()
        if row is None or not row[0]:
            raise RestoreError(f"another restore into the database {self.name} is running")

    def prepare(self, roles: list[str], encoding: str) -> list[str]:
        """Create the stage, and the roles that rights are granted to.

        Returns:
            The roles that were not there.

        Raises:
            RestoreError: A restore was killed while it swapped.
            psycopg.Error: This login may not create databases or roles.
        """
        if self._exists(self._old):
            raise RestoreError(
                f"the database {self._old} is there: a restore was killed before it had removed "
                "what it replaced. Drop it, or give it its name back, and try again"
            )
        self._run("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.stage)  # of a killed restore
        create = sql.SQL("CREATE DATABASE {} ENCODING {} TEMPLATE template0")
        self._admin.execute(create.format(sql.Identifier(self.stage), sql.Literal(encoding)))
        known = self._roles()
        make_roles(self.stage_conninfo)
        for role in set(roles) - self._roles():
            self._run("CREATE ROLE {} NOLOGIN", role)
        return sorted(self._roles() - known)

    def is_at_least(self, migration: int) -> bool:
        """Whether the target, as it is, has this migration."""
        return self._was_there and version(self._conninfo) >= migration

    def analyze(self) -> None:
        """Let the planner know the stage's rows: a load leaves it without any idea."""
        with psycopg.connect(self.stage_conninfo, autocommit=True, connect_timeout=5) as connection:
            connection.execute("ANALYZE")

    def differences(self, expected: dict[str, Any], traces: list[str]) -> list[str]:
        """Compare the stage's tables with rows and hashes at the cut; return what differs."""
        found: list[str] = []
        with psycopg.connect(self.stage_conninfo, connect_timeout=5) as connection:
            known = {str(table): table for table in tables(connection)}
            connection.commit()
            for name, wanted in expected.items():
                table = known.get(name)
                if table is None:
                    found.append(f"table {name} is not there")
                    continue
                with connection.transaction():
                    make_plain(connection)
                    have = contents(connection, table, traces)
                if have != Contents(**wanted):
                    found.append(
                        f"table {name}: {have.rows} rows, not the {wanted['rows']} written"
                    )
        return found

    def swap(self) -> None:
        """Give the stage the name; what had it waits under another.

        Raises:
            psycopg.Error: That is not possible; both have their names.
        """
        if not self._was_there:
            self._rename(self.stage, self.name)
            return
        self._run("ALTER DATABASE {} ALLOW_CONNECTIONS false", self.name)
        try:
            for (pid,) in self._admin.execute(_OTHERS, [self.name]).fetchall():
                self._admin.execute("SELECT pg_terminate_backend(%s, %s)", [pid, _PATIENCE_MS])
            with self._admin.transaction():
                self._rename(self.name, self._old)
                self._rename(self.stage, self.name)
        except BaseException:
            self._run("ALTER DATABASE {} ALLOW_CONNECTIONS true", self.name)
            raise

    def finish(self) -> str:
        """Drop what had the name before; return its name when that is not possible."""
        try:
            self._run("DROP DATABASE IF EXISTS {} WITH (FORCE)", self._old)
        except psycopg.Error:
            return self._old
        return ""

    def discard(self) -> None:
        """Drop the stage; the target is as it was."""
        with suppress(psycopg.Error):  # the server is away: the next restore drops it
            self._run("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.stage)

    def login(self) -> AbstractContextManager[Login]:
        """Return a context in which pg_restore can log in to the stage."""
        return login(self._admin, self.stage)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._admin.close()

    def _exists(self, name: str) -> bool:
        found = self._admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
        return found.fetchone() is not None

    def _roles(self) -> set[str]:
        return {name for (name,) in self._admin.execute("SELECT rolname FROM pg_roles").fetchall()}

    def _rename(self, name: str, to: str) -> None:
        rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
        self._admin.execute(rename.format(sql.Identifier(name), sql.Identifier(to)))

    def _run(self, statement: LiteralString, name: str) -> None:
        self._admin.execute(sql.SQL(statement).format(sql.Identifier(name)))

"""The rows of some calls, table by table, for a backup that is not of the whole database.

Every table with a trace_id comes along but those that triggers fill, the log of who listened, and
those whose rows refer to something that is no call.
What concerns no single call, such as a knob that was turned for all, stays behind; snapshots have
its effect.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Final, Self

import psycopg
from psycopg import sql

from deploy.backup.archive import PLAN
from deploy.backup.errors import BackupError, RestoreError
from deploy.backup.snapshot import Snapshot, Table

FOLDER: Final = "rows/"
PIECE_BYTES: Final = 16 * 1024**2
# call_totals is what triggers make of the others.
_LEFT_OUT: Final = ("call_totals", "audio_access")
_FIRST: Final = "traces"
_PIECE: Final = re.compile(rf"{FOLDER}([a-z0-9_]+)\.\d+")
_OF_CALLS: Final = """
SELECT n.nspname, c.relname,
    array(SELECT a.attname::text FROM pg_attribute a
          WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
              AND a.attgenerated = '' AND a.attidentity = '' ORDER BY a.attnum)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute key ON key.attrelid = c.oid AND key.attname = 'trace_id'
WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    AND c.relname <> ALL(%s) AND c.relname !~ '_[0-9]{10}$'
    AND NOT EXISTS (SELECT FROM pg_constraint f WHERE f.conrelid = c.oid AND f.contype = 'f'
                    AND f.confrelid <> 'traces'::regclass)
ORDER BY c.relname <> %s, c.relname
"""


def tables_of_calls(snapshot: Snapshot) -> dict[str, list[str]]:
    """Return name and columns of each table that has rows of calls, calls first."""
    found = snapshot.connection.execute(_OF_CALLS, [list(_LEFT_OUT), _FIRST])
    return {name: columns for _, name, columns in found}


def hours_of_calls(snapshot: Snapshot, traces: Sequence[str]) -> list[datetime]:
    """Return the hours for which these calls need partitions.

    Raises:
        BackupError: One of the calls is not in the archive.
    """
    rows = snapshot.connection.execute(
        "SELECT trace_id FROM traces WHERE trace_id = ANY(%s)", [list(traces)]
    )
    missing = set(traces) - {trace_id for (trace_id,) in rows}
    if missing:
        raise BackupError(f"--trace {min(missing)}: no such call in the archive")
    hours = snapshot.connection.execute(
        "SELECT DISTINCT date_trunc('hour', bucket_ts) FROM tap_buckets_5s "
        "WHERE trace_id = ANY(%s) ORDER BY 1",
        [list(traces)],
    )
    return [hour for (hour,) in hours]


def copy_out(
    snapshot: Snapshot, name: str, columns: Sequence[str], traces: Sequence[str]
) -> Iterator[bytes]:
    """Yield a table's rows of these calls as COPY writes them, in pieces of about 16 MiB."""
    query = sql.SQL("COPY (SELECT {} FROM {} WHERE trace_id = ANY({})) TO STDOUT").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.Identifier("public", name),
        sql.Literal(list(traces)),
    )
    piece = bytearray()
    with snapshot.reader() as connection, connection.cursor() as cursor, cursor.copy(query) as copy:
        for data in copy:
            piece += data
            if len(piece) >= PIECE_BYTES:
                yield bytes(piece)
                piece.clear()
    if piece:
        yield bytes(piece)


def piece_name(table: str, number: int) -> str:
    """Return the member's name of a piece of a table."""
    return f"{FOLDER}{table}.{number:05}"


class RowsLoader:
    """Loads rows of calls into a database that has the schema, all or none of them.

    Args:
        conninfo: How to connect.
        tables: Name and columns of each table.
        partitions: Hours for which the rows need partitions.
    """

    def __init__(
        self, conninfo: str, tables: Mapping[str, Sequence[str]], partitions: Sequence[str]
    ) -> None:
        self._conninfo = conninfo
        self._tables = tables
        self._partitions = partitions

    def __enter__(self) -> Self:
        self._connection = psycopg.connect(self._conninfo, connect_timeout=5)
        for hour in self._partitions:
            self._connection.execute("SELECT ensure_partitions(%s::timestamptz[])", [[hour]])
            self._connection.commit()  # the locks of many hours at once would be too many
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connection.close()

    def load(self, name: str, data: Iterable[bytes]) -> None:
        """Load one piece; it ends with a row.

        Raises:
            RestoreError: The plan has no such table.
            psycopg.Error: A row does not fit.
        """
        found = _PIECE.fullmatch(name)
        if found is None or found[1] not in self._tables:
            raise RestoreError(f"{name!r} is of no table that {PLAN} names")
        query = sql.SQL("COPY {} ({}) FROM STDIN").format(
            sql.Identifier("public", found[1]),
            sql.SQL(", ").join(map(sql.Identifier, self._tables[found[1]])),
        )
        with self._connection.cursor() as cursor, cursor.copy(query) as copy:
            for part in data:
                copy.write(part)

    def finish(self) -> None:
        """Commit."""
        self._connection.commit()


def as_table(name: str) -> Table:
    """Return a table of this schema by its name."""
    return Table("public", name)

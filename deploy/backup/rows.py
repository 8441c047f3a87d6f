"""The rows of some calls, table by table, for a backup that is not of the whole database.

Every table with a trace_id comes along but those that triggers fill and the log of who listened.
What concerns no single call, such as a knob that was turned for all, stays behind; snapshots have
its effect.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final

import psycopg
from psycopg import sql

from deploy.backup.errors import BackupError
from deploy.backup.snapshot import Snapshot, Table

FOLDER: Final = "rows/"
PIECE_BYTES: Final = 16 * 1024**2
# call_totals is what triggers make of the others.
_LEFT_OUT: Final = ("call_totals", "audio_access")
_FIRST: Final = "traces"
_OF_CALLS: Final = """
SELECT n.nspname, c.relname,
    array(SELECT a.attname::text FROM pg_attribute a
          WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
              AND a.attgenerated = '' AND a.attidentity = '' ORDER BY a.attnum)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute key ON key.attrelid = c.oid AND key.attname = 'trace_id'
WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    AND c.relname <> ALL(%s) AND c.relname !~ '_[0-9]{10}$'
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
    with snapshot.connection.cursor() as cursor, cursor.copy(query) as copy:
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


def make_room(connection: psycopg.Connection, hours: Sequence[datetime]) -> None:
    """Make the partitions that the rows need."""
    for hour in hours:
        connection.execute("SELECT ensure_partitions(%s::timestamptz[])", [[hour]])


def copy_in(
    connection: psycopg.Connection, name: str, columns: Sequence[str], data: Iterable[bytes]
) -> None:
    """Load one piece of a table's rows; each piece ends with a row.

    Raises:
        psycopg.Error: A row does not fit.
    """
    query = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier("public", name), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with connection.cursor() as cursor, cursor.copy(query) as copy:
        for part in data:
            copy.write(part)


def as_table(name: str) -> Table:
    """Return a table of this schema by its name."""
    return Table("public", name)

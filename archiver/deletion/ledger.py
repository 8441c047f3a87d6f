"""The ledger of erased calls: what is in it does not come back, from wherever it would come.

It has a keyed hash (HMAC-SHA256) for each erased call and names none. Whoever brings rows of calls
(upload, replay, import) asks :func:`is_erased` in the transaction that writes them; whoever brings
back whole tables or folders (restore) calls :func:`reapply` afterwards.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from archiver.batch import Entry
from archiver.deletion import rows
from archiver.deletion.steps import Done, Step, unheard
from archiver.deletion.tree import Removed, Tree
from archiver.migrations import ERASURE, may_become
from exporter.errors import MonitoringError

CONNECT_TIMEOUT_S = 5
CHUNK = 1_000
ERASURE_FIELDS = ("erasure_id", "reason", "requested_by", "begun_at", "finished_at")
# Younger, its command may still be at work.
UNFINISHED_AGE = timedelta(minutes=10)
_PARTS = {
    "keys": ("erasure_keys", "key_id, inner_pad, outer_pad, made_at"),
    "erasures": ("erasures", "erasure_id, reason, requested_by, begun_at, finished_at, counts"),
    "traces": ("erased_traces", "trace_hash, key_id, erasure_id, erased_at"),
}


class LedgerError(MonitoringError):
    """A file is no ledger; the message says what is wrong with it."""


@contextmanager
def connected(conninfo: str) -> Iterator[psycopg.Connection]:
    """Connect with the rights of erasure alone, where the login has that role; autocommit.

    Raises:
        psycopg.OperationalError: The server cannot be reached.
    """
    with psycopg.connect(
        conninfo, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S, prepare_threshold=None
    ) as connection:
        yield connection


def take_role(connection: psycopg.Connection) -> None:
    """Give up all other rights until the end of the transaction."""
    if may_become(connection, ERASURE):
        connection.execute(f"SET LOCAL ROLE {ERASURE}")


def is_erased(connection: psycopg.Connection, trace_ids: Iterable[str]) -> set[str]:
    """Return those of these calls that are erased.

    Ask in the transaction that writes rows of the calls: until its end no erasure begins, so that
    what is not erased now may be written.
    """
    asked = [each for each in set(trace_ids) if _can_be_text(each)]
    if not asked:
        return set()
    found = connection.execute("SELECT erased_among(%s)", [asked]).fetchall()
    return {trace_id for (trace_id,) in found}


def part_erased(
    connection: psycopg.Connection, entries: Iterable[Entry]
) -> tuple[list[Entry], list[Entry]]:
    """Part records into those that may be written and those of erased calls."""
    names = [(entry, entry.get("trace_id")) for entry in entries]
    erased = is_erased(connection, (name for _, name in names if isinstance(name, str)))
    kept = [entry for entry, name in names if not isinstance(name, str) or name not in erased]
    return kept, [entry for entry, name in names if isinstance(name, str) and name in erased]


def begin(connection: psycopg.Connection, trace_ids: Sequence[str], reason: str) -> uuid.UUID:
    """Put calls into the ledger: from the commit on, nothing of them comes in.

    Raises:
        psycopg.errors.ObjectInUse: One of them is held; the message names it.
        psycopg.errors.LockNotAvailable: Retention or an upload did not let it for long.
    """
    erasure_id = uuid.uuid4()
    connection.execute("SELECT begin_erasure(%s, %s, %s)", [erasure_id, list(trace_ids), reason])
    return erasure_id


def finish(connection: psycopg.Connection, erasure_id: uuid.UUID, counts: dict[str, int]) -> None:
    """Say that all of an erasure was gone."""
    connection.execute("SELECT finish_erasure(%s, %s)", [erasure_id, Jsonb(counts)])


def reapply(conninfo: str, audio_root: Path) -> dict[str, int]:
    """Erase again what is in the ledger: after a restore, or when an erasure was interrupted.

    Reads the names of all calls in the database and below the audio root.

    Args:
        conninfo: libpq connection string.
        audio_root: Root of the segments.

    Returns:
        How many calls came back (``traces``), and of them rows by table, ``files`` and
        ``file_bytes``.

    Raises:
        psycopg.Error: The database is not there, or this login may not erase.
    """
    tree = Tree(audio_root)
    with connected(conninfo) as connection:
        with connection.transaction():
            take_role(connection)
            unfinished = _unfinished(connection)
            found = rows.names(connection) | tree.traces()
        erased = sorted(_erased_of(connection, sorted(found)))
        counts = {"traces": len(erased)} | wipe(connection, tree, erased)
        with connection.transaction():
            take_role(connection)
            for erasure_id in unfinished:
                finish(connection, erasure_id, counts)
    return counts


def wipe(
    connection: psycopg.Connection,
    tree: Tree,
    trace_ids: Sequence[str],
    *,
    on_step: Step = unheard,
) -> dict[str, int]:
    """Remove files, then rows, of calls that are in the ledger; return how many of each.

    A kill in between leaves rows that still say what there was; the next one goes on.
    """
    removed = Removed()
    for start in range(0, len(trace_ids), CHUNK):
        for path in files_of(connection, tree, trace_ids[start : start + CHUNK]):
            removed.add(tree.remove(path))
            on_step(Done.FILE, path)
    for trace_id in trace_ids:
        tree.remove_folders_of(trace_id)
    with connection.transaction():
        take_role(connection)
        gone = rows.delete(connection, trace_ids)
    on_step(Done.ROWS, "all tables")
    return gone | {"files": removed.files, "file_bytes": removed.file_bytes}


def files_of(connection: psycopg.Connection, tree: Tree, trace_ids: Sequence[str]) -> list[str]:
    """Return what rows of calls name, and whatever lies in their folders."""
    with connection.transaction():
        take_role(connection)
        named = connection.execute(
            "SELECT file_path FROM audio_segments_5s WHERE trace_id = ANY(%s)", [list(trace_ids)]
        ).fetchall()
    paths = {path for (path,) in named}
    for trace_id in trace_ids:
        paths.update(tree.files_of(trace_id))
    return sorted(paths)


def has_unfinished(conninfo: str, older_than: timedelta = timedelta(0)) -> bool:
    """Tell whether an erasure was begun, longer ago than that, and not finished."""
    with connected(conninfo) as connection, connection.transaction():
        take_role(connection)
        return bool(_unfinished(connection, older_than))


def erasures(conninfo: str) -> list[dict[str, object]]:
    """Return every erasure, the oldest first: ``ERASURE_FIELDS`` and ``counts``."""
    with connected(conninfo) as connection, connection.transaction():
        take_role(connection)
        with connection.cursor(row_factory=dict_row) as rows_of:
            return rows_of.execute(
                "SELECT erasure_id::text, reason, requested_by, begun_at, finished_at, counts "
                "FROM erasures ORDER BY begun_at, 1"
            ).fetchall()


def dump(conninfo: str) -> str:
    """Return the whole ledger with its keys, as JSON: for a machine that is restored to the past.

    Raises:
        psycopg.Error: The database is not there, or this login does not own the ledger.
    """
    with connected(conninfo) as connection:
        content = {
            part: connection.execute(
                f"SELECT row_to_json(t) FROM (SELECT {columns} FROM {table}) AS t".encode()  # noqa: S608 - constants
            ).fetchall()
            for part, (table, columns) in _PARTS.items()
        }
    return json.dumps({part: [row for (row,) in found] for part, found in content.items()})


def load(conninfo: str, text: str) -> int:
    """Add a ledger that ``dump`` has written; return how many calls came new.

    Raises:
        LedgerError: The text is none.
        psycopg.Error: The database is not there, or this login does not own the ledger.
    """
    try:
        content = json.loads(text)
        parts = [(Jsonb(content[part]), *_PARTS[part]) for part in _PARTS]
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerError(f"this is no ledger of erasures: {error}") from None
    came = 0
    with connected(conninfo) as connection, connection.transaction():
        for found, table, columns in parts:
            came = connection.execute(
                f"INSERT INTO {table} ({columns}) SELECT {columns} FROM "  # noqa: S608 - constants
                f"jsonb_populate_recordset(NULL::{table}, %s) ON CONFLICT DO NOTHING".encode(),
                [found],
            ).rowcount
    return came


def _unfinished(
    connection: psycopg.Connection, older_than: timedelta = timedelta(0)
) -> list[uuid.UUID]:
    found = connection.execute(
        "SELECT erasure_id FROM erasures WHERE finished_at IS NULL "
        "AND begun_at <= clock_timestamp() - %s",
        [older_than],
    )
    return [erasure_id for (erasure_id,) in found.fetchall()]


def _erased_of(connection: psycopg.Connection, trace_ids: list[str]) -> set[str]:
    found: set[str] = set()
    for start in range(0, len(trace_ids), CHUNK):
        with connection.transaction():
            take_role(connection)
            found |= is_erased(connection, trace_ids[start : start + CHUNK])
    return found


def _can_be_text(trace_id: str) -> bool:
    """Whether PostgreSQL can have it; what it cannot have, it cannot have erased."""
    try:
        trace_id.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in trace_id

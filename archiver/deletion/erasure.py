"""Erasure: everything that there is of calls goes, and nothing of them comes back.

Order: the ledger first, from whose commit on nothing of the calls comes in; then files, rows and
the spool. A kill in between leaves an unfinished erasure, with which retention goes on.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import psycopg

from archiver.deletion import ledger, rows, spooled
from archiver.deletion.receipt import Receipt
from archiver.deletion.steps import Done, Step, unheard
from archiver.deletion.tree import Removed, Tree
from exporter.config import Settings
from exporter.errors import MonitoringError
from exporter.model import KEY_PATTERN

_BY_EXTENSION = """
SELECT trace_id FROM traces
WHERE (%(extension)s IN (src_extension, dst_extension) OR trace_id IN (
        -- Longer ones stand masked in traces.
        SELECT trace_id FROM phone_numbers WHERE number = %(extension)s))
    AND started_at < %(until)s AND coalesce(ended_at, 'infinity') >= %(since)s
ORDER BY 1
"""
_BY_CALL = "SELECT trace_id FROM traces WHERE call_id = %(call_id)s ORDER BY 1"
_PATIENCE = "SET LOCAL lock_timeout = '30s'"


class ErasureError(MonitoringError):
    """An erasure cannot be done; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Request:
    """Which calls: by id, by one of its extensions and time, or by the host's own id.

    Attributes:
        trace_id: One call; one that only the spool has, too.
        extension: All calls from or to it, ...
        since: ... that had not ended then, ...
        until: ... and had begun before.
        call_id: All traces of one call of the host.
    """

    trace_id: str | None = None
    extension: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    call_id: str | None = None

    def __str__(self) -> str:
        if self.trace_id is not None:
            return f"trace {self.trace_id}"
        if self.call_id is not None:
            return f"call {self.call_id}"
        return f"extension {self.extension} between {self.since} and {self.until}"


def find(settings: Settings, request: Request) -> tuple[str, ...]:
    """Return the calls that are asked for.

    Raises:
        ErasureError: There is none.
    """
    if request.trace_id is not None:
        if not KEY_PATTERN.fullmatch(request.trace_id):
            raise ErasureError(f"{request.trace_id!r} is no key of up to 64 letters and digits")
        return (request.trace_id,)
    query = _BY_CALL if request.call_id is not None else _BY_EXTENSION
    with ledger.connected(settings.db) as connection, connection.transaction():
        ledger.take_role(connection)
        found = connection.execute(query, asdict(request)).fetchall()
    if not found:
        raise ErasureError(f"there is no call of {request}")
    return tuple(trace_id for (trace_id,) in found)


def preview(settings: Settings, request: Request, reason: str) -> Receipt:
    """Tell what an erasure would reach; change nothing."""
    trace_ids, begun = find(settings, request), datetime.now(UTC)
    removed = Removed()
    with ledger.connected(settings.db) as connection:
        with connection.transaction():
            ledger.take_role(connection)
            counted = rows.count(connection, trace_ids)
        tree = Tree(settings.audio_path)
        for path in ledger.files_of(connection, tree, trace_ids):
            removed.add(tree.remove(path, is_dry=True))
    spool = spooled.scrub(settings.spool_path, trace_ids, is_dry=True)
    return Receipt(
        "",
        True,
        reason,
        str(request),
        trace_ids,
        begun,
        datetime.now(UTC),
        counted,
        removed.files,
        removed.file_bytes,
        asdict(spool),
    )


def erase(settings: Settings, request: Request, reason: str, *, on_step: Step = unheard) -> Receipt:
    """Erase calls.

    Args:
        settings: Database, audio and spool.
        request: Which calls.
        reason: Why; stays in the database.
        on_step: Told of each thing that was done.

    Raises:
        ErasureError: There is no such call, or one of them is held: nothing was done.
        psycopg.Error: The database is not there, or this login may not erase.
        OSError: A file could not be removed: the erasure is unfinished; do it again.
    """
    trace_ids, begun = find(settings, request), datetime.now(UTC)
    with ledger.connected(settings.db) as connection:
        erasure_id = _begin(connection, trace_ids, reason)
        on_step(Done.LEDGER, "nothing comes in any more")
        # The spool before the files: what is in no batch any more names no file.
        spool = spooled.scrub(settings.spool_path, trace_ids)
        on_step(Done.SPOOL, "spool")
        gone = ledger.wipe(connection, Tree(settings.audio_path), trace_ids, on_step=on_step)
        receipt = Receipt(
            str(erasure_id),
            False,
            reason,
            str(request),
            trace_ids,
            begun,
            datetime.now(UTC),
            {name: number for name, number in gone.items() if not name.startswith("file")},
            gone["files"],
            gone["file_bytes"],
            asdict(spool),
        )
        with connection.transaction():
            ledger.take_role(connection)
            ledger.finish(connection, erasure_id, receipt.counts())
    on_step(Done.END, "finished")
    return receipt


def _begin(connection: psycopg.Connection, trace_ids: Sequence[str], reason: str) -> uuid.UUID:
    try:
        with connection.transaction():
            ledger.take_role(connection)
            connection.execute(_PATIENCE)
            return ledger.begin(connection, trace_ids, reason)
    except psycopg.errors.ObjectInUse as error:
        held = str(error.diag.message_primary).removeprefix("held: ")
        raise ErasureError(
            f"under legal hold, so nothing was erased: {held}; `monitoring traces release ID` "
            "lets a call go"
        ) from None
    except psycopg.errors.LockNotAvailable:
        raise ErasureError(
            "retention or an upload did not let the ledger for 30 s: nothing was erased; try again"
        ) from None

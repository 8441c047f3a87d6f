"""The archive as files: one for each table and day, written as a stream, listed in a manifest.

A day that was over when it was written is not written again for the same bounds. Bulk tables are
read hour by hour, as they are partitioned, so that neither this process nor the server holds more
than an hour of one table.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql

from archiver.export_plan import Order, Part, file_name, parts, slices
from archiver.files import FOLDER_MODE, write_whole
from archiver.outputs import Counted, Sink, own_version, whole_file
from archiver.times import iso
from exporter.errors import MonitoringError

MANIFEST = "manifest.json"
SETTLED_AFTER = timedelta(minutes=10)
"""Rows of a time may come so much later without anything being wrong."""

# The compiler would take longer for the wide view than it saves.
_OPTIONS = (
    "SET TRANSACTION READ ONLY; SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO'; "
    "SET LOCAL jit = off"
)
# JSON has no control characters, so that with these as signs every line is the JSON itself.
_FORMATS = {
    "csv": sql.SQL("COPY ({}) TO STDOUT (FORMAT csv, HEADER {})"),
    "jsonl": sql.SQL(
        r"COPY (SELECT row_to_json(line) FROM ({}) AS line) TO STDOUT "
        r"(FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02')"
    ),
}


class ExportError(MonitoringError):
    """What was asked for cannot be exported; the message says why."""


Report = Callable[[str, float], None]
"""Is told the file that is written and which share of all is done."""


def export(conninfo: str, order: Order, *, report: Report, now: datetime) -> dict[str, Any]:
    """Write the files that are missing; return the manifest, with what this run has written.

    Args:
        conninfo: libpq connection string of a login that may read the tables.
        order: What is wanted.
        report: Told as it goes on.
        now: The time: what is younger than ten minutes will be written again by the next run.

    Raises:
        ExportError: The folder holds something else, or the login may not read the tables.
        psycopg.Error: The server is not there or not able; finished files stay and are listed.
        OSError: A file cannot be written.
    """
    order.folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    manifest = _Manifest(order, now)
    wanted = list(parts(order))
    written: list[str] = []
    try:
        with psycopg.connect(conninfo, autocommit=True, connect_timeout=5) as server:
            manifest.note_versions(server)
            for number, part in enumerate(wanted):
                name = file_name(part, order)
                report(name, number / len(wanted))
                if order.is_forced or not manifest.has(name, part):
                    manifest.add(name, part, _write(server, part, order))
                    written.append(name)
    except psycopg.errors.InsufficientPrivilege as error:
        reason = str(error).splitlines()[0]
        raise ExportError(f"{reason}; an export needs a login that owns the tables") from None
    manifest.write()
    report("", 1.0)
    return manifest.document | {"written": written}


def copy_rows(
    connection: psycopg.Connection, query: sql.Composable, *, out: Sink, form: str
) -> int:
    """Stream what a query finds as lines of CSV (``csv``: with a first line of names) or JSON.

    Args:
        connection: Where it is asked.
        query: Complete statement.
        out: Takes the bytes.
        form: ``csv``, ``csv_more`` (without names, to go on with), or ``jsonl``.

    Returns:
        How many rows.
    """
    statement = _FORMATS[form.removesuffix("_more")].format(query, sql.SQL(str(form == "csv")))
    with connection.cursor() as cursor:
        with cursor.copy(statement) as copy:
            for data in copy:
                out.write(data)
        return cursor.rowcount


def _write(server: psycopg.Connection, part: Part, order: Order) -> dict[str, object]:
    """Write one file; return what the manifest says of its content."""
    rows = 0
    with whole_file(order.folder / file_name(part, order)) as stream:
        counted = Counted(stream)
        with _packed(counted, order) as out:
            form = order.format
            for since, until in slices(part):
                bounds = {"since": sql.Literal(since), "until": sql.Literal(until)}
                # Short transactions: retention waits for each.
                with server.transaction():
                    server.execute(_OPTIONS)
                    query = sql.SQL(part.source.query).format(**bounds)
                    rows += copy_rows(server, query, out=out, form=form)
                form = "csv_more" if form == "csv" else form
    return {"rows": rows, "bytes": counted.size, "sha256": counted.sha256}


@contextmanager
def _packed(counted: Counted, order: Order) -> Iterator[Sink]:
    if not order.is_gzip:
        yield counted
        return
    # Without name and time: the same rows make the same file.
    with gzip.GzipFile("", "wb", 6, counted, mtime=0) as packed:
        yield packed


class _Manifest:
    """What the folder holds: one entry for each file, kept up to date while files are written."""

    def __init__(self, order: Order, now: datetime) -> None:
        self._order = order
        self._now = now
        self._path = order.folder / MANIFEST
        self._files = self._known()
        self._versions: dict[str, object] = {"monitoring_v2": own_version()}

    @property
    def document(self) -> dict[str, Any]:
        """The manifest as JSON types."""
        return {
            "format": "monitoring_v2 export",
            "written_at": iso(self._now),
            "versions": self._versions,
            "files": sorted(self._files.values(), key=lambda entry: str(entry["file"])),
        }

    def note_versions(self, server: psycopg.Connection) -> None:
        """Ask the database for its version and that of the schema."""
        row = server.execute("SELECT max(number) FROM schema_migrations").fetchone()
        self._versions["schema"] = row and row[0]
        self._versions["postgresql"] = server.info.parameter_status("server_version")

    def has(self, name: str, part: Part) -> bool:
        """Whether a file is there, complete, of this part, and made with the same options."""
        entry = self._files.get(name, {})
        path = self._order.folder / name
        wanted = self._described(part)
        return (
            all(entry.get(key) == value for key, value in wanted.items())
            and bool(entry.get("is_final"))
            and path.is_file()
            and path.stat().st_size == entry.get("bytes")
        )

    def add(self, name: str, part: Part, content: Mapping[str, object]) -> None:
        """Note a file that was written."""
        is_final = part.until <= self._now - SETTLED_AFTER
        entry = {"file": name, **self._described(part), **content, "is_final": is_final}
        self._files[name] = entry
        self.write()

    def write(self) -> None:
        """Write the manifest, whole."""
        text = json.dumps(self.document, indent=2, ensure_ascii=False) + "\n"
        write_whole(self._path, [text.encode()])

    def _described(self, part: Part) -> dict[str, object]:
        has_extensions = self._order.has_extensions and part.source.name == "traces"
        return {
            "table": part.source.name,
            "from": iso(part.since),
            "to": iso(part.until),
            "has_extensions": has_extensions,
        }

    def _known(self) -> dict[str, dict[str, object]]:
        if not self._path.exists():
            return {}
        try:
            document = json.loads(self._path.read_text(encoding="utf-8"))
            return {entry["file"]: entry for entry in document["files"]}
        except (ValueError, LookupError, TypeError) as error:
            raise ExportError(f"{self._path} is no manifest of an export: {error!r}") from None

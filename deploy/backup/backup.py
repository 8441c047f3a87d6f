"""Makes a backup while everything runs: a snapshot first, then what its rows name."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, Final

from archiver.deletion import ledger
from archiver.outputs import own_version, whole_file
from archiver.times import iso
from deploy.backup import dump, included, package, rows, sound
from deploy.backup.archive import PLAN, ArchiveWriter, read_file
from deploy.backup.errors import BackupError
from deploy.backup.programs import find_program, login
from deploy.backup.progress import Steps
from deploy.backup.snapshot import Choice, Snapshot, Table
from deploy.backup.variables import as_file, without_secrets
from exporter.config import Settings, state_directory

FORMAT: Final = 1
LEDGER_SINCE: Final = 6
"""The migration that brought the ledger of erasures."""
STANDARD_OUTPUT: Final = Path("-")
CONFIG_FOLDER: Final = "config/"
CONFIG_NAME: Final = "monitoring.config.json"
ENV_NAME: Final = "settings.env"
ERASURES: Final = "erasures.json"
_OUTPUT_MODE: Final = 0o600
_KEY_FILE: Final = re.compile(r"key|secret", re.IGNORECASE)
_KEPT: Final = "schema_migrations"


@dataclass(frozen=True, slots=True)
class Order:
    """What to back up.

    Attributes:
        output: The file; ``-`` is standard output.
        audio_hours: Sound of so many hours; 0 is none, None is all.
        traces: These calls alone; empty: everything.
        is_schema_only: Tables without rows, and no sound.
        include: The host's own files and folders.
        variables: The MONITORING_ variables that are set.
        bin_dir: Folder of PostgreSQL's programs; None: looked for.
    """

    output: Path
    audio_hours: float | None = None
    traces: Sequence[str] = ()
    is_schema_only: bool = False
    include: Sequence[Path] = ()
    variables: dict[str, str] = field(default_factory=dict)
    bin_dir: Path | None = None


def make_backup(settings: Settings, order: Order, steps: Steps) -> dict[str, Any]:
    """Write a backup and return its manifest.

    Raises:
        BackupError: It cannot be made; no file is left.
        OSError: It cannot be written; no file is left.
        psycopg.Error: The database cannot be reached or read.
    """
    files, left_out = included.find(order.include)
    for text in left_out:
        steps.say(f"left out: {text}")
    with _output(order.output) as stream:
        writer = ArchiveWriter(stream)
        try:
            with Snapshot(settings.db, lambda: steps.begin("waiting for retention")) as snapshot:
                return _write(settings, order, _Run(snapshot, writer, steps), files)
        finally:
            writer.close()


@dataclass(frozen=True, slots=True)
class _Run:
    """What one backup goes on with."""

    snapshot: Snapshot
    writer: ArchiveWriter
    steps: Steps


def _write(settings: Settings, order: Order, run: _Run, files: list[Path]) -> dict[str, Any]:
    if not (schema := run.snapshot.schema()):
        raise BackupError("the database has no archive yet: run `monitoring db init`")
    choice = _choice(order, run.snapshot.at)
    release, program = find_program("pg_dump", run.snapshot.server, order.bin_dir)
    plan = _plan(settings, order, run.snapshot, choice) | {"schema": schema, "pg_dump": release}
    run.writer.add(PLAN, json.dumps(plan, indent=2).encode() + b"\n")
    secrets = _add_settings(order, run.writer)
    _add_package(run)
    _add_files(run, files)
    tables = _add_calls(order, plan, run) if order.traces else _add_database(order, run, program)
    run.steps.begin("sound", plan["audio"]["bytes"])
    segments = run.snapshot.segments(choice)
    taken = sound.take(settings.audio_path, segments, run.writer, run.steps.advance)
    if schema >= LEDGER_SINCE:
        # As it is now and not at the cut: who was erased meanwhile does not come back.
        run.writer.add(ERASURES, ledger.dump(settings.db).encode())
    run.steps.begin("hash of every row")
    found = {str(each): run.snapshot.contents(each, order.traces) for each in tables}
    return run.writer.finish(
        {
            "finished_at": iso(datetime.now(UTC)),
            "plan": plan,
            "tables": {name: asdict(each) for name, each in found.items()},
            "audio": asdict(taken),
            "spool": _spool(settings.spool_path),
            "secrets_left_out": secrets,
        }
    )


def _choice(order: Order, at: datetime) -> Choice:
    if order.is_schema_only or order.audio_hours == 0:
        return Choice(has_audio=False)
    since = None if order.audio_hours is None else at - timedelta(hours=order.audio_hours)
    return Choice(since=since, traces=order.traces)


def _plan(settings: Settings, order: Order, snapshot: Snapshot, choice: Choice) -> dict[str, Any]:
    files, size = snapshot.audio_totals(choice)
    what = "schema" if order.is_schema_only else "calls" if order.traces else "all"
    plan: dict[str, Any] = {
        "format": FORMAT,
        "made_by": {"monitoring-v2": own_version(), "python": platform.python_version()},
        "snapshot_at": iso(snapshot.at),
        "postgresql": snapshot.server,
        "encoding": snapshot.encoding,
        "what": what,
        "audio": {
            "hours": 0 if not choice.has_audio else order.audio_hours,
            "files": files,
            "bytes": size,
            **sound.owner_of(settings.audio_path),
        },
        "roles": snapshot.roles(),
    }
    if order.traces:
        hours = rows.hours_of_calls(snapshot, order.traces)
        plan["traces"] = list(order.traces)
        plan["tables"] = rows.tables_of_calls(snapshot)
        plan["partitions"] = [iso(hour) for hour in hours]
    return plan


def _add_settings(order: Order, writer: ArchiveWriter) -> list[str]:
    """Write the configuration; return which secrets are not in it."""
    path = Path(order.variables.get("MONITORING_CONFIG", CONFIG_NAME))
    if path.is_file():
        writer.add(CONFIG_FOLDER + CONFIG_NAME, path.read_bytes())
    variables = without_secrets(order.variables)
    # Keys that nobody has named are made there.
    keys = sorted(path for path in state_directory().glob("*") if _KEY_FILE.search(path.name))
    variables.secrets.extend(f"the file {path}" for path in keys)
    writer.add(CONFIG_FOLDER + ENV_NAME, as_file(variables, []).encode())
    return variables.secrets


def _add_package(run: _Run) -> None:
    found = package.wheel()
    if found is None:
        run.steps.say("left out: the package, which is not installed but runs from a folder")
    else:
        run.writer.add(package.FOLDER + found[0], found[1])
    run.writer.add(package.FOLDER + package.LOCK, package.lock())


def _add_files(run: _Run, files: list[Path]) -> None:
    for path in files:
        with included.opened(path) as (stream, size, mode):
            pieces = read_file(stream, size)
            run.writer.add_stream(included.member_name(path), size, pieces, mode=mode)


def _add_database(order: Order, run: _Run, program: Path) -> list[Table]:
    """Write the dump; return the tables whose rows are in it."""
    tables = run.snapshot.tables()
    options: list[str] = []
    if order.is_schema_only:
        without = [str(each) for each in tables if each.name != _KEPT]
        # The parts of a table have its name and their hour.
        options = [f"--exclude-table-data={name}{end}" for name in without for end in ("", "_*")]
        tables = [each for each in tables if each.name == _KEPT]
    run.steps.begin("database")
    with login(run.snapshot.connection, run.snapshot.connection.info.dbname) as how:
        pieces = dump.dump(program, how, run.snapshot.snapshot_id, options)
        for number, piece in enumerate(pieces):
            run.writer.add(dump.piece_name(number), piece)
            run.steps.advance(len(piece))
    return tables


def _add_calls(order: Order, plan: dict[str, Any], run: _Run) -> list[Table]:
    """Write the rows of some calls; return the tables."""
    run.steps.begin("rows")
    for table, columns in plan["tables"].items():
        pieces = rows.copy_out(run.snapshot, table, columns, order.traces)
        for number, piece in enumerate(pieces):
            run.writer.add(rows.piece_name(table, number), piece)
            run.steps.advance(len(piece))
    return [rows.as_table(name) for name in plan["tables"]]


def _spool(root: Path) -> dict[str, int]:
    """Return what waits for the database and is therefore not in the backup."""
    batches = list(root.glob("*/*.batch"))
    return {"batches": len(batches), "bytes": sum(_size(path) for path in batches)}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # uploaded meanwhile


@contextmanager
def _output(path: Path) -> Iterator[IO[bytes]]:
    if path == STANDARD_OUTPUT:
        # Unbuffered pieces are large enough; a broken pipe shows where it breaks.
        with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as stream:
            yield stream
        return
    if path.exists():
        raise BackupError(f"{path} is there already; backups are not overwritten: name another")
    with whole_file(path, _OUTPUT_MODE) as stream:
        yield stream

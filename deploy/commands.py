"""What the short subcommands do; each returns the exit code: 0 done, 1 found a problem."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, astuple

from rich.console import Console
from rich.table import Table

from archiver import Archiver
from archiver.migrations import create_database, migrate, shipped, version
from archiver.queries import list_calls, summarise
from deploy.doctor import examine
from exporter.config import Settings
from exporter.model import Cause


def db_init(arguments: argparse.Namespace, settings: Settings) -> int:
    """Create database, roles and schema."""
    is_new = create_database(settings.db)
    return _migrate(arguments, settings, is_new=is_new)


def db_migrate(arguments: argparse.Namespace, settings: Settings) -> int:
    """Bring the schema to this version."""
    return _migrate(arguments, settings, is_new=False)


def _migrate(arguments: argparse.Namespace, settings: Settings, *, is_new: bool) -> int:
    report = migrate(settings.db)
    text = "database created\n" if is_new else ""
    text += f"schema is at migration {report.version}; applied now: {report.applied or 'none'}"
    if report.to_run:
        statements = "\n  ".join(report.to_run)
        text += (
            f"\nthis login may not run the following; let an administrator do it:\n  {statements}"
        )
    print_answer(arguments, {"created": is_new, **asdict(report)}, text)
    return 0


def db_status(arguments: argparse.Namespace, settings: Settings) -> int:
    """Compare the schema with this version."""
    found, wanted = version(settings.db), shipped()[-1][0]
    hint = "" if found == wanted else "; run `monitoring db init`"
    print_answer(
        arguments, {"schema": found, "wanted": wanted}, f"schema {found}, need {wanted}{hint}"
    )
    return int(found != wanted)


def spool_drain(arguments: argparse.Namespace, settings: Settings) -> int:
    """Upload what waits in the spool, then exit."""
    archive = Archiver(settings, has_retention=False)
    archive.start()
    # The first pass of the spool thread adopts what dead processes left.
    archive.wait_until_adopted()
    is_done = archive.flush(arguments.timeout)
    counts = archive.accounting()
    archive.stop(timeout=5.0)
    left = "" if is_done else f"; {counts['spooled']} samples still wait: is the database there?"
    left += refused(archive)
    print_answer(arguments, counts, f"uploaded {counts['archived']} samples{left}")
    return int(not is_done)


def traces_list(arguments: argparse.Namespace, settings: Settings) -> int:
    """List the newest calls."""
    calls = list_calls(settings.db, limit=arguments.limit)
    table = Table()
    for name in ("trace", "started", "ended", "from", "to", "samples due", "received"):
        table.add_column(name, overflow="fold")
    for call in calls:
        ended = (
            "running"
            if call.ended_at is None
            else f"{call.ended_at:%H:%M:%S} {call.end_reason or ''}"
        )
        table.add_row(
            call.trace_id,
            f"{call.started_at:%Y-%m-%d %H:%M:%S}",
            ended,
            call.src_extension,
            call.dst_extension or "",
            _number(call.due_samples),
            _number(call.received_samples),
        )
    print_answer(arguments, [asdict(call) for call in calls], table)
    return 0


def traces_show(arguments: argparse.Namespace, settings: Settings) -> int:
    """Show what there is of one call."""
    calls = list_calls(settings.db, trace_id=arguments.trace_id)
    taps = summarise(settings.db, arguments.trace_id)
    if not calls:
        Console(stderr=True).print(f"no trace {arguments.trace_id!r} in the archive")
        return 1
    began = f"{calls[0].started_at:%Y-%m-%d %H:%M:%S} UTC"
    table = Table(title=f"{calls[0].trace_id}  {began}  consent {calls[0].consent}")
    names = ("station", "tap", "buckets", "due", "received", "missing", "WAV files", "aggregates")
    for name in names:
        table.add_column(name)
    for tap in taps:
        table.add_row(tap.station_key, tap.tap, *map(_number, astuple(tap)[2:]))
    report = {"trace": asdict(calls[0]), "taps": [asdict(tap) for tap in taps]}
    print_answer(arguments, report, table)
    return 0


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def doctor(arguments: argparse.Namespace, settings: Settings) -> int:
    """Look at everything and say what to do."""
    findings = examine(settings)
    lines = [f"{'ok     ' if f.is_well else 'PROBLEM'}  {f.name}: {f.text}" for f in findings]
    print_answer(arguments, [asdict(finding) for finding in findings], "\n".join(lines))
    return int(not all(finding.is_well for finding in findings))


def refused(archive: Archiver) -> str:
    """Say how much was of calls that were erased: they are not archived again."""
    samples = int(archive.tally.get("samples_dropped_total", Cause.ERASED))
    return f"; refused {samples:,} samples of erased calls" if samples else ""


def print_answer(arguments: argparse.Namespace, data: object, text: object) -> None:
    """Print an answer for people, or for programs."""
    if arguments.json:
        print(json.dumps(data, default=str, indent=2))
    else:
        Console().print(text)

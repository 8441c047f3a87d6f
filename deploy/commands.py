"""What the short subcommands do; each returns the exit code: 0 done, 1 found a problem."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, astuple
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from archiver import Archiver
from archiver.database import AnyDatabaseError
from archiver.migrations import create_database, migrate, shipped, version
from archiver.queries import list_calls, summarise
from deploy.doctor import examine
from deploy.replay import Plan, replay
from exporter.config import Settings
from exporter.errors import ConfigError, KnobError
from exporter.model import Cause, KnobValue
from exporter.processing import IMPLEMENTS, bypassed

REPLAY_ARCHIVE_S = 60.0
_NAMES = {"true": True, "false": False}


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
    _print(arguments, {"created": is_new, **asdict(report)}, text)
    return 0


def db_status(arguments: argparse.Namespace, settings: Settings) -> int:
    """Compare the schema with this version."""
    found, wanted = version(settings.db), shipped()[-1][0]
    hint = "" if found == wanted else "; run `monitoring db init`"
    _print(arguments, {"schema": found, "wanted": wanted}, f"schema {found}, need {wanted}{hint}")
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
    left += _refused(archive)
    _print(arguments, counts, f"uploaded {counts['archived']} samples{left}")
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
    _print(arguments, [asdict(call) for call in calls], table)
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
    _print(arguments, report, table)
    return 0


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def knobs_list(arguments: argparse.Namespace, settings: Settings) -> int:
    """List all knobs, and which the reference chain obeys."""
    baseline = settings.registry.defaults() | dict(settings.knobs)
    notes = bypassed(baseline, arguments.rate)
    rows = [
        {
            "key": knob.key,
            "value": baseline[knob.key],
            "valid": knob.describe(),
            "live": knob.live,
            "stage": knob.stage,
            "reference_chain": knob.key in IMPLEMENTS,
            "note": notes.get(knob.key, ""),
        }
        for knob in settings.registry
    ]
    table = Table()
    for name in ("knob", "value", "valid", "live", "stage", "chain", "note"):
        table.add_column(name)
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    _print(arguments, rows, table)
    return 0


def doctor(arguments: argparse.Namespace, settings: Settings) -> int:
    """Look at everything and say what to do."""
    findings = examine(settings)
    lines = [f"{'ok     ' if f.is_well else 'PROBLEM'}  {f.name}: {f.text}" for f in findings]
    _print(arguments, [asdict(finding) for finding in findings], "\n".join(lines))
    return int(not all(finding.is_well for finding in findings))


def run_replay(arguments: argparse.Namespace, settings: Settings) -> int:
    """Feed recordings through a station and wait until they are archived."""
    started_at = _time(arguments.at)
    age_h = (datetime.now(UTC) - started_at).total_seconds() / 3_600
    if age_h > settings.retention_hours:
        Console(stderr=True).print(
            f"note: {arguments.at} is older than {settings.retention_hours:g} h; the next "
            "retention will delete this call (MONITORING_RETENTION_HOURS)"
        )
    plan = Plan(
        recordings=tuple(map(Path, arguments.files)),
        station_key=arguments.station,
        started_at=started_at,
        src_extension=arguments.src,
        dst_extension=arguments.dst,
        trace_id=arguments.trace_id,
        knobs=dict(_knob(item, settings) for item in arguments.knob),
        block_ms=arguments.block_ms,
        is_realtime=arguments.realtime,
    )
    if plan.trace_id and _is_archived(settings, plan.trace_id):
        raise ConfigError(f"--trace-id {plan.trace_id!r}: the archive has this call already")
    return _replay(arguments, settings, plan)


def _replay(arguments: argparse.Namespace, settings: Settings, plan: Plan) -> int:
    archive = Archiver(settings, has_retention=False)
    begun = time.monotonic()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("replay", total=1.0)
        trace_id = replay(
            plan, settings, archive, report=lambda share: progress.update(task, completed=share)
        )
        progress.update(task, description="archive")
        is_archived = archive.flush(REPLAY_ARCHIVE_S)
    counts = archive.accounting()
    archive.stop(timeout=5.0)
    seconds = time.monotonic() - begun
    text = f"{trace_id}: {counts['archived']:,} samples archived in {seconds:.1f} s"
    if not is_archived:
        text += (
            f"; {counts['spooled']:,} samples wait in {settings.spool_path}: the database cannot "
            "be reached; `monitoring spool drain` uploads them when it is back"
        )
    refused = _refused(archive)
    _print(arguments, {"trace_id": trace_id, **counts}, text + refused)
    return int(not is_archived or bool(refused))


def _refused(archive: Archiver) -> str:
    """Say how much was of calls that were erased: they are not archived again."""
    samples = int(archive.tally.get("samples_dropped_total", Cause.ERASED))
    return f"; refused {samples:,} samples of erased calls" if samples else ""


def _is_archived(settings: Settings, trace_id: str) -> bool:
    try:
        return bool(list_calls(settings.db, trace_id=trace_id))
    except AnyDatabaseError:
        return False  # Not to be known now; the archive refuses rows that it has.


def _time(text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"--at {text!r}: expected a time such as 2026-01-01T00:00:02.100Z"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _knob(item: str, settings: Settings) -> tuple[str, KnobValue]:
    key, _, raw = item.partition("=")
    try:
        knob = settings.registry[key]
        value: object = _NAMES.get(raw, raw)
        if knob.type in {"int", "float"}:
            value = float(raw) if knob.type == "float" else int(raw)
        return key, knob.check(value)
    except (ValueError, KnobError) as error:
        raise ConfigError(f"--knob {item!r}: {error}") from None


def _print(arguments: argparse.Namespace, data: object, text: object) -> None:
    if arguments.json:
        print(json.dumps(data, default=str, indent=2))
    else:
        Console().print(text)

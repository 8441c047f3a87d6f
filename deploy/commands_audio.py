"""The subcommands that run stations or their chain.

They are loaded when they are called for: what measures audio takes a second or two to load, and the
other subcommands need not wait for it.
"""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from archiver import Archiver
from archiver.database import AnyDatabaseError
from archiver.queries import list_calls
from deploy.commands import print_answer, refused
from deploy.demo import run_demo
from deploy.replay import Plan, replay
from exporter.config import Settings
from exporter.errors import ConfigError, KnobError
from exporter.model import KnobValue
from exporter.processing import IMPLEMENTS, bypassed

REPLAY_ARCHIVE_S = 60.0
_NAMES = {"true": True, "false": False}


def demo(arguments: argparse.Namespace, settings: Settings) -> int:
    """Run everything on this machine, from nothing."""
    return run_demo(
        settings,
        duration_s=arguments.duration,
        calls=arguments.calls,
        data=arguments.data,
        speech=tuple(arguments.speech),
        has_own_database=not arguments.use_db,
    )


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
    print_answer(arguments, rows, table)
    return 0


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
    left_out = refused(archive)
    print_answer(arguments, {"trace_id": trace_id, **counts}, text + left_out)
    return int(not is_archived or bool(left_out))


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

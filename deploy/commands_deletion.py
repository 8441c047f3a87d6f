"""The commands about deletion: retention, legal hold, erasure with its receipt."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from archiver.database import AnyDatabaseError, NoSchemaError, ServerAwayError
from archiver.deletion.erasure import ErasureError, Request, erase, preview
from archiver.deletion.holds import hold, list_holds, release
from archiver.deletion.receipt import Receipt, write
from archiver.deletion.retention import Retention
from archiver.deletion.steps import Done, Step
from archiver.times import iso, parse_time
from exporter.config import Settings, existing_path
from exporter.errors import ConfigError
from exporter.selfmetrics import Tally


def register(
    top: argparse._SubParsersAction[argparse.ArgumentParser],
    traces: argparse._SubParsersAction[argparse.ArgumentParser],
    add: Callable[..., argparse.ArgumentParser],
) -> None:
    """Add the commands to the parser; ``add`` takes group, name, function and help."""
    run = add(top, "retention", run_retention, "delete what is too old, once")
    run.add_argument("--dry-run", action="store_true", help="delete nothing, say what would go")
    run.add_argument("--walk", action="store_true", help="look for orphans now, whenever it was")
    keep = add(traces, "hold", traces_hold, "keep a call, whatever its age")
    keep.add_argument("trace_id", metavar="ID")
    keep.add_argument("--reason", required=True, metavar="TEXT", help="why; stays in the database")
    add(traces, "release", traces_release, "let a held call go").add_argument(
        "trace_id", metavar="ID"
    )
    add(traces, "holds", traces_holds, "calls that are held")
    gone = add(traces, "erase", traces_erase, "erase calls everywhere, for good")
    which = gone.add_mutually_exclusive_group(required=True)
    which.add_argument("trace_id", nargs="?", metavar="ID")
    which.add_argument("--extension", metavar="X", help="calls from or to it; with --between")
    which.add_argument("--call-id", metavar="C", help="all traces of one call of the host")
    gone.add_argument("--between", nargs=2, metavar=("FROM", "TO"), help="two moments, ISO-8601")
    gone.add_argument("--reason", required=True, metavar="TEXT", help="why; stays in the database")
    gone.add_argument("--dry-run", action="store_true", help="erase nothing, say what would go")
    gone.add_argument("--yes", action="store_true", help="do not ask")
    gone.add_argument("-o", "--output", type=Path, metavar="FILE", help="receipt: .json, else text")


def run_retention(arguments: argparse.Namespace, settings: Settings) -> int:
    """Delete what is due, once."""
    settings = in_place(settings)
    retention = Retention(settings, Tally())
    now = datetime.now(UTC)
    with _problems_said("retention"), _progress("retention") as on_step:
        counts = retention.run(
            settings.audio_path,
            now,
            on_step=on_step,
            is_dry=arguments.dry_run,
            has_walk=arguments.walk or retention.walk_is_due(now),
        )
    if not counts:
        Console(stderr=True).print("another process is at it; nothing was done here")
    if arguments.json:
        print(json.dumps({"dry_run": arguments.dry_run, "deleted": counts}, indent=2))
    else:
        table = Table("kind", "would go" if arguments.dry_run else "deleted")
        table.columns[1].justify = "right"
        for kind, count in counts.items():
            table.add_row(kind.replace("_", " "), f"{count:,}")
        Console().print(table)
    # Rows whose files are missing by the dozen: somebody has to look.
    return int(bool(counts.get("orphan_rows_left")))


def traces_hold(arguments: argparse.Namespace, settings: Settings) -> int:
    """Keep a call."""
    hold(settings.db, arguments.trace_id, arguments.reason)
    answer = {"held": arguments.trace_id, "reason": arguments.reason}
    print(json.dumps(answer) if arguments.json else f"held: {arguments.trace_id}")
    return 0


def traces_release(arguments: argparse.Namespace, settings: Settings) -> int:
    """Let a call go."""
    release(settings.db, arguments.trace_id)
    answer = {"released": arguments.trace_id}
    print(json.dumps(answer) if arguments.json else f"released: {arguments.trace_id}")
    return 0


def traces_holds(arguments: argparse.Namespace, settings: Settings) -> int:
    """List what is held."""
    found = list_holds(settings.db)
    if arguments.json:
        print(json.dumps([asdict(each) for each in found], default=iso, indent=2))
        return 0
    table = Table("trace", "reason", "by", "since")
    for each in found:
        since = f"{each.held_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        table.add_row(each.trace_id, each.reason, each.held_by, since)
    Console().print(table)
    return 0


def traces_erase(arguments: argparse.Namespace, settings: Settings) -> int:
    """Erase calls, or say what would go."""
    settings = in_place(settings)
    request = _request(arguments)
    if arguments.output is not None and arguments.output.exists():
        raise ConfigError(f"-o {str(arguments.output)!r}: there is a file already")
    with _problems_said("the erasure"):
        if arguments.dry_run:
            receipt = preview(settings, request, arguments.reason)
        else:
            if not arguments.yes:
                _ask(preview(settings, request, arguments.reason))
            with _progress("erasure") as on_step:
                receipt = erase(settings, request, arguments.reason, on_step=on_step)
    print(receipt.as_json() if arguments.json else receipt.as_text())
    if arguments.output is not None:
        write(receipt, arguments.output)
    return 0


def in_place(settings: Settings) -> Settings:
    """Return the settings with the folders that hosts of this user have really used."""
    return replace(
        settings,
        audio_path=existing_path(settings.audio_path),
        spool_path=existing_path(settings.spool_path),
    )


def _request(arguments: argparse.Namespace) -> Request:
    if (arguments.between is None) != (arguments.extension is None):
        raise ConfigError("--extension and --between FROM TO go together")
    since, until = map(_moment, arguments.between or ()) if arguments.between else (None, None)
    if since is not None and until is not None and since >= until:
        raise ConfigError(f"--between {' '.join(arguments.between)}: the first is not the earlier")
    return Request(arguments.trace_id, arguments.extension, since, until, arguments.call_id)


def _moment(text: str) -> datetime:
    try:
        return parse_time(text)
    except ValueError as error:
        raise ConfigError(f"--between {text!r}: {error}") from None


def _ask(trial: Receipt) -> None:
    """Show what would go, and let a person say that it shall."""
    if not sys.stdin.isatty():
        raise ConfigError("erasure is for good: say --yes, or --dry-run to see what would go")
    print(trial.as_text(), file=sys.stderr)
    if input("Erase all this for good? Type erase: ").strip() != "erase":
        raise ErasureError("nothing was erased")


@contextmanager
def _problems_said(what: str) -> Iterator[None]:
    """Say in one line what the database or the disk has refused."""
    try:
        yield
    except (ServerAwayError, NoSchemaError):
        raise
    except AnyDatabaseError as error:
        reason = str(error).strip().splitlines()[0]
        raise ErasureError(
            f"{what} did not get through: {reason}; it needs the login that owns the tables, or a "
            "member of the role, and `monitoring db migrate`; what was begun goes on next time"
        ) from None
    except OSError as error:
        raise ErasureError(
            f"{what} did not get through: {error}; what was begun goes on next time"
        ) from None


@contextmanager
def _progress(name: str) -> Iterator[Step]:
    """Show what is being done: on a terminal in place, elsewhere a line for each hour."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task, files = progress.add_task(name, total=None), 0

        def on_step(kind: Done, what: str) -> None:
            nonlocal files
            files += kind is Done.FILE
            progress.update(task, description=f"{name}: {files:,} files, {what[-60:]}")
            if kind is Done.HOUR and not console.is_terminal:
                console.print(f"{name}: {what}")

        yield on_step

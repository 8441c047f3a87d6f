"""The command ``import``: takes over the archive of an earlier installation."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from archiver.audio_reader import AudioUnreadableError
from archiver.files import write_whole
from archiver.imports import accounts
from archiver.imports.accounts import NOTES, REASONS, Ledger, Origin, ReportFile, SourceError
from archiver.imports.fields import Reading
from archiver.imports.importer import CONFIG_NAME, Importer, Order
from archiver.outputs import whole_file
from deploy.old_config import Proposal, translate
from exporter.config import Settings
from exporter.errors import ConfigError
from exporter.privacy import Masker

VARIABLES = ".env"


def register(
    top: argparse._SubParsersAction[argparse.ArgumentParser],
    add: Callable[..., argparse.ArgumentParser],
) -> None:
    """Add the command to the parser; ``add`` takes group, name, function and help."""
    command = add(top, "import", run_import, "take over the archive of an earlier installation")
    command.add_argument("path", type=Path, metavar="PATH", help="its export: folder or tarball")
    command.add_argument("--dry-run", action="store_true", help="report, and change nothing")
    command.add_argument(
        "--report", type=Path, metavar="FILE", help="JSON with everything that is not kept, and why"
    )
    command.add_argument(
        "--time-zone", default="UTC", metavar="NAME", help="of times that name none; UTC"
    )
    command.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help=f"write what {CONFIG_NAME} becomes here"
    )


def run_import(arguments: argparse.Namespace, settings: Settings) -> int:
    """Import, and tell what became of everything."""
    zone, now = _zone(arguments.time_zone), datetime.now(UTC)
    try:
        with _report_file(arguments.report) as report:
            summary = _import(arguments, settings, report, (zone, now))
    except (SourceError, AudioUnreadableError) as error:
        return _fail(str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(
            f"{where}{error.strerror or error}; see MONITORING_AUDIO_PATH; what came before is in "
            "the archive, and the same command goes on"
        )
    _print(arguments, settings, summary)
    return 0


def _import(
    arguments: argparse.Namespace,
    settings: Settings,
    report: ReportFile | None,
    times: tuple[tzinfo, datetime],
) -> dict[str, Any]:
    ledger = Ledger(report.add if report else lambda _: None)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("import", total=1.0)

        def show(what: str, share: float) -> None:
            progress.update(task, description=what, completed=share)

        zone, now = times
        reading = Reading(zone, Masker(settings.privacy_key_file).mask)
        order = Order(arguments.path, reading, arguments.dry_run, now, show)
        importer = Importer(order, settings, ledger)
        calls = importer.run()
    proposal = translate(importer.config[1], settings.registry) if importer.config else None
    was_there = False
    if arguments.output and proposal:
        was_there = _write(arguments.output, proposal, is_dry=arguments.dry_run)
    if importer.config and proposal:
        _count(ledger, Origin(accounts.CONFIG, importer.config[0]), proposal, was_there=was_there)
    summary = {"dry_run": arguments.dry_run, "calls": calls, **ledger.as_json()}
    summary["settings"] = proposal.environment if proposal else {}
    if report:
        report.finish(summary)
    return summary


def _count(ledger: Ledger, origin: Origin, proposal: Proposal, *, was_there: bool) -> None:
    """Count each value of the old configuration."""
    for _ in proposal.kept:
        if was_there:
            ledger.find(origin)
        else:
            ledger.keep(origin)
    for key, reason, detail in proposal.rejected:
        ledger.reject(origin, reason, f"{key}: {detail}" if detail else key)


def _write(path: Path, proposal: Proposal, *, is_dry: bool) -> bool:
    """Write the new configuration; True when it was there. Files with other content stay.

    Raises:
        SourceError: There is a file with other content.
    """
    beside = path.with_name(path.name + VARIABLES)
    texts = {path: proposal.file(), beside: proposal.variables()}
    was_there = {each: each.exists() for each in texts}
    for each, text in texts.items():
        if was_there[each] and each.read_text(encoding="utf-8") != text:
            raise SourceError(f"{each} is there already, with other content; name another file")
    for each, text in texts.items():
        if not was_there[each] and not is_dry:
            write_whole(each, [text.encode()])
    return all(was_there.values())


@contextmanager
def _report_file(path: Path | None) -> Iterator[ReportFile | None]:
    if path is None:
        yield None
        return
    with whole_file(path) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8")
        yield ReportFile(text)
        text.detach()  # flushes; the stream is closed where it was opened


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise ConfigError(
            f"--time-zone {name!r}: there is no such zone; try Europe/Paris"
        ) from None


def _print(arguments: argparse.Namespace, settings: Settings, summary: dict[str, Any]) -> None:
    if arguments.json:
        print(json.dumps(summary, indent=2))
        return
    console = Console()
    console.print(_counts(summary))
    reasons = _reasons(summary)
    if reasons.row_count:
        console.print(reasons)
    for line in _lines(arguments, settings, summary):
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _counts(summary: dict[str, Any]) -> Table:
    table = Table()
    table.add_column("kind")
    for name in ("offered", "kept", "already there", "rejected"):
        table.add_column(name, justify="right")
    for kind, account in summary["kinds"].items():
        rejected = sum(account["rejected"].values())
        numbers = (account["offered"], account["kept"], account["already_there"], rejected)
        table.add_row(kind, *(f"{each:,}" for each in numbers))
    return table


def _reasons(summary: dict[str, Any]) -> Table:
    table = Table()
    for name in ("kind", "", "reason", "meaning"):
        table.add_column(name, overflow="fold")
    table.add_column("count", justify="right")
    for what, part, words in (("rejected", "rejected", REASONS), ("kept", "notes", NOTES)):
        for kind, account in summary["kinds"].items():
            for reason, count in account[part].items():
                table.add_row(kind, what, reason, words[reason], f"{count:,}")
    return table


def _lines(
    arguments: argparse.Namespace, settings: Settings, summary: dict[str, Any]
) -> Iterator[str]:
    if summary["dry_run"]:
        yield "Nothing was changed: this was a dry run."
    calls = summary["calls"]
    yield (
        f"Calls: {calls['new']} new, {calls['extended']} extended, {calls['known']} known, "
        f"{calls['refused']} refused."
    )
    if calls["older_than_retention"]:
        yield (
            f"{calls['older_than_retention']} calls are older than MONITORING_RETENTION_HOURS="
            f"{settings.retention_hours:g}: the next retention deletes them. To keep them, raise "
            "it wherever the archive is written, and import again."
        )
    if calls["older_than_audio_retention"] > calls["older_than_retention"]:
        yield (
            f"The sound of {calls['older_than_audio_retention']} calls is older than "
            f"MONITORING_RETENTION_AUDIO_HOURS={settings.audio_hours:g}: it goes the same way."
        )
    for name, text in (("unknown_metric", "Metrics"), ("unknown_knob", "Knobs")):
        if summary[name]:
            yield f"{text} that the registry lacks, kept: {', '.join(sorted(summary[name]))}"
    for name, value in sorted(summary["settings"].items()):
        yield f"{name}={value}"
    if arguments.report:
        yield f"Each single one is in {arguments.report}."
    elif any(account["rejected"] for account in summary["kinds"].values()):
        yield "Which rows and files these are: --report FILE"


def _fail(message: str) -> int:
    print(f"monitoring: {message}", file=sys.stderr)
    return 1

"""The commands ``backup``, ``backup verify`` and ``restore``: options, reports, exit codes."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from archiver.database import AnyDatabaseError, ServerAwayError
from archiver.times import parse_time
from deploy.backup.backup import STANDARD_OUTPUT, Order, make_backup
from deploy.backup.errors import BackupError, DamagedBackupError
from deploy.backup.progress import Steps
from deploy.backup.restore import Restored, RestoreOrder, restore
from deploy.backup.verify import Verdict, verify
from deploy.config import postgres_bin_dir, set_variables
from deploy.postgres import EmbeddedPostgres
from deploy.serve import run_serve
from exporter.config import Settings
from exporter.errors import ConfigError, MonitoringError

Add = Callable[..., argparse.ArgumentParser]
_HOUR_S: Final = 3_600


def add_commands(top: argparse._SubParsersAction[argparse.ArgumentParser], add: Add) -> None:
    """Register the commands; `add` makes a parser with what all commands have."""
    backup = add(top, "backup", run_backup, "everything into one file, while all runs")
    backup.add_argument("-o", "--output", type=Path, metavar="FILE", help="- is standard output")
    backup.add_argument("--audio", default="all", metavar="none|HOURS|all", help="which sound")
    backup.add_argument("--trace", nargs="+", default=[], metavar="ID", help="these calls alone")
    backup.add_argument("--schema-only", action="store_true", help="tables without rows or sound")
    backup.add_argument(
        *("--include",),
        nargs="+",
        action="extend",
        type=Path,
        default=[],
        metavar="PATH",
        help="files and folders of the host",
    )
    check = add(
        backup.add_subparsers(metavar="verify"), "verify", run_verify, "is it what was written?"
    )
    check.add_argument("file", type=Path, metavar="FILE", help="- is standard input")
    back = add(top, "restore", run_restore, "a backup into an empty place")
    back.add_argument("file", type=Path, metavar="FILE", help="- is standard input")
    back.add_argument("--db", metavar="DATABASE", help="MONITORING_DB unless given")
    back.add_argument("--audio-path", type=Path, metavar="DIR", help="MONITORING_AUDIO_PATH unless")
    back.add_argument("--into-embedded", type=Path, metavar="DIR", help="a PostgreSQL of its own")
    back.add_argument("--serve", action="store_true", help="then show it, until Ctrl-C")
    back.add_argument("--config-dir", type=Path, metavar="DIR", help="for .env; here unless given")
    back.add_argument("--include-dir", type=Path, metavar="DIR", help="for the files of --include")
    back.add_argument("--erasures", type=Path, metavar="FILE", help="erasures.json of a newer one")
    back.add_argument("--replace", action="store_true", help="what is there goes, at the end")


def run_backup(arguments: argparse.Namespace, settings: Settings) -> int:
    """Back up database, sound, settings and package."""
    if arguments.output is None:
        raise ConfigError("backup: -o FILE says where to; -o - is standard output")
    is_piped = arguments.output == STANDARD_OUTPUT
    if is_piped and sys.stdout.isatty():
        raise ConfigError("backup: -o - is for a pipe, and standard output is a terminal")
    order = Order(
        output=arguments.output,
        audio_hours=_audio_hours(arguments.audio),
        traces=arguments.trace,
        is_schema_only=arguments.schema_only,
        include=arguments.include,
        variables=set_variables(),
        bin_dir=postgres_bin_dir(),
    )
    if order.traces and order.is_schema_only:
        raise ConfigError("backup: --trace and --schema-only exclude each other")
    begun = time.monotonic()
    steps = Steps()
    try:
        with _ended_as_by_ctrl_c(), steps.shown():
            manifest = make_backup(settings, order, steps)
    except (BackupError, OSError, AnyDatabaseError) as error:
        return _fail(f"no backup was made: {_reason(error)}")
    text = _backup_summary(manifest, order, time.monotonic() - begun)
    # Standard output has the backup itself.
    _print(arguments, manifest, text, stream=sys.stderr if is_piped else sys.stdout)
    return int(manifest["audio"]["unreadable"] > 0)


def run_verify(arguments: argparse.Namespace, _: Settings) -> int:
    """Say whether a backup is what was written, and name what is not."""
    steps = Steps()
    try:
        with steps.shown():
            verdict = verify(arguments.file, steps, postgres_bin_dir())
    except OSError as error:
        return _fail(f"{arguments.file} cannot be read: {_reason(error)}")
    _print(arguments, asdict(verdict), _verdict_text(verdict, arguments.file))
    return int(bool(verdict.problems))


def run_restore(arguments: argparse.Namespace, settings: Settings) -> int:
    """Restore a backup, and say what to do next."""
    if arguments.serve and arguments.into_embedded is None:
        raise ConfigError("restore: --serve goes with --into-embedded; else `monitoring serve`")
    if arguments.into_embedded and (arguments.db or arguments.audio_path):
        raise ConfigError("restore: --into-embedded has database and sound in its own folder")
    begun = time.monotonic()
    steps = Steps()
    with ExitStack() as held:
        try:
            order, settings = _restore_order(arguments, settings, held)
            with _ended_as_by_ctrl_c(), steps.shown():
                done = restore(order, steps)
        except DamagedBackupError as error:
            lines = "\n  ".join(error.problems)
            return _fail(f"the backup is damaged, and nothing was restored:\n  {lines}")
        except (MonitoringError, OSError, AnyDatabaseError) as error:
            return _fail(f"nothing was restored: {_reason(error)}")
        report = asdict(done) | {"next": _next_steps(done, settings)}
        _print(arguments, report, _restore_summary(report, order, time.monotonic() - begun))
        if arguments.serve:
            return run_serve(
                argparse.Namespace(host=None, port=None, parent=None, json=False), settings
            )
    return 0


@contextmanager
def _ended_as_by_ctrl_c() -> Iterator[None]:
    """Let SIGTERM end the block with its clean-up: what was begun is removed."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _restore_order(
    arguments: argparse.Namespace, settings: Settings, held: ExitStack
) -> tuple[RestoreOrder, Settings]:
    """Return what to restore, and the settings with which it is found afterwards."""
    order = RestoreOrder(
        source=arguments.file,
        database=_database(arguments.db) if arguments.db else settings.db,
        audio_path=arguments.audio_path or settings.audio_path,
        config_folder=arguments.config_dir or Path(),
        include_folder=arguments.include_dir,
        erasures=arguments.erasures,
        is_replacing=arguments.replace,
        bin_dir=postgres_bin_dir(),
    )
    folder = arguments.into_embedded
    if folder is not None:
        server = EmbeddedPostgres(folder / "postgres", bin_dir=postgres_bin_dir())
        held.enter_context(server)
        order = replace(
            order,
            database=server.conninfo(),
            audio_path=folder / "audio",
            config_folder=arguments.config_dir or folder,
            bin_dir=server.bin_dir,
        )
    return order, replace(settings, db=order.database, audio_path=order.audio_path)


def _audio_hours(text: str) -> float | None:
    if text == "all":
        return None
    try:
        hours = 0.0 if text == "none" else float(text)
    except ValueError:
        hours = -1.0
    if not 0 <= hours < float("inf"):
        raise ConfigError(f"--audio {text!r}: expected none, all, or a number of hours")
    return hours


def _database(text: str) -> str:
    return text if "=" in text or "://" in text else f"dbname={text}"


def _backup_summary(manifest: dict[str, Any], order: Order, seconds: float) -> str:
    audio = manifest["audio"]
    rows = sum(table["rows"] for table in manifest["tables"].values())
    text = (
        f"{order.output}: {rows:,} rows of {len(manifest['tables'])} tables, {audio['files']:,} "
        f"sound files ({audio['size'] / 1e6:,.1f} MB), as of {manifest['plan']['snapshot_at']}, in "
        f"{seconds:.1f} s"
    )
    lost = {name: audio[name] for name in ("missing", "changed", "unreadable") if audio[name]}
    if lost:
        counts = ", ".join(f"{count} {name}" for name, count in lost.items())
        text += f"\nsound that is not as its row says: {counts}\n  " + "\n  ".join(audio["named"])
    if manifest["spool"]["batches"]:
        text += (
            f"\n{manifest['spool']['batches']} batches wait in the spool and are not in the "
            "backup: they come with the next one"
        )
    if manifest["secrets_left_out"]:
        text += "\nsecrets left out: " + "; ".join(manifest["secrets_left_out"])
    return text


def _verdict_text(verdict: Verdict, path: Path) -> str:
    if verdict.problems:
        return f"{path} is damaged:\n  " + "\n  ".join(verdict.problems)
    plan = verdict.manifest["plan"]
    members = verdict.manifest["file_list"]["members"]
    text = f"{path} is whole: {members + 2} members, as of {plan['snapshot_at']}"
    return f"{text}\n{verdict.note}" if verdict.note else text


def _restore_summary(report: dict[str, Any], order: RestoreOrder, seconds: float) -> str:
    tables = report["manifest"]["tables"]
    rows = sum(table["rows"] for table in tables.values())
    done = (
        f"restored {order.source}: {rows:,} rows of {len(tables)} tables and {report['files']:,} "
        f"sound files, all as they were written, in {seconds:.1f} s"
    )
    lines = [done]
    if report["erased"]["traces"]:
        lines.append(f"erased again: {report['erased']['traces']} calls")
    lines += [f"wrote {path}" for path in report["written"]]
    return "\n".join([*lines, "next:", *(f"  - {step}" for step in report["next"])])


def _next_steps(done: Restored, settings: Settings) -> list[str]:
    steps = [f"fill in, in {done.written[0]}: {secret}" for secret in done.secrets]
    if done.roles:
        names = ", ".join(done.roles)
        steps.append(f"these roles are new; set passwords for those that log in: {names}")
    if done.left:
        steps.append(f"drop the database {done.left}, which is what was there before")
    cut = parse_time(done.manifest["plan"]["snapshot_at"])
    age_h = (datetime.now(UTC) - cut).total_seconds() / _HOUR_S
    if age_h >= 1:
        steps.append(
            f"the backup is {age_h:,.0f} hours old: what is older than "
            f"MONITORING_RETENTION_HOURS ({settings.retention_hours:g}) goes with the first "
            "retention; raise it before you start the host to keep it"
        )
    if done.manifest["spool"]["batches"]:
        steps.append(
            f"{done.manifest['spool']['batches']} batches waited in the old machine's spool: if it "
            "is still there, `monitoring spool drain` there uploads their numbers here"
        )
    return [*steps, "`monitoring doctor` looks at everything; then start the host"]


def _print(arguments: argparse.Namespace, data: object, text: str, stream: Any = None) -> None:
    if arguments.json:
        print(json.dumps(data, default=str, indent=2), file=stream)
    else:
        Console(file=stream).print(text, highlight=False, soft_wrap=True, markup=False)


def _reason(error: BaseException) -> str:
    if isinstance(error, ServerAwayError):
        return f"the database cannot be reached: {str(error).strip().splitlines()[0]}"
    return str(error).strip()


def _fail(message: str) -> int:
    print(f"monitoring: {message}", file=sys.stderr)
    return 1

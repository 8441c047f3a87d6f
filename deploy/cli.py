"""The command ``monitoring``: subcommands, their options, and how they end.

Exit codes: 0 done, 1 found a problem, 2 bad usage.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from archiver.database import NoSchemaError, ServerAwayError
from archiver.deletion.erasure import ErasureError
from archiver.deletion.holds import HoldError
from archiver.deletion.ledger import LedgerError
from archiver.drilldown import NoPortError
from archiver.migrations import MigrationError
from archiver.tokens import Role, TokenError
from dashboards.annotations import Addresses
from deploy import (
    commands,
    commands_access,
    commands_dashboards,
    commands_deletion,
    commands_erasures,
    commands_import,
)
from deploy.backup.commands import add_commands as add_backup
from deploy.board_schema import SCHEMAS
from deploy.export import run_bundle, run_export
from deploy.pg_binaries import PostgresNotFoundError
from deploy.postgres import PostgresStartError
from deploy.recordings import RecordingError
from deploy.serve import run_serve
from exporter.config import Settings, load_settings
from exporter.errors import MonitoringError

Command = Callable[[argparse.Namespace, Settings], int]
_PROBLEMS = (
    *(MigrationError, NoPortError, PostgresNotFoundError, PostgresStartError, RecordingError),
    *(ErasureError, HoldError, LedgerError, TokenError),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    arguments = build_parser().parse_args(argv)
    command: Command = arguments.run
    try:
        return command(arguments, load_settings())
    except ServerAwayError as error:
        reason = str(error).strip().splitlines()[0]
        return _fail(1, f"the database cannot be reached: {reason}; see MONITORING_DB")
    except NoSchemaError:
        return _fail(1, "the database has no archive yet: run `monitoring db init`")
    except _PROBLEMS as error:
        return _fail(1, str(error))
    except MonitoringError as error:
        return _fail(2, str(error))
    except KeyboardInterrupt:
        return 130


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all subcommands."""
    parser = argparse.ArgumentParser(
        prog="monitoring", description="Hear what every station did to a call."
    )
    top = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_demo(top)
    _add_replay(top)
    db = _group(top, "db", "database and roles")
    _add(db, "init", commands.db_init, "create database, roles and schema")
    _add(db, "migrate", commands.db_migrate, "bring the schema to this version")
    _add(db, "status", commands.db_status, "compare the schema with this version")
    drain = _add(
        _group(top, "spool", "the spool"), "drain", commands.spool_drain, "upload and exit"
    )
    drain.add_argument("--timeout", type=float, default=600.0, metavar="S", help="give up after")
    traces = _group(top, "traces", "calls in the archive")
    newest = _add(traces, "list", commands.traces_list, "the newest calls")
    newest.add_argument("--limit", type=int, default=20, metavar="N", help="how many")
    _add(traces, "show", commands.traces_show, "one call").add_argument("trace_id", metavar="ID")
    _add_play_url(traces)
    _add_exports(top, traces)
    commands_deletion.register(top, traces, _add)
    commands_erasures.register(_group(top, "erasures", "the ledger of erased calls"), _add)
    commands_import.register(top, _add)
    _add_serve(top)
    _add_tokens(top)
    knobs = _add(_group(top, "knobs", "knobs"), "list", _on_audio("knobs_list"), "all knobs")
    knobs.add_argument("--rate", type=int, default=16_000, metavar="HZ", help="sampling rate")
    add_backup(top, _add)
    _add_dashboards(top)
    _add(top, "doctor", commands.doctor, "look at everything, and say what to do")
    return parser


def _add_demo(top: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    demo = _add(top, "demo", _on_audio("demo"), "everything on this machine, from nothing")
    demo.add_argument("--duration", type=float, metavar="S", help="end after so many seconds")
    demo.add_argument("--calls", type=int, default=1, metavar="N", help="calls at the same time")
    demo.add_argument("--data", type=Path, metavar="DIR", help="keep database and audio here")
    demo.add_argument(
        "--speech", type=Path, nargs="+", default=(), metavar="FILE", help="one or two recordings"
    )
    demo.add_argument(
        "--use-db", action="store_true", help="archive in MONITORING_DB, start no PostgreSQL"
    )


def _add_replay(top: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    replay = _add(top, "replay", _on_audio("run_replay"), "recorded audio through a station")
    replay.add_argument("files", nargs="+", metavar="FILE")
    replay.add_argument("--station", default="St_3_3333", metavar="KEY")
    replay.add_argument("--trace-id", metavar="ID")
    replay.add_argument("--at", metavar="ISO", help="time of the first sample; now unless given")
    replay.add_argument("--src", default="3333", metavar="EXT", help="who calls")
    replay.add_argument("--dst", metavar="EXT", help="who is called")
    replay.add_argument("--knob", action="append", default=[], metavar="KEY=VALUE")
    replay.add_argument("--block-ms", type=float, default=20.0, metavar="N")
    replay.add_argument("--realtime", action="store_true", help="take as long as the audio does")


def _add_play_url(traces: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    play = _add(
        traces, "play-url", commands_access.traces_play_url, "signed address of a moment's sound"
    )
    play.add_argument("trace_id", metavar="ID")
    play.add_argument("--station", required=True, metavar="KEY")
    play.add_argument("--tap", choices=("PRE", "POST", "DELTA"), default="POST")
    play.add_argument("--at", required=True, metavar="ISO", help="first moment")
    play.add_argument("--seconds", type=float, default=5.0, metavar="S", help="how long")
    play.add_argument("--hours", type=float, default=1.0, metavar="H", help="how long it is good")


def _add_serve(top: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    serve = _add(top, "serve", run_serve, "the drill-down page and its sound")
    serve.add_argument("--host", metavar="ADDRESS", help="MONITORING_SERVE_HOST unless given")
    serve.add_argument("--port", type=int, metavar="N", help="MONITORING_SERVE_PORT unless given")
    # Of a process that starts this one: end with it.
    serve.add_argument("--parent", type=int, help=argparse.SUPPRESS)


def _add_tokens(top: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    tokens = _group(top, "tokens", "who may ask the drill-down from another machine")
    create = _add(tokens, "create", commands_access.tokens_create, "make one, and show it once")
    create.add_argument("name", metavar="NAME", help="who will hold it")
    create.add_argument("--role", action="append", required=True, choices=[str(r) for r in Role])
    create.add_argument("--days", type=float, metavar="N", help="how long it is good")
    _add(tokens, "list", commands_access.tokens_list, "all that were ever made")
    revoke = _add(tokens, "revoke", commands_access.tokens_revoke, "take one back")
    revoke.add_argument("name", metavar="NAME")


def _add_exports(
    top: argparse._SubParsersAction[argparse.ArgumentParser],
    traces: argparse._SubParsersAction[argparse.ArgumentParser],
) -> None:
    days = _add(top, "export", run_export, "tables and views as files, one for each day")
    days.add_argument("folder", type=Path, metavar="DIR")
    days.add_argument("--from", dest="since", required=True, metavar="ISO", help="first moment")
    days.add_argument("--to", dest="until", required=True, metavar="ISO", help="moment after it")
    days.add_argument("--format", choices=("csv", "jsonl"), default="csv")
    days.add_argument("--gzip", action="store_true", help="compress the files")
    days.add_argument("--with-extensions", action="store_true", help="with who called whom")
    days.add_argument("--force", action="store_true", help="write again what is there")
    call = _add(traces, "export", run_bundle, "one call as a zip file with report and sound")
    call.add_argument("trace_id", metavar="ID")
    call.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.zip")
    call.add_argument("--station", metavar="KEY", help="this station alone")
    call.add_argument("--from", dest="since", metavar="ISO", help="from this moment on")
    call.add_argument("--to", dest="until", metavar="ISO", help="up to this moment")
    call.add_argument("--flac", action="store_true", help="pack the sound, without loss")
    call.add_argument("--force", action="store_true", help="replace FILE.zip")


def _add_dashboards(top: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    group = _group(top, "dashboards", "Grafana's dashboards, and the rules of alerts")
    build = _add(group, "build", commands_dashboards.build, "write them as JSON and YAML")
    build.add_argument(
        *("-o", "--output"),
        type=Path,
        metavar="DIR",
        help="all below it; else to their places here",
    )
    here = Addresses()
    build.add_argument(
        "--grafana-url", default=here.grafana_url, metavar="URL", help="where alerts link to"
    )
    build.add_argument(
        "--runbook-url", default=here.runbook_url, metavar="URL", help="a page with RUNBOOK.md"
    )
    check = _add(
        group, "check", commands_dashboards.check, "ask all their queries, as Grafana does"
    )
    check.add_argument("--prometheus", metavar="URL", help="without it, SQL alone is asked")
    check.add_argument("--schemas", type=Path, default=SCHEMAS, metavar="DIR", help="JSON Schemas")


def _on_audio(name: str) -> Command:
    """Return a command of `deploy.commands_audio`, which takes long to load: when it is called."""

    def run(arguments: argparse.Namespace, settings: Settings) -> int:
        command: Command = getattr(import_module("deploy.commands_audio"), name)
        return command(arguments, settings)

    return run


def _group(
    top: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str
) -> argparse._SubParsersAction[argparse.ArgumentParser]:
    parser = top.add_parser(name, help=text, description=text)
    return parser.add_subparsers(metavar="COMMAND", required=True)


def _add(
    group: argparse._SubParsersAction[argparse.ArgumentParser], name: str, run: Command, text: str
) -> argparse.ArgumentParser:
    parser = group.add_parser(name, help=text, description=text)
    parser.add_argument("--json", action="store_true", help="report as JSON")
    parser.set_defaults(run=run)
    return parser


def _fail(code: int, message: str) -> int:
    print(f"monitoring: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())

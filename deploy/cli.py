"""The command ``monitoring``: subcommands, their options, and how they end.

Exit codes: 0 done, 1 found a problem, 2 bad usage.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from archiver.database import NoSchemaError, ServerAwayError
from archiver.migrations import MigrationError
from deploy import commands
from deploy.demo import run_demo
from deploy.pg_binaries import PostgresNotFoundError
from deploy.postgres import PostgresStartError
from deploy.replay import RecordingError
from exporter.config import Settings, load_settings
from exporter.errors import MonitoringError

Command = Callable[[argparse.Namespace, Settings], int]


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
    except (MigrationError, PostgresNotFoundError, PostgresStartError, RecordingError) as error:
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
    knobs = _add(_group(top, "knobs", "knobs"), "list", commands.knobs_list, "all knobs")
    knobs.add_argument("--rate", type=int, default=16_000, metavar="HZ", help="sampling rate")
    _add(top, "doctor", commands.doctor, "look at everything, and say what to do")
    return parser


def _add_demo(top: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    demo = _add(top, "demo", _demo, "everything on this machine, from nothing")
    demo.add_argument("--duration", type=float, metavar="S", help="end after so many seconds")
    demo.add_argument("--calls", type=int, default=1, metavar="N", help="calls at the same time")
    demo.add_argument("--data", type=Path, metavar="DIR", help="keep database and audio here")
    demo.add_argument(
        "--speech", type=Path, nargs="+", default=(), metavar="FILE", help="one or two recordings"
    )


def _add_replay(top: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    replay = _add(top, "replay", commands.run_replay, "recorded audio through a station")
    replay.add_argument("files", nargs="+", metavar="FILE")
    replay.add_argument("--station", default="St_3_3333", metavar="KEY")
    replay.add_argument("--trace-id", metavar="ID")
    replay.add_argument("--at", metavar="ISO", help="time of the first sample; now unless given")
    replay.add_argument("--src", default="3333", metavar="EXT", help="who calls")
    replay.add_argument("--dst", metavar="EXT", help="who is called")
    replay.add_argument("--knob", action="append", default=[], metavar="KEY=VALUE")
    replay.add_argument("--block-ms", type=float, default=20.0, metavar="N")
    replay.add_argument("--realtime", action="store_true", help="take as long as the audio does")


def _demo(arguments: argparse.Namespace, settings: Settings) -> int:
    return run_demo(
        settings,
        duration_s=arguments.duration,
        calls=arguments.calls,
        data=arguments.data,
        speech=tuple(arguments.speech),
    )


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

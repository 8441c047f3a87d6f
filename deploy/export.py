"""What people take out of the archive: days as files, and one call as a bundle."""

from __future__ import annotations

import argparse
import json
import os
import pwd
import sys
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.progress import Progress

from archiver.buckets import Part
from archiver.bundle import NOT_KEPT, REPORT, BundleError, BundleOrder, write_bundle
from archiver.bundle_data import UnknownCallError
from archiver.export import MANIFEST, ExportError, export
from archiver.export_plan import Order
from archiver.times import iso, parse_time
from exporter.config import Settings
from exporter.errors import ConfigError


def run_export(arguments: argparse.Namespace, settings: Settings) -> int:
    """Write the tables and views that analysts need, one file for each table and day."""
    order = Order(
        since=_bound("--from", arguments.since),
        until=_bound("--to", arguments.until),
        folder=arguments.folder,
        format=arguments.format,
        is_gzip=arguments.gzip,
        has_extensions=arguments.with_extensions,
        is_forced=arguments.force,
    )
    if order.since >= order.until:
        raise ConfigError(f"--from {iso(order.since)} is not before --to {iso(order.until)}")
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("export", total=1.0)
        try:
            done = export(
                settings.db,
                order,
                report=lambda name, share: progress.update(task, completed=share, description=name),
                now=datetime.now(UTC),
            )
        except (ExportError, OSError) as error:
            return _fail(str(error))
    _print(arguments, done, _summary(done, order))
    return 0


def run_bundle(arguments: argparse.Namespace, settings: Settings) -> int:
    """Write one call, or a part of it, as a bundle that explains itself."""
    since, until = (
        text and _bound(option, text)
        for option, text in (("--from", arguments.since), ("--to", arguments.until))
    )
    order = BundleOrder(
        part=Part(arguments.trace_id, arguments.station, since, until),
        path=arguments.output,
        audio_root=settings.audio_path,
        is_flac=arguments.flac,
        is_forced=arguments.force,
        who=f"local:{_user()}",
        now=datetime.now(UTC),
    )
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("export", total=1.0)
        try:
            manifest = write_bundle(
                settings.db,
                order,
                progress=lambda share: progress.update(task, completed=share),
            )
        except (BundleError, UnknownCallError, OSError) as error:
            return _fail(str(error))
    _print(arguments, manifest, _bundle_summary(manifest, order))
    return int(any(entry["reason"] != NOT_KEPT for entry in manifest["missing"]))


def _bundle_summary(manifest: dict[str, Any], order: BundleOrder) -> str:
    sounds = sum(entry["file"].startswith("audio/") for entry in manifest["files"])
    text = f"{order.path}: {len(manifest['files'])} files, {sounds} of them sound; open {REPORT}"
    if manifest["missing"]:
        text += "\nsome sound is not in it; the report says which and why"
    return text


def _user() -> str:
    """Return who runs this, by the system and not by what the environment claims."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _summary(done: dict[str, Any], order: Order) -> str:
    files, written = done["files"], done["written"]
    new = [entry for entry in files if entry["file"] in written]
    rows, size = (sum(entry[name] for entry in new) for name in ("rows", "bytes"))
    return (
        f"{len(new)} files written to {order.folder}: {rows:,} rows, {size / 1e6:,.1f} MB; "
        f"{len(files) - len(new)} were there; {MANIFEST} lists all with their hashes"
    )


def _bound(option: str, text: str) -> datetime:
    try:
        return parse_time(text)
    except ValueError as error:
        raise ConfigError(f"{option} {text!r}: {error}") from None


def _print(arguments: argparse.Namespace, data: object, text: str) -> None:
    if arguments.json:
        print(json.dumps(data, default=str, indent=2))
    else:
        Console().print(text, highlight=False, soft_wrap=True, markup=False)


def _fail(message: str) -> int:
    print(f"monitoring: {message}", file=sys.stderr)
    return 1

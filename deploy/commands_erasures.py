"""The commands about the ledger of erasures: what was erased, and to another archive's ledger."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from archiver.deletion import ledger
from archiver.times import iso
from deploy.commands_deletion import in_place
from exporter.config import Settings
from exporter.errors import ConfigError


def register(
    group: argparse._SubParsersAction[argparse.ArgumentParser],
    add: Callable[..., argparse.ArgumentParser],
) -> None:
    """Add the commands to their group; ``add`` takes group, name, function and help."""
    add(group, "list", erasures_list, "every erasure: why, when, and how much went")
    out = add(group, "export", erasures_export, "the ledger and its keys as a file")
    out.add_argument("file", type=Path, metavar="FILE")
    again = add(group, "apply", erasures_apply, "erase again what the ledger has, after a restore")
    again.add_argument("file", type=Path, nargs="?", metavar="FILE", help="an exported ledger")


def erasures_list(arguments: argparse.Namespace, settings: Settings) -> int:
    """List all erasures; none names a call."""
    found = ledger.erasures(settings.db)
    if arguments.json:
        print(json.dumps(found, default=iso, indent=2))
        return 0
    table = Table("erasure", "reason", "by", "begun", "finished")
    for each in found:
        table.add_row(*(_shown(each[name]) for name in ledger.ERASURE_FIELDS))
    Console().print(table)
    return 0


def erasures_export(arguments: argparse.Namespace, settings: Settings) -> int:
    """Write the ledger to a new file that its owner alone may read."""
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(arguments.file, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(ledger.dump(settings.db))
    except OSError as error:
        raise ConfigError(f"{arguments.file}: {error.strerror}") from None
    print(json.dumps({"file": str(arguments.file)}) if arguments.json else arguments.file)
    return 0


def erasures_apply(arguments: argparse.Namespace, settings: Settings) -> int:
    """Erase again what came back."""
    came = 0
    if arguments.file is not None:
        try:
            came = ledger.load(settings.db, arguments.file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{arguments.file}: {error}") from None
    counts = {"came_new": came} | ledger.reapply(settings.db, in_place(settings).audio_path)
    text = f"{came} calls came new into the ledger; {counts['traces']} had come back and went again"
    print(json.dumps(counts) if arguments.json else text)
    return 0


def _shown(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    return str(value or "-")

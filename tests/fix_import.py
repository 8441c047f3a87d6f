"""An empty archive, an old export, and what a report of an import says."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest

from archiver.imports.accounts import KINDS, NOTES, REASONS
from archiver.migrations import migrate
from tests.fix_old_export import (
    write_old_export,
)
from tests.fix_seeded import Seeded

PAGE = Path(__file__).parents[1] / "docs" / "import.md"
TABLES = (
    *("traces", "metrics_agg_5s", "audio_segments_5s", "tap_buckets_5s", "knob_snapshots_5s"),
    *("knob_events", "gaps", "call_totals", "applied_batches", "pg_inherits"),
)


@pytest.fixture
def archive(database: str, tmp_path: Path) -> Seeded:
    """Return an empty archive and the command that uses it."""
    migrate(database)
    return Seeded(database, tmp_path, 0)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Return the synthetic export, as a folder."""
    return write_old_export(tmp_path / "old")


def packed(folder: Path) -> Path:
    """Return a tarball of a folder, in the order of names."""
    path = folder.with_suffix(".tgz")
    with tarfile.open(path, "w:gz") as tar:
        for each in sorted(folder.rglob("*")):
            tar.add(each, each.relative_to(folder), recursive=False)
    return path


def run(archive: Seeded, path: Path, *options: str) -> Any:
    """Import, and return the report."""
    code, out, err = archive.call("import", str(path), "--json", *options)
    assert 0 == code, err
    return json.loads(out)


def contents(archive: Seeded) -> dict[str, object]:
    """Return all rows and files, in comparable form."""
    rows: dict[str, object] = {
        name: archive.query(
            f"SELECT count(*), md5(string_agg(t::text, '' ORDER BY t::text)) FROM {name} t"
        )
        for name in TABLES
    }
    files = sorted(archive.audio.rglob("*.wav")) if archive.audio.exists() else []
    return rows | {str(path): path.read_bytes() for path in files}


def sums(report: Any) -> dict[str, list[int]]:
    """Return offered, kept, already there and rejected of each kind."""
    return {
        kind: [
            *(account[name] for name in ("offered", "kept", "already_there")),
            sum(account["rejected"].values()),
        ]
        for kind, account in report["kinds"].items()
    }


def page_rows(first_column: str) -> list[list[str]]:
    """Return the cells of a table of the page, by its first column."""
    table = PAGE.read_text(encoding="utf-8").partition(f"| {first_column} |")[2]
    lines = table.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def documented(first_column: str) -> dict[str, list[int]]:
    """Return the numbers of a table of the page, by its first column."""
    return {
        row[0].strip("`"): [int(cell) for cell in row[1:] if re.fullmatch(r"\d+", cell)]
        for row in page_rows(first_column)
    }


def by_reason(report: Any, part: str) -> dict[str, list[int]]:
    """Return how often each reason or note came, for each kind."""
    words = REASONS if part == "rejected" else NOTES
    return {
        reason: [report["kinds"][kind][part].get(reason, 0) for kind in KINDS] for reason in words
    }

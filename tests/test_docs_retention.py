"""Every command and query of docs/retention.md runs, in the order of the page."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from archiver.deletion.receipt import NOT_REACHED
from tests.fix_seeded import Seeded

PAGE = (Path(__file__).parents[1] / "docs" / "retention.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(sh|sql)\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def test_commands_of_the_page_run(
    seeded: Seeded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line ends with code 0, and after the last one every call of the page is erased."""
    monkeypatch.chdir(tmp_path)
    # The third call is of the day that the page names; retention keeps it nevertheless.
    seeded.query("UPDATE traces SET started_at = '2026-01-03T12:00Z' WHERE call_id IS NULL")
    lines = 0
    for kind, text in BLOCKS:
        if kind == "sql":
            seeded.query(text)
            continue
        for line in text.splitlines():
            command, *arguments = shlex.split(line)
            code, _, err = seeded.call(*arguments)
            assert ("monitoring", 0, "") == (command, code, err if code else ""), line
            lines += 1

    assert 14 == lines
    assert [(0, 3)] == seeded.query(
        "SELECT (SELECT count(*) FROM traces), (SELECT count(*) FROM erasures)"
    )
    assert (tmp_path / "receipt.json").exists()


def test_the_page_names_what_is_not_reached() -> None:
    """Page and receipt have the same list."""
    assert 6 == len(NOT_REACHED)
    for word in ("Prometheus", "backups", "bundles", "write-ahead log", "snapshots", "host itself"):
        assert any(word in text for text in NOT_REACHED)
        assert word in PAGE

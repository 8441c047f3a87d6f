"""Prometheus's programs for the tests; a test is skipped where they are not installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def program(name: str) -> str:
    """Return the path of a program, or skip the test with a word on how to get it."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: make test-tools")
    return found


def promtool(*arguments: str | Path) -> tuple[int, str]:
    """Run promtool; return its exit code and what it says."""
    done = subprocess.run(
        [program("promtool"), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


__all__ = ["program", "promtool"]

"""What pytest itself needs; the fixtures live in the fix_*.py plugins beside this file."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

# Where a change is judged, the same examples every time; elsewhere, new ones.
settings.register_profile("judged", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("judged")

pytest_plugins = [
    "tests.fix_drilldown",
    "tests.fix_browser",
    "tests.fix_grafana",
    "tests.fix_postgres",
    "tests.fix_retention",
    "tests.fix_proxy",
    "tests.fix_seeded",
    "tests.fix_backup",
    "tests.fix_compiled",
    "tests.fix_speech",
    "tests.fix_import",
]

_TEMPORARY = pytest.StashKey[Path]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of continuous integration: there, a skipped test is a failed one."""
    parser.addoption("--fail-on-skip", action="store_true", help="count a skipped test as failed")


def pytest_configure(config: pytest.Config) -> None:
    """Put everything temporary, of child processes too, below one folder that goes at the end."""
    folder = Path(tempfile.mkdtemp(prefix="monitoring-v2-tests-"))
    folder.chmod(0o711)  # the server's account passes through
    config.stash[_TEMPORARY] = folder
    os.environ["TMPDIR"] = os.environ["PYTEST_DEBUG_TEMPROOT"] = str(folder)
    tempfile.tempdir = str(folder)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the temporary folder."""
    shutil.rmtree(config.stash[_TEMPORARY], ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure that says why, when --fail-on-skip asks for it."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and item.config.getoption("fail_on_skip"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which counts as failed: {report.longreprtext}"
    return report

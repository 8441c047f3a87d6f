"""The compiled loops are there before a test begins, and take the types they are declared for."""

from __future__ import annotations

import pytest

import exporter.monitor  # noqa: F401 - brings all of them
from exporter.compiled import prepare


@pytest.fixture(scope="session", autouse=True)
def loops() -> None:
    """Compile what is not in the cache, outside of a test's time."""
    prepare()

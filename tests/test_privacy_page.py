"""docs/privacy.md shows what works, as it stands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from archiver.migrations import migrate
from exporter import Monitor
from exporter.config import load_settings
from exporter.model import Cause, Consent, Recording, Tap
from tests.fix_host import Host
from tests.fix_seeded import Seeded

PAGE = Path(__file__).parents[1] / "docs" / "privacy.md"


def blocks(language: str) -> Iterator[str]:
    """Yield the blocks of a language, in order."""
    text = PAGE.read_text(encoding="utf-8")
    yield from re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def test_the_lines_of_python_run_one_after_the_other() -> None:
    """A host that does all that the page shows ends in a refused call that is not paused."""
    monitor = Monitor(load_settings({}), has_thread=False)
    monitor.start()
    names: dict[str, object] = {"monitor": monitor}
    for block in blocks("python"):
        exec(block, names)  # noqa: S102 - the page's own lines
    monitor.stop()

    assert Consent.REFUSED is names["trace"].consent  # type: ignore[attr-defined] # made above


def test_the_configuration_is_valid(tmp_path: Path) -> None:
    """The stations of the page's file have the recordings that it gives them."""
    (block,) = blocks("json")
    path = tmp_path / "monitoring.config.json"
    path.write_text(block, encoding="utf-8")

    settings = load_settings({"MONITORING_CONFIG": str(path)})

    for key, options in json.loads(block)["stations"].items():
        assert Recording(options["recording"]) is settings.station(key).recording


def test_the_query_fits_the_schema(database: str) -> None:
    """The query runs on a fresh database."""
    migrate(database)
    (query,) = blocks("sql")
    with psycopg.connect(database) as connection:
        assert [] == connection.execute(query.encode()).fetchall()


def test_the_command_tells_of_consent_and_key(database: str, tmp_path: Path) -> None:
    """`monitoring doctor` has a line for each."""
    (command,) = blocks("sh")
    name, *arguments = command.split()
    assert "monitoring" == name

    _, out, err = Seeded(database, tmp_path, 0).call(*arguments, "--json")

    assert {"consent", "privacy key"} <= {each["name"] for each in json.loads(out)}, err


@pytest.mark.parametrize(
    ("consent", "kept"),
    [("unknown", Recording.OFF), ("announced", Recording.AUDIO), ("refused", Recording.NUMBERS)],
)
def test_the_table_of_consent_is_what_happens(consent: str, kept: Recording) -> None:
    """The page's table, its cause and its exception for `off` are what a call shows."""
    host = Host(settings=replace(load_settings({}), consent_unknown=Recording.OFF), consent=consent)
    host.send(6)
    archive = host.end()

    assert (kept is Recording.AUDIO) == bool(archive.audio(Tap.POST))
    assert (kept is not Recording.OFF) == bool(archive.buckets())
    assert set(archive.gaps()) <= {Cause.MASKED}

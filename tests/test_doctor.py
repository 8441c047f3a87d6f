"""What the doctor finds on this machine and in the database, and what it says to do."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from archiver.batch import encode
from archiver.migrations import migrate
from deploy.checks_database import database_findings
from deploy.checks_host import host_findings
from deploy.finding import Finding
from deploy.postgres import free_port
from exporter.config import Settings
from tests.fix_archive import settings
from tests.test_upgrade import format_2, golden_batch, leave


def on_host(found: Settings) -> dict[str, Finding]:
    """Return what is found on this machine by name, but for the clock, which is not the tests'."""
    return {each.name: each for each in host_findings(found) if each.name != "clock"}


def in_database(found: Settings) -> dict[str, Finding]:
    """Return what is found in the database by name."""
    return {each.name: each for each in database_findings(found)}


@pytest.fixture
def sound(tmp_path: Path) -> Settings:
    """Return settings with which nothing on this machine is wrong."""
    for name in ("audio", "spool"):
        (tmp_path / name).mkdir(mode=0o750)
    key = tmp_path / "signing.key"
    key.touch(mode=0o600)
    return replace(
        settings(tmp_path, "dbname=none"),
        metrics_ports=(free_port(),),
        serve_ports=(free_port(),),
        spool_max_bytes=1024**2,
        signing_key_file=key,
    )


def test_a_machine_without_fault(sound: Settings) -> None:
    """Folders, spool, secret and ports are named, and all is well."""
    found = on_host(sound)

    assert {"audio", "spool", "spool room", "secret", "port", "serve port"} == found.keys()
    assert [] == [each for each in found.values() if not each.is_well]


def test_the_clock_is_looked_at(sound: Settings) -> None:
    """Whether something keeps the clock right is known, one way or the other."""
    (clock,) = [each for each in host_findings(sound) if each.name == "clock"]

    assert clock.is_well == ("chrony" not in clock.text)


@pytest.mark.parametrize("name", ["audio", "spool"])
def test_folders_that_everybody_sees(sound: Settings, tmp_path: Path, name: str) -> None:
    """A folder of sound or of batches that others may enter is a problem, with its remedy."""
    (tmp_path / name).chmod(0o755)

    finding = on_host(sound)[name]

    assert not finding.is_well
    assert "chmod o= it" in finding.text


def test_a_secret_that_everybody_reads(sound: Settings, tmp_path: Path) -> None:
    """The file of a secret that others may read is a problem."""
    (tmp_path / "signing.key").chmod(0o644)

    assert "can read" in on_host(sound)["secret"].text
    assert not on_host(sound)["secret"].is_well


def test_a_password_file_of_libpq_is_a_secret_too(
    sound: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file that PGPASSFILE names is looked at like our own."""
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "nowhere"))

    found = [each for each in host_findings(sound) if each.name == "secret"]

    assert [True, False] == [each.is_well for each in found]
    assert "No such file" in found[1].text


def test_a_spool_that_fills(sound: Settings, tmp_path: Path) -> None:
    """More than half of its limit, or a limit that the disk cannot hold, is a problem."""
    leave(tmp_path, bytes(700_000))
    assert "is the database there?" in on_host(sound)["spool room"].text

    beyond = on_host(replace(sound, spool_max_bytes=10**18))["spool room"]
    assert not beyond.is_well
    assert "MONITORING_SPOOL_MAX_BYTES" in beyond.text


def test_batches_that_this_version_cannot_upload(sound: Settings, tmp_path: Path) -> None:
    """Those of a later version and those set aside are counted; ordinary ones are not."""
    leave(tmp_path, b"".join(encode(golden_batch())))
    assert {"spool format", "spool bad"}.isdisjoint(on_host(sound))

    path = leave(tmp_path, format_2())
    (path.parent / "bad").mkdir()
    (path.parent / "bad" / "one.json").touch()

    found = on_host(sound)
    assert "1 batches are of a later version" in found["spool format"].text
    assert "one.json" in found["spool bad"].text


@contextmanager
def answering(body: bytes) -> Iterator[int]:
    """Serve one body on a port of this machine."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("body", "is_well"), [(b"monitoring_build_info 1", True), (b"hi", False)])
def test_who_has_the_port(sound: Settings, body: bytes, is_well: bool) -> None:
    """A port where monitoring answers is well; one that another program has is not."""
    with answering(body) as port:
        finding = on_host(replace(sound, metrics_ports=(port,)))["port"]

    assert is_well == finding.is_well
    assert is_well == ("MONITORING_METRICS_PORT" not in finding.text)


def test_a_database_without_fault(database: str, sound: Settings) -> None:
    """A migrated database of a supported release with a true clock is well, also empty."""
    migrate(database)

    found = in_database(replace(sound, db=database))

    assert {"database", "database release", "database clock", "retention"} == found.keys()
    assert [] == [each for each in found.values() if not each.is_well]


def test_a_database_that_is_away(sound: Settings) -> None:
    """One finding says so."""
    found = in_database(replace(sound, db="host=127.0.0.1 port=1"))

    assert ["database"] == list(found)
    assert "MONITORING_DB" in found["database"].text


@pytest.mark.parametrize(("number", "is_well"), [(-1, False), (1, True)])
def test_a_schema_of_another_version(
    database: str, sound: Settings, number: int, is_well: bool
) -> None:
    """An older schema is to be migrated; a newer one takes data, and is said to be newer."""
    migrate(database)
    with psycopg.connect(database) as connection:
        newest = "SELECT max(number) FROM schema_migrations"
        if number < 0:
            connection.execute(f"DELETE FROM schema_migrations WHERE number = ({newest})".encode())
        else:
            insert = f"INSERT INTO schema_migrations SELECT ({newest}) + 1, 'later', ''"
            connection.execute(insert.encode())

    finding = in_database(replace(sound, db=database))["database"]

    assert is_well == finding.is_well
    assert ("later version" if is_well else "run `monitoring db init`") in finding.text


def test_an_empty_database_is_to_be_initialised(database: str, sound: Settings) -> None:
    """A database without an archive is one finding."""
    found = in_database(replace(sound, db=database))

    assert ["database"] == list(found)
    assert "run `monitoring db init`" in found["database"].text


def test_retention_that_does_not_run(database: str, sound: Settings) -> None:
    """Rows far older than the limit say that nothing deletes them."""
    migrate(database)
    old = datetime.now(UTC) - timedelta(hours=80)
    with psycopg.connect(database) as connection:
        connection.execute("SELECT ensure_partitions(ARRAY[%s])", [old])

    short = in_database(replace(sound, db=database))["retention"]
    long = in_database(replace(sound, db=database, retention_hours=90.0))["retention"]

    assert (False, True) == (short.is_well, long.is_well)
    assert "monitoring retention" in short.text

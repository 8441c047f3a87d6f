"""Secrets stay where they are: not in logs, nor in what is shown, nor where `ps` looks.

Roles are in test_archiver_database.py, hostile paths in test_drilldown_audio.py, who listened in
test_drilldown_log.py. Known weaknesses of the locked packages are for a tool with a network.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from archiver.database import Database
from exporter.config import ENVIRONMENT_VARIABLES, load_settings
from exporter.errors import ConfigError

CANARY = "kanarienvogel7"
SECRET = re.compile("KEY$|TOKEN$|SECRET$|PASSWORD$")


def arguments_of_all(stop: threading.Event, found: set[bytes]) -> None:
    """Gather the command lines of this process's descendants until told to stop."""
    while not stop.is_set():
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                found.add(path.read_bytes())
            except OSError:
                continue
        stop.wait(0.02)


def test_a_password_is_in_no_output_and_no_command_line(tmp_path: Path, database: str) -> None:
    """Commands, and the processes that they start, never show the database's password."""
    db = make_conninfo(database, password=CANARY)
    key = tmp_path / "signing.key"
    key.write_text(CANARY * 3)
    environment = {
        **os.environ,
        "MONITORING_DB": db,
        "MONITORING_AUDIO_PATH": str(tmp_path / "audio"),
        "MONITORING_SPOOL_PATH": str(tmp_path / "spool"),
        "MONITORING_SIGNING_KEY_FILE": str(key),
        "MONITORING_SERVE_PORT": "1",
        "PYTHONUNBUFFERED": "1",
    }
    stop, seen, said = threading.Event(), set[bytes](), ""
    watcher = threading.Thread(target=arguments_of_all, args=(stop, seen))
    watcher.start()
    commands = ("db init", "doctor", "tokens list", "spool drain", "db status", "serve --host x")
    try:
        for words in commands:
            done = subprocess.run(
                [sys.executable, "-m", "deploy.cli", *words.split()],
                check=False,
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
            )
            said += done.stdout + done.stderr
    finally:
        stop.set()
        watcher.join()

    assert any(b"deploy.cli\0doctor" in line for line in seen)
    assert [] == [line for line in seen if CANARY.encode() in line]
    assert "schema" in said
    assert CANARY not in said


@pytest.mark.parametrize(
    "db",
    [
        f"host=127.0.0.1 port=1 user=a password={CANARY}",
        f"postgresql://a:{CANARY}@127.0.0.1:1/b",
        f"host=127.0.0.1 port=1 password={CANARY} nonsense=1",
    ],
)
def test_an_error_does_not_show_the_password(db: str) -> None:
    """A server that is away, or a connection string that is none, is reported without it."""
    done = subprocess.run(
        [sys.executable, "-m", "deploy.cli", "db", "status"],
        check=False,
        env={**os.environ, "MONITORING_DB": db},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert 0 != done.returncode
    assert done.stderr
    assert CANARY not in done.stderr + done.stdout


@pytest.mark.parametrize("db", [f"postgress://a:{CANARY}@h/b", f"postgress://a:{CANARY}@h"])
def test_a_wrong_connection_string_is_named_without_its_password(db: str) -> None:
    """A mistyped one is an error with the setting; what stands in a password's place is masked."""
    with pytest.raises(ConfigError, match="MONITORING_DB") as caught:
        load_settings({"MONITORING_DB": db})
    assert "postgress://a:***@h" in str(caught.value)


def test_nothing_shows_a_secret_of_the_settings() -> None:
    """What Python shows of the settings, and of what holds them, has no secret in it."""
    variables = {name: CANARY * 4 for name in ENVIRONMENT_VARIABLES if SECRET.search(name)}
    settings = load_settings({"MONITORING_DB": f"password={CANARY}", **variables})

    assert CANARY in settings.db
    assert CANARY not in repr(settings)
    assert CANARY not in repr(vars(Database(settings.db, lambda: None)) | {"_conninfo": ""})


def test_the_lock_has_a_hash_for_each_entry() -> None:
    """Nothing is locked by its version alone, and no address stands in place of a version."""
    text = (Path(__file__).parents[1] / "requirements.lock").read_text(encoding="utf-8")
    entries = re.findall(r"^[A-Za-z0-9][^\n]*\n(?:[ \t].*\n)*", text, re.MULTILINE)

    assert len(entries) > 20
    assert [] == [each for each in entries if not re.match(r"[\w.\[\],-]+==[\w.+!]+ ", each)]
    assert [] == [each for each in entries if "--hash=sha256:" not in each]

"""The scripts for timers, and every command of docs/backup.md, run as they stand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from deploy.postgres import EmbeddedPostgres
from tests.fix_backup import database_names, files_of, rows_of
from tests.fix_seeded import Seeded
from tests.test_docs import ROOT, page, table_rows

# Bring the package from the network: `make venv` runs the same with the same lock.
_NOT_RUN = re.compile(r"^(python3 -m venv|venv/bin/pip) .*$", re.MULTILINE)


def names_in(folder: Path) -> list[str]:
    """Return what is in a folder, by name."""
    return sorted(path.name for path in folder.iterdir())


class Machine:
    """A folder in which a person types commands, with `monitoring` on the path."""

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self.folder = folder
        programs = folder / "bin"
        programs.mkdir()
        command = f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m deploy.cli "$@"\n'
        (programs / "monitoring").write_text(command, encoding="utf-8")
        (programs / "monitoring").chmod(0o755)
        (folder / "deploy").symlink_to(ROOT / "deploy")
        self.variables = os.environ | variables
        self.variables |= {"PATH": f"{programs}:{os.environ['PATH']}", "TMPDIR": str(folder)}

    def run(self, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a script to its end, or to the first command that fails."""
        return subprocess.run(
            ["sh", "-ec", script],
            cwd=self.folder,
            env=self.variables | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=110,
        )


@pytest.fixture
def machine(seeded: Seeded) -> Iterator[Machine]:
    """Yield a machine with the seeded archive."""
    folder = Path(tempfile.mkdtemp(prefix="machine"))
    folder.chmod(0o711)  # the server's account passes through
    yield Machine(folder, seeded.environment())
    shutil.rmtree(folder)


@pytest.fixture
def key(machine: Machine) -> Iterator[str]:
    """Yield whom backups are encrypted for; skips where there is no GnuPG."""
    if shutil.which("gpg") is None:
        pytest.skip("needs gpg: apt-get install gnupg")
    home = Path(tempfile.mkdtemp(prefix="gpg"))  # its agent's socket wants a short name
    machine.variables["GNUPGHOME"] = str(home)
    (home / "gpg.conf").write_text(
        "batch\ntrust-model always\npinentry-mode loopback\n", encoding="utf-8"
    )
    made = machine.run("gpg --passphrase '' --quick-gen-key backup@example.org rsa2048 encr never")
    assert 0 == made.returncode, made.stderr
    yield "backup@example.org"
    machine.run("gpgconf --kill all")
    shutil.rmtree(home)


@pytest.mark.timeout(300)
def test_every_command_of_the_page_runs(
    machine: Machine, key: str, seeded: Seeded, postgres: EmbeddedPostgres
) -> None:
    """In their order, on one machine: the page is a walk from a backup to a drill."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", page("docs/backup.md"), re.MULTILINE | re.DOTALL)
    assert 9 == len(blocks)
    assert key in page("docs/backup.md")
    names = database_names(postgres)
    # A user's PG* variables say which server.
    info = dict(part.split("=") for part in seeded.conninfo.split())
    machine.variables |= {"PGHOST": info["host"], "PGPORT": info["port"], "PGUSER": info["user"]}

    try:
        for block in blocks:
            if "newest.tar" in block:
                shutil.copyfile(machine.folder / "backup.tar", machine.folder / "newest.tar")
            # Of a machine that runs tests the doctor may find what it likes.
            script = _NOT_RUN.sub("", block).replace("doctor", "doctor || true")
            done = machine.run(script)
            assert 0 == done.returncode, block + done.stdout + done.stderr
        for name, audio in (("monitoring_v2", "audio"), ("of_last_week", "audio_of_last_week")):
            conninfo = postgres.conninfo(name)
            assert rows_of(seeded.conninfo, "v_metrics") == rows_of(conninfo, "v_metrics")
            assert files_of(seeded.audio) == files_of(machine.folder / audio)
    finally:
        with psycopg.connect(postgres.conninfo("postgres"), autocommit=True) as admin:
            for name in database_names(postgres) - names:
                admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def test_the_backup_role_is_enough(seeded: Seeded, tmp_path: Path) -> None:
    """The statement of the page makes a login that backs up all, and changes nothing."""
    (statement,) = re.findall(
        r"^```sql\n(.*?)^```", page("docs/backup.md"), re.MULTILINE | re.DOTALL
    )
    seeded.query(statement)
    try:
        login = seeded.conninfo.replace("user=monitoring", "user=monitoring_backup")
        code, out, err = seeded.run("backup", "-o", str(tmp_path / "b.tar"), MONITORING_DB=login)
        assert 0 == code, out + err
        assert "144 sound files" in out
        with psycopg.connect(login) as connection, pytest.raises(psycopg.Error):
            connection.execute("DELETE FROM traces")
    finally:
        seeded.query("DROP ROLE monitoring_backup")


def test_the_script_keeps_the_newest(machine: Machine) -> None:
    """Old backups go when the new one is whole; other files stay; nothing unfinished is left."""
    folder = machine.folder / "backups"
    folder.mkdir()
    for day in range(1, 6):
        (folder / f"monitoring-2026010{day}T030000Z.tar").write_bytes(b"old")
    (folder / "notes.txt").write_bytes(b"mine")
    variables = {"BACKUP_DIR": "backups", "BACKUP_KEEP": "3", "BACKUP_OPTIONS": "--audio none"}

    done = machine.run("sh deploy/backup_monitoring.sh", **variables)

    assert 0 == done.returncode, done.stderr
    assert 1 == len(done.stdout.splitlines())
    names = names_in(folder)
    assert 4 == len(names)
    assert ["monitoring-20260104T030000Z.tar", "monitoring-20260105T030000Z.tar"] == names[:2]
    assert "notes.txt" == names[3]


@pytest.mark.parametrize(
    "variables",
    [
        {"MONITORING_DB": "host=127.0.0.1 port=1 dbname=none"},
        {"MONITORING_DB": "host=127.0.0.1 port=1 dbname=none", "BACKUP_ENCRYPT": "cat"},
        {"BACKUP_ENCRYPT": "cat >/dev/null; exit 3"},
        {"BACKUP_ENCRYPT": "cat >/dev/null"},
        {"BACKUP_KEEP": "0"},
    ],
    ids=["no database", "no database, encrypted", "encryption fails", "nothing comes", "keep 0"],
)
def test_a_script_that_fails_keeps_what_there_is(
    machine: Machine, variables: dict[str, str]
) -> None:
    """A reason, exit code 1, and every old backup."""
    folder = machine.folder / "backups"
    folder.mkdir()
    (folder / "monitoring-20260101T030000Z.tar").write_bytes(b"old")

    done = machine.run(
        "sh deploy/backup_monitoring.sh",
        **{"BACKUP_DIR": "backups", "BACKUP_KEEP": "1"} | variables,
    )

    assert 1 == done.returncode
    assert "backup_monitoring: " in done.stderr
    assert ["monitoring-20260101T030000Z.tar"] == names_in(folder)


def test_the_drill_restores_what_the_script_encrypted(machine: Machine, key: str) -> None:
    """From the script's encrypted backup to the drill's one line, and nothing is left."""
    encrypt = f"gpg --encrypt --recipient {key}"
    variables = {"BACKUP_DIR": "backups", "BACKUP_ENCRYPT": encrypt, "BACKUP_SUFFIX": ".gpg"}
    made = machine.run("sh deploy/backup_monitoring.sh", **variables)
    assert 0 == made.returncode, made.stderr
    (path,) = (machine.folder / "backups").iterdir()
    assert path.name.endswith(".tar.gpg")
    before = names_in(machine.folder)

    drill = {"BACKUP_DIR": "backups", "BACKUP_DECRYPT": "gpg --decrypt"}
    done = machine.run("sh deploy/restore_drill.sh", **drill)

    assert 0 == done.returncode, done.stdout + done.stderr
    assert re.fullmatch(r"restore_drill: ok: .*144 sound files.*\n", done.stdout), done.stdout
    path.write_bytes(path.read_bytes()[:-9_000])
    failed = machine.run("sh deploy/restore_drill.sh", **drill)
    assert 1 == failed.returncode
    assert "restore_drill: FAILED: " in failed.stdout
    assert before == names_in(machine.folder)


def test_the_page_lists_the_variables_of_the_scripts() -> None:
    """The table of variables names all that the scripts read, and no other."""
    scripts = "".join(page(f"deploy/{name}.sh") for name in ("backup_monitoring", "restore_drill"))
    read = set(re.findall(r"\$\{(BACKUP_\w+|DRILL_\w+|MONITORING):-", scripts))

    rows = table_rows(page("docs/backup.md"), "variable")

    assert read == {row[0].strip("`") for row in rows}

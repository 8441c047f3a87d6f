"""Backup while everything runs, and restore: every row and every file as at the cut."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from rich.console import Console

from archiver.deletion.retention import Retention
from archiver.migrations import migrate
from deploy.backup.backup import Order, make_backup
from deploy.backup.dump import piece_name
from deploy.backup.programs import find_program
from deploy.backup.progress import Steps
from deploy.backup.snapshot import Snapshot
from deploy.backup.variables import as_file, from_file, without_secrets
from deploy.pg_binaries import version, wheel_bin_dirs
from deploy.postgres import EmbeddedPostgres
from exporter.selfmetrics import Tally
from tests.fix_archive import settings
from tests.fix_backup import (
    ARCHIVE_TABLES,
    VIEWS,
    audio_rows,
    busy_writer,
    database_names,
    databases,
    erase,
    files_of,
    panel_answers,
    rows_of,
)
from tests.fix_seeded import CALLS, Seeded

CANARY = "canary-Zx81-do-not-tell"


def members(path: Path) -> dict[str, bytes]:
    """Return name and content of everything in a backup."""
    with tarfile.open(path) as tar:
        return {info.name: content.read() for info in tar if (content := tar.extractfile(info))}


def restored(seeded: Seeded, path: Path, conninfo: str, folder: Path, *options: str) -> str:
    """Restore as a user does; return what was printed."""
    places = ("--audio-path", str(folder / "audio"), "--config-dir", str(folder / "config"))
    code, out, err = seeded.run("restore", str(path), "--db", conninfo, *places, *options)
    assert 0 == code, out + err
    return out


def test_a_backup_under_load_restores_on_a_new_machine(
    seeded: Seeded, other_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    """With a writer going on, all of the cut comes back, and nothing else, with every file."""
    before = {table: rows_of(seeded.conninfo, table) for table in ARCHIVE_TABLES}
    answers = {view: rows_of(seeded.conninfo, view, "trace_id <> 'busy'") for view in VIEWS}
    panels = panel_answers(seeded, seeded.conninfo)
    path, new = tmp_path / "backup.tar", tmp_path / "new"
    with busy_writer(seeded.conninfo, seeded.folder) as numbers:
        code, out, err = seeded.run("backup", "-o", str(path))
        assert numbers
    assert 0 == code, out + err
    after = {table: rows_of(seeded.conninfo, table) for table in ARCHIVE_TABLES}
    files = files_of(seeded.audio)
    seeded.query("DROP SCHEMA public CASCADE")
    shutil.rmtree(seeded.audio)

    conninfo = other_server.conninfo("monitoring_v2")
    restored(seeded, path, conninfo, new)

    now = {table: rows_of(conninfo, table) for table in ARCHIVE_TABLES}
    for table in ARCHIVE_TABLES:
        assert before[table] <= now[table] <= after[table], table
    assert before["metrics_agg_5s"] < now["metrics_agg_5s"] < after["metrics_agg_5s"]
    assert answers == {view: rows_of(conninfo, view, "trace_id <> 'busy'") for view in VIEWS}
    assert panels == panel_answers(seeded, conninfo)
    assert sum(map(bool, panels.values())) > len(panels) / 2
    assert audio_rows(conninfo) == files_of(new / "audio")
    assert audio_rows(conninfo).items() <= files.items()
    assert {"monitoring_v2", "postgres", "template0", "template1"} == database_names(other_server)


def test_a_restored_archive_is_used_as_the_old_one(
    seeded: Seeded, other_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    """Roles have their rights, modes are ours, and the writer goes on."""
    path, new = tmp_path / "backup.tar", tmp_path / "new"
    assert 0 == seeded.call("backup", "-o", str(path))[0]
    conninfo = other_server.conninfo("monitoring_v2")

    restored(seeded, path, conninfo, new)

    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    for each in (new / "audio").rglob("*"):
        assert (0o750 if each.is_dir() else 0o640) == stat.S_IMODE(each.stat().st_mode), each
    with busy_writer(conninfo, new) as numbers:
        while not numbers:
            time.sleep(0.01)
    assert rows_of(conninfo, "tap_buckets_5s", "trace_id = 'busy'")
    with psycopg.connect(conninfo) as connection:
        can = connection.execute(
            "SELECT has_table_privilege('monitoring_reader', 'v_metrics', 'SELECT'),"
            " has_table_privilege('monitoring_reader', 'traces', 'SELECT'),"
            " has_function_privilege('monitoring_reader', 'ensure_partitions(timestamptz[])',"
            " 'EXECUTE'), has_table_privilege('monitoring_writer', 'metrics_agg_5s', 'INSERT'),"
            " (SELECT rolcanlogin FROM pg_roles WHERE rolname = 'monitoring_writer')"
        ).fetchone()
    assert (True, False, False, True, True) == can


def test_retention_waits_for_a_backup(seeded: Seeded) -> None:
    """While a snapshot is held nothing is deleted; afterwards, as before."""
    retention = Retention(settings(seeded.folder, seeded.conninfo), Tally())
    files, later = files_of(seeded.audio), datetime.now(UTC) + timedelta(days=30)

    with Snapshot(seeded.conninfo, lambda: None):
        retention.run(seeded.audio, later)
        assert rows_of(seeded.conninfo, "traces")
        assert files == files_of(seeded.audio)
    retention.run(seeded.audio, later)

    assert not rows_of(seeded.conninfo, "traces")


def test_a_backup_goes_through_a_pipe(seeded: Seeded, tmp_path: Path) -> None:
    """`-o -` into `restore -`: as through encryption; the report is on standard error."""
    path = tmp_path / "piped.tar"
    command = [sys.executable, "-m", "deploy.cli", "backup", "-o", "-"]
    with path.open("wb") as stream:
        done = subprocess.run(
            command,
            env=os.environ | seeded.environment(),
            stdout=stream,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert 0 == done.returncode, done.stderr
    with path.open("rb") as stream:
        verdict = subprocess.run(
            [sys.executable, "-m", "deploy.cli", "backup", "verify", "-"],
            stdin=stream,
            check=False,
            capture_output=True,
            text=True,
        )

    assert b"144 sound files" in done.stderr
    assert 0 == verdict.returncode, verdict.stderr
    assert "is whole" in verdict.stdout


@pytest.mark.parametrize(("audio", "files"), [("none", 0), ("0.01", 0), ("24", 144), ("all", 144)])
def test_the_amount_of_sound_can_be_chosen(
    seeded: Seeded, tmp_path: Path, audio: str, files: int
) -> None:
    """None, the last hours, or all; the rows are complete in any case."""
    code, out, _ = seeded.call("backup", "-o", str(tmp_path / "b.tar"), "--audio", audio, "--json")

    assert 0 == code
    manifest = json.loads(out)
    assert files == manifest["audio"]["files"]
    assert 3 == manifest["tables"]["traces"]["rows"]


def test_some_calls_alone(seeded: Seeded, postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    """Rows and sound of the named calls, into an archive with sums as in the whole one."""
    path = tmp_path / "calls.tar"
    mine = "trace_id IN ('seed_2', 'seed_3')"
    code, out, err = seeded.call("backup", "-o", str(path), "--trace", "seed_2", "seed_3")
    assert 0 == code, out + err

    with databases(postgres, "some_calls") as (conninfo,):
        restored(seeded, path, conninfo, tmp_path / "new")

        for view in (*VIEWS, "call_totals"):
            assert rows_of(seeded.conninfo, view, mine) == rows_of(conninfo, view), view
        assert audio_rows(conninfo) == files_of(tmp_path / "new" / "audio")
        assert 96 == len(audio_rows(conninfo))
    code, _, err = seeded.call("backup", "-o", str(tmp_path / "no.tar"), "--trace", "nobody")
    assert (1, True) == (code, "nobody" in err)
    assert not (tmp_path / "no.tar").exists()


def test_the_schema_alone(seeded: Seeded, postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    """No rows and no sound, and a database into which this version writes."""
    path = tmp_path / "schema.tar"
    code, out, err = seeded.call("backup", "-o", str(path), "--schema-only")
    assert 0 == code, out + err

    with databases(postgres, "schema_alone") as (conninfo,):
        restored(seeded, path, conninfo, tmp_path / "new")

        assert not any(rows_of(conninfo, table) for table in ARCHIVE_TABLES)
        assert not migrate(conninfo).applied
    assert not [name for name in members(path) if name.startswith("audio/")]


def test_erased_calls_stay_erased(
    seeded: Seeded, other_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    """Erased after the backup: gone after a restore over the archive, and on a new machine too."""
    old, newer = tmp_path / "old.tar", tmp_path / "newer.tar"
    assert 0 == seeded.call("backup", "-o", str(old))[0]
    erase(seeded.conninfo, seeded.audio, "seed_3")
    assert 0 == seeded.call("backup", "-o", str(newer), "--audio", "none")[0]
    erasures = tmp_path / "erasures.json"
    erasures.write_bytes(members(newer)["erasures.json"])

    conninfo = other_server.conninfo("monitoring_v2")
    out = restored(seeded, old, conninfo, tmp_path / "new", "--erasures", str(erasures))
    code, _, err = seeded.run("restore", str(old), "--replace", "--config-dir", str(tmp_path))
    assert 0 == code, err

    assert "erased again: 1 calls" in out
    for where, audio in ((conninfo, tmp_path / "new" / "audio"), (seeded.conninfo, seeded.audio)):
        for table in ("traces", "metrics_agg_5s", "audio_segments_5s", "gaps", "call_totals"):
            assert rows_of(where, table, "trace_id = 'seed_2'"), table
            assert not rows_of(where, table, "trace_id = 'seed_3'"), table
        assert audio_rows(where) == files_of(audio)
        assert not list(audio.glob("*/seed_3"))


def test_a_call_that_is_erased_during_a_backup_does_not_come_back(
    seeded: Seeded, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    """Its rows are in the snapshot, its files are gone: the ledger of the end has it."""

    class Erasing(Steps):
        def begin(self, name: str, total: int | None = None) -> None:
            super().begin(name, total)
            if name == "sound":
                erase(seeded.conninfo, seeded.audio, "seed_3")

    path = tmp_path / "b.tar"
    order = Order(path, variables=seeded.environment())
    steps = Erasing(Console(file=io.StringIO()))
    manifest = make_backup(settings(seeded.folder, seeded.conninfo), order, steps)

    assert (96, 48) == (manifest["audio"]["files"], manifest["audio"]["missing"])
    assert 3 == manifest["tables"]["traces"]["rows"]
    with databases(postgres, "erased_meanwhile") as (conninfo,):
        restored(seeded, path, conninfo, tmp_path / "new")
        assert 2 == len(rows_of(conninfo, "traces"))
        assert audio_rows(conninfo) == files_of(tmp_path / "new" / "audio")


def test_files_that_are_not_there_are_named(seeded: Seeded, tmp_path: Path) -> None:
    """A file that was lost, or has another content, costs no backup and is not passed over."""
    first, second, *_ = sorted(audio_rows(seeded.conninfo))
    (seeded.audio / first).unlink()
    (seeded.audio / second).write_bytes(b"RIFF")

    code, out, _ = seeded.call("backup", "-o", str(tmp_path / "b.tar"))

    assert 0 == code
    assert "1 missing, 1 changed" in out
    assert first in out
    assert second in out


def test_what_the_host_has_comes_along(
    seeded: Seeded, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    """Folders that --include names, the configuration, and a wheel that can be installed."""
    host = tmp_path / "asterisk"
    (host / "sub").mkdir(parents=True)
    (host / "sub" / "extensions.conf").write_text("exten => 3333", encoding="utf-8")
    (host / "sub" / "extensions.conf").chmod(0o640)
    (host / "link").symlink_to("/etc/passwd")
    config = tmp_path / "monitoring.config.json"
    config.write_text('{"knobs": {"pcm.input_gain_db": 3.0}}', encoding="utf-8")
    path = tmp_path / "b.tar"
    env = {"MONITORING_CONFIG": str(config), "MONITORING_RETENTION_HOURS": "96"}
    code, out, err = seeded.run("backup", "-o", str(path), "--include", str(host), **env)
    assert 0 == code, out + err

    with databases(postgres, "with_files") as (conninfo,):
        new = tmp_path / "new"
        restored(seeded, path, conninfo, new, "--include-dir", str(tmp_path / "host"))

    placed = tmp_path / "host" / str(host)[1:] / "sub" / "extensions.conf"
    assert ("exten => 3333", 0o640) == (placed.read_text("utf-8"), placed.stat().st_mode & 0o777)
    assert "link is no regular file" in err
    assert not [name for name in members(path) if name.endswith("/link")]
    assert config.read_text("utf-8") == (new / "config" / config.name).read_text("utf-8")
    settings_file = (new / "config" / ".env").read_text("utf-8")
    assert "MONITORING_RETENTION_HOURS=96" in settings_file
    assert f"MONITORING_AUDIO_PATH={new / 'audio'}" in settings_file
    assert 0o600 == stat.S_IMODE((new / "config" / ".env").stat().st_mode)
    wheels = [name for name in members(path) if name.endswith(".whl")]
    (tmp_path / Path(wheels[0]).name).write_bytes(members(path)[wheels[0]])
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet"]
    target = ["--target", str(tmp_path / "site"), str(tmp_path / Path(wheels[0]).name)]
    subprocess.run([*install, *target], check=True)
    installed = {
        str(each.relative_to(tmp_path / "site")) for each in (tmp_path / "site").rglob("*")
    }
    assert {"sql/001_schema.sql", "deploy/cli.py", "exporter/py.typed"} <= installed
    assert b"--hash=sha256:" in members(path)["package/requirements.lock"]


def test_no_secret_leaves(seeded: Seeded, tmp_path: Path) -> None:
    """A password is in no file, no argument and no message; what is left out is named."""
    log, programs = tmp_path / "log", tmp_path / "bin"
    programs.mkdir()
    _, real = find_program("pg_dump", 14)
    (programs / "pg_dump").write_text(
        f'#!/bin/sh\n[ "$1" = --version ] || {{ tr "\\0" " " </proc/$$/cmdline >{log}.arguments;\n'
        f'echo "$PGSERVICEFILE" >{log}.name; cat "$PGSERVICEFILE" >{log}.service; }}\n'
        f'exec {real} "$@"\n',
        encoding="utf-8",
    )
    (programs / "pg_dump").chmod(0o755)
    env = {
        "MONITORING_DB": f"{seeded.conninfo} password={CANARY}",
        "MONITORING_SIGNING_KEY_FILE": str(tmp_path / "signing.key"),
        "MONITORING_ERASURE_KEY": CANARY,
        "MONITORING_PG_BIN": str(programs),
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }
    made = tmp_path / "state" / "monitoring_v2" / "signing_key"
    made.parent.mkdir(parents=True)
    made.write_text(CANARY, encoding="utf-8")
    path = tmp_path / "b.tar"
    code, out, err = seeded.run("backup", "-o", str(path), **env)

    assert 0 == code, out + err
    assert CANARY in Path(f"{log}.service").read_text("utf-8")
    assert Path(f"{log}.name").read_text("utf-8").startswith("/proc/self/fd/")
    assert CANARY not in Path(f"{log}.arguments").read_text("utf-8") + out + err
    assert CANARY.encode() not in path.read_bytes()
    assert "the password in MONITORING_DB; MONITORING_ERASURE_KEY; the file that" in out
    named = from_file(members(path)["config/settings.env"].decode()).secrets
    assert 4 == len(named)
    assert f"the file {made}" in named


def test_settings_survive_a_file_that_a_shell_reads(tmp_path: Path) -> None:
    """Quotes, spaces and dollars are the same for a shell, for us, and in the file."""
    values = {"MONITORING_AUDIO_PATH": "/srv/it's $HOME/a b", "MONITORING_LOCAL_ROLES": ""}
    path = tmp_path / "env"
    path.write_text(as_file(without_secrets(values), ["a note"]), encoding="utf-8")

    script = f'. {path}; printf %s "$MONITORING_AUDIO_PATH"'
    said = subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True)

    assert values["MONITORING_AUDIO_PATH"] == said.stdout
    assert values == from_file(path.read_text("utf-8")).values


def test_the_database_may_be_large(
    seeded: Seeded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, postgres: EmbeddedPostgres
) -> None:
    """A dump of many pieces is put together again."""
    monkeypatch.setattr("deploy.backup.dump.PIECE_BYTES", 10_000)
    monkeypatch.setattr("deploy.backup.rows.PIECE_BYTES", 10_000)
    whole, part = tmp_path / "whole.tar", tmp_path / "part.tar"
    assert 0 == seeded.call("backup", "-o", str(whole), "--audio", "none")[0]
    assert 0 == seeded.call("backup", "-o", str(part), "--trace", "seed_2", "--audio", "none")[0]

    assert piece_name(9) in members(whole)
    assert "rows/metrics_agg_5s.00002" in members(part)
    with databases(postgres, "of_pieces", "of_rows") as (first, second):
        restored(seeded, whole, first, tmp_path / "1")
        restored(seeded, part, second, tmp_path / "2")
        assert len(CALLS) == len(rows_of(first, "traces"))
        mine = rows_of(first, "v_metrics", "trace_id = 'seed_2'")
        assert mine == rows_of(second, "v_metrics")


def test_a_backup_does_not_overwrite(seeded: Seeded, tmp_path: Path) -> None:
    """A file that is there stays; a database without an archive is said, and leaves no file."""
    (tmp_path / "b.tar").write_bytes(b"precious")

    assert 1 == seeded.call("backup", "-o", str(tmp_path / "b.tar"))[0]
    assert 2 == seeded.call("backup")[0]
    assert 2 == seeded.call("backup", "-o", str(tmp_path / "c.tar"), "--audio", "some")[0]
    seeded.query("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    code, _, err = seeded.call("backup", "-o", str(tmp_path / "c.tar"))
    assert (1, True) == (code, "db init" in err)
    assert b"precious" == (tmp_path / "b.tar").read_bytes()
    assert {"b.tar"} == {path.name for path in tmp_path.glob("*.tar*")}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_root_gives_the_sound_to_the_owner_of_its_root(
    seeded: Seeded, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    """A root that is there says whose the sound is; the next one, the old machine's."""
    nobody, audio = 65_534, tmp_path / "new" / "audio"
    os.chown(seeded.audio, nobody, nobody)
    assert 0 == seeded.call("backup", "-o", str(tmp_path / "b.tar"))[0]

    with databases(postgres, "owned") as (conninfo,):
        restored(seeded, tmp_path / "b.tar", conninfo, tmp_path / "new")

    assert {(nobody, nobody)} == {
        (each.stat().st_uid, each.stat().st_gid) for each in (audio, *audio.rglob("*"))
    }


def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere() -> None:
    """Both say what is done; a terminal gets it redrawn, a log a line now and then."""
    for is_terminal in (True, False):
        out = io.StringIO()
        steps = Steps(Console(file=out, force_terminal=is_terminal, width=80))
        with steps.shown():
            steps.begin("database")
            steps.advance(5_000_000)
            steps.begin("sound", 4_000_000)
            steps.advance(2_000_000)
        assert "sound" in out.getvalue()
        assert is_terminal == ("\x1b[" in out.getvalue())
        assert is_terminal == ("2.0/4.0 MB" in out.getvalue())


def test_a_newer_server_and_a_login_that_is_no_superuser(
    seeded: Seeded, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    """Hashes of rows are the same on another release; CREATEDB and CREATEROLE are rights enough."""
    newer = wheel_bin_dirs()[0]
    if int(version(newer).split(".")[0]) <= int(postgres.version.split(".")[0]):
        pytest.skip("needs an older PostgreSQL beside that of the wheel")
    path = tmp_path / "b.tar"
    assert 0 == seeded.call("backup", "-o", str(path))[0]

    with EmbeddedPostgres(bin_dir=newer, fsync=False) as server:
        with psycopg.connect(server.conninfo("postgres")) as admin:
            admin.execute("CREATE ROLE dba LOGIN CREATEDB CREATEROLE")
        conninfo = server.conninfo("there").replace("user=monitoring", "user=dba")
        restored(seeded, path, conninfo, tmp_path / "new")

        for table in ARCHIVE_TABLES:
            assert rows_of(seeded.conninfo, table) == rows_of(conninfo, table), table
        back = tmp_path / "back.tar"
        code, _, err = seeded.run("backup", "-o", str(back), MONITORING_DB=conninfo)
        assert 0 == code, err
        with databases(postgres, "older") as (older,):
            code, _, err = seeded.run("restore", str(back), "--db", older, "--replace")
            assert (1, True) == (code, "same release or a newer one" in err), err

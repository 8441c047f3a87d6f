"""Backups that are not what was written, and restores that fail: named, the target untouched."""

from __future__ import annotations

import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import psycopg
import pytest

from deploy.backup.archive import FILE_LIST, MANIFEST, PLAN, ArchiveReader, ArchiveWriter
from deploy.backup.errors import BackupError
from deploy.backup.programs import find_program
from deploy.backup.progress import Steps
from deploy.backup.target import DatabaseTarget
from deploy.backup.verify import verify
from deploy.postgres import EmbeddedPostgres
from tests.fix_backup import database_names, databases, files_of, rows_of, seed
from tests.fix_seeded import Seeded

FILES = ["gaps", "traces", "audio_segments_5s"]
RESTORE = (sys.executable, "-u", "-m", "deploy.cli", "restore")


def problems(path: Path) -> list[str]:
    """Return what `backup verify` finds."""
    return verify(path, Steps()).problems


def spans(path: Path) -> dict[str, range]:
    """Return where in the file the content of each member is."""
    with tarfile.open(path) as tar:
        return {
            info.name: range(info.offset_data, info.offset_data + info.size)
            for info in tar
            if info.size
        }


def flipped(path: Path, at: int, folder: Path) -> Path:
    """Return a copy of which one bit of one byte is another."""
    target = folder / "flipped.tar"
    shutil.copyfile(path, target)
    with target.open("r+b") as stream:
        stream.seek(at)
        byte = stream.read(1)[0]
        stream.seek(at)
        stream.write(bytes([byte ^ 4]))
    return target


@pytest.fixture
def target(database: str, tmp_path: Path) -> Seeded:
    """Return an archive in use, into which something is to be restored."""
    return seed(database, tmp_path / "target")


def state(target: Seeded, server: EmbeddedPostgres) -> tuple[object, ...]:
    """Return all that a failed restore has to leave as it was."""
    rows = [rows_of(target.conninfo, table) for table in FILES]
    names = sorted(str(path) for path in target.folder.rglob("*"))
    return rows, files_of(target.audio), names, database_names(server)


def test_whatever_is_flipped_is_named(backup: Path, tmp_path: Path) -> None:
    """A bit of any member: exactly that one is named, by content, list and manifest alike."""
    assert [] == problems(backup)
    chance = random.Random(7)  # noqa: S311 - which byte
    found = spans(backup)
    sound = [name for name in found if name.startswith("audio/")]
    for name in [*set(found).difference(sound), *chance.sample(sound, 3)]:
        told = problems(flipped(backup, chance.choice(found[name]), tmp_path))

        if name == PLAN:
            # What it says may be unreadable now, or be read and not be what was written.
            assert 1 == len(told)
        elif name in {FILE_LIST, MANIFEST}:
            assert any(FILE_LIST in each for each in told), (name, told)
        else:
            assert name in told[0], (name, told)


def test_a_damaged_header_or_a_cut_is_told(backup: Path, tmp_path: Path) -> None:
    """Wherever a backup breaks off, the last whole member is named."""
    found = spans(backup)
    names = list(found)
    for before, name in ((names[4], names[5]), (names[50], names[51])):
        told = problems(flipped(backup, found[name].start - 512 + 3, tmp_path))
        assert before in told[0]
    for size in (0, 100, 512, found[names[9]].start + 700, found[MANIFEST].start - 512):
        cut = tmp_path / "cut.tar"
        cut.write_bytes(backup.read_bytes()[:size])
        assert problems(cut), size
    (tmp_path / "other").write_bytes(bytes(range(256)) * 40)
    assert problems(tmp_path / "other")


@pytest.mark.parametrize(
    "name",
    [
        "audio/../../../etc/cron.d/x",
        "audio//etc/passwd",
        "audio/2026-01-01/.hidden/segment_1.wav",
        "audio/.restoring/x/y.wav",
        "include/../../escaped",
        "include//etc/passwd",
        "/etc/passwd",
        "elsewhere/x",
    ],
)
def test_no_member_leads_out_of_its_folder(
    backup: Path, target: Seeded, postgres: EmbeddedPostgres, tmp_path: Path, name: str
) -> None:
    """Hashes that fit do not help: a backup with such a name is refused whole."""
    bad = tmp_path / "bad.tar"
    with bad.open("wb") as stream, tarfile.open(backup) as tar:
        writer = ArchiveWriter(stream)
        for info in tar:
            if info.name.startswith("audio/"):
                break
            content = tar.extractfile(info)
            assert content is not None
            writer.add(info.name, content.read())
        writer.add(name, b"evil")
        writer.finish({})
        writer.close()
    before = state(target, postgres)

    host = str(tmp_path / "host")
    code, _, err = target.call("restore", str(bad), "--replace", "--include-dir", host)

    assert 1 == code
    assert name in err
    assert before == state(target, postgres)
    assert not list(tmp_path.glob("host*"))


def test_a_link_is_no_member(backup: Path, tmp_path: Path) -> None:
    """A tar file that a link was put into is damaged."""
    bad = tmp_path / "bad.tar"
    with tarfile.open(backup) as tar, tarfile.open(bad, "w") as out:
        for number, info in enumerate(tar):
            if number == 3:
                link = tarfile.TarInfo("audio/2026-01-01")
                link.type, link.linkname = tarfile.SYMTYPE, "/etc"
                out.addfile(link)
            out.addfile(info, tar.extractfile(info))

    assert "no regular file" in problems(bad)[0]


def test_restore_refuses_a_damaged_backup(
    backup: Path, target: Seeded, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    """Named as by verify, from a file and from a pipe; the target is as it was."""
    found = spans(backup)
    before = state(target, postgres)
    for name in ("db/dump.00000", next(name for name in found if name.startswith("audio/"))):
        bad = flipped(backup, found[name][len(found[name]) // 2], tmp_path)
        code, _, err = target.call("restore", str(bad), "--replace")
        with bad.open("rb") as stream:
            piped = subprocess.run(
                [*RESTORE, "-", "--replace"],
                env=os.environ | target.environment(),
                stdin=stream,
                capture_output=True,
                text=True,
                check=False,
            )

        assert (1, True) == (code, name in err), err
        assert (1, True) == (piped.returncode, name in piped.stderr), piped.stderr
        assert before == state(target, postgres)


def test_restore_refuses_what_is_not_empty(
    backup: Path, target: Seeded, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    """Without --replace neither a database with tables nor a folder with sound is touched."""
    before = state(target, postgres)

    code, _, err = target.call("restore", str(backup))
    assert (1, True) == (code, "--replace" in err)
    with databases(postgres, "not_there") as (conninfo,):
        code, _, err = target.call("restore", str(backup), "--db", conninfo)
    assert (1, True) == (code, str(target.audio) in err)
    audio = str(tmp_path / "elsewhere")
    code, _, err = target.call("restore", str(backup), "--audio-path", audio)
    assert (1, True) == (code, "is not empty" in err)

    assert before == state(target, postgres)
    assert not Path(audio).exists()


def test_one_restore_at_a_time(backup: Path, target: Seeded, postgres: EmbeddedPostgres) -> None:
    """A second one into the same database is refused, and takes nothing from the first."""
    before = state(target, postgres)
    with DatabaseTarget(target.conninfo) as first:
        first.keep_others_out()
        code, _, err = target.call("restore", str(backup), "--replace")

    assert (1, True) == (code, "another restore" in err), err
    assert before == state(target, postgres)


def test_a_disk_that_fills_up_leaves_the_target(
    backup: Path, target: Seeded, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    """No file can be written to its end: what was begun is removed."""
    before = state(target, postgres)
    done = subprocess.run(
        ["prlimit", "--fsize=60000", *RESTORE, str(backup), "--replace"],
        env=os.environ | target.environment() | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (1, True) == (done.returncode, "File too large" in done.stderr), done.stderr
    assert before == state(target, postgres)


@pytest.mark.skipif(os.geteuid() != 0, reason="unshare wants root: a small disk of its own")
def test_a_disk_without_room_is_told_before(
    backup: Path, database: str, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    """A mount as audio root, too small for the sound: nothing is begun."""
    mount, before = tmp_path / "mount", database_names(postgres)
    mount.mkdir()
    script = 'mount -t tmpfs -o size=2m none "$1"; d=$1; shift; "$@"; c=$?; ls -A "$d"; exit $c'
    command = [*RESTORE, str(backup), "--db", database, "--audio-path", str(mount)]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", str(mount), *command],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (1, "") == (done.returncode, done.stdout), done.stderr
    assert "make space" in done.stderr
    assert before == database_names(postgres)


def test_a_swap_that_fails_is_taken_back(
    backup: Path, target: Seeded, postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sound has its place already when the database cannot get its name: both go back."""
    before = state(target, postgres)
    real = psycopg.Connection.execute

    def fail_at_rename(self: psycopg.Connection, query: object, *rest: object) -> object:
        if "_before_restore" in repr(query) and "RENAME" in repr(query):
            raise psycopg.errors.InsufficientPrivilege("must be owner of database")
        return real(self, query, *rest)  # type: ignore[call-overload] # passes on

    monkeypatch.setattr(psycopg.Connection, "execute", fail_at_rename)
    code, _, err = target.call("restore", str(backup), "--replace")
    monkeypatch.undo()

    assert (1, True) == (code, "must be owner" in err)
    assert before == state(target, postgres)


def restore_until(
    step: str, number: signal.Signals, backup: Path, target: Seeded, folder: Path
) -> int:
    """Restore over what is there, send a signal when it tells of a step; return how it ended."""
    with subprocess.Popen(
        [*RESTORE, str(backup), "--replace", "--config-dir", str(folder)],
        env=os.environ | target.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith(step):
                process.send_signal(number)
                break
        process.communicate(timeout=60)
    return process.returncode


@pytest.mark.parametrize("wait", ["verify", "restore", "hash of every row"])
def test_a_restore_that_is_ended_leaves_the_target(
    backup: Path, target: Seeded, postgres: EmbeddedPostgres, tmp_path: Path, wait: str
) -> None:
    """SIGTERM at any step: the archive in use is as it was."""
    before = state(target, postgres)
    code = restore_until(wait, signal.SIGTERM, backup, target, tmp_path)

    assert 1 == code
    assert before == state(target, postgres)


def test_after_a_kill_the_next_restore_works(
    backup: Path, target: Seeded, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    """A kill -9 while it loads: the archive in use goes on, and what is left harms nobody."""
    rows, files, *_ = state(target, postgres)
    restore_until("hash of every row", signal.SIGKILL, backup, target, tmp_path)
    assert rows == state(target, postgres)[0]
    assert files.items() <= files_of(target.audio).items()  # type: ignore[attr-defined] # a dict

    # The killed one's session may live for a moment.
    name = target.conninfo.rpartition("=")[2]
    while f"{name}_restoring" in database_names(postgres):
        code, _, err = target.call(
            "restore", str(backup), "--replace", "--config-dir", str(tmp_path)
        )
        assert 0 == code, err
        time.sleep(0.05)
    assert not list(target.audio.glob(".*"))
    assert 3 == len(rows_of(target.conninfo, "traces"))


def test_another_backup_is_refused_with_a_reason(
    backup: Path, target: Seeded, tmp_path: Path
) -> None:
    """Made by a newer version, of a newer server, or something else: said in one line."""
    with tarfile.open(backup) as tar:
        content = tar.extractfile(PLAN)
        assert content is not None
        plan = content.read()
    for old, new, reason in (
        (b'"format": 1', b'"format": 2', "this one is older"),
        (b'"postgresql": ', b'"postgresql": 9', "restore into the same release or a newer one"),
    ):
        stream = io.BytesIO()
        writer = ArchiveWriter(stream)
        writer.add(PLAN, plan.replace(old, new))
        writer.add("db/dump.00000", b"")
        writer.finish({})
        writer.close()
        (tmp_path / "other.tar").write_bytes(stream.getvalue())

        code, _, err = target.call("restore", str(tmp_path / "other.tar"), "--replace")

        assert (1, True) == (code, reason in err), err


def test_a_pg_dump_that_is_too_old_is_told(tmp_path: Path) -> None:
    """The error says which release is needed, which there is, and what to do."""
    (tmp_path / "pg_dump").write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 13.2'\n", "utf-8")
    (tmp_path / "pg_dump").chmod(0o755)

    with pytest.raises(BackupError, match=r"found: 13.*postgresql-client-15.*MONITORING_PG_BIN"):
        find_program("pg_dump", 15, tmp_path)
    with pytest.raises(BackupError, match="found: none"):
        find_program("pg_restore", 15, tmp_path)
    assert (13, tmp_path / "pg_dump") == find_program("pg_dump", 13, tmp_path)


def test_the_list_is_checked_as_sha256sum_does(backup: Path, tmp_path: Path) -> None:
    """With nothing of ours: tar unpacks a backup, and sha256sum checks it."""
    subprocess.run(["tar", "-xf", str(backup), "-C", str(tmp_path)], check=True)

    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", FILE_LIST],
        cwd=tmp_path,
        check=False,
        capture_output=True,
    )

    assert (0, b"") == (done.returncode, done.stdout)
    with backup.open("rb") as stream:
        reader = ArchiveReader(stream)
        members = sum(1 for _ in reader.members())
    assert members + 1 == reader.manifest["file_list"]["members"]

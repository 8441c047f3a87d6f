"""The embedded PostgreSQL server starts, stops, keeps data, and never runs as root."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from deploy.pg_binaries import PostgresNotFoundError, copy_programs, find_bin_dir, wheel_bin_dirs
from deploy.postgres import HOST, EmbeddedPostgres, PostgresStartError

_HOST_THAT_IS_KILLED = """
import sys, time
from pathlib import Path
from deploy.postgres import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]), fsync=False)
server.start()
print(server.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Yield a folder that the server's account can reach, unlike pytest's own."""
    path = Path(tempfile.mkdtemp())
    yield path
    shutil.rmtree(path)


def write_down(server: EmbeddedPostgres, number: int) -> None:
    """Commit `number` to the server's default database."""
    with psycopg.connect(server.conninfo("postgres")) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS note (number int)")
        connection.execute("INSERT INTO note VALUES (%s)", (number,))


def written(server: EmbeddedPostgres) -> list[int]:
    """Return the numbers that were committed."""
    with psycopg.connect(server.conninfo("postgres")) as connection:
        return [row[0] for row in connection.execute("SELECT number FROM note ORDER BY number")]


def is_listening(port: int) -> bool:
    """Return whether anybody accepts connections on `port`."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def is_running(pid: int) -> bool:
    """Return whether process `pid` runs; an ended one that nobody waited for does not."""
    return Path(f"/proc/{pid}/exe").exists()


def test_stop_ends_the_server_and_removes_its_temporary_folder() -> None:
    """After `with`, nobody listens on the port and the folder that it made is gone."""
    with EmbeddedPostgres(fsync=False) as server:
        directory = server.directory
        assert is_listening(server.port)
        assert directory.is_dir()

    assert not is_listening(server.port)
    assert not directory.exists()
    assert server.pid is None


def test_never_runs_as_root(postgres: EmbeddedPostgres) -> None:
    """The server process belongs to a user that is not root, and its folder to that user alone."""
    assert postgres.account.uid == Path(f"/proc/{postgres.pid}").stat().st_uid
    assert postgres.account.uid != 0
    assert postgres.directory.stat().st_mode & 0o777 == 0o700


def test_is_a_release_that_the_archive_supports(postgres: EmbeddedPostgres) -> None:
    """The programs found are PostgreSQL 14 or newer, and `version` is what the server says."""
    with psycopg.connect(postgres.conninfo("postgres")) as connection:
        row = connection.execute("SHOW server_version").fetchone()

    assert row is not None
    assert str(row[0]).split(maxsplit=1)[0] == postgres.version
    assert int(postgres.version.split(".")[0]) >= 14


def test_restart_keeps_port_and_data(folder: Path) -> None:
    """A restart, also one after a crash, is on the same port with everything that was committed."""
    with EmbeddedPostgres(folder, fsync=False) as server:
        port = server.port
        write_down(server, 1)
        server.restart()
        write_down(server, 2)
        server.restart("immediate")

        assert written(server) == [1, 2]
        assert port == server.port


def test_second_start_finds_kept_data(folder: Path) -> None:
    """A folder given by the user outlives the server, and a later one goes on with it."""
    with EmbeddedPostgres(folder, fsync=False) as first:
        write_down(first, 1)
    with EmbeddedPostgres(folder, fsync=False) as second:
        assert written(second) == [1]


def test_data_is_kept_when_the_account_cannot_reach_the_folder(tmp_path: Path) -> None:
    """Below a closed folder, root's server uses a stand-in, and finds it the next time."""
    tmp_path.chmod(0o700)
    wanted = tmp_path / "data"
    with EmbeddedPostgres(wanted, fsync=False) as first:
        directory = first.directory
        write_down(first, 1)
    with EmbeddedPostgres(wanted, fsync=False) as second:
        assert written(second) == [1]
        assert directory == second.directory

    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_runs_programs_that_its_account_cannot_reach(tmp_path: Path) -> None:
    """The wheel's server, in a folder closed to the server's account, runs nevertheless."""
    tmp_path.chmod(0o700)
    closed = copy_programs(wheel_bin_dirs()[0], tmp_path)
    with EmbeddedPostgres(bin_dir=closed, fsync=False) as server:
        write_down(server, 1)

        assert written(server) == [1]


def test_server_of_a_killed_process_is_replaced(folder: Path) -> None:
    """The server that a killed process left behind is stopped by the next start on its data."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOST_THAT_IS_KILLED, str(folder)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parent.parent,
    ) as host:
        assert host.stdout is not None
        orphan = int(host.stdout.readline())
        host.kill()
    assert host.returncode == -signal.SIGKILL
    assert is_running(orphan)

    with EmbeddedPostgres(folder, fsync=False) as server:
        write_down(server, 1)

        assert orphan != server.pid
        assert not is_running(orphan)


def test_folder_in_use_is_refused(folder: Path) -> None:
    """A second server on the folder of a running one is refused, and the first goes on."""
    with EmbeddedPostgres(folder, fsync=False) as first:
        with pytest.raises(PostgresStartError, match="in use by another process"):
            EmbeddedPostgres(folder).start()

        write_down(first, 1)


def test_failed_start_shows_the_log(folder: Path) -> None:
    """What the server wrote before it gave up is in the error, and nothing keeps running."""
    with EmbeddedPostgres(folder, fsync=False) as server:
        pass
    with (folder / "pgdata" / "postgresql.conf").open("a") as settings:
        settings.write("no_such_setting = 1\n")

    with pytest.raises(PostgresStartError, match="no_such_setting"):
        server.start()
    assert server.pid is None


def test_wrong_programs_folder_is_named(tmp_path: Path) -> None:
    """A folder without the server programs is refused by name, not silently passed over."""
    with pytest.raises(PostgresNotFoundError, match=f"MONITORING_PG_BIN={tmp_path}"):
        find_bin_dir(tmp_path)


def test_each_database_is_empty(database: str) -> None:
    """The `database` fixture gives an empty database of its own."""
    with psycopg.connect(database) as connection:
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        )

        assert tables.fetchall() == []

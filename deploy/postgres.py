"""A PostgreSQL server of our own, for the demo and the tests: no set-up, no Docker, never root.

The server is a child of this process on 127.0.0.1. Its folder holds::

    pgdata/        the database files
    postgres.log   what the server says
    lock           held (flock) while a process of ours runs a server here
    moved_to       path of the folder used instead, when the server's account cannot reach this one
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from deploy.pg_binaries import (
    CLEAN_ENVIRONMENT,
    Account,
    copy_programs,
    find_bin_dir,
    server_account,
    version,
)
from exporter.errors import MonitoringError

SUPERUSER: Final = "monitoring"
HOST: Final = "127.0.0.1"
StopMode = Literal["fast", "immediate"]

_log = logging.getLogger(__name__)
_SIGNALS: Final = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
# Ports below the range that Linux hands to outgoing connections, so that a stopped server's port
# is still free when it starts again.
_PORTS: Final = range(20_000, 32_000)
# A socket's address holds 107 bytes, of which PostgreSQL's file name takes about 20.
_LONGEST_SOCKET_DIR: Final = 85
_LAST_LINES: Final = 15
_STEP_S: Final = 0.02


class PostgresStartError(MonitoringError):
    """The server did not start; the message carries the last lines of its log."""


class EmbeddedPostgres:
    """One PostgreSQL server: `start()`, `stop()`, or `with`.

    Args:
        data_dir: The server's folder, kept; None means one under the temporary directory that
            `stop()` removes.
        port: TCP port on 127.0.0.1; 0 means a free one, chosen once and kept over restarts.
        bin_dir: Folder of the server programs; None means that they are looked for.
        fsync: False trades safety against a power cut for speed: for data that nobody keeps.
        timeout_s: How long `start()` waits until the server accepts connections.

    Any user of this machine may connect to the port as superuser: it is a server for a
    developer's machine, not for production.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        port: int = 0,
        bin_dir: Path | None = None,
        fsync: bool = True,
        timeout_s: float = 30.0,
    ) -> None:
        self.port = port
        self._wanted_dir = data_dir
        self._wanted_bin_dir = bin_dir
        self._fsync = fsync
        self._timeout_s = timeout_s
        self._dir: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._held = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @cached_property
    def account(self) -> Account:
        """Who runs the server; never root."""
        return server_account()

    @cached_property
    def bin_dir(self) -> Path:
        """Folder of the server and of the client programs of the same release."""
        return find_bin_dir(self._wanted_bin_dir)

    @cached_property
    def version(self) -> str:
        """Release of the server, such as ``15.18``."""
        return version(self.bin_dir)

    @property
    def directory(self) -> Path:
        """The server's folder; RuntimeError before `start()`."""
        if self._dir is None:
            raise RuntimeError("the embedded PostgreSQL is not started")
        return self._dir

    @property
    def pid(self) -> int | None:
        """Process id of the server, None while it does not run."""
        return None if self._process is None else self._process.pid

    def conninfo(self, dbname: str = "monitoring_v2") -> str:
        """Return libpq's connection string of the superuser for `dbname`."""
        return f"host={HOST} port={self.port} user={SUPERUSER} dbname={dbname}"

    def start(self) -> None:
        """Start the server, on new or on kept data, and wait until it accepts connections.

        A server that a killed process of ours left running on the same data is stopped first.

        Raises:
            PostgresNotFoundError: no server programs.
            PostgresStartError: the server or `initdb` failed, or another process uses the folder.
        """
        if self._process is not None:
            return
        with contextlib.ExitStack() as undo:
            undo.callback(self._let_go)
            self._dir = self._prepare_directory()
            self._lock()
            self._reach_programs()
            self._stop_orphan()
            self._init()
            self.port = self.port or free_port()
            self._launch()
            undo.pop_all()

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server (``immediate``: as if it crashed) and remove what was temporary."""
        self._end_process(_SIGNALS[mode])
        self._let_go()

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop the server and start it again on the same data and port."""
        self._end_process(_SIGNALS[mode])
        self._launch()

    # Folders ------------------------------------------------------------------------------------

    def _prepare_directory(self) -> Path:
        """Return a folder that the account can use; one beside the wanted one if need be."""
        if self._wanted_dir is None:
            return self._temporary("data")
        wanted = self._wanted_dir.absolute()
        wanted.mkdir(parents=True, exist_ok=True)
        if self.account.run_as():
            return self._shared_directory(wanted)
        return wanted

    def _shared_directory(self, wanted: Path) -> Path:
        """Return `wanted` given to the account, or its stand-in when the way there is closed."""
        note = wanted / "moved_to"
        if note.exists():
            stand_in = Path(note.read_text(encoding="utf-8"))
            if stand_in.is_dir() and stand_in.stat().st_uid == self.account.uid:
                return stand_in
        if self.account.can("-x", wanted.parent):
            self.account.own(wanted)
            return wanted
        stand_in = Path(tempfile.mkdtemp(prefix="monitoring-postgres-"))
        self.account.own(stand_in)
        note.write_text(str(stand_in), encoding="utf-8")
        _log.warning(
            "user %s cannot reach %s: the database is in %s", self.account.name, wanted, stand_in
        )
        return stand_in

    def _temporary(self, purpose: str) -> Path:
        """Return a new folder of the account that `stop()` removes."""
        folder = Path(tempfile.mkdtemp(prefix=f"monitoring-postgres-{purpose}-"))
        self._held.callback(shutil.rmtree, folder, ignore_errors=True)
        self.account.own(folder)
        return folder

    def _reach_programs(self) -> None:
        """Copy the programs to where the account can run them, if it cannot where they are."""
        if self.account.can("-x", self.bin_dir / "postgres"):
            return
        copy = self._temporary("programs")
        _log.warning(
            "user %s cannot run %s: a copy in %s is used", self.account.name, self.bin_dir, copy
        )
        self.bin_dir = copy_programs(self.bin_dir, copy)
        self._held.callback(self.__dict__.pop, "bin_dir", None)

    def _lock(self) -> None:
        """Hold the folder's lock; it falls with this process, however that ends."""
        lock = self._held.enter_context((self.directory / "lock").open("ab"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PostgresStartError(f"{self.directory} is in use by another process") from None

    def _let_go(self) -> None:
        """Give back locks and temporary folders."""
        self._held.close()

    # Processes ----------------------------------------------------------------------------------

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of the programs under the account, to its end."""
        return subprocess.run(
            [self.bin_dir / program, *arguments],
            check=False,
            capture_output=True,
            text=True,
            cwd=self.directory,
            env=CLEAN_ENVIRONMENT,
            **self.account.run_as(),
        )

    def _stop_orphan(self) -> None:
        """Stop the server that a killed process of ours left: we hold the lock, it has no owner."""
        pid_file = self._pgdata / "postmaster.pid"
        if not pid_file.exists():
            return
        working_dir = Path("/proc", pid_file.read_text(encoding="utf-8").split("\n")[0], "cwd")
        # A number used anew by another process is none of our business.
        if working_dir.exists() and working_dir.samefile(self._pgdata):
            self._run("pg_ctl", "stop", "-D", str(self._pgdata), "-m", "fast", "-w")

    def _init(self) -> None:
        """Make the database files; an interrupted attempt leaves nothing that looks finished."""
        if self._pgdata.exists():
            return
        unfinished = self.directory / "pgdata.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        arguments = ["-D", str(unfinished), "-U", SUPERUSER, "-A", "trust", "-E", "UTF8"]
        done = self._run("initdb", *arguments, "--no-locale", *([] if self._fsync else ["-N"]))
        if done.returncode:
            raise PostgresStartError(f"initdb failed: {(done.stderr or done.stdout).strip()}")
        unfinished.rename(self._pgdata)

    def _launch(self) -> None:
        """Start the server process and wait until it accepts connections."""
        log = self.directory / "postgres.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [self.bin_dir / "postgres", "-D", self._pgdata, *self._options()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env=CLEAN_ENVIRONMENT,
                # Ctrl-C in the terminal is for us: the server stops after its clients.
                start_new_session=True,
                **self.account.run_as(),
            )
        deadline = time.monotonic() + self._timeout_s
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._end_process(signal.SIGQUIT)
                raise PostgresStartError(
                    f"PostgreSQL {self.version} did not start; {log} ends:\n{_tail(log)}"
                )
            time.sleep(_STEP_S)

    def _options(self) -> list[str]:
        """Return the server's settings as arguments."""
        sockets = str(self.directory)
        settings = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": sockets if len(sockets) <= _LONGEST_SOCKET_DIR else "",
            "fsync": "on" if self._fsync else "off",
            "full_page_writes": "on" if self._fsync else "off",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        return [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]

    def _is_ready(self) -> bool:
        """Return whether the server says so in its pid file, as `pg_ctl -w` looks at it."""
        try:
            lines = (self._pgdata / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except OSError:
            return False
        return lines[:1] == [str(self.pid)] and [line.strip() for line in lines[7:8]] == ["ready"]

    def _end_process(self, first: signal.Signals) -> None:
        """Stop the server process, ever harder, and wait for its end."""
        if self._process is None:
            return
        for step, patience_s in ((first, 10.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, None)):
            self._process.send_signal(step)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience_s)
                break
        self._process = None

    @property
    def _pgdata(self) -> Path:
        return self.directory / "pgdata"


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nobody listens."""
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return port


def _tail(log: Path) -> str:
    """Return the last lines of `log`."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:])

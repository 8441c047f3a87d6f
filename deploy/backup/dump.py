"""The database as pg_dump writes it, in pieces of a known size, and its way back."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from deploy.backup.errors import BackupError, RestoreError
from deploy.backup.programs import SERVICE, Login

FOLDER: Final = "db/"
PIECE_BYTES: Final = 16 * 1024**2
_LOCK_WAIT: Final = "--lock-wait-timeout=60s"


def dump(
    program: Path, how: Login, snapshot_id: str, options: Sequence[str] = ()
) -> Iterator[bytes]:
    """Yield a dump in pg_dump's custom format, in pieces of 16 MiB but for the last.

    Raises:
        BackupError: pg_dump failed; the message has what it said last.
    """
    arguments = ["--format=custom", f"--snapshot={snapshot_id}", "--no-password", _LOCK_WAIT]
    command = [str(program), *arguments, *options, f"--dbname=service={SERVICE}"]
    with (
        _errors() as errors,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=how.environment,
            pass_fds=[how.descriptor],
        ) as process,
    ):
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        try:
            while piece := process.stdout.read(PIECE_BYTES):
                yield piece
            process.wait()
        finally:
            process.kill()  # nobody reads on
        if process.returncode:
            raise BackupError(f"pg_dump failed: {_last_line(errors)}")


def piece_name(number: int) -> str:
    """Return the member's name of a piece of the dump."""
    return f"{FOLDER}dump.{number:05}"


class Loader:
    """pg_restore, fed piece by piece into a database that is thrown away unless all of it fits.

    Not in one transaction, which would need a lock for each part of each table and for each index:
    a month of hours is more than a server has by default.

    Args:
        program: pg_restore.
        how: How it logs in.
    """

    def __init__(self, program: Path, how: Login) -> None:
        self._program = program
        self._how = how
        self._number = 0

    def __enter__(self) -> Self:
        options = ["--exit-on-error", "--no-owner", "--no-tablespaces", "--no-password"]
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [self._program, *options, f"--dbname=service={SERVICE}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            env=self._how.environment,
            pass_fds=[self._how.descriptor],
        )
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        with suppress(BrokenPipeError):
            self._stdin.close()
        self._process.wait()
        self._errors.close()

    def load(self, name: str, data: Iterable[bytes]) -> None:
        """Load the next piece.

        Raises:
            RestoreError: It is another one, or pg_restore has given up.
        """
        if name != piece_name(self._number):
            raise RestoreError(f"{name} stands where {piece_name(self._number)} should")
        self._number += 1
        try:
            for part in data:
                self._stdin.write(part)
        except BrokenPipeError:
            self.finish()

    def finish(self) -> None:
        """Wait until all is loaded.

        Raises:
            RestoreError: pg_restore failed; the message has what it said last.
        """
        with suppress(BrokenPipeError):
            self._stdin.close()
        if self._process.wait():
            raise RestoreError(f"pg_restore failed: {_last_line(self._errors)}")

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None  # noqa: S101 - a pipe was asked for
        return self._process.stdin


def list_problem(program: Path, environment: dict[str, str], pieces: Iterable[bytes]) -> str:
    """Return why pg_restore cannot read a dump's table of contents; empty when it can."""
    with (
        _errors() as errors,
        subprocess.Popen(
            [program, "--list"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=environment,
        ) as process,
    ):
        assert process.stdin is not None  # noqa: S101 - a pipe was asked for
        # The contents stand at the beginning: it reads no further.
        with suppress(BrokenPipeError):
            for piece in pieces:
                process.stdin.write(piece)
        with suppress(BrokenPipeError):
            process.stdin.close()
        return _last_line(errors) if process.wait() else ""


@contextmanager
def _errors() -> Iterator[IO[bytes]]:
    # A file and not a pipe: nobody has to empty it meanwhile.
    with tempfile.TemporaryFile() as errors:
        yield errors


def _last_line(errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    telling = [line for line in lines if "error" in line.lower()] or lines or ["it said nothing"]
    return telling[0]

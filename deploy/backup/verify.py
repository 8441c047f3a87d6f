"""Reads a backup through, and says whether it is what was written."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from deploy.backup import dump
from deploy.backup.archive import ArchiveReader, Member
from deploy.backup.errors import BackupError
from deploy.backup.programs import find_program
from deploy.backup.progress import Steps
from deploy.pg_binaries import CLEAN_ENVIRONMENT

STANDARD_STREAM: Final = Path("-")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What reading a backup through has shown.

    Attributes:
        problems: One line for each bad member; empty for a whole backup.
        manifest: What the backup says of itself; empty when that cannot be read.
        note: What could not be looked at.
    """

    problems: list[str]
    manifest: dict[str, Any]
    note: str = ""


@contextmanager
def opened(source: Path) -> Iterator[IO[bytes]]:
    """Open a backup for the time of the block; ``-`` is standard input."""
    if source == STANDARD_STREAM:
        yield sys.stdin.buffer
        return
    with source.open("rb") as stream:
        yield stream


def verify(source: Path, steps: Steps, bin_dir: Path | None = None) -> Verdict:
    """Compare all members with their hashes, and let pg_restore read the dump's contents.

    Raises:
        OSError: The backup cannot be read.
    """
    steps.begin("verify", None if source == STANDARD_STREAM else source.stat().st_size)
    note, problems = "", []
    with opened(source) as stream:
        reader = ArchiveReader(stream)
        for member in reader.members():
            if member.name == dump.piece_name(0):
                note, problem = _look_at_dump(member, reader.plan, bin_dir)
                problems += [f"{member.name} is no dump: {problem}"] if problem else []
            steps.advance(member.size)
    return Verdict([*reader.problems, *problems], reader.manifest, note)


def _look_at_dump(member: Member, plan: dict[str, Any], bin_dir: Path | None) -> tuple[str, str]:
    """Return a note when there is no pg_restore, and what it finds wrong with the dump."""
    try:
        _, program = find_program("pg_restore", int(plan["pg_dump"]), bin_dir)
    except BackupError as error:
        return f"the dump's contents were not looked at: {error}", ""
    return "", dump.list_problem(program, CLEAN_ENVIRONMENT, member.pieces())

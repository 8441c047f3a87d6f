"""Restores a backup: beside what is there, checked, erased calls erased again; then swapped in."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from archiver.deletion import ledger
from archiver.migrations import migrate, shipped
from deploy.backup import dump, included, package, rows, sound
from deploy.backup.archive import ArchiveReader, Member
from deploy.backup.backup import CONFIG_FOLDER, ERASURES, FORMAT, LEDGER_SINCE
from deploy.backup.errors import DamagedBackupError, RestoreError
from deploy.backup.host_files import HostFiles
from deploy.backup.programs import find_program
from deploy.backup.progress import Steps
from deploy.backup.sound import SoundTarget
from deploy.backup.target import DatabaseTarget
from deploy.backup.verify import STANDARD_STREAM, opened


@dataclass(frozen=True, slots=True)
class RestoreOrder:
    """What to restore, and where to.

    Attributes:
        source: The backup; ``-`` is standard input.
        database: libpq connection string; the login may create databases and roles.
        audio_path: Root of the segments.
        config_folder: Where ``.env`` and the configuration go.
        include_folder: Where the host's own files go; None: they stay in the backup.
        erasures: A ledger that is newer than the backup's.
        is_replacing: Whether what is there may be replaced.
        bin_dir: Folder of PostgreSQL's programs; None: looked for.
    """

    source: Path
    database: str
    audio_path: Path
    config_folder: Path
    include_folder: Path | None = None
    erasures: Path | None = None
    is_replacing: bool = False
    bin_dir: Path | None = None


@dataclass(slots=True)
class Restored:
    """What a restore did.

    Attributes:
        manifest: Of the backup.
        files: Sound files placed.
        roles: Roles that were made.
        erased: What the ledger erased again: calls, rows by table, files.
        written: Configuration files, and folders of the host's own files.
        secrets: What a person has to fill in.
        left: Name of the database from before, when it could not be dropped.
    """

    manifest: dict[str, Any] = field(default_factory=dict)
    files: int = 0
    roles: list[str] = field(default_factory=list)
    erased: dict[str, int] = field(default_factory=dict)
    written: list[Path] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)
    left: str = ""


class _Loader(Protocol):
    """What takes the members with rows."""

    def load(self, name: str, data: Iterable[bytes], /) -> None:
        """Load the next piece."""

    def finish(self) -> None:
        """Commit."""


def restore(order: RestoreOrder, steps: Steps) -> Restored:
    """Restore a backup into a place that is empty, or that may be replaced.

    Raises:
        DamagedBackupError: The backup is not what was written; the target is as it was.
        RestoreError: It cannot be restored; the target is as it was.
        OSError: A file cannot be read or written; the target is as it was.
        psycopg.Error: The database is not there or refuses; the target is as it was.
    """
    with ExitStack() as held:
        database = held.enter_context(DatabaseTarget(order.database))
        database.keep_others_out()
        files = HostFiles(order.config_folder, order.include_folder)
        _refuse_what_is_there(order, database, files)
        newer = [order.erasures.read_text(encoding="utf-8")] if order.erasures else []
        if order.source != STANDARD_STREAM and order.source.is_file():
            # A pipe can be read once only: there, the stage shows what is bad.
            _read_through(order.source, steps)
        reader = ArchiveReader(held.enter_context(opened(order.source)))
        return _Restore(order, steps, _Targets(database, files), reader).run(newer)


def _refuse_what_is_there(order: RestoreOrder, database: DatabaseTarget, files: HostFiles) -> None:
    files.refuse_what_is_there()
    if order.is_replacing:
        return
    if not database.is_empty:
        raise RestoreError(
            f"the database {database.name} is not empty; --replace replaces it with the backup"
        )
    if not SoundTarget(order.audio_path, {}).is_empty:
        raise RestoreError(f"{order.audio_path} is not empty; --replace replaces what it has")


def _read_through(source: Path, steps: Steps) -> None:
    """Find out that a file is bad before anything is begun with it."""
    steps.begin("verify", source.stat().st_size)
    with opened(source) as stream:
        reader = ArchiveReader(stream)
        for member in reader.members():
            steps.advance(member.size)
    reader.raise_problems()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let nobody end the block: half of a swap would be neither the old archive nor the new one."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@dataclass(frozen=True, slots=True)
class _Targets:
    database: DatabaseTarget
    files: HostFiles


class _Restore:
    """One restore, from the first member to the swap."""

    def __init__(
        self, order: RestoreOrder, steps: Steps, targets: _Targets, reader: ArchiveReader
    ) -> None:
        self._order = order
        self._steps = steps
        self._database = targets.database
        self._files = targets.files
        self._reader = reader
        self._ledgers: list[str] = []
        self._done = Restored()

    def run(self, newer: list[str]) -> Restored:
        """Restore, with the erasures of these ledgers too."""
        self._ledgers += newer
        members = self._reader.members()
        first = next(members, None)
        self._reader.raise_problems()
        plan = self._reader.plan
        self._check_plan(plan)
        audio = SoundTarget(self._order.audio_path, plan["audio"])
        try:
            audio.prepare(plan["audio"]["bytes"])
            self._done.roles = self._database.prepare(plan["roles"], plan["encoding"])
            self._load(plan, members, first, audio)
            self._check_rows(plan)
            self._erase_again(audio)
            self._done.written, self._done.secrets = self._files.finish(
                self._order.database, self._order.audio_path
            )
        except BaseException:
            self._discard(audio)
            raise
        with _undisturbed():
            try:
                self._swap(audio)
            except BaseException:
                self._discard(audio)
                raise
            self._done.left = self._database.finish()
            audio.finish()
        return self._done

    def _discard(self, audio: SoundTarget) -> None:
        """Leave everything as it was."""
        self._database.discard()
        audio.discard()
        self._files.discard()

    def _check_plan(self, plan: dict[str, Any]) -> None:
        """Refuse what this version or this server cannot take."""
        if plan["format"] != FORMAT or plan["schema"] > shipped()[-1][0]:
            raise RestoreError(
                f"the backup has format {plan['format']} and schema {plan['schema']}, of version "
                f"{plan['made_by']['monitoring-v2']}; this one is older: install the wheel that is "
                f"in the backup ({package.FOLDER})"
            )
        if plan["what"] != "calls" and plan["postgresql"] > self._database.server:
            raise RestoreError(
                f"the backup is of PostgreSQL {plan['postgresql']}, this server is "
                f"{self._database.server}: restore into the same release or a newer one"
            )

    def _load(
        self,
        plan: dict[str, Any],
        members: Iterator[Member],
        first: Member | None,
        audio: SoundTarget,
    ) -> None:
        self._steps.begin("restore", plan["audio"]["bytes"])
        try:
            with ExitStack() as held:
                loader = self._loader(plan, held)
                member = first
                while member is not None:
                    self._take(member, loader, audio)
                    self._steps.advance(member.size)
                    member = next(members, None)
                self._reader.raise_problems()
                loader.finish()
        except RestoreError:
            # It may be that it was no backup as it was written: then say so.
            for _ in members:
                pass
            self._reader.raise_problems()
            raise
        self._done.manifest = self._reader.manifest

    def _loader(self, plan: dict[str, Any], held: ExitStack) -> _Loader:
        stage = self._database.stage_conninfo
        if plan["what"] == "calls":
            migrate(stage)
            return held.enter_context(rows.RowsLoader(stage, plan["tables"], plan["partitions"]))
        release = max(self._database.server, plan["pg_dump"])
        _, program = find_program("pg_restore", release, self._order.bin_dir)
        return held.enter_context(dump.Loader(program, held.enter_context(self._database.login())))

    def _take(self, member: Member, loader: _Loader, audio: SoundTarget) -> None:
        """Give a member its place."""
        name = member.name
        if name.startswith((dump.FOLDER, rows.FOLDER)):
            loader.load(name, member.pieces())
        elif name.startswith(sound.FOLDER):
            audio.place(member)
            self._done.files += 1
        elif name.startswith(included.FOLDER):
            self._files.place(member)
        elif name.startswith(CONFIG_FOLDER):
            self._files.keep(member)
        elif name == ERASURES:
            self._ledgers.append(member.read().decode())
        elif not name.startswith(package.FOLDER):
            raise DamagedBackupError([f"{name!r} is no part of a backup"])

    def _check_rows(self, plan: dict[str, Any]) -> None:
        """Compare what was loaded with the cut, then bring it to this version."""
        self._steps.begin("hash of every row")
        expected = self._done.manifest["tables"]
        differences = self._database.differences(expected, plan.get("traces", []))
        if differences:
            raise RestoreError("what was loaded is not what was written: " + "; ".join(differences))
        migrate(self._database.stage_conninfo)
        self._database.analyze()

    def _erase_again(self, audio: SoundTarget) -> None:
        """Bring all ledgers together, that of what is replaced too; erase what they have."""
        self._steps.begin("erasures")
        if self._database.is_at_least(LEDGER_SINCE):
            self._ledgers.append(ledger.dump(self._order.database))
        for text in self._ledgers:
            ledger.load(self._database.stage_conninfo, text)
        self._done.erased = ledger.reapply(self._database.stage_conninfo, audio.stage)

    def _swap(self, audio: SoundTarget) -> None:
        os.sync()  # what was written is on the disk before anything is replaced
        audio.swap()
        try:
            self._database.swap()
        except BaseException:
            audio.undo_swap()
            raise

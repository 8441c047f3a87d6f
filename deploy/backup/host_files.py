"""Configuration and the host's own files: out of a backup, beside what is there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from archiver.outputs import whole_file
from deploy.backup import included
from deploy.backup.archive import Member
from deploy.backup.backup import CONFIG_FOLDER, CONFIG_NAME, ENV_NAME
from deploy.backup.errors import DamagedBackupError, RestoreError
from deploy.backup.variables import (
    AUDIO_PATH,
    DATABASE,
    Variables,
    as_file,
    database_without_secrets,
    from_file,
)

ENV_FILE: Final = ".env"
BESIDE: Final = ".restored"
_STAGE: Final = ".restoring"
# A person fills secrets in.
_SECRET_MODE: Final = 0o600


class HostFiles:
    """Where files go that are neither rows nor sound; nothing that is there is replaced.

    Args:
        config_folder: For ``.env`` and the configuration.
        include_folder: For the host's own files; None: they stay in the backup.
    """

    def __init__(self, config_folder: Path, include_folder: Path | None) -> None:
        self._config_folder = config_folder
        self._include_folder = include_folder
        self._config: dict[str, bytes] = {}
        self._written: list[Path] = []

    def refuse_what_is_there(self) -> None:
        """Raise RestoreError when the folder of the host's own files is there."""
        if self._include_folder is not None and self._include_folder.exists():
            raise RestoreError(f"{self._include_folder} is there; name a folder that is not")

    def keep(self, member: Member) -> None:
        """Keep a file of the configuration until the restore is done."""
        self._config[member.name.removeprefix(CONFIG_FOLDER)] = member.read()

    def place(self, member: Member) -> None:
        """Write one of the host's own files below a temporary name of its folder.

        Raises:
            DamagedBackupError: The name leads out of the folder.
            OSError: It cannot be written.
        """
        if self._include_folder is None:
            return
        parts = member.name.removeprefix(included.FOLDER).split("/")
        if not all(part.strip(".") for part in parts):
            raise DamagedBackupError([f"{member.name!r} leads out of its folder"])
        path = self._stage(self._include_folder).joinpath(*parts)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(path, flags, _SECRET_MODE), "wb") as stream:
            for piece in member.pieces():
                stream.write(piece)
            os.fchmod(stream.fileno(), member.mode)

    def finish(self, database: str, audio_path: Path) -> tuple[list[Path], list[str]]:
        """Write everything for an archive at this place.

        Returns:
            What was written, and which secrets a person has to fill in.
        """
        self._config_folder.mkdir(parents=True, exist_ok=True)
        found = from_file(self._config.get(ENV_NAME, b"").decode())
        here = {DATABASE: database_without_secrets(database)[0], AUDIO_PATH: str(audio_path)}
        notes = [
            f"{name} was {found.values[name]}"
            for name, value in here.items()
            if found.values.get(name, value) != value
        ]
        variables = Variables({**found.values, **here}, found.secrets)
        text = as_file(variables, ["Written by monitoring restore.", *notes])
        self._write(ENV_FILE, text.encode())
        if CONFIG_NAME in self._config:
            self._write(CONFIG_NAME, self._config[CONFIG_NAME])
        if self._include_folder is not None:
            self._stage(self._include_folder).mkdir(exist_ok=True)  # there may have been none
            self._stage(self._include_folder).rename(self._include_folder)
            self._written.append(self._include_folder)
        return self._written, found.secrets

    def discard(self) -> None:
        """Remove what was placed and written: nothing of it was there before."""
        for path in self._written:
            if path == self._include_folder:
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        if self._include_folder is not None:
            shutil.rmtree(self._stage(self._include_folder), ignore_errors=True)

    def _write(self, name: str, data: bytes) -> None:
        path = self._config_folder / name
        if path.exists():
            path = path.with_name(name + BESIDE)
        with whole_file(path, _SECRET_MODE) as stream:
            stream.write(data)
        self._written.append(path)

    @staticmethod
    def _stage(folder: Path) -> Path:
        return folder.with_name(folder.name + _STAGE)

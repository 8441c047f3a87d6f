"""What can go wrong with a backup; the message says what it means and what to do."""

from __future__ import annotations

from exporter.errors import MonitoringError


class BackupError(MonitoringError):
    """A backup could not be made."""


class DamagedBackupError(MonitoringError):
    """A backup is not what was written.

    Attributes:
        problems: One line for each bad member.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("the backup is damaged: " + "; ".join(problems))


class RestoreError(MonitoringError):
    """A backup could not be restored; the target is as it was."""

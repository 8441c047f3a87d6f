"""What an erasure says of itself: for who asked for it, and for the file."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

NOT_REACHED = (
    "exemplars in Prometheus, which name calls: they go with its retention or by its admin API",
    "earlier backups: a restore erases again what its ledger has; give it one that is newer",
    "bundles, exports and sound that people took out; the access log says who listened",
    "dead rows and write-ahead log of PostgreSQL until vacuum and checkpoints; archived log",
    "blocks of the file system that are free now, and its snapshots",
    "what the host itself has logged",
)
"""What no erasure reaches, in words for its receipt."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was erased, or would be.

    Attributes:
        erasure_id: Its key in ``erasures``; empty for a trial.
        is_trial: Whether nothing was done.
        reason: Why.
        request: What was asked for, in words.
        trace_ids: The calls.
        begun_at: When.
        finished_at: When all was gone.
        rows: Rows by table; those of ``audio_access`` have lost the call's name alone.
        files: Segments.
        file_bytes: Their bytes.
        spool: Records, batches, batches of running processes, damaged batches.
        not_reached: What remains, in words.
    """

    erasure_id: str
    is_trial: bool
    reason: str
    request: str
    trace_ids: tuple[str, ...]
    begun_at: datetime
    finished_at: datetime
    rows: dict[str, int]
    files: int
    file_bytes: int
    spool: dict[str, int]
    not_reached: tuple[str, ...] = NOT_REACHED

    def counts(self) -> dict[str, int]:
        """Return all counts in one: what the database keeps of it."""
        spool = {f"spool_{name}": number for name, number in self.spool.items()}
        return {**self.rows, "files": self.files, "file_bytes": self.file_bytes, **spool}

    def as_json(self) -> str:
        """Return the receipt for a machine."""
        return json.dumps(asdict(self), indent=2, default=_iso)

    def as_text(self) -> str:
        """Return the receipt for a person."""
        verb = "would go" if self.is_trial else "erased"
        head = "TRIAL: nothing was erased" if self.is_trial else f"ERASURE {self.erasure_id}"
        return "\n".join(
            [
                head,
                f"  reason   {self.reason}",
                f"  request  {self.request}",
                f"  begun    {_iso(self.begun_at)}",
                f"  finished {_iso(self.finished_at)}",
                f"calls {verb}: {len(self.trace_ids)}",
                *(f"  {trace_id}" for trace_id in self.trace_ids),
                f"{verb}:",
                *(f"  {number:>12,}  {name}" for name, number in self.counts().items()),
                "not reached:",
                *(f"  - {text}" for text in self.not_reached),
            ]
        )


def write(receipt: Receipt, path: Path) -> None:
    """Write a receipt where there is none, for its owner alone: JSON for ``.json``, else text.

    Raises:
        OSError: It cannot be written, or there is a file already.
    """
    text = receipt.as_json() if path.suffix == ".json" else receipt.as_text()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text + "\n")


def _iso(moment: object) -> str:
    return moment.isoformat(timespec="seconds") if isinstance(moment, datetime) else str(moment)

"""What one run of retention deletes by age and by pressure: hours whole, and rows beside them.

Order, everywhere: say so (``deletions``), remove files, then rows. A kill in between leaves rows
that still name what there was, and the next run goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

import psycopg
from psycopg import sql

from archiver.deletion import hours
from archiver.deletion.holds import held, unchanged
from archiver.deletion.hours import AUDIO, HOUR, Partition
from archiver.deletion.steps import Done, Step
from archiver.deletion.tree import Removed, Tree

MOST_ROWS = 10_000

_SLICE = (
    "DELETE FROM {table} AS t WHERE ctid = ANY (ARRAY("
    "SELECT ctid FROM {table} AS t WHERE {due} LIMIT {most}))"
)
_COUNT = "SELECT count(*) FROM {table} AS t WHERE {due}"
_FREE = "(trace_id IS NULL OR trace_id <> ALL(%(held)s))"
# A call is as old as the last that is known of it: it may run for days.
_TRACES = """started_at < %(before)s AND greatest(started_at, ended_at, (
    SELECT last_ts FROM call_totals AS s WHERE s.trace_id = t.trace_id)) < %(before)s"""
_TOTALS = """last_ts < %(before)s
    AND NOT EXISTS (SELECT FROM traces AS s WHERE s.trace_id = t.trace_id)"""


@dataclass(frozen=True, slots=True)
class Due:
    """What is older than its moment goes.

    Attributes:
        audio: Segments and their rows.
        numbers: All other rows of calls.
        knob_events: Who turned which knob.
        access: Who listened, and what retention did.
    """

    audio: datetime
    numbers: datetime
    knob_events: datetime
    access: datetime


class Clearing:
    """The hands of one run.

    Args:
        worker: Connection that deletes; autocommit.
        guard: Connection in a transaction, for locks.
        tree: The segments.
        on_step: Told of each thing that is done, before the next.
        is_dry: Count only.
    """

    def __init__(
        self,
        worker: psycopg.Connection,
        guard: psycopg.Connection,
        tree: Tree,
        *,
        on_step: Step,
        is_dry: bool,
    ) -> None:
        # At 0 from the first run on: what comes later is an increase, not a new series.
        self.counts: Counter[str] = Counter(partitions=0, files=0)
        self._worker = worker
        self._guard = guard
        self._tree = tree
        self._step = on_step
        self.is_dry = is_dry

    def clear_hours(self, kind: str, before: datetime) -> None:
        """Delete the hours of a kind that are due, and the part that is due of the one between."""
        begun = self._begun(kind)
        found = hours.partitions(self._worker, kind)
        for hour in sorted(found.keys() | begun.keys()):
            parts = found.get(hour, [])
            if hour + HOUR <= before or hour in begun:
                self.clear_hour(kind, hour, parts, reason="age")
            elif not all(part.is_attached for part in parts) and not self.is_dry:
                # Somebody has raised the limit since it was detached.
                hours.attach(self._worker, hour)
        for part in found.get(hours.start_of(before), []):
            if part.is_attached and hours.start_of(before) not in begun:
                self._clear_part(part, before)

    def clear_hour(
        self, kind: str, hour: datetime, parts: list[Partition], *, reason: str
    ) -> Removed:
        """Delete an hour but for calls that are held; return the files that went."""
        removed = Removed()
        with unchanged(self._guard):
            keep = held(self._worker)
            todo = [part for part in parts if self._has_work(part, keep)]
            begun = self._begun(kind).get(hour)
            if not todo and begun is None:
                return removed
            if begun is None and not self.is_dry:
                begun = self._begin(kind, hour, reason)
            self._step(Done.HOUR, f"{kind} of {hour:%Y-%m-%d %H}h, by {reason}")
            for part in todo:
                self._clear_partition(part, hour, keep, removed)
            if begun is not None and not self.is_dry:
                self._finish(begun, removed)
        self._count_files(removed, reason)
        return removed

    def clear_rows(self, due: Due) -> None:
        """Delete what is not kept by the hour."""
        with unchanged(self._guard):
            keep = held(self._worker)
            for table, condition, before in (
                ("gaps", f"bucket_ts < %(before)s AND {_FREE}", due.numbers),
                ("knob_events", f"created_at < %(before)s AND {_FREE}", due.knob_events),
                ("traces", f"{_TRACES} AND {_FREE}", due.numbers),
                ("call_totals", f"{_TOTALS} AND {_FREE}", due.numbers),
                ("applied_batches", "applied_at < %(before)s", due.numbers),
                ("deletions", "finished_at < %(before)s", due.access),
                ("orphan_walks", "walked_at < %(before)s", due.access),
            ):
                self._delete(table, condition, {"before": before, "held": keep})
                self._step(Done.ROWS, table)
        if not self.is_dry:
            row = self._worker.execute("SELECT forget_accesses(%s)", [due.access]).fetchone()
            self.counts["audio_access"] += row[0] if row else 0

    def audio_hours(
        self, since: datetime, until: datetime
    ) -> Iterator[tuple[datetime, list[Partition]]]:
        """Yield the hours of audio in a time of which something may go, the oldest first."""
        keep = held(self._worker)
        for hour, parts in hours.partitions(self._worker, "audio").items():
            is_inside = since < hour + HOUR <= until
            if is_inside and any(self._has_rows(part, keep) for part in parts):
                yield hour, parts

    @property
    def removed(self) -> Removed:
        """Files that went so far."""
        files = self.counts["files"] + self.counts["files_by_pressure"]
        return Removed(files, self.counts["file_bytes"])

    def _clear_partition(
        self, part: Partition, hour: datetime, keep: list[str], removed: Removed
    ) -> None:
        values = {"held": keep}
        if part.parent == AUDIO:
            self._remove_files(part, _FREE, values, removed)
        if self.is_dry:
            self._delete(part.name, _FREE, values, kind="rows")
            self.counts["partitions"] += not self._has_held(part, keep)
            return
        if not self._has_held(part, keep):
            hours.drop(self._worker, part, self._step)
            self.counts["partitions"] += 1
        else:
            if not part.is_attached:
                hours.attach(self._worker, hour)
            self._delete(part.name, _FREE, values, kind="rows")
        self._step(Done.ROWS, part.name)

    def _clear_part(self, part: Partition, before: datetime) -> None:
        """Delete what is due of an hour that is not over."""
        condition, removed = f"bucket_ts < %(before)s AND {_FREE}", Removed()
        with unchanged(self._guard):
            values = {"before": before, "held": held(self._worker)}
            if part.parent == AUDIO:
                self._remove_files(part, condition, values, removed)
            self._delete(part.name, condition, values, kind="rows")
        self._count_files(removed, "age")
        self._step(Done.ROWS, part.name)

    def _remove_files(
        self,
        part: Partition,
        condition: LiteralString,
        values: Mapping[str, object],
        removed: Removed,
    ) -> None:
        query = sql.SQL("SELECT file_path FROM {} WHERE {}").format(part.table, sql.SQL(condition))
        for (path,) in self._worker.execute(query, values).fetchall():
            removed.add(self._tree.remove(path, is_dry=self.is_dry))
            self._step(Done.FILE, path)

    def _delete(
        self, table: str, due: LiteralString, values: Mapping[str, object], kind: str = ""
    ) -> None:
        """Delete in slices, so that no transaction is long."""
        texts = {
            "table": sql.Identifier(table),
            "due": sql.SQL(due),
            "most": sql.Literal(MOST_ROWS),
        }
        if self.is_dry:
            row = self._worker.execute(sql.SQL(_COUNT).format(**texts), values).fetchone()
            self.counts[kind or table] += row[0] if row else 0
            return
        found = MOST_ROWS
        while found == MOST_ROWS:
            found = self._worker.execute(sql.SQL(_SLICE).format(**texts), values).rowcount
            self.counts[kind or table] += found

    def _has_work(self, part: Partition, keep: list[str]) -> bool:
        return not self._has_held(part, keep) or self._has_rows(part, keep)

    def _has_held(self, part: Partition, keep: list[str]) -> bool:
        return bool(keep) and self._exists(part, "trace_id = ANY(%(held)s)", keep)

    def _has_rows(self, part: Partition, keep: list[str]) -> bool:
        return self._exists(part, _FREE, keep)

    def _exists(self, part: Partition, condition: LiteralString, keep: list[str]) -> bool:
        query = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE {})")
        text = query.format(part.table, sql.SQL(condition))
        row = self._worker.execute(text, {"held": keep}).fetchone()
        return bool(row and row[0])

    def _begun(self, kind: str) -> dict[datetime, int]:
        """Return the hours that an earlier run has begun and not finished."""
        query = "SELECT hour, deletion_id FROM deletions WHERE kind = %s AND finished_at IS NULL"
        return dict(self._worker.execute(query, [kind]).fetchall())

    def _begin(self, kind: str, hour: datetime, reason: str) -> int:
        statement = (
            "INSERT INTO deletions (hour, kind, reason) VALUES (%s, %s, %s) RETURNING deletion_id"
        )
        (deletion_id,) = self._worker.execute(statement, [hour, kind, reason]).fetchone() or (0,)
        return int(deletion_id)

    def _finish(self, deletion_id: int, removed: Removed) -> None:
        self._worker.execute(
            "UPDATE deletions SET finished_at = clock_timestamp(), files = %s, file_bytes = %s "
            "WHERE deletion_id = %s",
            [removed.files, removed.file_bytes, deletion_id],
        )

    def _count_files(self, removed: Removed, reason: str) -> None:
        name = "files" if reason == "age" else "files_by_pressure"
        self.counts[name] += removed.files
        self.counts["file_bytes"] += removed.file_bytes

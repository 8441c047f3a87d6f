"""The import: one pass over an old export to learn its calls, a second one to bring them in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from archiver.imports import accounts
from archiver.imports.accounts import Ledger, Origin, UnkeptError
from archiver.imports.fields import Cells, Reading, read_rows
from archiver.imports.loader import EVENTS, METRICS, SNAPSHOTS, Loader, Verdict
from archiver.imports.old_audio import opened
from archiver.imports.old_calls import OldCalls
from archiver.imports.old_knobs import (
    EVENT_NEEDED,
    SNAPSHOT_NEEDED,
    OldEvent,
    OldSnapshot,
    parse_event,
    parse_snapshot,
)
from archiver.imports.old_metrics import METRIC_NEEDED, OldMetric, parse_metric
from archiver.imports.shelf import Shelf
from archiver.imports.source import OldFile, old_files
from archiver.rows import Stage
from archiver.times import BUCKET
from exporter.config import Settings, existing_path
from exporter.model import Recording

CONFIG_NAME = "monitoring.config.json"
BATCH = 5_000
_MOST_CONFIG = 1 << 20
_RATE = "stream.sample_rate"

OldRow = OldMetric | OldSnapshot | OldEvent


@dataclass(frozen=True, slots=True)
class Table:
    """One kind of CSV file.

    Attributes:
        kind: Under which its rows are counted.
        name: Names of its files.
        needed: Columns without which it is another table.
        stage: Where its rows go.
    """

    kind: str
    name: re.Pattern[str]
    needed: tuple[str, ...]
    stage: Stage


TABLES = (
    Table(accounts.METRICS, re.compile(r"metrics.*\.csv"), METRIC_NEEDED, METRICS),
    Table(accounts.SNAPSHOTS, re.compile(r"knob_snapshots.*\.csv"), SNAPSHOT_NEEDED, SNAPSHOTS),
    Table(accounts.EVENTS, re.compile(r"knob_events.*\.csv"), EVENT_NEEDED, EVENTS),
)


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be imported.

    Attributes:
        path: Folder or tarball.
        reading: How its times and names are read.
        is_dry: Report alone.
        now: The present, by which retention judges.
        progress: Called with what is being done and its share, 0 to 1.
    """

    path: Path
    reading: Reading
    is_dry: bool
    now: datetime
    progress: Callable[[str, float], None] = lambda _what, _share: None


class Importer:
    """Brings one export into the archive.

    Args:
        order: What is to be imported.
        settings: Database, audio path and registries.
        ledger: Counts and lists what becomes of everything.

    Attributes:
        config: Name and content of the old configuration, where there is one.
    """

    def __init__(self, order: Order, settings: Settings, ledger: Ledger) -> None:
        self.config: tuple[str, bytes] | None = None
        self._order = order
        self._settings = settings
        self._ledger = ledger
        self._calls = OldCalls()
        self._refused: set[str] = set()

    def run(self) -> dict[str, Any]:
        """Import; return how many calls are new, extended, known, or due for deletion.

        Raises:
            SourceError: The export cannot be read, or another import is running.
            OSError: The disk does not take the audio.
            psycopg.Error: The database is not there, or has no archive yet.
        """
        self._learn()
        calls = self._calls.by_id
        with Loader(self._settings.db, is_dry=self._order.is_dry) as loader:
            self._refused = loader.recorded_here(calls)
            taken = {each: calls[each] for each in calls if each not in self._refused}
            counts = loader.save_calls(taken, self._order.reading.mask)
            self._bring(loader)
            loader.link_calls()
        return counts | {
            "refused": len(self._refused),
            "older_than_retention": self._older_than(self._settings.retention_hours),
            "older_than_audio_retention": self._older_than(self._settings.audio_hours),
        }

    def _older_than(self, hours: float) -> int:
        """Return how many of the calls that are taken retention deletes, by this limit."""
        limit = self._order.now - timedelta(hours=hours)
        calls = self._calls.by_id
        return sum(calls[each].until < limit for each in calls.keys() - self._refused)

    def _learn(self) -> None:
        """Read everything once: which calls there are, when, and what is told of them."""
        for file in self._files("reading"):
            table = _table_of(file)
            if file.base == CONFIG_NAME and self.config is None:
                self._read_config(file)
            elif table is not None:
                for _, found in self._rows(file, table):
                    self._learn_row(found)
            elif _is_sound(file):
                self._learn_sound(file)
        self._calls.finish()

    def _learn_row(self, found: OldRow | UnkeptError) -> None:
        if isinstance(found, OldEvent):
            if found.trace_id is not None:
                self._calls.add_event(found.trace_id, found.raw_trace, found.created_at)
        elif isinstance(found, OldSnapshot):
            until = found.bucket_ts + BUCKET
            self._calls.add(found.trace_id, found.raw_trace, found.bucket_ts, until)
        elif isinstance(found, OldMetric):
            trace_id, station, _, bucket_ts, key = found.row[:5]
            call = self._calls.add(trace_id, found.raw_trace, bucket_ts, bucket_ts + BUCKET)
            for name, value in found.facts.items():
                call.facts.setdefault(f"{station}.{name}", set()).add(value)
            if key == _RATE:
                call.rate = max(call.rate or 0, int(found.row[10]))

    def _learn_sound(self, file: OldFile) -> None:
        try:
            with opened(file, self._order.reading) as (it, _):
                call = self._calls.add(it.trace_id, it.raw_trace, it.start, it.end)
                call.rate = max(call.rate or 0, it.rate)
        except UnkeptError:
            return  # counted in the second pass

    def _read_config(self, file: OldFile) -> None:
        try:
            with file.open() as stream:
                self.config = file.name, stream.read(_MOST_CONFIG)
        except UnkeptError:
            return  # counted in the second pass

    def _bring(self, loader: Loader) -> None:
        """Read everything again, and bring in what can be kept."""
        shelf: Shelf | None = None
        for file in self._files("importing"):
            table = _table_of(file)
            if file.refused:
                self._ledger.reject(Origin(accounts.OTHER, _shown(file)), file.refused)
            elif table is not None:
                self._bring_table(loader, file, table)
            elif _is_sound(file):
                shelf = shelf or self._shelf(loader)
                self._bring_sound(shelf, file)
            elif self.config is None or file.name != self.config[0]:
                self._ledger.reject(Origin(accounts.OTHER, _shown(file)), "unknown_file")

    def _shelf(self, loader: Loader) -> Shelf:
        root = existing_path(self._settings.audio_path)
        if not self._order.is_dry:
            root.mkdir(mode=0o750, parents=True, exist_ok=True)
        return Shelf(root, loader, is_dry=self._order.is_dry)

    def _bring_table(self, loader: Loader, file: OldFile, table: Table) -> None:
        batch: list[tuple[Origin, OldRow]] = []
        for line, found in self._rows(file, table):
            origin = Origin(table.kind, _shown(file), line)
            if line == 0 and isinstance(found, UnkeptError):
                origin = Origin(accounts.OTHER, _shown(file))
            if isinstance(found, UnkeptError):
                self._ledger.reject(origin, found.reason, found.detail)
            elif found.trace_id in self._refused:
                self._ledger.reject(origin, "recorded_here")
            elif table.stage is METRICS and self._settings.consent_unknown is Recording.OFF:
                self._ledger.reject(origin, "no_consent")
            else:
                batch.append((origin, found))
            if len(batch) == BATCH:
                self._load(loader, table.stage, batch)
                batch = []
        self._load(loader, table.stage, batch)

    def _load(self, loader: Loader, stage: Stage, batch: list[tuple[Origin, OldRow]]) -> None:
        if not batch:
            return
        verdicts = loader.load(stage, [found.row for _, found in batch])
        for (origin, found), verdict in zip(batch, verdicts, strict=True):
            self._count(origin, verdict, found.notes)

    def _bring_sound(self, shelf: Shelf, file: OldFile) -> None:
        origin = Origin(accounts.AUDIO, _shown(file))
        try:
            with opened(file, self._order.reading) as (recording, sound):
                if recording.trace_id in self._refused:
                    raise UnkeptError("recorded_here")
                if self._settings.consent_unknown is not Recording.AUDIO:
                    raise UnkeptError("no_consent")
                verdict = shelf.put(recording, sound)
        except UnkeptError as error:
            self._ledger.reject(origin, error.reason, error.detail)
        else:
            self._count(origin, verdict, recording.notes)

    def _count(self, origin: Origin, verdict: Verdict, notes: tuple[tuple[str, str], ...]) -> None:
        if verdict is Verdict.KEPT:
            self._ledger.keep(origin, notes)
        elif verdict is Verdict.THERE:
            self._ledger.find(origin)
        else:
            self._ledger.reject(origin, verdict)

    def _files(self, what: str) -> Iterator[OldFile]:
        for file in old_files(self._order.path):
            self._order.progress(what, file.share())
            yield file
        self._order.progress(what, 1.0)

    def _rows(self, file: OldFile, table: Table) -> Iterator[tuple[int, OldRow | UnkeptError]]:
        """Yield what each row is, with its line; line 0 for the file when it is no such table."""
        try:
            with file.open() as stream:
                for line, cells in read_rows(stream, table.needed):
                    if line % BATCH == 0:
                        self._order.progress(table.kind, file.share())
                    yield line, self._parsed(table, cells)
        except UnkeptError as error:
            yield 0, error

    def _parsed(self, table: Table, cells: Cells | UnkeptError) -> OldRow | UnkeptError:
        if isinstance(cells, UnkeptError):
            return cells
        reading = self._order.reading
        try:
            if table.stage is METRICS:
                return parse_metric(cells, self._settings.metrics, reading)
            if table.stage is SNAPSHOTS:
                return parse_snapshot(cells, self._settings.registry, reading)
            return parse_event(cells, self._settings.registry, reading)
        except UnkeptError as error:
            return error


def _table_of(file: OldFile) -> Table | None:
    return next((table for table in TABLES if table.name.fullmatch(file.base.lower())), None)


def _is_sound(file: OldFile) -> bool:
    return file.base.lower().endswith(".wav")


def _shown(file: OldFile) -> str:
    """Return a name that can be printed, whatever bytes it has."""
    return file.name.encode("utf-8", "backslashreplace").decode()

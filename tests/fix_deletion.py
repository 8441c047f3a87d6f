"""A small archive in simulated time, in which retention and erasure are killed and checked.

Every hour brings a few calls; a model beside it knows which of their buckets have to be there.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import time
import traceback
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

from archiver.audio import Segment
from archiver.batch import Batch, Entry, decode, encode, to_entry
from archiver.database import Database
from archiver.deletion import ledger
from archiver.deletion.erasure import ErasureError, Request, erase
from archiver.deletion.holds import hold, release
from archiver.deletion.retention import Retention
from archiver.deletion.space import Space
from archiver.deletion.steps import Done, Step, unheard
from exporter.model import Tap, TraceStarted
from exporter.selfmetrics import Tally
from tests.fix_archive import START_NS, bucket, settings

HOUR = timedelta(hours=1)
AUDIO_HOURS, NUMBERS_HOURS = 4.0, 6.0
CAPACITY, FREE_SHARE = 60, 0.2
"""Files that the simulated disk takes, and the share that has to be free."""
MINUTES = (0, 17, 34, 51)
HOUR_BUCKETS = 720
START = datetime.fromtimestamp(START_NS / 1e9, UTC)
NUMBERS = ("tap_buckets_5s", "metrics_agg_5s", "knob_snapshots_5s")
Key = tuple[str, datetime]
Work = Callable[[Step], object]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a child ended, after how many steps and seconds, and what it was doing."""

    was_killed: bool
    steps: int
    seconds: float
    what: str = ""


@dataclass(slots=True)
class World:
    """An archive, its simulated time, and what has to be in it.

    Attributes:
        conninfo: A database with the schema.
        folder: Audio and spool are below.
        rng: Decides everything; a seed repeats a run.
        now: The simulated time.
        audio: Buckets whose sound has to be there.
        numbers: Buckets whose rows have to be there.
        waiting: Batches in the spool of a process that died, and the call of each.
        held: Calls under legal hold.
        erased: Calls that are in the ledger.
        hours: How many have passed.
        lengths: How many steps each work took that was not killed.
    """

    conninfo: str
    folder: Path
    rng: random.Random
    now: datetime = START
    audio: set[Key] = field(default_factory=set)
    numbers: set[Key] = field(default_factory=set)
    waiting: dict[Path, str] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    erased: set[str] = field(default_factory=set)
    hours: int = 0
    lengths: dict[str, int] = field(default_factory=lambda: {"erasure": 7, "retention": 16})

    @property
    def root(self) -> Path:
        """Root of the segments."""
        return self.folder / "audio"

    def retention(self) -> Retention:
        """Return retention with the limits of this world."""
        own = replace(
            settings(self.folder, self.conninfo),
            retention_audio_hours=AUDIO_HOURS,
            retention_hours=NUMBERS_HOURS,
            retention_free_share=FREE_SHARE,
        )
        return Retention(own, Tally(), measure=self._space, safe_age=timedelta(0))

    def retain(self, on_step: Step = unheard) -> dict[str, int]:
        """Run retention once at the simulated time."""
        return self.retention().run(self.root, self.now, on_step=on_step)

    def erase(self, trace_id: str, on_step: Step = unheard) -> None:
        """Erase a call; one that is held stays."""
        with suppress(ErasureError):
            erase(settings(self.folder, self.conninfo), Request(trace_id), "x", on_step=on_step)

    def sweep(self) -> None:
        """Do what the next runs do after a kill."""
        ledger.reapply(self.conninfo, self.root)
        self.retain()

    def pass_an_hour(self, calls: int) -> None:
        """Archive an hour of calls; the batch of the first may wait in the spool."""
        for number in range(calls):
            trace_id = f"call-{self.hours}-{number}"
            buckets = [self.hours * HOUR_BUCKETS + 12 * minute + number for minute in MINUTES]
            started = TraceStarted(trace_id, START_NS + buckets[0] * 5 * 10**9, "3333")
            entries = (to_entry(started, {}), *(self._entry(trace_id, each) for each in buckets))
            seq = self.hours * 10 + number
            batch = Batch(str(uuid.uuid4()), "dead", seq, 0, 0, entries)
            if number == 0 and self.rng.random() < 0.3:
                self._spool(batch, trace_id)
            else:
                self._apply(batch)
            keys = {(trace_id, START + timedelta(seconds=5 * each)) for each in buckets}
            self.audio |= keys
            self.numbers |= keys
        self.hours += 1
        self.now = START + self.hours * HOUR

    def drain(self) -> None:
        """Upload what waits in the spool, as the next process does."""
        while self.waiting:
            path, _ = self.waiting.popitem()
            self._apply(decode(path.read_bytes()))
            path.unlink()

    def toggle_hold(self) -> None:
        """Hold a call, or release one."""
        if self.held and self.rng.random() < 0.6:
            trace_id = self.rng.choice(sorted(self.held))
            release(self.conninfo, trace_id)
            self.held.discard(trace_id)
            return
        names = sorted({name for name, _ in self.numbers} - set(self.waiting.values()))
        if names:
            trace_id = self.rng.choice(names)
            hold(self.conninfo, trace_id, "test")
            self.held.add(trace_id)

    def learn_erased(self, trace_id: str) -> None:
        """Take a call out of the model when the ledger has it."""
        with psycopg.connect(self.conninfo) as connection:
            if ledger.is_erased(connection, [trace_id]):
                self.erased.add(trace_id)
        self.audio = {key for key in self.audio if key[0] not in self.erased}
        self.numbers = {key for key in self.numbers if key[0] not in self.erased}

    def expire(self) -> None:
        """Take out of the model what is due now, by age and by pressure."""
        self.audio = self._kept(self.audio, AUDIO_HOURS)
        self.numbers = self._kept(self.numbers, NUMBERS_HOURS)
        while (CAPACITY - len(self.audio)) / CAPACITY < FREE_SHARE:
            there = self.audio - self._in_spool()
            may = {_hour(at) for name, at in there if name not in self.held}
            oldest = min((hour for hour in may if hour + 2 * HOUR <= self.now), default=None)
            if oldest is None:
                return
            self.audio -= {
                (name, at) for name, at in there if _hour(at) == oldest and name not in self.held
            }

    def check_nothing_is_missing(self) -> None:
        """Check, at any time, that what is not due is there: files and rows."""
        spooled = self._in_spool()
        assert {path_of(key) for key in self.audio} <= self._files()
        assert self.audio - spooled <= self._rows("audio_segments_5s")
        for table in NUMBERS:
            assert self.numbers - spooled <= self._rows(table)

    def check_whole(self) -> None:
        """Check, after a sweep, that what is there is what has to be: no orphan, nothing due."""
        spooled = self._in_spool()
        assert {path_of(key) for key in self.audio} == self._files()
        assert self.audio - spooled == self._rows("audio_segments_5s")
        for table in NUMBERS:
            assert self.numbers - spooled == self._rows(table)
        with psycopg.connect(self.conninfo) as connection:
            names = connection.execute("SELECT trace_id FROM traces").fetchall()
            (begun,) = connection.execute(
                "SELECT (SELECT count(*) FROM deletions WHERE finished_at IS NULL) "
                "+ (SELECT count(*) FROM erasures WHERE finished_at IS NULL)"
            ).fetchone() or (None,)
        assert {name for name, _ in self.numbers - spooled} == {name for (name,) in names}
        assert 0 == begun

    def _kept(self, keys: set[Key], hours: float) -> set[Key]:
        limit = self.now - timedelta(hours=hours)
        return {(name, at) for name, at in keys if at >= limit or name in self.held}

    def _in_spool(self) -> set[Key]:
        names = set(self.waiting.values())
        return {key for key in self.numbers | self.audio if key[0] in names}

    def _space(self, _: Path) -> Space:
        return Space(CAPACITY, CAPACITY - len(self._files()))

    def _files(self) -> set[str]:
        found = self.root.rglob("*.*")
        return {str(path.relative_to(self.root)) for path in found if path.is_file()}

    def _rows(self, table: str) -> set[Key]:
        with psycopg.connect(self.conninfo) as connection:
            query = f"SELECT DISTINCT trace_id, bucket_ts FROM {table}".encode()
            return set(connection.execute(query).fetchall())

    def _entry(self, trace_id: str, number: int) -> Entry:
        """Write a file that stands for a segment, as old as its bucket; return its record."""
        at_ns = START_NS + number * 5 * 10**9
        relative = path_of((trace_id, START + timedelta(seconds=5 * number)))
        path = self.root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"R")
        os.utime(path, (at_ns / 1e9, at_ns / 1e9))
        stored = {Tap.PRE: (Segment(relative, 1, "0" * 64, at_ns, b""), ())}
        return to_entry(bucket(trace_id, number), stored)

    def _spool(self, batch: Batch, trace_id: str) -> None:
        folder = self.folder / "spool" / "dead"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{batch.seq:012d}.batch"
        path.write_bytes(b"".join(encode(batch)))
        self.waiting[path] = trace_id

    def _apply(self, batch: Batch) -> None:
        database = Database(self.conninfo, lambda: None)
        database.apply(batch)
        database.close()


def path_of(key: Key) -> str:
    """Return the file of a bucket's sound, below the audio root."""
    name, at = key
    return f"{at:%Y-%m-%d}/{name}/St_3_3333/PRE/segment_{int(at.timestamp()) * 1_000}.wav"


def in_child(
    work: Work, *, die_at: int | None = None, kill_after_s: float | None = None
) -> Outcome:
    """Do work in a forked child that is killed with SIGKILL.

    Args:
        work: What to do; told of each step.
        die_at: After so many steps, the child kills itself.
        kill_after_s: After so long, it is killed from here.
    """
    read_end, write_end = os.pipe()
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        _work_and_exit(work, write_end, die_at)
    os.close(write_end)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(child, signal.SIGKILL)
    steps = 0
    while part := os.read(read_end, 4_096):
        steps += len(part)
    os.close(read_end)
    _, status = os.waitpid(child, 0)
    seconds = time.monotonic() - begun
    was_killed = os.WIFSIGNALED(status)
    assert was_killed or 0 == os.waitstatus_to_exitcode(status), "the child failed; see above"
    return Outcome(was_killed, steps, seconds)


def _work_and_exit(work: Work, write_end: int, die_at: int | None) -> None:
    steps = 0

    def on_step(_kind: Done, _what: str) -> None:
        nonlocal steps
        steps += 1
        os.write(write_end, b".")
        if steps == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    logging.disable(logging.CRITICAL)  # that the disk is full is said in every child
    try:
        work(on_step)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0)


def kill_once(world: World, seconds: float) -> Outcome:
    """Let an hour pass, kill retention or erasure anywhere inside, and check; twice.

    Args:
        world: Goes on by one hour.
        seconds: How long such work takes; kills from outside come within.
    """
    rng = world.rng
    world.drain()
    world.pass_an_hour(calls=rng.randint(1, 4))
    if rng.random() < 0.3:
        world.toggle_hold()
    is_erasure = rng.random() < 0.35
    trace_id = rng.choice(sorted({name for name, _ in world.numbers}))
    work = (lambda step: world.erase(trace_id, step)) if is_erasure else world.retain
    what = "erasure" if is_erasure else "retention"
    if rng.random() < 0.7:
        outcome = in_child(work, die_at=rng.randint(1, world.lengths[what]))
    else:
        outcome = in_child(work, kill_after_s=rng.uniform(0, seconds))
    if not outcome.was_killed:
        world.lengths[what] = (world.lengths[what] + outcome.steps) // 2 + 1
    world.learn_erased(trace_id)
    world.expire()
    world.check_nothing_is_missing()
    world.sweep()
    world.check_whole()
    return replace(outcome, what=what)

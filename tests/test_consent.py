"""A refusal reaches files and rows, whatever fails in between; numbers stay."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import psycopg
import pytest

from archiver import Archiver
from archiver.audio import AudioStore, Segment
from archiver.batch import Batch, decode, encode, remains, to_entry
from archiver.database import Database
from archiver.migrations import migrate
from exporter import Clocks, Monitor, Trace
from exporter.config import Settings
from exporter.model import (
    Consent,
    ConsentChanged,
    EndReason,
    Record,
    Recording,
    Tap,
    TraceEnded,
    TraceStarted,
)
from exporter.station import Station
from tests.fix_archive import RATE, START_NS, bucket, settings
from tests.fix_host import SECOND, unchanged

_NOWHERE = "host=127.0.0.1 port=1 dbname=none"
_SEGMENT = Segment("2026-01-01/call-1/St_3_3333/PRE/segment_1.wav", 44, "0" * 64, START_NS, b"")


class Call:
    """A call on a simulated clock into a real archive."""

    def __init__(self, trace: Trace, monitor: Monitor, now: list[int], archive: Archiver) -> None:
        self.trace = trace
        self.archive = archive
        self.station: Station = trace.station("St_3_3333")
        self._monitor = monitor
        self._now = now

    def send(self, seconds: float) -> None:
        """Send sound without a zero in it."""
        for number in range(round(seconds * 50)):
            self._now[0] += SECOND // 50
            self.station.process(b"\x01\x02" * 320, unchanged)
            if number % 10 == 0:
                self._monitor.step()

    def step(self) -> None:
        """Run a pass of the exporter."""
        self._monitor.step()

    def files(self) -> list[Path]:
        """Return the segments of the call."""
        return sorted(self.archive.audio_path.glob(f"*/{self.trace.trace_id}/*/*/*"))


@contextmanager
def calling(wanted: Settings, consent: str = "unknown") -> Iterator[Call]:
    """Run a call, and bring all of it as far as it goes."""
    archive = Archiver(wanted, has_retention=False)
    now = [START_NS + 2 * SECOND]
    clocks = Clocks(lambda: now[0], lambda: now[0])
    monitor = Monitor(wanted, archive=archive, clocks=clocks, has_thread=False)
    monitor.start()
    trace = monitor.start_trace("3333", consent=consent)
    yield Call(trace, monitor, now, archive)
    trace.end()
    monitor.step()
    if wanted.db != _NOWHERE:
        assert archive.flush(20)
    monitor.stop(timeout=5)
    counts = archive.accounting()
    assert counts.pop("offered") + counts.pop("adopted") == sum(counts.values())


def rows(conninfo: str, query: str) -> list[tuple[object, ...]]:
    """Return what a query finds."""
    with psycopg.connect(conninfo) as connection:
        return connection.execute(query.encode()).fetchall()


def check_no_audio(conninfo: str, folder: Path, *causes: str) -> None:
    """Check that numbers are there and audio is not, and that due = received + gaps."""
    assert [] == list((folder / "audio").rglob("*.wav"))
    assert [] == rows(conninfo, "SELECT file_path FROM audio_segments_5s")
    due = "SELECT sum(due_samples), sum(received_samples) FROM tap_buckets_5s"
    gaps = "SELECT sum(samples), 0 FROM gaps"
    assert rows(conninfo, due) == rows(conninfo, gaps)
    found = rows(conninfo, "SELECT DISTINCT cause FROM gaps ORDER BY 1")
    assert [(cause,) for cause in sorted(causes)] == found
    assert [] != rows(conninfo, "SELECT FROM metrics_agg_5s WHERE metric_key = 'pcm.rms_dbfs'")


def test_a_refusal_in_the_midst_of_a_segment(database: str, tmp_path: Path) -> None:
    """Segments that were there go, rows and files; nothing comes after; the numbers stay."""
    migrate(database)
    with calling(settings(tmp_path, database)) as call:
        call.send(11)
        assert call.archive.flush(20)
        assert 4 == len(call.files())
        call.trace.set_consent("refused")
        call.send(9)

    check_no_audio(database, tmp_path, "erased", "masked")
    # The open bucket was never stored; of it, only what came before the refusal was measured.
    erased = "SELECT sum(samples) FROM gaps WHERE cause = 'erased' AND tap = 'PRE'"
    assert [(8 * RATE,)] == rows(database, erased)
    assert [("refused",)] == rows(database, "SELECT consent FROM archived_calls")
    frames = "SELECT sum(sum) FROM metrics_agg_5s WHERE metric_key = 'stream.frames'"
    assert [(2 * 20 * 50.0,)] == rows(database, frames)
    totals = "SELECT due_samples, received_samples, lost_samples FROM call_list"
    assert [(2 * 20 * RATE, 0, 0)] == rows(database, totals)


def test_a_refusal_after_the_end(database: str, tmp_path: Path) -> None:
    """Who refuses when the call is over already is obeyed all the same."""
    migrate(database)
    with calling(settings(tmp_path, database)) as call:
        call.send(7)
        call.trace.end()
        call.step()
        assert call.archive.flush(20)
        assert call.files()
        call.trace.set_consent("refused")

    check_no_audio(database, tmp_path, "erased")
    assert [("refused", "host")] == rows(database, "SELECT consent, end_reason FROM archived_calls")


@pytest.mark.parametrize("consent", ["refused", "unknown"])
def test_no_audio_from_the_start(database: str, tmp_path: Path, consent: str) -> None:
    """Who has refused before the call, and who has not said under `numbers`, is never stored."""
    migrate(database)
    wanted = replace(settings(tmp_path, database), consent_unknown=Recording.NUMBERS)
    with calling(wanted, consent) as call:
        call.send(7)
        assert [] == call.files()

    check_no_audio(database, tmp_path, "masked")
    assert [(consent, None)] == rows(database, "SELECT consent, consent_at FROM traces")


def test_consent_that_is_given_later(database: str, tmp_path: Path) -> None:
    """Of a call that agrees in its midst, the audio from then on is there."""
    migrate(database)
    wanted = replace(settings(tmp_path, database), consent_unknown=Recording.OFF)
    with calling(wanted) as call:
        call.send(4)
        call.trace.set_consent("announced")
        call.trace.set_consent("given")
        call.send(6)

    received = "SELECT sum(received_samples) FROM audio_segments_5s WHERE tap = 'POST'"
    assert [(6 * RATE,)] == rows(database, received)
    at = "SELECT consent, consent_at - started_at = '4 s' FROM traces"
    assert [("given", True)] == rows(database, at)


def test_the_writer_checks_again(tmp_path: Path) -> None:
    """Audio that is offered in spite of a refusal is not written, and counted."""
    archive = Archiver(settings(tmp_path, _NOWHERE), has_retention=False)
    archive.start()
    archive.offer(TraceStarted("call-1", START_NS, "3333", consent=Consent.REFUSED))
    archive.offer(bucket())
    archive.offer(bucket("call-2"))
    archive.stop(5)

    written = {path.parts[-4] for path in (tmp_path / "audio").rglob("*.wav")}
    assert {"call-2"} == written
    assert 1_600 == archive.tally.get("samples_dropped_total", "masked")
    counts = archive.accounting()
    assert counts.pop("offered") + counts.pop("adopted") == sum(counts.values())


def test_a_refusal_while_the_database_is_away(database: str, tmp_path: Path) -> None:
    """Files go at once; the rest follows through the spool of a process that is no more."""
    migrate(database)
    with calling(settings(tmp_path, _NOWHERE)) as call:
        call.send(11)
        call.trace.set_consent("refused")
        call.send(4)
    assert [] == list((tmp_path / "audio").rglob("*.wav"))

    second = Archiver(settings(tmp_path, database), has_retention=False)
    second.start()
    assert second.wait_until_adopted()
    assert second.flush(20)
    second.stop(5)

    check_no_audio(database, tmp_path, "erased", "masked")
    assert [("refused",)] == rows(database, "SELECT consent FROM traces")


def test_files_that_a_dead_process_left_go_with_the_batch(database: str, tmp_path: Path) -> None:
    """Who uploads a refusal removes the files, if its writer died before it could."""
    migrate(database)
    wanted = settings(tmp_path, _NOWHERE)
    first = Archiver(wanted, has_retention=False)
    first.start()
    first.offer(TraceStarted("call-1", START_NS, "3333"))
    first.offer(bucket())
    first.offer(ConsentChanged("call-1", Consent.REFUSED, START_NS + SECOND))
    first.stop(5)
    tap = bucket().taps[0]
    AudioStore(tmp_path / "audio").write(bucket(), tap)

    second = Archiver(replace(wanted, db=database), has_retention=False)
    second.start()
    assert second.wait_until_adopted()
    assert second.flush(20)
    second.stop(5)

    check_no_audio(database, tmp_path, "erased")


def test_files_that_cannot_be_removed_are_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """While files of a refusal cannot be removed it says so once, and goes on trying."""
    archive = Archiver(settings(tmp_path, _NOWHERE), has_retention=False)
    archive.start()
    archive.offer(bucket())
    while not list((tmp_path / "audio").rglob("*.wav")) or archive.backlog:
        assert archive.wait_until_adopted()
    (folder,) = (tmp_path / "audio").glob("*/call-1")
    # A link in place of the folder is what rmtree refuses to follow, whoever runs the test.
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    archive.offer(ConsentChanged("call-1", Consent.REFUSED, START_NS))
    while "whose callers have refused" not in caplog.text:
        assert archive.wait_until_adopted()
    folder.unlink()
    (tmp_path / "elsewhere").rename(folder)
    archive.stop(5)

    assert [] == list((tmp_path / "audio").rglob("*.wav"))
    assert 1 == caplog.text.count("whose callers have refused")
    assert 1 == archive.tally.get("audio_withdrawn_total")


def test_batches_may_come_in_any_order(database: str) -> None:
    """Start, audio, consent and refusal end in the same rows, whichever comes first."""
    migrate(database)
    writer = Database(database, lambda: None)
    for number, order in enumerate(permutations(range(4))):
        name = f"call-{number}"
        records: list[Record] = [
            TraceStarted(name, START_NS, "3333"),
            bucket(name),
            ConsentChanged(name, Consent.GIVEN, START_NS + SECOND),
            ConsentChanged(name, Consent.REFUSED, START_NS + 2 * SECOND),
        ]
        for each in order:
            writer.apply(batch(records[each]))
    writer.close()

    calls = rows(database, "SELECT consent, src_extension, count(*) FROM traces GROUP BY 1, 2")
    assert [("refused", "3333", 24)] == calls
    assert [] == rows(database, "SELECT FROM audio_segments_5s")
    taps = "SELECT DISTINCT received_samples, due_samples FROM tap_buckets_5s"
    assert [(0, 1_600)] == rows(database, taps)
    gaps = "SELECT first_sample, samples, cause, count(*) FROM gaps GROUP BY 1, 2, 3"
    assert [(0, 1_600, "erased", 24)] == rows(database, gaps)


def test_the_newest_word_counts(database: str) -> None:
    """Of two changes the later one counts, also before the start is known."""
    migrate(database)
    writer = Database(database, lambda: None)
    for number, order in enumerate(permutations(range(3))):
        name = f"call-{number}"
        records: list[Record] = [
            TraceStarted(name, START_NS, "3333"),
            ConsentChanged(name, Consent.ANNOUNCED, START_NS + SECOND),
            ConsentChanged(name, Consent.GIVEN, START_NS + 2 * SECOND),
        ]
        for each in order:
            writer.apply(batch(records[each]))
    writer.close()

    assert [("given", 6)] == rows(database, "SELECT consent, count(*) FROM traces GROUP BY 1")


def batch(*records: Record) -> Batch:
    """Return a batch in which every bucket has a segment."""
    entries = tuple(to_entry(record, {Tap.PRE: (_SEGMENT, ())}) for record in records)
    return Batch(str(uuid.uuid4()), "boot", 1, 0, 0, entries)


def test_a_batch_of_the_version_before_is_taken(database: str) -> None:
    """Entries without consent and numbers, as they were written before, arrive."""
    migrate(database)
    started = {
        "kind": "trace_started",
        "trace_id": "call-1",
        "started_ns": START_NS,
        "src_extension": "3333",
        "dst_extension": None,
        "sample_rate": RATE,
        "call_id": None,
        "attributes": {},
    }
    old = decode(b"".join(encode(Batch(str(uuid.uuid4()), "boot", 1, 0, 0, (started,)))))
    writer = Database(database, lambda: None)

    assert [] == writer.apply(old).refused
    writer.close()

    assert [("unknown", None)] == rows(database, "SELECT consent, consent_at FROM traces")


def test_consent_outlives_a_full_spool() -> None:
    """What callers agreed to is written again each time that its batch gives way."""
    change = to_entry(ConsentChanged("call-1", Consent.REFUSED, START_NS), {})
    end = to_entry(TraceEnded("call-1", START_NS, EndReason.HOST), {})

    assert change == remains(remains(change) or {})
    assert remains(remains(end) or {}) is None


def test_the_writer_withdraws_from_refused_calls_only(database: str) -> None:
    """The function that deletes in the writer's name touches no other call."""
    migrate(database)
    writer = Database(database, lambda: None)
    writer.apply(batch(TraceStarted("call-1", START_NS, "3333"), bucket()))
    writer.close()

    with psycopg.connect(database) as connection:
        connection.execute("SET ROLE monitoring_writer")
        found = connection.execute("SELECT withdraw_audio('call-1')").fetchone()
        connection.execute("SET ROLE monitoring_reader")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT withdraw_audio('call-1')")

    assert (0,) == found
    assert [(1,)] == rows(database, "SELECT count(*) FROM audio_segments_5s")

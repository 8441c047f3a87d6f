"""What the monitoring tells about itself, as alerts need it."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path

from archiver import Archiver
from exporter.config import load_settings
from exporter.model import Cause, SelfSample, Tap
from exporter.selfmetrics import SELF_METRICS, zeros
from tests.fix_archive import bucket, settings
from tests.fix_host import SECOND, Host

_NOWHERE = "host=127.0.0.1 port=1 dbname=none"


def value(samples: list[SelfSample], name: str, *labels: str) -> float | None:
    """Return one number, None where it is not told."""
    found = {(each.name, each.labels): each.value for each in samples}
    return found.get((name, labels))


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so, for a quarter of a minute."""
    until = time.monotonic() + 15
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_counters_are_there_before_their_first_event() -> None:
    """A page of a monitor to which nothing happened has counters at 0, by reason where known."""
    host = Host(settings=load_settings({}))

    told = host.monitor.page_samples()

    assert 0 == value(told, "spool_corrupt_batches_total")
    assert 0 == value(told, "records_dropped_total", "bucket", "queue_full")
    assert 0 == value(told, "records_quarantined_total", "poison")
    shown = {sample.name for sample in zeros()}
    counters = {metric.name for metric in SELF_METRICS.values() if metric.type == "counter"}
    unlabelled = {name for name in counters if not SELF_METRICS[name].labels}
    assert unlabelled <= shown <= counters


def test_every_known_loss_is_a_cause_or_a_reason_of_a_queue() -> None:
    """Reasons that are shown from the start are those that the code counts."""
    known = {label for (label,) in SELF_METRICS["samples_dropped_total"].known}

    assert known - {"queue_full", "invalid", "erased"} <= {
        cause.value for cause in Cause if cause.is_loss
    }


def test_the_exporter_gives_its_sign_of_life_itself() -> None:
    """The heartbeat is that of the last pass: a thread that stands still grows old on the page."""
    host = Host()
    host.wait(1)
    before = value(host.monitor.page_samples(), "heartbeat_timestamp_seconds", "exporter")
    host.now += 20 * SECOND

    after = value(host.monitor.page_samples(), "heartbeat_timestamp_seconds", "exporter")

    assert before == after == (host.now - 20 * SECOND) / 1e9


def residual(host: Host) -> float | None:
    """Return what the exporter's books lack, looked at anew."""
    host.now += 10 * SECOND
    return value(host.monitor.page_samples(), "accounting_residual_samples", "exporter")


def test_the_exporters_books_are_right_at_any_moment() -> None:
    """In the middle of a call, with gaps, bursts and a slow stream, no sample is missing."""
    host = Host()
    residuals = []
    for seconds, pace in ((7.0, 1.0), (3.0, 0.0), (30.0, 3.0), (90.0, 0.1)):
        host.send(seconds, pace=pace)
        host.wait(4)
        residuals.append(residual(host))

    assert [0, 0, 0, 0] == residuals
    assert host.end().audio(Tap.PRE)


def test_the_books_know_what_came_too_late() -> None:
    """POST whose gap is final is in the books before its trace ends and it counts as dropped."""
    host = Host()
    blocks = []
    for _ in range(200):
        host.now += SECOND // 50
        blocks.append(host.station.pre(bytes(640)))
        host.monitor.step()
    for heard in blocks:
        host.station.post(bytes(640), since=heard)
    host.wait(1)

    assert 0 == residual(host)
    host.end()
    dropped = value(host.monitor.page_samples(), "samples_dropped_total", "too_late")
    assert dropped is not None
    assert dropped > 16_000


def test_the_archivers_books_show_what_they_lack(tmp_path: Path) -> None:
    """Nothing is missing while batches wait; a sample too many, made on purpose, is told."""
    archive = Archiver(settings(tmp_path, _NOWHERE), has_retention=False)
    archive.start()
    archive.offer(bucket())
    wait_until(lambda: archive.accounting()["spooled"] == 1_600)
    right = value(archive.self_samples(), "accounting_residual_samples", "archiver")
    archive.tally.add("samples_archived_total", by=320)
    wrong = value(archive.self_samples(), "accounting_residual_samples", "archiver")
    archive.stop(5)

    assert (0, -320) == (right, wrong)


def test_the_upload_thread_lives_while_the_database_is_away(tmp_path: Path) -> None:
    """A batch that waits for a database that does not come is no reason to seem dead."""
    archive = Archiver(settings(tmp_path, _NOWHERE), has_retention=False)
    archive.start()
    archive.offer(bucket())
    wait_until(lambda: archive.accounting()["spooled"] == 1_600)

    def beat() -> float:
        return archive.tally.get("heartbeat_timestamp_seconds", "upload")

    first = beat()
    wait_until(lambda: archive.tally.get("db_attempts_total", "error") >= 3)
    second = beat()
    archive.stop(5)

    assert second > first > 0


def test_room_on_the_disks_is_told(tmp_path: Path) -> None:
    """Free and all bytes where segments and spool are, as the system has them."""
    archive = Archiver(settings(tmp_path, _NOWHERE), has_retention=False)
    archive.start()
    wait_until(lambda: value(archive.self_samples(), "spool_free_bytes") is not None)
    told = archive.self_samples()
    archive.stop(5)

    status = os.statvfs(tmp_path)
    size = status.f_blocks * status.f_frsize
    assert size == value(told, "audio_size_bytes")
    for name in ("audio_free_bytes", "spool_free_bytes"):
        free = value(told, name)
        assert free is not None
        assert 0 <= free <= size


def test_retention_that_never_succeeds_grows_old(tmp_path: Path) -> None:
    """The age of retention counts from the start of its schedule where none has succeeded yet."""
    archive = Archiver(settings(tmp_path, _NOWHERE))
    before = time.time()
    archive.start()
    told = archive.self_samples()
    archive.stop(5)

    since = value(told, "retention_last_success_timestamp_seconds")
    assert since is not None
    assert before <= since <= time.time()


def test_the_start_is_told() -> None:
    """The page says when monitoring was started, by the clock that its links use."""
    host = Host(settings=dataclasses.replace(load_settings({}), enabled=True), start=5 * SECOND)

    assert 5.0 == value(host.monitor.page_samples(), "start_timestamp_seconds")

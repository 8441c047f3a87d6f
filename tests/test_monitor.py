"""The monitor in its host: bad input, bad surroundings, forks, limits, settings."""

from __future__ import annotations

import dataclasses
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from archiver import Archiver
from deploy.postgres import free_port
from exporter import Monitor
from exporter.config import Settings, load_settings
from exporter.errors import ConfigError, KnobError, NotRunningError, TraceError
from exporter.knobs import Knob, shipped_registry
from exporter.model import KEY_PATTERN
from exporter.station import Station
from exporter.tap import CAPACITY
from tests.fix_archive import host_settings

NOWHERE = "host=127.0.0.1 port=1 dbname=nobody connect_timeout=1"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Yield settings without a database."""
    return host_settings(tmp_path, NOWHERE)


@pytest.fixture
def monitor(settings: Settings) -> Iterator[Monitor]:
    """Yield a monitor that moves when it is told to."""
    with Monitor(settings, has_thread=False) as running:
        yield running


def station_of(monitor: Monitor, trace_id: str = "call_1") -> Station:
    """Start a call and return its station."""
    return monitor.start_trace("3333", trace_id=trace_id).station("St_3_3333")


class Unfriendly:
    """An object whose every use raises."""

    def __len__(self) -> int:
        raise MemoryError("no")

    def __buffer__(self, flags: int) -> memoryview:
        raise MemoryError("no")


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (b"\0", "odd_bytes"),
        (bytes(2 * 16_000 * 5 + 2), "bad_length"),
        (None, "bad_dtype"),
        ("text", "bad_dtype"),
        (3.5, "bad_dtype"),
        (np.zeros(320), "bad_dtype"),
        (np.zeros(320, ">i2"), "bad_dtype"),
        (np.zeros((2, 320), np.int16), "bad_dtype"),
        (Unfriendly(), "bad_dtype"),
    ],
)
def test_a_block_that_is_none_is_refused_and_counted(
    monitor: Monitor, block: object, reason: str
) -> None:
    """Nothing that a host hands over raises; what is refused at PRE is refused at POST."""
    station = station_of(monitor)

    heard = station.pre(block)  # type: ignore[arg-type] # that is the point
    station.post(b"", since=heard)

    assert 1 == station.pre_tap.rejected[reason]
    assert 1 == station.post_tap.rejected["unpaired"]
    assert 0 == station.pre_tap.end


def test_all_kinds_of_buffers_are_heard(monitor: Monitor) -> None:
    """bytes, bytearray, memoryview and int16 arrays are the same; later changes do not count."""
    station = station_of(monitor)
    array = np.arange(320, dtype=np.int16)
    strided = np.repeat(array, 2)[::2]
    changing = bytearray(array.tobytes())

    for block in (array.tobytes(), changing, memoryview(array.tobytes()), array, strided):
        station.pre(block)  # type: ignore[arg-type] # arrays have a buffer
    changing[:] = bytes(640)

    payloads = station.pre_tap.waiting().payloads
    assert [array.tobytes()] * 5 == [each for each in payloads if isinstance(each, bytes)]


def test_a_tap_that_nobody_empties_keeps_the_newest_and_knows_what_is_lost(
    monitor: Monitor,
) -> None:
    """An overflow is counted to the sample, and leaves the accounting exact."""
    station = station_of(monitor)
    for _ in range(CAPACITY + 1_000):
        station.pre(b"\0\0")

    monitor.step()

    counts = monitor.accounting()
    assert CAPACITY + 1_000 == counts["offered"]
    # One more than offered beyond the capacity: the knob values took a place in the queue.
    assert 1_000 <= counts["dropped"] <= 1_001
    assert counts["offered"] == counts["open"] + counts["handed_on"] + counts["dropped"]


def test_disabled_monitoring_runs_the_chain_and_nothing_else(settings: Settings) -> None:
    """MONITORING_ENABLED=false: no thread, no port, no file; the host's chain goes on."""
    off = dataclasses.replace(settings, enabled=False)
    threads = threading.active_count()
    with (
        Monitor(off, archive=Archiver(off)) as monitor,
        monitor.start_trace("3333") as trace,
    ):
        station = trace.station("St_3_3333")
        made = station.process(b"\1\0", lambda block, knobs: block * int(knobs["highpass.order"]))
        station.post(b"", since=station.pre(b"\0"))
        station.hold()
        assert threads == threading.active_count()
        assert monitor.port is None

    assert b"\1\0\1\0" == made
    assert not settings.spool_path.exists()


def test_a_host_runs_without_database_and_without_spool(settings: Settings, tmp_path: Path) -> None:
    """start() is quick, the audio path works, and the log says what to do."""
    blocked = tmp_path / "a_file"
    blocked.write_text("in the way")
    nowhere = dataclasses.replace(settings, spool_path=blocked / "spool")
    archive = Archiver(nowhere, has_retention=False)
    archive._usable = lambda path: path  # type: ignore[method-assign] # no state directory either
    begun = time.monotonic()
    with Monitor(nowhere, archive=archive) as monitor:
        assert time.monotonic() - begun < 1
        station = station_of(monitor)
        for _ in range(50):
            station.process(bytes(640), lambda block, _: block)
        assert not monitor.flush(0.5)

    counts = archive.accounting()
    parts = ("queued", "spooled", "archived", "quarantined", "dropped")
    assert counts["offered"] == sum(counts[part] for part in parts)


def test_a_forked_child_is_silent(monitor: Monitor) -> None:
    """The child of a fork queues nothing and says so; the parent goes on."""
    station = station_of(monitor)
    # Whoever holds a lock at the fork is not there in the child to release it.
    with monitor._tally._lock, monitor._worker._lock:
        child = os.fork()
    if child == 0:
        station.pre(bytes(640))
        try:
            monitor.start_trace("3333")
        except NotRunningError:
            os._exit(len(station.pre_tap.waiting().payloads))
        os._exit(99)
    station.pre(bytes(640))

    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert 320 == station.pre_tap.end


def test_ids_are_checked_and_never_shared(monitor: Monitor) -> None:
    """A hostile id and an active one are refused; one that was used gets a suffix."""
    with pytest.raises(TraceError, match="passwd"):
        monitor.start_trace("3333", trace_id="../../etc/passwd")
    trace = monitor.start_trace("3333", trace_id="call_1")
    with pytest.raises(TraceError, match="call_1"):
        monitor.start_trace("3333", trace_id="call_1")
    trace.end()
    monitor.step()

    assert "call_1_2" == monitor.start_trace("3333", trace_id="call_1").trace_id


def test_calls_of_one_extension_and_moment_are_two(monitor: Monitor) -> None:
    """Of an id that we made, the second one gets a suffix while the first is active."""
    moment = datetime(2026, 1, 3, 18, 5, 1, 272_000, UTC)

    found = [monitor.start_trace("3333", started_at=moment).trace_id for _ in range(2)]

    stamp = "trace_2026-01-03T18-05-01-272Z_3333"
    assert [stamp, f"{stamp}_2"] == found


@pytest.mark.parametrize(
    "extension", ["", "+49-170", "sip:anna@house", "x" * 60, "../3333", "\udcff"]
)
def test_any_extension_makes_a_valid_id(monitor: Monitor, extension: str) -> None:
    """What no id may hold stands as a hash; the extension itself is told as it is."""
    trace_id = monitor.start_trace(extension).trace_id

    assert KEY_PATTERN.fullmatch(trace_id)
    assert 8 == len(trace_id.rpartition("_")[2])


def test_audio_after_the_end_is_refused(monitor: Monitor) -> None:
    """What still comes when a call is over is counted, not archived."""
    trace = monitor.start_trace("3333")
    station = trace.station("St_3_3333")
    trace.end()

    station.pre(bytes(640))

    assert 1 == station.pre_tap.rejected["ended"]


def test_priorities_of_knobs(monitor: Monitor) -> None:
    """Trace and station win over trace, over station, over all, over the baseline."""
    station = station_of(monitor)
    key, seen = "pcm.input_gain_db", []
    places: list[dict[str, str]] = [
        {"trace_id": "call_1", "station_key": "St_3_3333"},
        {"trace_id": "call_1"},
        {"station_key": "St_3_3333"},
        {},
    ]
    for value, place in enumerate(reversed(places), start=1):
        monitor.knobs.set(key, value, by="test", **place)  # type: ignore[arg-type] # names and strings
        seen.append(station.knobs[key])
    for value, place in enumerate(places[1:], start=5):
        monitor.knobs.set(key, value, by="test", **place)  # type: ignore[arg-type] # as above
        seen.append(station.knobs[key])

    assert [1, 2, 3, 4, 4, 4, 4] == seen


def test_wrong_knobs_are_refused_with_key_and_value(monitor: Monitor) -> None:
    """The message names what was asked for and what would be valid."""
    station_of(monitor)
    with pytest.raises(KnobError, match=r"pcm\.input_gain_db.*99.*-24 to 24"):
        monitor.knobs.set("pcm.input_gain_db", 99, by="test")
    with pytest.raises(KnobError, match=r"no\.such"):
        monitor.knobs.set("no.such", 1, by="test")
    with pytest.raises(KnobError, match="nan"):
        monitor.knobs.set("pcm.input_gain_db", float("nan"), by="test")
    assert not monitor.knobs.set("agc.enabled", value=True, by="test").implemented
    assert monitor.knobs.set("monitoring.metrics_enabled", value=True, by="test").implemented


def test_a_host_registers_its_own_knob() -> None:
    """A knob of the host is set, checked and shown like ours; a second one of its name is not."""
    registry = shipped_registry()
    registry.register(Knob("host.depth", "int", 3, low=1, high=9))

    assert 88 == len(registry)
    with pytest.raises(ConfigError, match=r"host\.depth"):
        registry.register(Knob("host.depth", "int", 3, low=1, high=9))


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ('{"knobs": {"no.such": 1}}', "no.such"),
        ('{"knobs": {"pcm.input_gain_db": 99}}', "99"),
        ('{"metrics": ["pcm.nothing"]}', "pcm.nothing"),
        ('{"metrics": ["pcm.rms_dbfs"]}', "pcm.rms_dbfs"),
        ('{"metrics": [{"key": "asr.words"}]}', "asr.words"),
        ('{"metrics": [["a"]]}', "unknown metric"),
        ('{"health": {"colour": {"points": 1}}}', "colour"),
        ('{"health": {"clipping": {"points": 101}}}', "101"),
        ('{"health": {"clipping": {"full_at": 0}}}', "full_at"),
        ('{"stations": {"St_1": {"rate": 44101}}}', "44101"),
        ('{"stations": {"St_1": {"kind": "sink"}}}', "sink"),
        ('{"stations": {"../x": {}}}', "../x"),
        ('{"stations": {"St_1": {"colour": 1}}}', "colour"),
        ('{"limits": {"max_series": -1}}', "-1"),
        ('{"other": 1}', "other"),
        ("[", "JSON"),
    ],
)
def test_a_wrong_configuration_is_named(tmp_path: Path, document: str, named: str) -> None:
    """Every mistake in the file stops the start, with the key or the value in the message."""
    path = tmp_path / "monitoring.config.json"
    path.write_text(document)

    with pytest.raises(ConfigError, match=named.replace(".", r"\.")):
        load_settings({"MONITORING_CONFIG": str(path)})


def test_a_host_that_just_exits_leaves_everything_in_the_spool(tmp_path: Path) -> None:
    """Without stop(), the exit of the process brings what was heard to the spool."""
    script = """
import time
from archiver import Archiver
from exporter import Monitor
monitor = Monitor.from_env(archive=Archiver.from_env())
monitor.start()
station = monitor.start_trace("3333").station("St_3_3333")
for _ in range(20):
    station.process(bytes(640), lambda block, knobs: block)
    time.sleep(0.02)
"""
    environment = {
        **os.environ,
        "MONITORING_DB": NOWHERE,
        "MONITORING_METRICS_PORT": str(free_port()),
        "MONITORING_AUDIO_PATH": f"{tmp_path}/audio",
        "MONITORING_SPOOL_PATH": f"{tmp_path}/spool",
        "MONITORING_METRICS_TARGETS_PATH": str(tmp_path),
    }

    ended = subprocess.run([sys.executable, "-c", script], env=environment, timeout=60, check=False)

    assert 0 == ended.returncode
    assert list((tmp_path / "spool").glob("*/*.batch"))
    assert 2 == len({path.parent.name for path in (tmp_path / "audio").rglob("*.wav")})


def test_a_monitor_leaves_no_thread(settings: Settings) -> None:
    """Started and stopped, everything is gone."""
    gc.collect()
    before = set(threading.enumerate())
    for _ in range(2):
        with Monitor(settings, archive=Archiver(settings)) as monitor:
            station_of(monitor).pre(bytes(640))
    time_limit = time.monotonic() + 5
    while set(threading.enumerate()) - before and time.monotonic() < time_limit:
        time.sleep(0.05)

    assert set() == set(threading.enumerate()) - before

"""A pause is exact to the sample, at every station, from any thread."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from exporter import Clocks, Monitor
from exporter.config import load_settings
from exporter.model import Cause, Tap
from exporter.station import Station
from exporter.tap import Drained, TapQueue
from tests.fix_host import RATE, SECOND, START, Host, Recorder, gap_ranges, laid, loud, unchanged

_NOTHING = 0


@pytest.mark.parametrize("block", [80, 320, 400, 1_600, 8_000])
def test_a_pause_is_exact_at_both_taps_for_any_block(block: int) -> None:
    """Silence stands within exactly the paused samples, over borders of buckets; around it all."""
    sound = loud()
    host = Host(sound)
    host.send(3, block=block)
    host.trace.pause_audio()
    host.send(7, block=block)
    host.trace.resume_audio()
    host.send(4, block=block)
    archive = host.end()

    expected = sound.copy()
    expected[3 * RATE : 10 * RATE] = _NOTHING
    expected[14 * RATE :] = _NOTHING
    for tap in Tap:
        assert [(3 * RATE, 7 * RATE, Cause.MASKED)] == gap_ranges(archive, tap)
        assert np.array_equal(expected, laid(archive, tap))


def test_nothing_is_measured_in_a_pause() -> None:
    """The numbers of a paused bucket are unknown, those around it as if the call began anew."""
    host = Host()
    host.send(1)
    host.trace.pause_audio()
    host.send(12)
    host.trace.resume_audio()
    host.send(4)
    archive = host.end()

    paused = [found for found in archive.aggregates() if "pcm.rms_dbfs" not in found]
    assert 2 == len(paused)
    for found in paused:
        of_sound = {key for key in found if key.startswith(("pcm.", "fft.", "advanced.", "pair."))}
        # Of all since the call began: it stands still.
        assert {"advanced.lufs_integrated"} == of_sound
        assert 0 == found["pipe.frame_drop_ratio"].last
    frames = sum(found["stream.frames"].sum for found in archive.aggregates())
    assert 5 * 50 == frames


def test_a_pause_without_blocks_is_no_loss() -> None:
    """A host that stops to send while it has paused leaves a gap that is masked, not lost."""
    host = Host()
    host.send(2)
    host.trace.pause_audio()
    host.wait(70)
    host.trace.resume_audio()
    host.send(4)
    archive = host.end()

    assert {Cause.MASKED: 70 * RATE} == archive.gaps(Tap.PRE)
    assert {Cause.MASKED: 70 * RATE} == archive.gaps(Tap.POST)


def test_a_stall_after_a_pause_is_loss_again() -> None:
    """When blocks have come again, what is missing is missing."""
    host = Host()
    host.send(2)
    host.trace.pause_audio()
    host.send(1)
    host.trace.resume_audio()
    host.send(1)
    host.wait(3)
    host.send(4)

    assert {Cause.MASKED: RATE, Cause.NOT_RECEIVED: 3 * RATE} == host.end().gaps()


def test_resume_without_a_pause_is_harmless() -> None:
    """Nothing is missing, however often nothing is resumed, before and after the first block."""
    host = Host()
    host.trace.resume_audio()
    host.send(1)
    host.trace.resume_audio()
    host.trace.resume_audio()
    host.send(2)
    archive = host.end()

    assert {} == archive.gaps()
    assert host.sound[: 3 * RATE].tobytes() == archive.audio()


def test_a_pause_reaches_every_station() -> None:
    """Two stations are paused at their own samples; one that is made meanwhile begins paused."""
    sound = loud()
    host = Host(sound)
    other = host.trace.station("St_3_4444")

    def both(seconds: float, *stations: Station) -> None:
        for _ in range(round(seconds * 50)):
            host.now += SECOND // 50
            pcm = sound[host.sent : host.sent + 320].tobytes()
            host.sent += 320
            for station in stations:
                station.process(pcm, unchanged)

    both(2, host.station, other)
    host.trace.pause_audio()
    third = host.trace.station("St_9")
    both(2, host.station, other, third)
    host.trace.resume_audio()
    both(2, host.station, other, third)
    archive = host.end()

    for station in ("St_3_3333", "St_3_4444", "St_9"):
        assert [(2 * RATE, 2 * RATE, Cause.MASKED)] == gap_ranges(archive, Tap.POST, station)
        kept = laid(archive, Tap.POST, station)
        assert np.array_equal(sound[4 * RATE : 6 * RATE], kept[4 * RATE : 6 * RATE])


def test_blocks_handed_over_after_a_pause_are_never_kept() -> None:
    """With real threads: whatever came between pause and resume is masked, at both taps alike."""
    archive = Recorder()
    now = [START]
    monitor = Monitor(
        load_settings({}),
        archive=archive,
        clocks=Clocks(lambda: now[0], lambda: now[0]),
        has_thread=False,
    )
    monitor.start()
    trace = monitor.start_trace("3333")
    station = trace.station("St_3_3333")
    is_over = threading.Event()
    sound = loud()

    def speak() -> None:
        for number in range(2_000):
            now[0] += SECOND // 50
            station.process(sound[number * 320 : number * 320 + 320].tobytes(), unchanged)
            is_over.wait(0.0001)
        is_over.set()

    def work() -> None:
        while not is_over.is_set():
            monitor.step()

    threads = [threading.Thread(target=speak), threading.Thread(target=work)]
    for thread in threads:
        thread.start()
    paused: list[tuple[int, int]] = []
    while not is_over.is_set():
        trace.pause_audio()
        first = station.pre_tap.end
        is_over.wait(0.001)
        last = station.pre_tap.end
        trace.resume_audio()
        paused.append((first, last))
        is_over.wait(0.001)
    for thread in threads:
        thread.join()
    trace.end()
    monitor.step()
    monitor.stop()

    pre, post = laid(archive, Tap.PRE), laid(archive, Tap.POST)
    assert [(first, last) for first, last in paused if pre[first:last].any()] == []
    assert np.array_equal(pre, post)
    assert pre.any()
    assert {Cause.MASKED} == set(archive.gaps())


class InterruptedQueue(TapQueue):
    """A tap at which the host does something at the very moment when it is drained."""

    def __init__(self) -> None:
        super().__init__()
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None

    def drain(self) -> tuple[Drained, bool]:
        """Let the host do it, before or after."""
        self.before()
        drained = super().drain()
        self.after()
        self.before = self.after = lambda: None
        return drained


def speak(host: Host) -> None:
    """Hand one block over."""
    host.now += SECOND // 50
    host.station.process(host.sound[:320].tobytes(), unchanged)


def test_a_pause_in_the_midst_of_a_pass_holds_for_the_next_block() -> None:
    """A pause and a block that come while the taps are drained: the block is not kept."""
    host = Host()
    queue = host.station.pre_tap = InterruptedQueue()
    host.send(0.5)

    def pause_and_speak() -> None:
        host.trace.pause_audio()
        speak(host)

    queue.before = pause_and_speak
    host.monitor.step()
    archive = host.end()

    assert {Cause.MASKED: 320} == archive.gaps()
    assert {Cause.MASKED: 320} == archive.gaps(Tap.POST)


def test_a_block_before_a_pause_is_kept_although_a_pass_comes_between() -> None:
    """A block and a pause that come when the taps were just drained: what follows is masked."""
    host = Host()
    queue = host.station.pre_tap = InterruptedQueue()
    host.send(0.5)

    def speak_and_pause() -> None:
        speak(host)
        host.trace.pause_audio()

    queue.after = speak_and_pause
    host.monitor.step()
    speak(host)
    archive = host.end()

    assert {Cause.MASKED: 320} == archive.gaps()
    assert {Cause.MASKED: 320} == archive.gaps(Tap.POST)

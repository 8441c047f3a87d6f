"""Pauses, consent and a station's recording decide to the sample what is kept of a call."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from exporter import Clocks, Monitor
from exporter.config import load_settings
from exporter.errors import ConfigError, TraceError
from exporter.model import Cause, Consent, ConsentChanged, Recording, Tap, TraceStarted
from exporter.station import Station
from exporter.tap import Item, TapQueue
from tests.fix_host import RATE, SECOND, START, Host, Recorder, unchanged

Samples = npt.NDArray[np.int16]
_NOTHING = 0
_BUCKET = 5 * RATE
_ORIGIN = (START * RATE + SECOND // 2) // SECOND
"""Position of the first sample of a host that begins to send at once."""


def laid(archive: Recorder, tap: Tap, station: str = "St_3_3333") -> Samples:
    """Return what was kept at a tap from the call's first sample on, zeros where nothing was."""
    found: Samples = np.zeros(60 * RATE, np.int16)
    for bucket in archive.buckets():
        base = bucket.bucket_ns * RATE // SECOND - _ORIGIN
        for each in bucket.taps:
            if each.tap is tap and bucket.station_key == station:
                for run in each.runs:
                    first = base + run.first_sample
                    found[first : first + run.samples] = np.frombuffer(run.pcm, "<i2")
    return found


def gap_ranges(
    archive: Recorder, tap: Tap, station: str = "St_3_3333"
) -> list[tuple[int, int, Cause]]:
    """Return first sample, samples and cause of each gap, joined over the borders of buckets."""
    joined: list[tuple[int, int, Cause]] = []
    for bucket in archive.buckets():
        base = bucket.bucket_ns * RATE // SECOND - _ORIGIN
        for each in bucket.taps:
            if each.tap is not tap or bucket.station_key != station:
                continue
            for gap in each.gaps:
                first = base + gap.first_sample
                last = joined[-1] if joined else None
                if last and last[0] + last[1] == first and last[2] is gap.cause:
                    joined[-1] = (last[0], last[1] + gap.samples, gap.cause)
                else:
                    joined.append((first, gap.samples, gap.cause))
    return joined


def loud(seed: int = 7) -> Samples:
    """Return a minute of noise without a zero in it: what is silent was not kept."""
    noise = np.random.default_rng(seed).integers(1, 9_000, 60 * RATE)
    return noise.astype("<i2")


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
        self.interruption: Callable[[], None] = lambda: None

    def drain(self) -> tuple[list[Item], bool]:
        """Let the host do it, then drain."""
        self.interruption()
        self.interruption = lambda: None
        return super().drain()


def test_a_pause_in_the_midst_of_a_pass_holds_for_the_next_block() -> None:
    """A pause and a block that come while the taps are drained: the block is not kept."""
    host = Host()
    queue = host.station.pre_tap = InterruptedQueue()
    host.send(0.5)

    def pause_and_speak() -> None:
        host.trace.pause_audio()
        host.now += SECOND // 50
        host.station.process(host.sound[:320].tobytes(), unchanged)

    queue.interruption = pause_and_speak
    host.monitor.step()
    archive = host.end()

    assert {Cause.MASKED: 320} == archive.gaps()
    assert {Cause.MASKED: 320} == archive.gaps(Tap.POST)


@pytest.mark.parametrize(
    ("unknown", "consent", "kept"),
    [
        ("audio", "unknown", "audio"),
        ("numbers", "unknown", "numbers"),
        ("off", "unknown", "off"),
        *[(policy, "announced", "audio") for policy in Recording],
        *[(policy, "given", "audio") for policy in Recording],
        *[(policy, "refused", "numbers") for policy in Recording],
    ],
)
def test_consent_from_the_start(unknown: str, consent: str, kept: str) -> None:
    """Each consent under each policy keeps audio, numbers or nothing from the first sample on."""
    settings = load_settings({"MONITORING_CONSENT_UNKNOWN": unknown})
    host = Host(settings=settings, consent=consent)
    host.send(6)
    archive = host.end()

    started = [each for each in archive.records if isinstance(each, TraceStarted)]
    assert [consent] == [each.consent for each in started]
    assert ("audio" == kept) == bool(archive.audio())
    assert ("off" != kept) == bool(archive.buckets())
    if kept == "numbers":
        assert {Cause.MASKED: 6 * RATE} == archive.gaps()
        assert 300 == sum(found["pcm.rms_dbfs"].count for found in archive.aggregates())


def test_consent_changes_at_a_sample() -> None:
    """From unknown, which keeps nothing, over given to refused, in the midst of buckets."""
    sound = loud()
    host = Host(sound, settings=load_settings({"MONITORING_CONSENT_UNKNOWN": "off"}))
    host.send(12)
    host.trace.set_consent("given")
    host.send(2)
    host.trace.set_consent("refused")
    host.send(7)
    archive = host.end()

    expected = np.zeros_like(sound)
    expected[12 * RATE : 14 * RATE] = sound[12 * RATE : 14 * RATE]
    assert np.array_equal(expected, laid(archive, Tap.PRE))
    first = min(bucket.bucket_ns for bucket in archive.buckets())
    assert first == (START + 12 * SECOND) // (5 * SECOND) * (5 * SECOND)
    changes = [each for each in archive.records if isinstance(each, ConsentChanged)]
    assert [Consent.GIVEN, Consent.REFUSED] == [each.consent for each in changes]
    assert {Cause.MASKED} == set(archive.gaps())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("refused", "given"),
        ("given", "announced"),
        ("announced", "unknown"),
        ("unknown", "yes"),
        ("unknown", "GIVEN"),
    ],
)
def test_consent_is_not_taken_back(before: str, after: str) -> None:
    """A refusal is final, what is known stays known, and other words are refused by name."""
    host = Host(consent=before)

    with pytest.raises(TraceError, match=f"{after}"):
        host.trace.set_consent(after)
    assert before == host.trace.consent
    host.end()


def test_an_unknown_consent_starts_no_call() -> None:
    """A wrong word is an error that names it, and takes no id."""
    host = Host()
    with pytest.raises(TraceError, match="'perhaps'"):
        host.monitor.start_trace("4444", consent="perhaps")
    host.end()


@pytest.mark.parametrize("where", ["argument", "configuration"])
def test_recording_by_station(where: str, tmp_path: Path) -> None:
    """A station keeps nothing, numbers or audio, as the configuration or the argument says."""
    recordings = {"St_a": "off", "St_b": "numbers", "St_c": "audio"}
    path = tmp_path / "monitoring.config.json"
    stations = ", ".join(f'"{key}": {{"recording": "{r}"}}' for key, r in recordings.items())
    path.write_text(f'{{"stations": {{{stations}}}}}', encoding="utf-8")
    is_argument = where == "argument"
    host = Host(settings=load_settings({} if is_argument else {"MONITORING_CONFIG": str(path)}))
    made = [
        host.trace.station(key, **({"recording": recording} if is_argument else {}))
        for key, recording in recordings.items()
    ]
    for _ in range(100):
        host.now += SECOND // 50
        for station in made:
            assert b"\1\2" * 320 == station.process(b"\1\2" * 320, unchanged)
    archive = host.end()

    found = {bucket.station_key for bucket in archive.buckets()}
    assert {"St_b", "St_c"} == found
    assert not laid(archive, Tap.PRE, "St_b").any()
    causes = {cause for *_, cause in gap_ranges(archive, Tap.PRE, "St_b")}
    assert {Cause.DISABLED} == causes
    assert laid(archive, Tap.PRE, "St_c").any()


def test_bad_recording_and_policy_name_key_and_value(tmp_path: Path) -> None:
    """A wrong word ends the start, with the key and the value."""
    host = Host()
    with pytest.raises(ConfigError, match=r"stations\.St_a\.recording: 'loud'"):
        host.trace.station("St_a", recording="loud")
    host.end()
    with pytest.raises(ConfigError, match="MONITORING_CONSENT_UNKNOWN='some'"):
        load_settings({"MONITORING_CONSENT_UNKNOWN": "some"})


def test_without_monitoring_all_is_a_no_op() -> None:
    """While monitoring is disabled, consent and pauses can be said and do nothing."""
    monitor = Monitor(replace(load_settings({}), enabled=False))
    trace = monitor.start_trace("+49 170 5550100", consent="announced")
    station = trace.station("St_1")
    trace.pause_audio()
    trace.set_consent("refused")
    trace.resume_audio()

    assert b"\1\2" == station.process(b"\1\2", unchanged)
    assert not station.keeps


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from([1, 160, 320, 333, 1_600])),
        st.tuples(st.sampled_from(["pause", "resume", "step", "refuse"]), st.just(0)),
    ),
    min_size=1,
    max_size=60,
)


@examples(max_examples=60, deadline=None)
@given(STEPS, st.sampled_from(list(Recording)))
def test_any_order_keeps_what_a_model_keeps(
    steps: list[tuple[str, int]], recording: Recording
) -> None:
    """Whatever is said in whatever order: each sample is kept or a gap, as a simple model says."""
    sound = loud()
    host = Host(sound)
    station = host.trace.station("St_x", recording=recording)
    kept = np.zeros(len(sound), np.bool_)
    is_paused = has_refused = False
    for step, block in steps:
        if step == "send":
            host.now += block * SECOND // RATE
            station.process(sound[host.sent : host.sent + block].tobytes(), unchanged)
            allows = recording is Recording.AUDIO and not is_paused and not has_refused
            kept[host.sent : host.sent + block] = allows
            host.sent += block
        elif step == "step":
            host.monitor.step()
        elif step == "refuse":
            has_refused = True
            host.trace.set_consent("refused")
        else:
            is_paused = step == "pause"
            (host.trace.pause_audio if is_paused else host.trace.resume_audio)()
    archive = host.end()

    for tap in Tap:
        audio = [
            run.pcm
            for bucket in archive.buckets()
            for each in bucket.taps
            if each.tap is tap and bucket.station_key == "St_x"
            for run in each.runs
        ]
        assert sound[kept].tobytes() == b"".join(audio)

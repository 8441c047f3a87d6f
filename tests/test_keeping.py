"""Consent and a station's recording decide to the sample what is kept of a call."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from exporter import Monitor
from exporter.config import load_settings
from exporter.errors import ConfigError, TraceError
from exporter.keeping import KEPT
from exporter.model import Cause, Consent, ConsentChanged, Recording, Tap, TraceStarted
from tests.fix_host import RATE, SECOND, START, Host, Recorder, gap_ranges, laid, loud, unchanged
from tests.fix_speech import Speech


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


@pytest.mark.parametrize("how", ["recording", "consent", "knob"])
def test_numbers_without_audio_are_the_same_numbers(speech: Speech, how: str) -> None:
    """What is measured of audio that is not kept, pairs among it, is what it would be otherwise."""

    def numbers(how: str) -> Recorder:
        host = Host(speech.samples, consent="refused" if how == "consent" else "given")
        recording = "numbers" if how == "recording" else "audio"
        host.station = host.trace.station("St_x", recording=recording)
        if how == "knob":
            host.monitor.knobs.set("monitoring.audio_capture_enabled", False, by="test")
        host.send(13)
        return host.end()

    archives = numbers("all"), numbers(how)
    for tap in Tap:
        with_audio, without = (archive.aggregates(tap) for archive in archives)
        for found in (*with_audio, *without):
            found.pop("pipe.processing_latency_ms", None)
        assert with_audio == without
        assert "pair.coherence" in without[-2] or tap is Tap.PRE
    assert archives[0].audio()
    assert b"" == archives[1].audio()


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


@pytest.mark.parametrize("unknown", Recording)
def test_the_policy_is_told_at_the_start(unknown: str, caplog: pytest.LogCaptureFixture) -> None:
    """The log of a start says what is kept of calls whose consent is unknown."""
    caplog.set_level(logging.INFO, "exporter")
    Host(settings=load_settings({"MONITORING_CONSENT_UNKNOWN": unknown})).end()

    assert f"consent unknown: {KEPT[Recording(unknown)]} kept" in caplog.text


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

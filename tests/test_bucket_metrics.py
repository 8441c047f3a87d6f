"""What is measured on whole buckets, what the host reports, and the health score."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import butter, lfilter

from exporter import closing, summary
from exporter.closing import Sampling
from exporter.config import load_settings
from exporter.errors import ConfigError, TraceError
from exporter.health import DEFECTS, Defects, judge
from exporter.knobs import KnobValues
from exporter.metrics import METRICS, Form, Per, host_metric, shipped_metrics
from exporter.model import Tap, TapBucket, TraceEnded
from tests.fix_host import RATE, SECOND, START, Host
from tests.fix_speech import Speech

BORDER = START // (5 * SECOND) * 5 * SECOND + 5 * SECOND


@pytest.fixture
def talking(speech: Speech) -> Host:
    """Return a host that sends speech, from the border of a bucket on."""
    return Host(speech.samples, start=BORDER)


def test_speech_has_every_metric(talking: Host) -> None:
    """A bucket of speech has a value for every metric that is not the host's to report."""
    talking.send(10)

    bucket = talking.end().aggregates(Tap.POST)[1]

    expected = {metric.key for metric in METRICS if metric.per is not Per.OBSERVE}
    assert set() == expected - bucket.keys()
    for key, aggregate in bucket.items():
        metric = METRICS[key]
        assert metric.low <= aggregate.min <= aggregate.avg <= aggregate.max <= metric.high, key
        assert 1 == aggregate.count or metric.per is not Per.BUCKET


def test_dynamic_range_and_speech_ratio_are_those_of_the_frames(
    talking: Host, speech: Speech
) -> None:
    """The range is that of numpy's percentiles over the frames that are not silent."""
    talking.send(5)
    bucket = talking.end().aggregates()[0]

    frames = speech.samples[: 5 * RATE].reshape(-1, 320).astype(float)
    level = 20 * np.log10(np.sqrt((frames**2).mean(axis=1)) / 32_768 + 1e-9)
    low, high = np.percentile(level[level >= -50], [10, 95])
    assert high - low == pytest.approx(bucket["advanced.dynamic_range"].avg, abs=1e-6)
    assert 0.4 < bucket["pcm.speech_ratio"].avg < 1.0


def test_pre_has_no_pair_metrics(talking: Host) -> None:
    """What compares PRE with POST is stored with POST alone."""
    talking.send(6)

    archive = talking.end()

    assert not [key for key in archive.aggregates(Tap.PRE)[0] if key.startswith("pair.")]
    assert -0.01 < archive.aggregates(Tap.POST)[0]["pair.gain_db"].avg < 0.01


def test_digital_silence_is_zero_or_one_and_never_unknown() -> None:
    """Silence, mute and freeze of digital silence are 1, of noise 0; the level is the floor."""
    silent, noisy = Host(np.zeros(6 * RATE, np.int16), start=BORDER), Host(start=BORDER)
    found = []
    for host in (silent, noisy):
        host.send(5)
        bucket = host.end().aggregates()[0]
        keys = ("pcm.silence_detected", "pcm.muted_signal", "pcm.frozen_signal")
        found.append([(bucket[key].count, bucket[key].avg) for key in keys])

    assert [[(250, 1.0)] * 3, [(250, 0.0)] * 3] == found
    level = silent.archive.aggregates()[0]["pcm.rms_dbfs"]
    assert (-120.0, -120.0) == (level.min, level.max)


def test_a_latency_of_zero_is_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """A station that takes no time has a latency of 0, which is a value."""
    monkeypatch.setattr("exporter.station.perf_counter_ns", lambda: 7)
    host = Host(start=BORDER)
    host.send(5)

    latency = host.end().aggregates(Tap.POST)[0]["pipe.processing_latency_ms"]

    assert (250, 0.0, 0.0) == (latency.count, latency.min, latency.max)


def test_a_bucket_in_which_nothing_came_is_all_lost() -> None:
    """The drop ratio is the share that was lost, and 1 where nothing came; hold is no loss."""
    host = Host(start=BORDER)
    host.send(7)
    host.wait(10)
    host.send(8)

    buckets = host.end().aggregates()

    ratios = [bucket["pipe.frame_drop_ratio"].avg for bucket in buckets]
    assert [0.0, 0.6, 1.0, 0.4, 0.0] == pytest.approx(ratios)
    assert 0.0 == buckets[2]["stream.frames"].avg
    assert "pcm.rms_dbfs" not in buckets[2]


def test_a_hold_does_not_count_as_dropped() -> None:
    """What was not due because of a hold is in no drop ratio."""
    host = Host(start=BORDER)
    host.send(5)
    host.station.hold()
    host.wait(10)
    host.station.resume()
    host.send(5)

    ratios = [bucket["pipe.frame_drop_ratio"].avg for bucket in host.end().aggregates()]

    assert {0.0} == set(ratios)


def test_pace_is_audio_per_wall_clock() -> None:
    """A sender that sleeps 5 ms after each frame of 5 ms, and takes 0.4 ms to wake, is slow."""
    steady, slow = Host(start=BORDER), Host(start=BORDER)
    steady.send(5)
    slow.send(5, block=80, pace=1 / 0.93)

    assert 1.0 == pytest.approx(steady.end().aggregates()[0]["stream.pace"].avg, abs=1e-3)
    assert 0.93 == pytest.approx(slow.end().aggregates()[0]["stream.pace"].avg, abs=1e-3)


def test_a_filter_that_forgets_its_state_clicks_at_borders(talking: Host, speech: Speech) -> None:
    """A low-pass that is reset at each block is seen, one that goes on is not."""
    b, a = butter(2, 3_400 / (RATE / 2))

    def forgetful(block: bytes, _: KnobValues) -> bytes:
        return lfilter(b, a, np.frombuffer(block, "<i2")).astype("<i2").tobytes()

    talking.send(5, chain=forgetful)
    clicking, clean = (talking.end().aggregates(tap)[0] for tap in (Tap.POST, Tap.PRE))

    assert clicking["pipe.border_click_ratio"].avg > 0.1
    assert clean["pipe.border_click_ratio"].avg < 0.03


def test_a_call_may_begin_anywhere_in_a_bucket(speech: Speech) -> None:
    """Its frames then lie across the borders; every bucket of speech has its numbers."""
    host = Host(speech.samples, start=BORDER + SECOND // 3)
    host.send(15)

    buckets = host.end().aggregates()[1:3]

    assert ["pipe.border_click_ratio" in bucket for bucket in buckets] == [True, True]


def test_a_bucket_that_cannot_be_measured_is_archived_without_numbers(
    talking: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its sound is not lost, the error is counted and told, and the next bucket has numbers."""
    real, calls = summary.summarise, iter([True])

    def fail_once(*args: Any, **options: Any) -> TapBucket:
        if next(calls, False):
            raise RuntimeError("a defect")
        return real(*args, **options)

    monkeypatch.setattr(closing, "summarise", fail_once)
    talking.send(10)
    archive = talking.end()

    first, second, *_ = archive.buckets()
    assert [5 * RATE] * 4 == [t.received_samples for b in (first, second) for t in b.taps]
    assert [0, 0] == [len(tap.aggregates) for tap in first.taps]
    assert all(len(tap.aggregates) > 30 for tap in second.taps)
    assert "archived without numbers" in caplog.text


def test_long_blocks_have_no_border_clicks(talking: Host) -> None:
    """Blocks longer than 100 ms are no borders that anybody hears as a rhythm."""
    talking.send(5, block=RATE)

    assert "pipe.border_click_ratio" not in talking.end().aggregates()[0]


def test_a_host_reports_what_only_it_knows(talking: Host) -> None:
    """A reported value is stored with POST, or with the tap that is named, at its time."""
    talking.send(2)
    talking.station.observe("stt.confidence_score", 0.5)
    talking.station.observe("stt.confidence_score", 1)
    talking.station.observe("rtp.jitter", 7.5, tap="PRE")
    talking.send(4)

    archive = talking.end()

    confidence = archive.aggregates(Tap.POST)[0]["stt.confidence_score"]
    assert (2, 0.5, 1.0, 1.0) == (confidence.count, confidence.min, confidence.max, confidence.last)
    assert BORDER + 2 * SECOND == pytest.approx(confidence.last_ns, abs=SECOND // 10)
    assert 7.5 == archive.aggregates(Tap.PRE)[0]["rtp.jitter"].avg


def test_a_bucket_knows_nothing_of_earlier_ones(talking: Host) -> None:
    """What was noted in one bucket is in no later one, though their drafts are used again."""
    talking.send(2)
    talking.station.observe("stt.confidence_score", 0.5)
    talking.send(20)

    buckets = talking.end().aggregates(Tap.POST)

    assert [True, False, False, False, False] == ["stt.confidence_score" in b for b in buckets]
    blocks = [bucket["pipe.processing_latency_ms"].count for bucket in buckets]
    assert [250, 250, 250, 250, 100] == blocks


@pytest.mark.parametrize(
    ("key", "value", "tap"),
    [
        ("no.such", 1.0, "POST"),
        ("pcm.rms_dbfs", -20.0, "POST"),
        ("stt.confidence_score", 1.5, "POST"),
        ("stt.confidence_score", math.nan, "POST"),
        ("stt.confidence_score", "high", "POST"),
        ("stt.confidence_score", True, "POST"),
        ("stt.confidence_score", 0.5, "MIDDLE"),
        (None, None, None),
    ],
)
def test_a_wrong_report_is_counted_and_never_raised(
    talking: Host, key: str, value: float, tap: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The host is not disturbed; the log names the key, once, and the counter counts."""
    talking.send(1)
    for _ in range(2):
        talking.station.observe(key, value, tap=tap)
    talking.send(1)

    refused = talking.monitor._tally.get("observations_refused_total", "invalid")
    assert 2 == refused
    messages = [record.getMessage() for record in caplog.records if "refused" in record.message]
    assert 1 == len(messages)
    assert repr(key) in messages[0] or repr(tap) in messages[0]


def test_reports_without_audio_and_beyond_room_are_counted(talking: Host) -> None:
    """A value that no bucket can hold, and one that the queue had no room for, are not silent."""
    for _ in range(1_100):
        talking.station.observe("stt.confidence_score", 0.5)
    talking.end()

    counts = {
        reason: talking.monitor._tally.get("observations_refused_total", reason)
        for reason in ("overflow", "no_audio")
    }
    assert {"overflow": 76, "no_audio": 1_024} == counts


def test_a_host_has_metrics_of_its_own(speech: Speech) -> None:
    """A metric that the host registers is checked, stored and shown like the shipped ones."""
    metrics = shipped_metrics()
    metrics.register(host_metric("asr.words", "1/min", low=0, high=500, help="Words a minute."))
    host = Host(speech.samples, settings=load_settings({}, metrics=metrics), start=BORDER)
    host.send(2)
    host.station.observe("asr.words", 120)
    host.send(2)
    host.monitor.render()

    assert b'monitoring_asr_words{station="St_3_3333",tap="POST"} 120.0' in (
        host.monitor._worker.page.text
    )
    assert 120.0 == host.end().aggregates(Tap.POST)[0]["asr.words"].avg


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"key": "pcm.rms_dbfs"}, "pcm.rms_dbfs"),
        ({"key": "Upper.case"}, "Upper.case"),
        ({"low": 2.0, "high": 1.0}, "empty"),
        ({"help": "two\nlines"}, "two"),
    ],
)
def test_a_wrong_metric_is_refused_at_the_start(options: dict[str, object], named: str) -> None:
    """The message names what is wrong with it."""
    valid: dict[str, object] = {"unit": "count", "low": 0.0, "high": 1.0, "help": "A number."}
    metric = host_metric(str(options.get("key", "asr.words")), **(valid | options_of(options)))  # type: ignore[arg-type] # by name

    with pytest.raises(ConfigError, match=named.replace(".", r"\.")):
        shipped_metrics().register(metric)


def options_of(options: dict[str, object]) -> dict[str, object]:
    """Return all but the key."""
    return {name: value for name, value in options.items() if name != "key"}


def test_an_attribute_that_comes_later_is_told_with_the_end(talking: Host) -> None:
    """The last value of an attribute that was set while the call ran counts."""
    talking.send(1)
    talking.trace.set_attribute("asterisk.channel_state", "Ring")
    talking.trace.set_attribute("asterisk.channel_state", "Up")

    ended = [record for record in talking.end().records if isinstance(record, TraceEnded)]

    assert [{"asterisk.channel_state": "Up"}] == [record.attributes for record in ended]


@pytest.mark.parametrize(
    ("key", "value"), [("a b", 1), ("state", [1]), ("state", "x" * 300), ("state", math.inf)]
)
def test_a_wrong_attribute_is_refused(talking: Host, key: str, value: object) -> None:
    """The error names the key."""
    with pytest.raises(TraceError, match=key):
        talking.trace.set_attribute(key, value)


@given(
    st.sampled_from(sorted(DEFECTS)),
    st.tuples(st.floats(0, 30), st.floats(0, 30)).map(sorted),
    st.floats(0, 1),
)
def test_more_of_a_defect_never_makes_health_better(
    defect: str, amounts: list[float], other: float
) -> None:
    """The score falls or stays with each defect, and its reasons add up to what is missing."""
    base = Defects(**{name: other for name in DEFECTS if name != defect})
    less, more = (judge(replace(base, **{defect: amount}), DEFECTS) for amount in amounts)

    assert more.score <= less.score
    for health in (less, more):
        assert health.score == pytest.approx(max(0.0, 100 - sum(health.costs.values())))
        assert 0 <= health.score <= 100


def test_health_of_clean_speech_is_better_than_that_of_clipped_speech(speech: Speech) -> None:
    """Clean speech costs next to nothing; hard clipping costs, and the reason says so."""
    scores = []
    for gain in (1, 40):
        loud = np.clip(speech.samples.astype(np.int32) * gain, -32_768, 32_767).astype(np.int16)
        host = Host(loud, start=BORDER)
        host.send(5)
        tap = host.end().buckets()[0].taps[0]
        scores.append((host.archive.aggregates()[0]["health.audio_score"].avg, tap.health))

    assert scores[0][0] > 95
    assert scores[1][0] < 80
    assert 25.0 == scores[1][1]["clipping"]


def test_weights_of_health_are_settings(tmp_path: object) -> None:
    """A defect that the configuration gives no points costs nothing."""
    weights = DEFECTS | {"clipping": replace(DEFECTS["clipping"], points=0.0)}

    assert 100.0 == judge(Defects(clipping=1.0), weights).score
    assert 75.0 == judge(Defects(clipping=1.0), DEFECTS).score


def test_unrelated_audio_is_not_compared(speech: Speech, caplog: pytest.LogCaptureFixture) -> None:
    """After six buckets of other speech at POST, pairs are left out, and one line says so."""
    other = np.roll(speech.samples[::-1], 12_345).astype("<i2")
    host = Host(np.tile(speech.samples, 4), start=BORDER)
    position = 0

    def translated(block: bytes, _: object) -> bytes:
        nonlocal position
        start, position = position % (len(other) - 320), position + 320
        return other[start : start + 320].tobytes()

    with caplog.at_level(logging.WARNING):
        host.send(60, chain=translated)
    buckets = host.end().aggregates(Tap.POST)

    compared = ["pair.gain_db" in bucket for bucket in buckets]
    assert (True, False) == (compared[0], compared[-1])
    assert 1 == sum("convert" in record.getMessage() for record in caplog.records)
    assert host.monitor._tally.get("pair_buckets_left_out_total", "unrelated") > 0


def test_pairs_are_sampled_under_load_and_all_of_them_when_it_is_over() -> None:
    """Above the limit every second bucket, then every fourth; below it, all again."""
    sampling, shares = Sampling(0.5), []
    for second, cpu_s in enumerate((0.0, 5.0, 5.0, 0.1, 0.1, 0.1)):
        sampling.spend(cpu_s, second * 5 * SECOND)
        shares.append(sum(sampling.take() for _ in range(16)))

    assert [16, 8, 4, 8, 16, 16] == shares


def test_block_sizes_change_nothing_but_latency_depth_and_borders(speech: Speech) -> None:
    """Every other aggregate is the same for blocks of 1 ms to 3 s."""
    found = []
    for block in (16, 320, 600, 48_000):
        host = Host(speech.samples, start=BORDER)
        host.send(12, block=block, chain=lambda pcm, _: bytes(pcm))
        found.append([host.end().aggregates(tap) for tap in Tap])

    apart = {"pipe.processing_latency_ms", "pipe.queue_depth", "pipe.border_click_ratio"}
    keys = {metric.key for metric in METRICS if metric.form is Form.GAUGE} - apart - {"stream.pace"}
    for taps in found[1:]:
        for ours, first in zip(taps, found[0], strict=True):
            for bucket, expected in zip(ours[:2], first[:2], strict=True):
                for key in keys & expected.keys():
                    mine, theirs = bucket[key], expected[key]
                    assert mine.count == theirs.count, key
                    assert [mine.min, mine.max, mine.avg, mine.last] == pytest.approx(
                        [theirs.min, theirs.max, theirs.avg, theirs.last], rel=1e-5, abs=1e-5
                    ), key


def test_without_the_spectrum_its_metrics_are_unknown(talking: Host) -> None:
    """The knob of the spectrum takes it away, with what is made from it, and nothing else."""
    talking.monitor.knobs.set("monitoring.fft_analysis_enabled", value=False, by="test")
    talking.send(10)

    bucket = talking.end().aggregates()[1]

    assert not [key for key in bucket if key.startswith("fft.")]
    assert not {"pcm.vad_probability", "pcm.snr_estimate", "pcm.speech_ratio"} & bucket.keys()
    assert {"pcm.rms_dbfs", "pcm.noise_floor", "advanced.lufs_momentary"} <= bucket.keys()


def test_a_bucket_metric_on_the_page_is_that_of_the_last_bucket(talking: Host) -> None:
    """It stays until the next bucket closes, and after the end of the last trace for a while."""
    talking.send(6)
    talking.monitor.render()
    name = b'monitoring_stream_sample_rate_hertz{station="St_3_3333",tap="PRE"} 16000.0'
    assert name in talking.monitor._worker.page.text
    talking.end()
    talking.monitor.render()
    assert name in talking.monitor._worker.page.text

    talking.now += 120 * SECOND
    talking.monitor.render()

    assert name not in talking.monitor._worker.page.text

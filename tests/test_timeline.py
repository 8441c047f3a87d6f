"""The timeline on simulated arrivals: jitter, stalls, bursts, holds, POST beside PRE."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.model import Cause, Tap, TraceEnded
from tests.fix_host import RATE, SECOND, START, Host, unchanged


def test_a_steady_stream_has_no_gap_and_stands_at_its_offset() -> None:
    """The first sample of a call at 2.1 s stands at 2.1 s of its bucket."""
    host = Host()
    host.send(10.2)

    archive = host.end()

    assert [33_600, 0, 0] == [bucket.taps[0].first_sample for bucket in archive.buckets()]
    assert [46_400, 80_000, 36_800] == [b.taps[0].due_samples for b in archive.buckets()]
    assert {} == archive.gaps()
    assert host.sound[: host.sent].tobytes() == archive.audio() == archive.audio(Tap.POST)


def test_a_stall_that_a_burst_makes_good_is_no_gap() -> None:
    """Ten seconds without blocks, then all of them at once: nothing is missing."""
    host = Host()
    host.send(6)
    host.wait(10)
    host.send(10, pace=0)
    host.send(4)

    archive = host.end()

    assert {} == archive.gaps() == archive.gaps(Tap.POST)
    assert host.sound[: host.sent].tobytes() == archive.audio()


def test_a_stall_alone_is_one_gap_of_its_length() -> None:
    """Ten seconds without blocks, and then live again: one gap of ten seconds at both taps."""
    host = Host()
    host.send(6)
    host.wait(10)
    host.send(8)

    archive = host.end()

    assert {Cause.NOT_RECEIVED: 10 * RATE} == archive.gaps() == archive.gaps(Tap.POST)
    assert host.sound[: host.sent].tobytes() == archive.audio()


def test_catching_up_at_double_speed_is_no_gap() -> None:
    """A backlog that is played out at double speed is placed by count."""
    host = Host()
    host.send(3)
    host.wait(1.5)
    host.send(3, pace=0.5)
    host.send(4)

    assert {} == host.end().gaps()


def test_a_slow_sender_loses_time_as_slow() -> None:
    """Audio that comes at 0.9 of its pace leaves gaps with the cause slow."""
    host = Host()
    host.send(20, pace=1 / 0.9)

    assert {Cause.SLOW} == set(host.end().gaps())


def test_a_stall_of_a_minute_is_final() -> None:
    """After 60 s the gap is closed, and audio that would fill it is dropped and counted."""
    host = Host()
    other = host.trace.station("St_3_4444")
    host.send(5)
    for _ in range(90):
        host.wait(1)
        other.pre(bytes(640))
    host.send(85, pace=0)
    host.send(3)

    archive = host.end()

    assert host.monitor.accounting()["dropped"] > 0
    assert archive.gaps()[Cause.NOT_RECEIVED] >= 50 * RATE


def test_hold_is_not_loss() -> None:
    """A hold of 20 s is a gap with that cause, and the call goes on after it."""
    host = Host()
    host.send(5)
    host.station.hold()
    host.wait(20)
    host.station.resume()
    host.send(5)

    gaps = host.end().gaps()

    assert {Cause.HOLD} == set(gaps)
    assert gaps[Cause.HOLD] == pytest.approx(20 * RATE, abs=RATE // 10)


def test_a_failing_chain_passes_its_error_on_and_leaves_a_gap_at_post() -> None:
    """The host sees its own exception; POST of that block is missing, PRE is there."""
    host = Host()
    host.send(2)

    def broken(_: bytes, __: object) -> bytes:
        raise LookupError("the host's own")

    with pytest.raises(LookupError, match="the host's own"):
        host.station.process(bytes(640), broken)
    host.now += SECOND // 50
    host.send(4)

    archive = host.end()

    assert {} == archive.gaps()
    assert {Cause.NOT_RECEIVED: 320} == archive.gaps(Tap.POST)


def test_a_shorter_post_leaves_a_gap_and_a_longer_one_is_refused() -> None:
    """POST sample n stands at PRE sample n, whatever the chain returns."""
    host = Host()
    host.now += SECOND // 50
    host.station.process(bytes(640), lambda block, _: block[:400])
    host.now += SECOND // 50
    host.station.process(bytes(640), lambda block, _: block + bytes(2))
    host.now += SECOND // 50
    host.station.process(bytes(640), unchanged)

    archive = host.end()

    assert {Cause.NOT_RECEIVED: 120 + 320} == archive.gaps(Tap.POST)
    assert 1 == host.station.post_tap.rejected["longer_than_pre"]


def test_a_post_of_long_ago_is_too_late_and_harms_no_other_block() -> None:
    """A host that hands a block over again, behind a gap, loses that block alone."""
    host = Host()
    host.send(2)
    long_ago = host.station.pre(bytes(640))
    host.station.post(bytes(640), since=long_ago)
    host.wait(10)
    host.send(6)
    host.wait(1)
    host.station.post(bytes(640), since=long_ago)
    host.send(2)

    archive = host.end()

    books = host.monitor.accounting()
    assert 320 == books["dropped"]
    assert books["offered"] == books["handed_on"] + books["dropped"]
    assert archive.audio() == archive.audio(Tap.POST)


@settings(max_examples=20, deadline=None)
@given(delays=st.lists(st.floats(0, 0.09), min_size=50, max_size=200))
def test_jitter_is_no_gap(delays: list[float]) -> None:
    """Blocks that come up to 90 ms late, in order, are placed without a gap."""
    host = Host()
    due = arrival = START
    for delay in (0.0, *delays):
        due += SECOND // 50
        arrival = max(arrival, due + round(delay * SECOND))
        host.now = arrival
        host.station.process(bytes(640), unchanged)
    host.monitor.step()

    assert {} == host.end().gaps()


def test_a_disabled_tap_is_a_gap_that_is_no_loss() -> None:
    """The kill switch of one tap leaves the other alone."""
    host = Host()
    host.send(3)
    host.monitor.knobs.set("monitoring.post_tap_enabled", value=False, by="test")
    host.send(3)

    archive = host.end()

    assert {} == archive.gaps()
    assert {Cause.DISABLED: 3 * RATE} == archive.gaps(Tap.POST)


def test_a_knob_counts_from_the_next_block_and_the_snapshot_says_where() -> None:
    """A change is in the next block, in the bucket's steps, and in the event's time."""
    host = Host()
    host.send(1)
    change = host.monitor.knobs.set(
        "pcm.input_gain_db",
        3,
        by="alice",
        reason="too quiet",
        trace_id=host.trace.trace_id,
        station_key="St_3_3333",
    )
    host.send(1)

    archive = host.end()

    steps = [step for bucket in archive.buckets() for step in bucket.knob_steps]
    assert [("pcm.input_gain_db", 0.0, 3.0, 33_600 + RATE)] == [
        (step.knob_key, step.old, step.new, step.sample) for step in steps
    ]
    events = [r for r in archive.records if getattr(r, "event_id", "") == change.event.event_id]
    assert [START + SECOND] == [getattr(event, "counts_from_ns", None) for event in events]


def test_a_scheduled_knob_splits_the_block_at_its_bucket() -> None:
    """A change for a named bucket counts from the first sample of that bucket."""
    host = Host()
    host.send(1)
    bucket = datetime(2026, 1, 1, 0, 0, 5, tzinfo=UTC)
    host.monitor.knobs.set("pcm.output_gain_db", -6, by="bob", bucket=bucket)
    sizes: list[int] = []
    host.now += SECOND * 3
    pcm = host.sound[host.sent : host.sent + 3 * RATE].tobytes()

    def chain(block: bytes, knobs: object) -> bytes:
        sizes.append(len(block) // 2)
        return block

    host.station.process(pcm, chain)
    archive = host.end()

    assert [round(1.9 * RATE), round(1.1 * RATE)] == sizes
    values = [b.knob_values["pcm.output_gain_db"] for b in archive.buckets()]
    assert [0.0, -6.0] == values


def test_an_idle_call_ends_itself() -> None:
    """Sixty seconds without a block end the call at its last audio, with that reason."""
    host = Host()
    host.send(3)
    host.wait(62)

    ended = [record for record in host.archive.records if isinstance(record, TraceEnded)]

    assert ["idle"] == [record.end_reason for record in ended]
    assert {} == host.archive.gaps()

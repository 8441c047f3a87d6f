"""A host on a simulated clock, and an archive that keeps what it is offered."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from exporter import Clocks, Monitor
from exporter.aggregates import Aggregate
from exporter.config import Settings, load_settings
from exporter.model import Bucket, Cause, Record, Tap
from exporter.station import Chain, Station

RATE = 16_000
SECOND = 1_000_000_000
START = 1_767_225_602_100_000_000
ORIGIN = (START * RATE + SECOND // 2) // SECOND
"""Position of the first sample of a host that begins to send at once."""

Samples = npt.NDArray[np.int16]


@dataclass
class Recorder:
    """An archive that keeps what it is offered."""

    records: list[Record] = field(default_factory=list)

    def offer(self, record: Record) -> None:
        """Keep it."""
        self.records.append(record)

    def buckets(self) -> list[Bucket]:
        """Return the buckets."""
        return [record for record in self.records if isinstance(record, Bucket)]

    def gaps(self, tap: Tap = Tap.PRE) -> dict[Cause, int]:
        """Return the missing samples at a tap by cause."""
        found: dict[Cause, int] = {}
        for bucket in self.buckets():
            for each in bucket.taps:
                for gap in each.gaps:
                    if each.tap is tap:
                        found[gap.cause] = found.get(gap.cause, 0) + gap.samples
        return found

    def aggregates(self, tap: Tap = Tap.PRE) -> list[dict[str, Aggregate]]:
        """Return the aggregates at a tap by key, bucket by bucket."""
        return [
            {aggregate.metric_key: aggregate for aggregate in each.aggregates}
            for bucket in self.buckets()
            for each in bucket.taps
            if each.tap is tap
        ]

    def audio(self, tap: Tap = Tap.PRE) -> bytes:
        """Return all audio at a tap, without its gaps."""
        taps = [each for bucket in self.buckets() for each in bucket.taps if each.tap is tap]
        return b"".join(run.pcm for each in taps for run in each.runs)


def unchanged(block: bytes, _: object) -> bytes:
    """Return what came: a station that does nothing."""
    return block


class Host:
    """A host on a simulated clock with one station.

    Args:
        sound: What it sends, int16 at 16 kHz; noise unless given.
        settings: The shipped ones unless given.
        start: When the call begins, in ns.
        consent: What the callers agreed to at the start.
    """

    def __init__(
        self,
        sound: npt.NDArray[np.int16] | None = None,
        *,
        settings: Settings | None = None,
        start: int = START,
        consent: str = "unknown",
    ) -> None:
        self.now = start
        self.archive = Recorder()
        clock = Clocks(lambda: self.now, lambda: self.now)
        self.monitor = Monitor(
            settings or load_settings({}), archive=self.archive, clocks=clock, has_thread=False
        )
        self.monitor.start()
        self.trace = self.monitor.start_trace("3333", consent=consent)
        self.station: Station = self.trace.station("St_3_3333")
        self.sent = 0
        noise = np.random.default_rng(1).normal(0, 2_000, 200 * RATE).astype("<i2")
        self.sound = noise if sound is None else sound.astype("<i2")

    def wait(self, seconds: float) -> None:
        """Let time pass, with a pass of the exporter every 200 ms."""
        end = self.now + round(seconds * SECOND)
        while self.now < end:
            self.now = min(self.now + SECOND // 5, end)
            self.monitor.step()

    def send(
        self,
        seconds: float,
        *,
        block: int = 320,
        pace: float = 1.0,
        chain: Chain = unchanged,
    ) -> None:
        """Send audio; ``pace`` 0 sends it at once."""
        for _ in range(round(seconds * RATE / block)):
            self.now += round(block * SECOND / RATE * pace)
            pcm = self.sound[self.sent : self.sent + block].tobytes()
            self.sent += block
            self.station.process(pcm, chain)
            if self.sent % RATE < block:
                self.monitor.step()

    def end(self) -> Recorder:
        """End the call, check the identities, return what was archived."""
        self.trace.end()
        self.monitor.step()
        counts = self.monitor.accounting()
        assert counts["offered"] == counts["open"] + counts["handed_on"] + counts["dropped"]
        assert counts["open"] == 0
        for bucket in self.archive.buckets():
            for tap in bucket.taps:
                missing = sum(gap.samples for gap in tap.gaps)
                assert tap.due_samples == tap.received_samples + missing
        return self.archive


def laid(archive: Recorder, tap: Tap, station: str = "St_3_3333") -> Samples:
    """Return what was kept at a tap from the call's first sample on, zeros where nothing was."""
    found: Samples = np.zeros(60 * RATE, np.int16)
    for bucket in archive.buckets():
        base = bucket.bucket_ns * RATE // SECOND - ORIGIN
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
        base = bucket.bucket_ns * RATE // SECOND - ORIGIN
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

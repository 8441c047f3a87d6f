"""A station in one trace: what the host calls on its audio path.

``pre``, ``post`` and ``process`` do no I/O, take no lock, log nothing and never raise for anything
that monitoring does. What they refuse they count; the exporter thread tells about it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import get_clock_info, monotonic_ns, perf_counter_ns

from exporter.keeping import Keep
from exporter.knobs import KnobValues
from exporter.model import MAX_BLOCK_SECONDS, SAMPLE_BYTES, Clock, Recording
from exporter.tap import (
    HOLD,
    RESUME,
    UNTIMED,
    Block,
    Item,
    RefusedBlockError,
    TapQueue,
    plain_bytes,
)

MAX_OBSERVED = 1_024
MAX_KEEPS = 65_536
_ARE_ONE_CLOCK = (
    get_clock_info("monotonic").implementation == get_clock_info("perf_counter").implementation
)

Heard = tuple[int, int, int]
"""What ``pre`` returns for ``post(since=)``: first and last sample count, time (ns)."""

Observation = tuple[int, str, object, str]
"""What the host reports: when (monotonic ns), key, value, tap."""

Chain = Callable[[bytes, KnobValues], Block]
REFUSED: Heard = (0, -1, 0)
"""The token of a block that PRE refused: no POST fits before its first sample."""


class ScheduledChange:
    """New knob values that count from a sample of PRE; kept sorted by the resolver."""

    __slots__ = ("bucket_ns", "values")

    def __init__(self, bucket_ns: int, values: KnobValues) -> None:
        self.bucket_ns = bucket_ns
        self.values = values


class Station:
    """The taps of one station in one trace.

    Attributes:
        key: The station.
        rate: Sampling rate in Hz.
        knobs: The values in force now; replaced as a whole, never changed.
        scheduled: Changes that wait for their bucket, oldest first; replaced as a whole.
        origin_ns: Wall time of sample 0 of PRE, once the exporter thread knows it.
        observed: What the host reported and the exporter thread has not seen yet.
        observed_count: How many values it has ever reported.
        recording: How much the configuration keeps of it.
        keep: What is kept from now on; as it was last told.
        keeps: What was told and the exporter thread has not seen yet, with the sample of PRE.
        pre_tap: Queue of what arrived.
        post_tap: Queue of what the station made of it.
    """

    __slots__ = (
        "_clock",
        "_is_timer",
        "_max_bytes",
        "_told",
        "keep",
        "keeps",
        "key",
        "knobs",
        "observed",
        "observed_count",
        "origin_ns",
        "post_tap",
        "pre_tap",
        "rate",
        "recording",
        "scheduled",
    )

    def __init__(
        self,
        key: str,
        rate: int,
        knobs: KnobValues,
        clock: Clock,
        *,
        recording: Recording = Recording.AUDIO,
    ) -> None:
        self.key = key
        self.rate = rate
        self.knobs = knobs
        self.scheduled: tuple[ScheduledChange, ...] = ()
        self.origin_ns: int | None = None
        self.observed: deque[Observation] = deque(maxlen=MAX_OBSERVED)
        self.observed_count = 0
        self.recording = recording
        self.keep = Keep()
        self.keeps: deque[Item] = deque(maxlen=MAX_KEEPS)
        self.pre_tap = TapQueue()
        self.post_tap = TapQueue()
        self._told: KnobValues | None = None
        self._clock = clock
        # Reading a clock is a fifth of what a tap costs: where two are the same, one is read.
        self._is_timer = clock is monotonic_ns and _ARE_ONE_CLOCK
        self._max_bytes = MAX_BLOCK_SECONDS * rate * SAMPLE_BYTES

    def pre(self, block: Block) -> Heard:
        """Hear a block as it arrived.

        Args:
            block: Mono samples, signed 16 bit little endian; up to 5 s.

        Returns:
            A token for ``post(since=)``.
        """
        tap = self.pre_tap
        try:
            pcm = block if type(block) is bytes else plain_bytes(block)
            size = len(pcm)
            if size & 1 or size > self._max_bytes:
                raise RefusedBlockError("odd_bytes" if size & 1 else "bad_length")
            if self.knobs is not self._told:
                self._tell()
            start = tap.end
            tap.end = end = start + (size >> 1)
            now = self._clock()
            tap.append((now, end, pcm, UNTIMED))
            return (start, end, now if self._is_timer else perf_counter_ns())
        except RefusedBlockError as error:
            tap.reject(str(error))
        except Exception:
            tap.reject("bad_dtype")
        return REFUSED

    def post(self, block: Block, *, since: Heard | None = None) -> None:
        """Hear a block as the station made it.

        Args:
            block: Mono samples as at PRE; not longer than the block it was made from.
            since: What ``pre`` returned for that block; without it, the samples are counted on.
        """
        tap = self.post_tap
        try:
            now = self._clock()
            left = now if self._is_timer or since is None else perf_counter_ns()
            elapsed = UNTIMED if since is None else left - since[2]
            pcm = block if type(block) is bytes else plain_bytes(block)
            size = len(pcm)
            if size & 1 or size > self._max_bytes:
                raise RefusedBlockError("odd_bytes" if size & 1 else "bad_length")
            start, limit = (tap.end, self.pre_tap.end) if since is None else since[:2]
            end = start + (size >> 1)
            if end > limit:
                raise RefusedBlockError("unpaired" if limit < 0 else "longer_than_pre")
            tap.end = end
            tap.append((now, end, pcm, elapsed))
        except RefusedBlockError as error:
            tap.reject(str(error))
        except Exception:
            tap.reject("bad_dtype")

    def process(self, block: bytes, chain: Chain) -> Block:
        """Hear PRE, run ``chain(block, knobs)``, hear POST and its latency.

        Exceptions of the chain pass through unchanged; POST of that block is then a gap.

        Returns:
            What the chain returned.
        """
        if self.scheduled:
            return self._process_in_parts(block, chain)
        heard = self.pre(block)
        made = chain(block, self.knobs)
        self.post(made, since=heard)
        return made

    def observe(self, key: str, value: float, *, tap: str = "POST") -> None:
        """Report what only the host knows, such as ``stt.confidence_score``.

        An unknown key or a value outside its range is refused and counted, never raised here.

        Args:
            key: A metric of the registry that a host reports, or one of the host's own.
            value: In the metric's unit.
            tap: ``PRE`` or ``POST``: with which tap it is stored.
        """
        self.observed_count += 1
        self.observed.append((self._clock(), key, value, tap))

    def hold(self) -> None:
        """Say that nothing is due until ``resume()`` or the next block: hold, mute, DTX."""
        self.pre_tap.append((self._clock(), self.pre_tap.end, HOLD, UNTIMED))

    def resume(self) -> None:
        """Say that audio is due again."""
        self.pre_tap.append((self._clock(), self.pre_tap.end, RESUME, UNTIMED))

    def set_keep(self, keep: Keep) -> None:
        """Say what is kept from the next sample on; from any thread, beside the audio's."""
        self.keeps.append((self._clock(), self.pre_tap.end, keep, UNTIMED))
        self.keep = keep

    def _tell(self) -> None:
        """Put the knob values into the stream, at the sample from which they count."""
        self._told = values = self.knobs
        self.pre_tap.append((self._clock(), self.pre_tap.end, values, UNTIMED))

    def _process_in_parts(self, block: bytes, chain: Chain) -> Block:
        """Split the block where scheduled knob values begin to count."""
        parts: list[bytes] = []
        rest = block if type(block) is bytes else bytes(block)
        while self.scheduled:
            change = self.scheduled[0]
            size = max(0, self._samples_until(change.bucket_ns)) * SAMPLE_BYTES
            if size >= len(rest):
                break
            if size:
                parts.append(bytes(self._process_part(rest[:size], chain)))
                rest = rest[size:]
            self.scheduled = self.scheduled[1:]
            self.knobs = change.values
        parts.append(bytes(self._process_part(rest, chain)))
        return b"".join(parts)

    def _process_part(self, block: bytes, chain: Chain) -> Block:
        heard = self.pre(block)
        made = chain(block, self.knobs)
        self.post(made, since=heard)
        return made

    def _samples_until(self, bucket_ns: int) -> int:
        """Count the samples of PRE from now to the start of a bucket."""
        if self.origin_ns is None:
            return -((self._clock() - bucket_ns) * self.rate // 1_000_000_000)
        first = -((self.origin_ns - bucket_ns) * self.rate // 1_000_000_000)
        return first - self.pre_tap.end

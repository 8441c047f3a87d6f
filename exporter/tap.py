"""The tap: the one thing that the audio thread touches.

One writer at a time, one reader, no lock. The writer appends the fields of one item to a bounded
deque, in one go; the exporter thread takes them off the other end. The count ``end`` rides in every
item, so that whatever is lost on the way is known to the sample.

The fields lie in the queue one after the other, without a tuple around them: Python's garbage
collector runs whenever there are so many tuples more, and the audio thread would have to wait for
it. Numbers and bytes are nothing to the collector.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat, starmap
from typing import Any

from exporter.keeping import Keep
from exporter.knobs import KnobValues
from exporter.model import SAMPLE_BYTES

CAPACITY = 65_536
UNTIMED = -1

Block = bytes | bytearray | memoryview
"""What a host may hand over; any other object with a buffer of 16-bit samples will do."""

HOLD, RESUME = "hold", "resume"
Payload = bytes | KnobValues | Keep | str
Item = tuple[int, int, Payload, int]
"""Arrival (monotonic ns), samples offered so far, audio or mark, PRE-to-POST time (ns) or -1."""

_FIELDS = 4

REJECT_REASONS = ("bad_dtype", "odd_bytes", "bad_length", "unpaired", "longer_than_pre", "ended")


class RefusedBlockError(Exception):
    """A block that the tap does not take; its argument is one of REJECT_REASONS."""


def plain_bytes(block: object) -> bytes:
    """Copy a mutable or foreign buffer of 16-bit samples once.

    Raises:
        RefusedBlockError: Not a one-dimensional buffer of bytes or native 16-bit integers.
    """
    try:
        view = memoryview(block)  # type: ignore[arg-type] # anything may come; that is the point
    except TypeError:
        raise RefusedBlockError("bad_dtype") from None
    if view.ndim != 1 or view.format not in {"B", "b", "c", "h", "<h", "@h", "=h"}:
        raise RefusedBlockError("bad_dtype")
    return view.tobytes()


def _discard(_: Item) -> None:
    """Take an item and forget it: the child of a fork has no thread that would read it."""


@dataclass(slots=True)
class Drained:
    """Items of one tap, oldest first, their fields side by side.

    Attributes:
        arrivals: When each came (monotonic ns).
        ends: Samples offered so far.
        payloads: Audio or mark.
        elapsed: PRE-to-POST time (ns) or -1.
    """

    arrivals: list[int]
    ends: list[int]
    payloads: list[Payload]
    elapsed: list[int]

    @classmethod
    def of(cls, items: Iterable[Item]) -> Drained:
        """Lay the fields of items side by side."""
        fields = [*zip(*items, strict=True)] or [()] * _FIELDS
        return cls(*map(list, fields))

    def items(self) -> Iterator[Item]:
        """Return the items one by one."""
        return zip(self.arrivals, self.ends, self.payloads, self.elapsed, strict=True)

    @property
    def samples(self) -> int:
        """Samples of audio in them."""
        return sum(len(each) for each in self.payloads if isinstance(each, bytes)) // SAMPLE_BYTES


class TapQueue:
    """The queue of one tap.

    Attributes:
        append: Hands the fields of one item over; cheap, never blocks.
        end: Samples offered so far, by the tap's own count.
        rejected: Blocks refused, by reason.
        has_rejected: Whether any was.
    """

    __slots__ = ("_queue", "append", "end", "has_rejected", "rejected")

    def __init__(self) -> None:
        self._queue: deque[Any] = deque(maxlen=_FIELDS * CAPACITY)
        self.append: Callable[[Item], None] = self._queue.extend
        self.end = 0
        self.rejected = dict.fromkeys(REJECT_REASONS, 0)
        self.has_rejected = False

    def drain(self) -> tuple[Drained, bool]:
        """Take what is there, oldest first, and tell whether the queue was full."""
        size = len(self._queue)
        # In one call, which no other thread can interrupt: items are taken off whole.
        taken = list(starmap(self._queue.popleft, repeat((), size)))
        return _side_by_side(taken), size >= _FIELDS * CAPACITY

    def waiting(self) -> Drained:
        """Look at what is there without taking it."""
        return _side_by_side(list(self._queue))

    def reject(self, reason: str) -> None:
        """Count a refused block."""
        self.rejected[reason] += 1
        self.has_rejected = True

    def close(self) -> None:
        """Refuse and count whatever still comes: the trace is over."""
        self.append = self._refuse_ended

    def silence(self) -> None:
        """Forget whatever still comes: this process does not monitor (after a fork)."""
        self.append = _discard

    def _refuse_ended(self, item: Item) -> None:
        payload = item[2]
        if isinstance(payload, bytes):
            self.reject("ended")
            self.end -= len(payload) // SAMPLE_BYTES


def _side_by_side(fields: list[Any]) -> Drained:
    return Drained(*(fields[field::_FIELDS] for field in range(_FIELDS)))


def laid_in(drained: Drained, marks: list[Item]) -> Drained:
    """Lay marks into what a tap was handed: each before the first sample that it counts for.

    Marks come from any thread and so not through the tap's queue. They are taken off after it:
    then every block in ``drained`` that came after a mark finds it here.

    Args:
        drained: Of one tap.
        marks: Oldest first; their second element says how many samples came before.
    """
    if not marks:
        return drained
    laid: list[Item] = []
    waiting = iter(marks)
    mark = next(waiting, None)
    for item in drained.items():
        while mark is not None and mark[1] < item[1]:
            laid.append(mark)
            mark = next(waiting, None)
        laid.append(item)
    if mark is not None:
        laid += [mark, *waiting]
    return Drained.of(laid)

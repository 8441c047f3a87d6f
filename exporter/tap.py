"""The tap: the one thing that the audio thread touches.

One writer at a time, one reader, no lock. The writer appends one tuple to a bounded deque; the
exporter thread takes it off the other end. The count ``end`` rides in every tuple, so that
whatever is lost on the way is known to the sample.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import repeat, starmap

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


class TapQueue:
    """The queue of one tap.

    Attributes:
        append: Hands one item over; cheap, never blocks.
        end: Samples offered so far, by the tap's own count.
        rejected: Blocks refused, by reason.
        has_rejected: Whether any was.
    """

    __slots__ = ("_queue", "append", "end", "has_rejected", "rejected")

    def __init__(self) -> None:
        self._queue: deque[Item] = deque(maxlen=CAPACITY)
        self.append: Callable[[Item], None] = self._queue.append
        self.end = 0
        self.rejected = dict.fromkeys(REJECT_REASONS, 0)
        self.has_rejected = False

    def drain(self) -> tuple[list[Item], bool]:
        """Take what is there, oldest first, and tell whether the queue was full."""
        size = len(self._queue)
        return list(starmap(self._queue.popleft, repeat((), size))), size >= CAPACITY

    def waiting(self) -> tuple[Item, ...]:
        """Look at what is there without taking it."""
        return tuple(self._queue)

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


def laid_in(items: list[Item], marks: list[Item]) -> list[Item]:
    """Lay marks into what a tap was handed: each before the first sample that it counts for.

    Marks come from any thread and so not through the tap's queue. They are taken off after it:
    then every block in ``items`` that came after a mark finds it here.

    Args:
        items: Of one tap, oldest first.
        marks: Oldest first; their second element says how many samples came before.
    """
    if not marks:
        return items
    laid: list[Item] = []
    waiting = iter(marks)
    mark = next(waiting, None)
    for item in items:
        while mark is not None and mark[1] < item[1]:
            laid.append(mark)
            mark = next(waiting, None)
        laid.append(item)
    if mark is not None:
        laid += [mark, *waiting]
    return laid


def samples_of(items: list[Item]) -> int:
    """Count the samples of audio in the items of a tap."""
    return sum([len(item[2]) for item in items if type(item[2]) is bytes]) // SAMPLE_BYTES

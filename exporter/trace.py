"""A trace: one call with its stations, as the host holds it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from exporter.errors import TraceError
from exporter.keeping import Keep, Keeping, checked_consent
from exporter.knobs import KnobValues
from exporter.model import KEY_PATTERN, Consent
from exporter.station import Chain, Heard, Station
from exporter.tap import Block

MAX_ATTRIBUTES, MAX_TEXT = 64, 256
_FORWARD = tuple(Consent)
# With what stands before it, and a suffix, an id is no longer than one may be.
_LONGEST_EXTENSION = 28

StationFactory = Callable[[str, str, dict[str, object]], Station]


class Trace:
    """One running call.

    Attributes:
        trace_id: Its id, as in SQL, file names and exemplars.
        attributes: What was set while it runs.
    """

    def __init__(
        self,
        trace_id: str,
        make_station: StationFactory,
        on_end: Callable[[str], None],
        *,
        keeping: Keeping,
        on_consent: Callable[[str, Consent], None] = lambda _id, _consent: None,
    ) -> None:
        self.trace_id = trace_id
        self._keeping = keeping
        self._on_consent = on_consent
        self._make_station = make_station
        self._on_end = on_end
        self._stations: dict[str, Station] = {}
        self._is_over = False
        self.attributes: dict[str, object] = {}

    def set_attribute(self, key: str, value: object) -> None:
        """Write down what becomes known while the call runs, such as ``asterisk.channel_state``.

        The last value counts; it is in SQL with the end of the call.

        Args:
            key: Letters, digits, ``_``, ``.`` and ``-``.
            value: Text of up to 256 characters, a number, true or false.

        Raises:
            TraceError: Key or value is not valid, or there are 64 attributes already.
        """
        if not KEY_PATTERN.fullmatch(key):
            raise TraceError(f"attribute {key!r} does not match {KEY_PATTERN.pattern}")
        is_text = isinstance(value, str) and len(value) <= MAX_TEXT and value.isprintable()
        if not is_text and not (isinstance(value, int | float) and math.isfinite(value)):
            raise TraceError(f"attribute {key!r}: {value!r} is no short text, number or truth")
        if key not in self.attributes and len(self.attributes) >= MAX_ATTRIBUTES:
            raise TraceError(f"attribute {key!r}: a trace has {MAX_ATTRIBUTES} at most")
        self.attributes[key] = value

    @property
    def consent(self) -> Consent:
        """What the callers agreed to so far."""
        return self._keeping.consent

    def set_consent(self, consent: str) -> None:
        """Write down what the callers agreed to; counts from the next sample of every station.

        Consent goes forward only: unknown, announced, given, refused. ``refused`` keeps no audio
        and removes what was stored of this call, also after its end; its numbers stay. It is the
        last word of a call: for who agrees afterwards, the host begins a new one.

        Args:
            consent: ``announced``, ``given`` or ``refused``.

        Raises:
            TraceError: It is none of these, or would take back what is known.
        """
        agreed, before = checked_consent(consent), self._keeping.consent
        if agreed is before:
            return
        if _FORWARD.index(agreed) < _FORWARD.index(before):
            raise TraceError(f"trace {self.trace_id!r}: {before} cannot become {agreed} any more")
        self._keeping.consent = agreed
        self._tell_stations()
        self._on_consent(self.trace_id, agreed)

    def pause_audio(self) -> None:
        """Keep and measure nothing from the next sample of every station on.

        For moments such as a card number. Time goes on: it becomes a gap ``masked``, which is no
        loss, whether blocks come meanwhile or not. Does no I/O, takes no lock, raises nothing.
        """
        self._keeping.is_paused = True
        self._tell_stations()

    def resume_audio(self) -> None:
        """Go on after ``pause_audio()`` with the next sample; harmless without a pause."""
        self._keeping.is_paused = False
        self._tell_stations()

    def _tell_stations(self) -> None:
        for station in tuple(self._stations.values()):
            station.set_keep(self._keeping.of(station.recording))
            self._follow(station)

    def _follow(self, station: Station) -> None:
        """Tell a station what has changed while it was told: another thread may pause or resume."""
        while (keep := self._keeping.of(station.recording)) != station.keep:
            station.set_keep(keep)

    def station(self, key: str, **options: object) -> Station:
        """Return a station of this call; the same object for the same key.

        Args:
            key: Such as ``St_3_3333``.
            options: What differs from its declaration: ``group``, ``direction``, ``kind``,
                ``pace``, ``rate``, ``encoding``, ``recording``, ``implements``, ``knobs``.

        Raises:
            ConfigError: An option is wrong, or there are too many stations.
        """
        if key not in self._stations:
            station = self._make_station(self.trace_id, key, options)
            # Before anybody can hand it a block.
            self._follow(station)
            self._stations[key] = station
            self._follow(station)
        return self._stations[key]

    def end(self) -> None:
        """Say that the call is over; returns at once. What still comes is refused and counted."""
        if self._is_over:
            return
        self._is_over = True
        for station in self._stations.values():
            station.pre_tap.close()
            station.post_tap.close()
        self._on_end(self.trace_id)

    def silence(self) -> None:
        """Forget whatever comes from now on: the child of a fork does not monitor."""
        for station in self._stations.values():
            station.pre_tap.silence()
            station.post_tap.silence()

    def __enter__(self) -> Self:
        """Return the trace."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the trace, however the block was left."""
        self.end()


class SilentStation(Station):
    """A station while monitoring is disabled: the chain runs, nothing is heard."""

    __slots__ = ()

    def __init__(self, key: str, rate: int, knobs: KnobValues) -> None:
        super().__init__(key, rate, knobs, clock=int)

    def set_keep(self, keep: Keep) -> None:
        """Keep nothing anyway."""
        self.keep = keep

    def pre(self, block: Block) -> Heard:  # noqa: ARG002 - the interface of a station
        """Hear nothing."""
        return (0, 0, 0)

    def post(self, block: Block, *, since: Heard | None = None) -> None:
        """Hear nothing."""

    def process(self, block: bytes, chain: Chain) -> Block:
        """Run the chain."""
        return chain(block, self.knobs)

    def observe(self, key: str, value: float, *, tap: str = "POST") -> None:
        """Report nothing."""

    def hold(self) -> None:
        """Say nothing."""

    def resume(self) -> None:
        """Say nothing."""


def made_id(started_ns: int, src: str) -> str:
    """Return the id of a call that the host gave none: its start, and who calls, masked.

    An extension that no id may hold, such as a SIP address, stands as 8 hex digits of its hash.
    """
    start = datetime.fromtimestamp(started_ns // 1_000_000 / 1_000, UTC)
    stamp = start.strftime("%Y-%m-%dT%H-%M-%S-") + f"{start.microsecond // 1_000:03d}Z"
    if not KEY_PATTERN.fullmatch(src) or len(src) > _LONGEST_EXTENSION:
        src = hashlib.sha256(src.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"trace_{stamp}_{src}"

"""A trace: one call with its stations, as the host holds it."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from exporter.knobs import KnobValues
from exporter.station import Chain, Heard, Station
from exporter.tap import Block

StationFactory = Callable[[str, str, dict[str, object]], Station]


class Trace:
    """One running call.

    Attributes:
        trace_id: Its id, as in SQL, file names and exemplars.
    """

    def __init__(
        self,
        trace_id: str,
        make_station: StationFactory,
        on_end: Callable[[str], None],
    ) -> None:
        self.trace_id = trace_id
        self._make_station = make_station
        self._on_end = on_end
        self._stations: dict[str, Station] = {}
        self._is_over = False

    def station(self, key: str, **options: object) -> Station:
        """Return a station of this call; the same object for the same key.

        Args:
            key: Such as ``St_3_3333``.
            options: What differs from its declaration: ``group``, ``direction``, ``kind``,
                ``pace``, ``rate``, ``encoding``, ``implements``, ``knobs``.

        Raises:
            ConfigError: An option is wrong, or there are too many stations.
        """
        if key not in self._stations:
            self._stations[key] = self._make_station(self.trace_id, key, options)
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

    def pre(self, block: Block) -> Heard:  # noqa: ARG002 - the interface of a station
        """Hear nothing."""
        return (0, 0, 0)

    def post(self, block: Block, *, since: Heard | None = None) -> None:
        """Hear nothing."""

    def process(self, block: bytes, chain: Chain) -> Block:
        """Run the chain."""
        return chain(block, self.knobs)

    def hold(self) -> None:
        """Say nothing."""

    def resume(self) -> None:
        """Say nothing."""

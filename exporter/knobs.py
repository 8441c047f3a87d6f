"""The knob registry: every knob with its type, default, range, unit and processing stage.

A knob is a setting of a station's processing that can be turned while a call runs. Which of them a
station obeys is the station's to say (``implements=``); all can be set, recorded and asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from exporter.errors import ConfigError, KnobError
from exporter.knob_table import KNOB_TYPES, SHIPPED_KNOBS, Knob
from exporter.model import KnobValue

MONITORING_KNOBS = frozenset(
    {
        "monitoring.metrics_enabled",
        "monitoring.audio_capture_enabled",
        "monitoring.pre_tap_enabled",
        "monitoring.post_tap_enabled",
        "monitoring.fft_analysis_enabled",
    }
)
"""The knobs that the monitor itself obeys, at every station."""


class KnobRegistry:
    """All knobs by key."""

    def __init__(self, knobs: Iterable[Knob]) -> None:
        self._by_key: dict[str, Knob] = {}
        for knob in knobs:
            self.register(knob)

    def register(self, knob: Knob) -> None:
        """Add a host's own knob; ConfigError when the key is taken or the default is not valid."""
        if knob.key in self._by_key:
            raise ConfigError(f"knob {knob.key!r} is registered twice")
        if knob.type not in KNOB_TYPES:
            raise ConfigError(
                f"knob {knob.key!r}: type {knob.type!r} is none of {list(KNOB_TYPES)}"
            )
        try:
            knob.check(knob.default)
        except KnobError as error:
            raise ConfigError(f"default of {error}") from None
        self._by_key[knob.key] = knob

    def __getitem__(self, key: str) -> Knob:
        """Return the entry of ``key``; KnobError for an unknown key."""
        try:
            return self._by_key[key]
        except (KeyError, TypeError):
            raise KnobError(f"unknown knob {key!r}; `monitoring knobs list` shows all") from None

    def __iter__(self) -> Iterator[Knob]:
        """Iterate over all knobs in the order of registration."""
        return iter(self._by_key.values())

    def __len__(self) -> int:
        """Return how many knobs there are."""
        return len(self._by_key)

    def __contains__(self, key: object) -> bool:
        """Tell whether ``key`` is registered."""
        return key in self._by_key

    def defaults(self) -> dict[str, KnobValue]:
        """Return the default of every knob."""
        return {knob.key: knob.default for knob in self}


def shipped_registry() -> KnobRegistry:
    """Return a fresh registry with the shipped knobs."""
    return KnobRegistry(SHIPPED_KNOBS)


class KnobValues(Mapping[str, KnobValue]):
    """All knobs in force at one place; immutable, so that it is read without a lock.

    Attributes:
        version: Rises with every change anywhere in the process.
    """

    __slots__ = ("_values", "version")

    def __init__(self, values: Mapping[str, KnobValue], version: int = 0) -> None:
        self._values = dict(values)
        self.version = version

    def __getitem__(self, key: str) -> KnobValue:
        """Return the value of ``key``; KeyError for an unknown key."""
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys in the order of the registry."""
        return iter(self._values)

    def __len__(self) -> int:
        """Return how many knobs there are."""
        return len(self._values)


__all__ = [
    "MONITORING_KNOBS",
    "SHIPPED_KNOBS",
    "Knob",
    "KnobRegistry",
    "KnobValues",
    "shipped_registry",
]

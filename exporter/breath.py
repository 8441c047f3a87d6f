"""Breathing: a busy thread lets the audio threads have the interpreter again and again."""

from __future__ import annotations

import time

EVERY_S = 0.000_5
PAUSE_S = 0.000_05


class Breath:
    """Pauses for a moment whenever half a millisecond of work has gone by.

    A thread that waits for the interpreter would otherwise wait for the switch interval, 5 ms,
    while this one runs Python; a lock that is let go of and taken again is not handed over.

    Args:
        every_s: Work between two pauses; infinite where nobody waits, as on a simulated clock.
    """

    def __init__(self, every_s: float = EVERY_S) -> None:
        self._every_s = every_s
        self._since = time.perf_counter()

    def take(self) -> None:
        """Pause, if it is time to."""
        if time.perf_counter() - self._since > self._every_s:
            time.sleep(PAUSE_S)
            self._since = time.perf_counter()

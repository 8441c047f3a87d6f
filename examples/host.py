"""The smallest host: a call of a few seconds through one station.

Run it with ``python examples/host.py``. It needs no database and no set-up: what the database does
not take waits in the spool, and ``MONITORING_ENABLED=false`` makes all of it a no-op.
"""

# ruff: noqa: INP001, T201 - a script, which prints
from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import soundfile

from archiver import Archiver
from deploy.speech import demo_speech
from exporter import Monitor, favour_audio
from exporter.processing import IMPLEMENTS, ReferenceChain

SECONDS = 3
BLOCK_MS = 20


def incoming(samples: npt.NDArray[np.int16], rate: int) -> Iterator[bytes]:
    """Yield blocks at the speed of a call, as a telephone line does."""
    size = rate * BLOCK_MS // 1_000
    started = time.monotonic()
    for first in range(0, min(len(samples), SECONDS * rate), size):
        due = started + (first + size) / rate
        time.sleep(max(0.0, due - time.monotonic()))
        yield samples[first : first + size].tobytes()


def main() -> None:
    """Play a call, and say what became of it."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    samples, rate = soundfile.read(demo_speech()[0], dtype="int16")
    blocks = incoming(samples, rate)
    played = bytearray()
    play = played.extend

    monitor = Monitor.from_env(archive=Archiver.from_env())
    with monitor:
        favour_audio()
        with monitor.start_trace("3333", "4444", attributes={"lang": "en-fr"}) as trace:
            station = trace.station("St_3_3333", rate=rate, implements=IMPLEMENTS)
            chain = ReferenceChain(rate)
            for block in blocks:
                play(station.process(block, chain))
        is_archived = monitor.flush(timeout=2.0)

    print(f"{trace.trace_id}: played {len(played) // 2} samples at {rate} Hz")
    if not monitor.settings.enabled:
        print("monitoring is off: the call was played, nothing was kept")
    elif is_archived:
        print(f"archived; see `monitoring traces show {trace.trace_id}`")
    else:
        print("the database does not answer: the numbers wait in the spool")


if __name__ == "__main__":
    main()

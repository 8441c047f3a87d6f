"""What a host may set for its whole process, so that its audio threads wait less.

The library offers it and never sets it by itself: it concerns everything in the process.
"""

from __future__ import annotations

import gc
import sys

SWITCH_INTERVAL_S = 0.000_5


def favour_audio() -> None:
    """Let audio threads wait less for the others; once, when all is started and before calls come.

    Two things make a thread wait that has nothing to do with what it does. Python's full garbage
    collection walks through everything that lives, most of it modules, while no thread runs: what
    lives now is exempted (``gc.freeze``; garbage is collected before). And a thread that wants the
    interpreter gets it after 5 ms of another's Python: from now on, after half a millisecond
    (``sys.setswitchinterval``).
    """
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(SWITCH_INTERVAL_S)

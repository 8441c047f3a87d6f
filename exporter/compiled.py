"""Loops over samples as machine code.

A loop that is decorated here is compiled by numba and runs without the interpreter's lock, so that
an audio thread never waits for it. Compiling takes the interpreter for seconds, so it is done by
``prepare``, before calls come, and never while they run: a loop that is prepared takes the types it
was declared for and no others. The machine code is kept in a cache for this processor, beside the
source or, where that is not writable, in the user's cache (``NUMBA_CACHE_DIR`` names another).

numba looks at one file to tell whether what it kept is still good: a loop calls loops of its own
module only. In a loop, an index that is not the variable of a ``range`` may be negative for all
that numba knows, which costs the vector instructions: take a slice, and index that from 0.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, ParamSpec, TypeVar, cast

from numba import njit, types

_log = logging.getLogger(__name__)

_P = ParamSpec("_P")
_R = TypeVar("_R")

# Sums may be taken in any order and divisions turned into products; NaN and infinity stay.
_FAST = {"arcp", "contract", "nsz", "reassoc"}
_machine_code = njit(nogil=True, error_model="numpy", fastmath=_FAST)

_waiting: list[tuple[Any, Any]] = []
_lock = threading.Lock()


def read_only(element: Any, dimensions: int = 1) -> Any:
    """Return the type of an array without holes that a loop reads: it may be of constant bytes."""
    return types.Array(element, dimensions, "C", readonly=True)


def compiled(signature: Any) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Let a function be called as machine code, from Python.

    Args:
        signature: numba's types of result and arguments, such as ``void(float32[::1], int64)``.
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        loop = _machine_code(function)
        _waiting.append((loop, signature))
        return cast(Callable[_P, _R], loop)

    return decorate


def inlined(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let a function be part of the compiled ones of its module, and of them alone."""
    return cast(Callable[_P, _R], _machine_code(function))


def prepare() -> None:
    """Have the machine code of all loops ready; the first time on a machine this takes long."""
    with _lock:
        started, is_told = monotonic(), False
        while _waiting:
            loop, signature = _waiting[-1]
            _keep(loop)
            loop.compile(signature)
            loop.disable_compile()
            if loop.stats.cache_misses and not is_told and len(_waiting) > 1:
                is_told = True
                _log.warning(
                    "compiling the analysis for this processor; once for an installation, and "
                    "before calls are measured"
                )
            _waiting.pop()
        if is_told:
            _log.warning("the analysis is compiled, in %.0f s", monotonic() - started)


def _keep(loop: Any) -> None:
    """Use the cache, where there is a folder for it."""
    try:
        loop.enable_caching()
    except RuntimeError:
        _log.warning(
            "no folder to keep compiled loops in, so that each start compiles them anew; set "
            "NUMBA_CACHE_DIR to one that this process can write"
        )

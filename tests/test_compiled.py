"""Compiled loops: kept for the next start, closed to other types, free of the global lock."""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest
from numba.core.dispatcher import Dispatcher

import exporter
from exporter import compiled
from exporter.analysis import timedomain

_ROOT = Path(__file__).parent.parent
# One loop is enough to see what becomes of it; this module stands for one of the analysis.
_MODULE = """
import logging, sys
import numpy as np
from numba import float64, int16, int64
from exporter.compiled import compiled, inlined, prepare, read_only

@inlined
def _square(value):
    return value * value

@compiled(float64(read_only(int16)))
def energy(samples):
    total = 0.0
    for at in range(samples.size):
        total += _square(float(samples[at]))
    return total

@compiled(int64(int64))
def spin(rounds):
    total = 0
    for turn in range(rounds):
        total ^= turn * turn
    return total
"""
_START = """
logging.basicConfig(level=logging.INFO, format="%(message)s")
prepare()
print(energy(np.frombuffer(b"\\1\\0\\2\\0", np.int16)), len(energy.signatures))
"""


def start(folder: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    """Start a process that prepares the loops above and uses one."""
    (folder / "loops.py").write_text(_MODULE, encoding="utf-8")
    (folder / "main.py").write_text(f"from loops import *\nfrom loops import logging\n{_START}")
    environment = os.environ | {
        "NUMBA_CACHE_DIR": str(cache),
        "PYTHONPATH": os.pathsep.join((str(folder), str(_ROOT))),
    }
    return subprocess.run(
        [sys.executable, str(folder / "main.py")],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    )


def test_first_start_says_that_it_compiles_and_the_next_takes_what_was_kept(
    tmp_path: Path,
) -> None:
    """Somebody who waits is told why; who starts again does not wait."""
    cache = tmp_path / "cache"

    first, second = start(tmp_path, cache), start(tmp_path, cache)

    assert "compiling the analysis for this processor" in first.stderr
    assert re.search(r"is compiled, in \d+ s", first.stderr)
    assert second.stderr == ""
    assert first.stdout.splitlines()[0] == second.stdout.splitlines()[0] == "5.0 1"
    assert list(cache.rglob("*.nbi"))


def test_loop_that_is_prepared_refuses_other_types() -> None:
    """Nothing is compiled while calls run: that would hold the interpreter for seconds."""
    loop = cast("Dispatcher[Any]", timedomain._measure)

    with pytest.raises(TypeError, match="No matching definition"):
        loop("text", -50.0, "text")


def all_modules() -> list[ModuleType]:
    """Import every module of the exporter."""
    return [
        importlib.import_module(info.name)
        for info in pkgutil.walk_packages(exporter.__path__, "exporter.")
    ]


def called_loops(loop: Dispatcher[Any]) -> list[Dispatcher[Any]]:
    """Return the loops that are named in one."""
    function = loop.py_func
    named = [function.__globals__.get(name) for name in function.__code__.co_names]
    return [each for each in named if isinstance(each, Dispatcher)]


@pytest.mark.parametrize("module", all_modules(), ids=lambda module: module.__name__)
def test_loops_call_loops_of_their_own_module_only(module: ModuleType) -> None:
    """What is kept of a loop is thrown away when its own file changes, and no other."""
    loops = [each for each in vars(module).values() if isinstance(each, Dispatcher)]
    own = [each for each in loops if each.py_func.__module__ == module.__name__]
    called = [each for loop in own for each in called_loops(loop)]

    assert {each.py_func.__module__ for each in called} <= {module.__name__}


def test_a_loop_of_another_module_would_be_noticed() -> None:
    """The check above sees what a loop calls."""
    assert called_loops(cast("Dispatcher[Any]", timedomain._measure))


def test_loop_runs_without_the_interpreters_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a loop runs, Python of another thread goes on."""
    (tmp_path / "loops.py").write_text(_MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    loops = importlib.import_module("loops")
    compiled.prepare()
    counted = 0
    runner = threading.Thread(target=loops.spin, args=(2 * 10**9,))
    runner.start()
    while runner.is_alive() and counted < 10_000:
        counted += 1
    runner.join()
    monkeypatch.delitem(sys.modules, "loops")

    assert counted == 10_000


def test_where_nothing_can_be_kept_it_is_compiled_all_the_same() -> None:
    """Nobody can write below /proc: the loops are there, and the log says what to do."""
    done = subprocess.run(
        [sys.executable, "-c", _MODULE + _START],
        check=True,
        capture_output=True,
        text=True,
        cwd="/proc",
        env=os.environ | {"HOME": "/proc", "XDG_CACHE_HOME": "/proc", "PYTHONPATH": str(_ROOT)},
    )

    assert done.stdout.startswith("5.0 1")
    assert "set NUMBA_CACHE_DIR to one that this process can write" in done.stderr

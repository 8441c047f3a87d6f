"""The drill-down page as a process: of its own, or beside the demo for as long as that lives."""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from archiver.drilldown import serve
from deploy.config import child_environment
from exporter.config import Settings

START_S = 15.0
STOP_S = 5.0
_LOOK_S = 1.0


def run_serve(arguments: argparse.Namespace, settings: Settings) -> int:
    """Serve the drill-down until Ctrl-C or SIGTERM."""
    if arguments.host is not None:
        settings = replace(settings, serve_host=arguments.host)
    if arguments.port is not None:
        settings = replace(settings, serve_ports=(arguments.port,))
    # To end on SIGTERM is what was asked for: exit code 0, and not "killed".
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if arguments.parent is not None:
        watch = threading.Thread(
            target=_end_with, args=(arguments.parent,), name="monitoring-parent", daemon=True
        )
        watch.start()

    def announce(address: str) -> None:
        text = json.dumps({"address": address}) if arguments.json else f"drill-down at {address}"
        print(text, flush=True)

    serve(settings, on_ready=announce)
    return 0


@contextmanager
def drilldown_process(settings: Settings) -> Iterator[str]:
    """Serve from a child process for the time of the block.

    Yields:
        The address; empty when the child did not start, and it has said why.
    """
    command = [sys.executable, "-m", "deploy.cli", "serve", "--json", "--parent", str(os.getpid())]
    with subprocess.Popen(
        command,
        env=child_environment(settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl-C in the terminal is for us: the page goes when the calls are archived.
        start_new_session=True,
    ) as process:
        try:
            yield _address(process)
        finally:
            _stop(process)


def _address(process: subprocess.Popen[str]) -> str:
    """Return what the child says when it accepts connections."""
    if process.stdout is None or not select.select([process.stdout], [], [], START_S)[0]:
        return ""
    line = process.stdout.readline()
    return str(json.loads(line)["address"]) if line else ""


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()


def _end_with(parent: int) -> None:
    """End this process when the one that started it is gone, however that ended."""
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os.kill(os.getpid(), signal.SIGTERM)

"""What Grafana would ask: a running demo, a real Prometheus that scrapes it, and its archive."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from archiver.reader import reader
from dashboards.boards import all_boards
from dashboards.expansion import View, begin_of
from dashboards.filling import fill
from dashboards.model import Board
from deploy.dashboards import Live
from deploy.postgres import free_port
from tests.fix_prometheus import program

ROOT = Path(__file__).parents[1]
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Grafana:
    """Everything that Grafana would have.

    Attributes:
        conninfo: The archive, as its superuser.
        live: Asks both sources, the archive with the reader's rights.
    """

    conninfo: str
    live: Live

    def view(self, board: Board) -> View:
        """Return what somebody sees who opens a board now."""
        end = datetime.now(UTC)
        return fill(board, View(begin_of(board, end), end), self.live)


@pytest.fixture(scope="session")
def grafana(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grafana]:
    """Yield a demo of two calls, half a minute old, in which a knob was turned."""
    program("prometheus")
    folder = tmp_path_factory.mktemp("grafana")
    with ExitStack() as stack:
        page, conninfo = stack.enter_context(_demo(folder / "demo"))
        prometheus = stack.enter_context(run_prometheus(page, folder))
        archive = stack.enter_context(reader(conninfo))
        live = Live(archive, prometheus)
        # Three buckets with speech on both sides of the change that the demo makes after 8 s.
        wait_for(lambda: _has_speech_after(conninfo))
        yield Grafana(conninfo, live)


@contextmanager
def _demo(folder: Path) -> Iterator[tuple[str, str]]:
    """Run the demo; yield host and port of its page, and how to reach its archive."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "deploy.cli", "demo", "--calls", "2", "--data", str(folder)],
        env=os.environ | {"MONITORING_METRICS_PORT": "19464-19999", "COLUMNS": "300"},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            said = ""
            assert process.stdout is not None
            for line in process.stdout:
                said += line
                found = re.search(r"http://(\S+)/metrics.*psql '([^']+)'", said, re.DOTALL)
                if found:
                    yield found[1], found[2]
                    return
            raise AssertionError(said)
        finally:
            process.terminate()
            process.communicate(timeout=60)


@contextmanager
def run_prometheus(target: str, folder: Path) -> Iterator[str]:
    """Run a Prometheus that scrapes a page every second and keeps exemplars; yield its address."""
    port = free_port()
    scrape = {"job_name": "monitoring", "static_configs": [{"targets": [target]}]}
    settings = {"global": {"scrape_interval": "1s"}, "scrape_configs": [scrape]}
    (folder / "prometheus.yml").write_text(json.dumps(settings), encoding="utf-8")
    command = [
        program("prometheus"),
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/tsdb",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def _has_speech_after(conninfo: str) -> bool:
    query = (
        "SELECT count(*) >= 3 FROM knob_events e "
        "JOIN metrics_agg_5s m USING (trace_id, station_key) "
        "WHERE m.metric_key = 'pair.gain_db' AND m.bucket_ts > e.created_at"
    )
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(query).fetchone()
    return bool(row and row[0])


def wait_for(is_done: Callable[[], Any]) -> Any:
    """Ask until the answer is true; return it."""
    time_limit = time.monotonic() + _PATIENCE_S
    while not (found := is_done()):
        assert time.monotonic() < time_limit, "it did not happen in time"
        time.sleep(0.2)
    return found


BOARDS = all_boards()

__all__ = ["BOARDS", "ROOT", "Grafana", "grafana", "run_prometheus", "wait_for"]

"""What an hour of one trace takes: files, rows, bytes, CPU time. For docs/sizing.md.

Calls on a simulated clock, two stations with two taps each at 16 kHz, through monitor and archiver
into a real PostgreSQL; first with the database away, so that all rows wait in the spool, then the
spool is uploaded. What is counted is divided by the hours of calls.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
from psycopg import sql

from archiver import Archiver
from archiver.migrations import create_database, migrate
from benchmarks.exporter import STATIONS, Clock, play
from benchmarks.report import machine
from deploy.config import postgres_bin_dir
from deploy.postgres import EmbeddedPostgres
from exporter import Clocks, Monitor
from exporter.config import Settings, load_settings
from exporter.model import Record

RESULT = Path(__file__).with_name("SIZING.json")
PAGE = Path(__file__).parents[1] / "docs" / "sizing.md"
BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"
AWAY = "host=127.0.0.1 port=1 dbname=none"
BACKLOG = 200
CALLS = (1, 10, 50, 150)
HOURS = 72.0
TABLES = ("metrics_agg_5s", "tap_buckets_5s", "audio_segments_5s", "knob_snapshots_5s")
_UPLOAD_S = 300.0
_SIZES = """
SELECT p.relname, sum(pg_total_relation_size(i.inhrelid))::bigint
FROM pg_class p JOIN pg_inherits i ON i.inhparent = p.oid WHERE p.relname = ANY(%s) GROUP BY 1
"""

Result = dict[str, float]


class Patient:
    """An archive that makes the simulated host wait, which runs faster than any real one."""

    def __init__(self, archiver: Archiver) -> None:
        self._archiver = archiver

    def offer(self, record: Record) -> None:
        """Hand on, when there is room."""
        while self._archiver.backlog > BACKLOG:
            time.sleep(0.002)
        self._archiver.offer(record)


def measure(traces: int = 10, seconds: float = 180.0) -> Result:
    """Run calls and count.

    Args:
        traces: How many calls at a time.
        seconds: Length of each, a multiple of 5.

    Returns:
        By name, for one hour of one trace: ``audio_files``, ``audio_bytes``, ``spool_bytes``;
        ``rows.<table>`` and ``bytes.<table>`` with indexes; ``wal_bytes``; and CPU time in s,
        ``cpu.exporter``, ``cpu.archiver`` and ``cpu.postgresql``.
    """
    hours = traces * seconds / 3_600
    with (
        tempfile.TemporaryDirectory() as name,
        EmbeddedPostgres(bin_dir=postgres_bin_dir()) as server,
    ):
        folder, conninfo = Path(name), server.conninfo("monitoring_v2")
        create_database(conninfo)
        migrate(conninfo)
        here = replace(load_settings({}), audio_path=folder / "audio", spool_path=folder / "spool")
        found = _heard(replace(here, db=AWAY), traces, seconds)
        wal, pid = _wal_bytes(conninfo), server.pid or 0
        cpu = _cpu_of(pid)
        found["cpu.archiver"] += _upload(replace(here, db=conninfo))
        found["cpu.postgresql"] = _cpu_of(pid) - cpu
        found["wal_bytes"] = _wal_bytes(conninfo) - wal
        found |= _tables(conninfo)
    return {name: count / hours for name, count in found.items()}


def _heard(settings: Settings, traces: int, seconds: float) -> Result:
    """Play the calls into files and spool."""
    clock = Clock()
    limits = replace(settings.limits, pair_load=1e9)  # all pairs, as a machine with room does
    with _archiver(settings) as archiver:
        monitor = Monitor(
            replace(settings, limits=limits),
            archive=Patient(archiver),
            clocks=Clocks(clock, clock),
            has_thread=False,
        )
        monitor.start()
        calls = [monitor.start_trace("3333", trace_id=f"call_{n}") for n in range(traces)]
        stations = [call.station(key) for call in calls for key in STATIONS]
        others = _others_s()
        exporter_s = play(monitor, clock, stations, seconds)
        for call in calls:
            call.end()
        monitor.step()
        monitor.stop()
        while archiver.accounting()["queued"]:
            time.sleep(0.01)
        archiver_s = _others_s() - others
    files = [path.stat() for path in settings.audio_path.rglob("*.wav")]
    batches = [path.stat().st_size for path in settings.spool_path.rglob("*.batch")]
    return {
        "audio_files": len(files),
        "audio_bytes": sum(512 * file.st_blocks for file in files),
        "spool_bytes": sum(batches),
        "cpu.exporter": exporter_s,
        "cpu.archiver": archiver_s,
    }


def _upload(settings: Settings) -> float:
    """Upload what waits; return the CPU time that it took this process."""
    others = _others_s()
    with _archiver(settings) as archiver:
        archiver.wait_until_adopted()
        if not archiver.flush(_UPLOAD_S):
            raise TimeoutError(f"not all is in the database after {_UPLOAD_S:.0f} s")
        return _others_s() - others


def _wal_bytes(conninfo: str) -> float:
    with psycopg.connect(conninfo) as connection:
        (written,) = connection.execute("SELECT pg_current_wal_lsn() - '0/0'").fetchall()[0]
    return float(written)


def _tables(conninfo: str) -> Result:
    """Return rows and bytes of the tables that grow with the length of calls."""
    found: Result = {}
    with psycopg.connect(conninfo) as connection:
        for table, size in connection.execute(_SIZES, [list(TABLES)]).fetchall():
            query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))
            (rows,) = connection.execute(query).fetchall()[0]
            found |= {f"rows.{table}": rows, f"bytes.{table}": float(size)}
    return found


@contextmanager
def _archiver(settings: Settings) -> Iterator[Archiver]:
    archiver = Archiver(settings, has_retention=False)
    archiver.start()
    try:
        yield archiver
    finally:
        archiver.stop(10.0)


def _others_s() -> float:
    """Return the CPU time of all threads but this one."""
    return time.process_time() - time.thread_time()


def _cpu_of(pid: int) -> float:
    """Return the CPU time of a process and of all that it has started, in s."""
    ticks, parents = dict[int, int](), dict[int, int]()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            values = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        child = int(path.parent.name)
        # utime, stime and those of children that have ended.
        parents[child], ticks[child] = int(values[1]), sum(map(int, values[11:15]))
    ours = {pid} | {child for child, parent in parents.items() if parent == pid}
    return sum(ticks[each] for each in ours) / os.sysconf("SC_CLK_TCK")


def tables(result: Result) -> str:
    """Render what docs/sizing.md shows: one hour of one trace, then calls at a time for 72 h."""
    sizes = {name: value for name, value in result.items() if name.startswith("bytes.")}
    database, cpu = sum(sizes.values()), {k: v for k, v in result.items() if k.startswith("cpu.")}
    lines = ["| one hour of one trace | rows or files | MB |", "|---|---|---|"]
    lines.append(_line("WAV files", result["audio_files"], result["audio_bytes"]))
    for name, size in sorted(sizes.items(), key=lambda item: -item[1]):
        table = name.removeprefix("bytes.")
        lines.append(_line(f"`{table}`", result[f"rows.{table}"], size))
    lines.append(_line("written ahead (WAL)", None, result["wal_bytes"]))
    lines.append(_line("spool, while the database is away", None, result["spool_bytes"]))
    lines += ["", "| one hour of one trace | CPU time |", "|---|---|"]
    lines += [f"| {name.removeprefix('cpu.')} | {seconds:.1f} s |" for name, seconds in cpu.items()]
    lines += ["", f"| calls at a time | sound, {HOURS:.0f} h | files | database, {HOURS:.0f} h |"]
    lines[-1] += " spool, 1 h away | cores |"
    lines.append("|---|---|---|---|---|---|")
    for calls in CALLS:
        hours = calls * HOURS
        cells = (
            f"{calls}",
            f"{hours * result['audio_bytes'] / 1e9:,.0f} GB",
            f"{hours * result['audio_files']:,.0f}",
            f"{hours * database / 1e9:,.1f} GB",
            f"{calls * result['spool_bytes'] / 1e6:,.0f} MB",
            f"{calls * sum(cpu.values()) / 3_600:.2f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _line(what: str, count: float | None, size: float) -> str:
    shown = "" if count is None else f"{count:,.0f}"
    return f"| {what} | {shown} | {size / 1e6:,.2f} |"


def write(result: Result, path: Path = RESULT, page: Path = PAGE) -> None:
    """Write the result, and the tables into the page."""
    rounded = {name: round(value, 3) for name, value in sorted(result.items())}
    content = {"per_trace_hour": rounded, "machine": machine().splitlines()}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    page.write_text(with_tables(page.read_text(encoding="utf-8"), rounded), encoding="utf-8")


def with_tables(page: str, result: Result) -> str:
    """Return a page with its measured part replaced."""
    block = f"{BEGIN}{tables(result)}{END}"
    return re.sub(f"{BEGIN}.*?{END}", lambda _: block, page, flags=re.DOTALL)

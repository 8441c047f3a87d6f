"""The demo: calls through two stations on this machine, with everything real around them."""

from __future__ import annotations

import logging
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from archiver import Archiver
from archiver.migrations import create_database, migrate
from archiver.queries import TapSummary, summarise
from archiver.web.signing import KEY_FILE
from deploy.config import postgres_bin_dir
from deploy.postgres import EmbeddedPostgres
from deploy.recordings import read_recording
from deploy.serve import drilldown_process
from deploy.speech import demo_speech
from exporter import Monitor, Station, Trace
from exporter.config import Settings
from exporter.keyfile import make_key
from exporter.processing import IMPLEMENTS, ReferenceChain

_log = logging.getLogger(__name__)

BLOCK_S = 0.02
TURN_AFTER_S = 8.0
TURNED = ("pcm.input_gain_db", 12.0)
STATIONS = ("St_3_3333", "St_3_4444")
REPORT_TICKS = 50
FLUSH_S = 30.0


@dataclass(slots=True)
class Line:
    """One direction of a call: a station, its chain, and speech that goes round."""

    station: Station
    chain: ReferenceChain
    pcm: bytes
    block_bytes: int
    position: int = 0

    def play(self) -> None:
        """Pass the next 20 ms through the station."""
        block = self.pcm[self.position : self.position + self.block_bytes]
        self.position = (self.position + self.block_bytes) % (len(self.pcm) - self.block_bytes)
        self.station.process(block, self.chain)

    def report(self, rng: random.Random) -> None:
        """Report what a host would know of vendors and network; simulated, as the calls are."""
        values = {
            "stt.confidence_score": rng.betavariate(18, 2),
            "stt.input_latency": rng.lognormvariate(5.7, 0.3),
            "tts.synthesis_latency": rng.lognormvariate(5.2, 0.3),
            "tts.prosody_stability": rng.betavariate(12, 3),
            "rtp.packet_loss_rate": max(0.0, rng.gauss(0.2, 0.3)),
            "rtp.jitter": rng.lognormvariate(1.5, 0.4),
        }
        for key, value in values.items():
            self.station.observe(key, value)


def run_demo(  # noqa: PLR0913 - keyword-only, all of it what a demo may be told
    settings: Settings,
    *,
    duration_s: float | None,
    calls: int,
    data: Path | None,
    speech: tuple[Path, ...] = (),
    has_own_database: bool = True,
) -> int:
    """Run calls until the time is over or somebody presses Ctrl-C; return the exit code.

    Args:
        settings: Ports and limits; paths are the demo's own, unless rows go into a database that
            stays: then so does the sound, where it always is.
        duration_s: How long; None for as long as nobody stops it.
        calls: How many at the same time.
        data: Folder for database, audio and spool that is kept; None for one that is removed.
        speech: One or two recordings; the demo's own unless given.
        has_own_database: Whether it starts PostgreSQL; else it uses that of the settings.
    """
    console = Console()
    with ExitStack() as stack:
        folder = data or Path(tempfile.mkdtemp(prefix="monitoring-demo-"))
        if data is None:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        conninfo, version = settings.db, "of MONITORING_DB"
        if has_own_database:
            console.print("starting PostgreSQL ...", style="dim")
            server = stack.enter_context(_server(data))
            conninfo, version = server.conninfo(), server.version
        own = _own_settings(settings, conninfo, folder)
        if data is None and not has_own_database:
            # Rows that stay want their sound to stay.
            own = replace(own, audio_path=settings.audio_path, spool_path=settings.spool_path)
        create_database(own.db)
        migrate(own.db)
        archive = Archiver(own)
        monitor = stack.enter_context(Monitor(own, archive=archive))
        traces, lines = _start_calls(monitor, calls, speech or demo_speech())
        shown = replace(own, metrics_ports=(monitor.port or own.metrics_ports[0],))
        address = stack.enter_context(drilldown_process(shown))
        _announce(console, shown, address, version)
        with _stop_signals() as stopped:
            _play(monitor, traces, lines, duration_s, stopped)
        for trace in traces:
            trace.end()
        console.print("archiving what was heard ...", style="dim")
        is_archived = monitor.flush(FLUSH_S)
        _summarise(console, own, traces, archive)
        return 0 if is_archived else 1


def _server(data: Path | None) -> EmbeddedPostgres:
    kept = data / "postgres" if data else None
    return EmbeddedPostgres(kept, bin_dir=postgres_bin_dir(), fsync=data is not None)


def _own_settings(settings: Settings, conninfo: str, folder: Path) -> Settings:
    make_key(folder / KEY_FILE)
    return replace(
        settings,
        enabled=True,
        db=conninfo,
        audio_path=folder / "audio",
        spool_path=folder / "spool",
        targets_path=folder,
        metrics_ports=_some_ports(settings.metrics_ports),
        serve_ports=_some_ports(settings.serve_ports),
        signing_key_file=folder / KEY_FILE,
    )


def _some_ports(ports: tuple[int, ...]) -> tuple[int, ...]:
    """Return ports of which one will be free: the demo runs beside other hosts of ours."""
    return tuple(range(ports[0], ports[0] + 16)) if len(ports) == 1 else ports


def _start_calls(
    monitor: Monitor, calls: int, speech: tuple[Path, ...]
) -> tuple[list[Trace], list[Line]]:
    recordings = [read_recording(path) for path in (speech[0], speech[-1])]
    traces: list[Trace] = []
    lines: list[Line] = []
    for number in range(calls):
        trace = monitor.start_trace(
            "3333",
            "4444",
            attributes={"lang": "en-fr", "demo": True},
            trace_id=None if calls == 1 else f"demo_{time.time_ns() // 1_000_000}_{number + 1}",
        )
        trace.set_attribute("asterisk.channel_state", "Up")
        traces.append(trace)
        for key, (samples, rate) in zip(STATIONS, recordings, strict=True):
            station = trace.station(key, rate=rate, implements=sorted(IMPLEMENTS))
            pcm = samples.astype("<i2").tobytes()
            size = round(BLOCK_S * rate) * 2
            # Calls do not speak in chorus.
            offset = number * 7_919 * 2 % (len(pcm) - size) // 2 * 2
            lines.append(Line(station, ReferenceChain(rate), pcm, size, offset))
    return traces, lines


def _play(
    monitor: Monitor,
    traces: list[Trace],
    lines: list[Line],
    duration_s: float | None,
    stopped: list[int],
) -> None:
    """Keep 20 ms time; turn a knob in the middle."""
    begun = time.monotonic()
    turn_at = TURN_AFTER_S if duration_s is None else min(TURN_AFTER_S, duration_s / 2)
    is_turned = False
    tick, rng = 0, random.Random(1)  # noqa: S311 - simulated measurements
    while not stopped and (duration_s is None or tick * BLOCK_S < duration_s):
        for line in lines:
            line.play()
        if tick % REPORT_TICKS == 0:
            for line in lines:
                line.report(rng)
        tick += 1
        if not is_turned and tick * BLOCK_S >= turn_at:
            is_turned = True
            _turn_knob(monitor, traces[0])
        time.sleep(max(0.0, begun + tick * BLOCK_S - time.monotonic()))


def _turn_knob(monitor: Monitor, trace: Trace) -> None:
    key, value = TURNED
    monitor.knobs.set(
        key,
        value,
        by="demo",
        reason="the English side is too quiet",
        trace_id=trace.trace_id,
        station_key=STATIONS[0],
    )


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Gather Ctrl-C and SIGTERM instead of dying of them."""
    stopped: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        stopped.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _announce(console: Console, settings: Settings, address: str, version: str) -> None:
    console.print(f"\n[bold]monitoring demo[/bold], PostgreSQL {version}, process {os.getpid()}")
    console.print(f"  drill-down     {address or 'did not start'}")
    console.print(
        f"  live metrics   http://{settings.metrics_host}:{settings.metrics_ports[0]}/metrics"
    )
    console.print(f"  SQL            psql '{settings.db}'", soft_wrap=True)
    console.print(f"  audio          {settings.audio_path}", soft_wrap=True)
    console.print("  Ctrl-C ends it.\n")


def _summarise(
    console: Console, settings: Settings, traces: list[Trace], archive: Archiver
) -> None:
    for trace in traces[:5]:
        console.print(summary_table(trace.trace_id, summarise(settings.db, trace.trace_id)))
    console.print(f"samples: {archive.accounting()}", style="dim")
    example = (
        "SELECT bucket_ts, tap, round(avg::numeric, 1) AS rms_dbfs FROM metrics_agg_5s\n"  # noqa: S608 - to be read
        f"  WHERE trace_id = '{traces[0].trace_id}' AND station_key = '{STATIONS[0]}'\n"
        "  AND metric_key = 'pcm.rms_dbfs' ORDER BY bucket_ts, tap DESC;"
    )
    console.print(
        "\nTo see the level before and after the station (run with --data DIR to keep it):"
    )
    console.print(f"  {example}", highlight=False, soft_wrap=True)


def summary_table(title: str, taps: list[TapSummary]) -> Table:
    """Return what was archived of a call, a line for each tap; it fits 80 columns."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for name in ("station", "tap"):
        table.add_column(name)
    numbers = ("buckets", "samples due", "heard", "missing", "WAV files", "aggregates")
    for name in numbers:
        # A number in two lines is none; the names may take two.
        table.add_column(name.replace(" ", "\n"), justify="right", no_wrap=True)
    for tap in taps:
        due, received = tap.due_samples or 0, tap.received_samples or 0
        table.add_row(
            tap.station_key,
            tap.tap,
            f"{tap.buckets:,}",
            f"{due:,}",
            f"{100 * received / max(1, due):.0f} %",
            f"{tap.gap_samples:,}",
            f"{tap.segments:,}",
            f"{tap.metric_rows:,}",
        )
    return table

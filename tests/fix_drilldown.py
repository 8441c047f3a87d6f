"""An archive with two calls of the demo's speech, one of them spoiled, and the page for them.

It is made once for the run; tests that change anything make calls of their own.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

import httpx
import numpy as np
import numpy.typing as npt
import psycopg
import pytest
import soundfile
from starlette.applications import Starlette

from archiver import Archiver
from archiver.drilldown import build_server, create_app
from archiver.migrations import create_database, migrate
from archiver.times import BUCKET, bucket_start
from deploy.postgres import HOST, EmbeddedPostgres
from deploy.replay import NS, SimulatedClock
from deploy.speech import demo_speech
from exporter import Clocks, Monitor
from exporter.aggregates import Aggregates
from exporter.config import Settings, load_settings
from exporter.model import (
    Bucket,
    Cause,
    EndReason,
    Gap,
    KnobValue,
    Run,
    Tap,
    TapBucket,
    TraceEnded,
    TraceStarted,
)
from exporter.processing import IMPLEMENTS, ReferenceChain

STATION = "St_3_3333"
GOOD, BAD, SMALL = "call_good", "call_bad", "call_small"
RATE = 16_000
SECONDS = 34
STARTS_IN_BUCKET = timedelta(seconds=2.1)
TURNED_AT_S = 12
STALLED_AT_S, STALL_S = 22, 1
SPOILS: dict[str, KnobValue] = {
    "limiter.enabled": False,
    "safety.clipping_protection": False,
    "safety.max_output_level_dbfs": 0.0,
    "noise_gate.enabled": True,
    "noise_gate.threshold_dbfs": -20.0,
    "pcm.input_gain_db": 24.0,
}
_BLOCK = RATE // 50
_PATIENCE_S = 30.0

Samples = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Played:
    """A call as it was played.

    Attributes:
        trace_id: Its id.
        start: Time of its first sample.
        fed: What was fed to PRE; zeros where a stall was.
    """

    trace_id: str
    start: datetime
    fed: Samples = field(repr=False)

    @property
    def first_bucket(self) -> datetime:
        """Start of the bucket of the first sample."""
        return bucket_start(self.start)


@dataclass(frozen=True, slots=True)
class Drilldown:
    """A filled archive and the address where it is shown."""

    settings: Settings
    calls: dict[str, Played]
    address: str

    def client(self, **headers: str) -> httpx.Client:
        """Return a client on this machine."""
        return httpx.Client(base_url=self.address, headers=headers, timeout=30)

    def query(self, statement: str) -> list[tuple[object, ...]]:
        """Ask the database as its owner."""
        with psycopg.connect(self.settings.db) as connection:
            return connection.execute(statement.encode()).fetchall()


def settings_for(conninfo: str, folder: Path) -> Settings:
    """Return settings with everything below `folder`; no host answers at the metrics port."""
    key_file = folder / "signing.key"
    key_file.write_bytes(b"0123456789abcdef" * 4)
    key_file.chmod(0o600)
    return replace(
        load_settings({}),
        db=conninfo,
        audio_path=folder / "audio",
        spool_path=folder / "spool",
        targets_path=folder,
        metrics_ports=(1,),
        signing_key_file=key_file,
    )


def fill(settings: Settings, now: datetime) -> dict[str, Played]:
    """Play both calls into an archive with an empty database; they ended before `now`."""
    create_database(settings.db)
    migrate(settings.db)
    archive = Archiver(settings, has_retention=False)
    start = bucket_start(now) - 24 * BUCKET + STARTS_IN_BUCKET
    speech = _speech()
    calls = [
        play(settings, archive, Played(GOOD, start, speech)),
        play(settings, archive, Played(BAD, start + 6 * BUCKET, speech), spoils=SPOILS),
    ]
    assert archive.flush(_PATIENCE_S)
    archive.stop(timeout=5.0)
    return {call.trace_id: call for call in calls}


def play(
    settings: Settings,
    archive: Archiver,
    call: Played,
    *,
    spoils: dict[str, KnobValue] | None = None,
) -> Played:
    """Play a call through a station; with `spoils`, knobs are turned and a second is lost."""
    start_ns = int(call.start.timestamp() * 1_000_000) * 1_000
    clock = SimulatedClock(start_ns)
    monitor = Monitor(settings, archive=archive, clocks=Clocks(clock, clock), has_thread=False)
    monitor.start()
    trace = monitor.start_trace(
        "3333", "4444", trace_id=call.trace_id, attributes={"lang": "en-fr"}
    )
    station = trace.station(STATION, rate=RATE, implements=sorted(IMPLEMENTS))
    chain = ReferenceChain(RATE)
    fed = call.fed.copy()
    for number, at in enumerate(range(0, len(fed), _BLOCK)):
        clock.now_ns = start_ns + (at + _BLOCK) * NS // RATE
        if spoils and at == TURNED_AT_S * RATE:
            for key, value in spoils.items():
                monitor.knobs.set(
                    key,
                    value,
                    by="alice",
                    reason="too quiet",
                    trace_id=call.trace_id,
                    station_key=STATION,
                )
        if spoils and STALLED_AT_S <= at / RATE < STALLED_AT_S + STALL_S:
            fed[at : at + _BLOCK] = 0
        else:
            station.process(fed[at : at + _BLOCK].astype("<i2").tobytes(), chain)
        if number % 50 == 49:
            monitor.step()
    trace.end()
    monitor.step()
    return replace(call, fed=fed)


def _speech() -> Samples:
    parts = [soundfile.read(path, dtype="int16")[0] for path in demo_speech()]
    return np.concatenate(parts)[: SECONDS * RATE]


@contextmanager
def served(settings: Settings, port: int = 0) -> Iterator[str]:
    """Serve the drill-down from a thread for the time of the block; yield its address."""
    server = build_server(create_app(settings))
    server.config.host, server.config.port = HOST, port
    thread = threading.Thread(target=server.run, name="drilldown", daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while not server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        bound = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://{HOST}:{bound}"
    finally:
        server.should_exit = True
        thread.join(_PATIENCE_S)


@pytest.fixture(scope="session")
def drilldown(
    postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Drilldown]:
    """Yield the filled archive, shown at a free port."""
    folder = tmp_path_factory.mktemp("drilldown")
    settings = settings_for(postgres.conninfo("drilldown"), folder)
    calls = fill(settings, datetime.now(UTC))
    with served(settings) as address:
        yield Drilldown(settings, calls, address)
    with psycopg.connect(postgres.conninfo("postgres"), autocommit=True) as connection:
        connection.execute("DROP DATABASE drilldown WITH (FORCE)")


class LocalClient:
    """Asks an application without a socket, as somebody at ``host``; ``with`` runs its lifespan."""

    def __init__(self, app: Starlette, host: str = HOST) -> None:
        self._app = app
        self._peer = (host, 50_000)
        self._runner = asyncio.Runner()
        self._lifespan = app.router.lifespan_context(app)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=self._peer)
        self._http = httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}")

    def __enter__(self) -> Self:
        self._runner.run(self._lifespan.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._http.aclose())
        self._runner.run(self._lifespan.__aexit__(None, None, None))
        self._runner.close()

    def get(self, path: str, **given: Any) -> httpx.Response:
        """Ask for a path."""
        return self._runner.run(self._http.get(path, **given))

    def head(self, path: str, **given: Any) -> httpx.Response:
        """Ask for the headers of a path."""
        return self._runner.run(self._http.head(path, **given))

    def post(self, path: str, **given: Any) -> httpx.Response:
        """Send something to a path."""
        return self._runner.run(self._http.post(path, **given))

    def raw(self, target: bytes, look: Callable[[], None] = lambda: None) -> tuple[int, bytes]:
        """Ask for a path as it stands, as no well-behaved client would; return status and body.

        `look` is called when a message of the answer leaves the application.
        """
        path, _, query = target.partition(b"?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": unquote(path.decode("ascii")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": [(b"host", HOST.encode())],
            "client": self._peer,
            "server": (HOST, 80),
        }
        messages: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            look()
            messages.append(message)

        self._runner.run(self._app(scope, receive, send))
        return messages[0]["status"], b"".join(each.get("body", b"") for each in messages[1:])


@dataclass(frozen=True, slots=True)
class Small:
    """A small archive of one test, and a client of its page on this machine.

    Attributes:
        settings: Database and paths.
        client: Asks the application without a socket.
        start: Start of the first bucket.
        pre: What PRE heard, from there on.
        post: What POST heard.
    """

    settings: Settings
    client: LocalClient
    start: datetime
    pre: Samples = field(repr=False)
    post: Samples = field(repr=False)

    def path(self, tap: str, number: int = 0) -> str:
        """Return the path of the sound of a bucket."""
        at = self.start + number * BUCKET
        return f"/audio/{SMALL}/{STATION}/{tap}/{int(at.timestamp() * 1_000)}.wav"

    def span(self, first_s: float, last_s: float) -> dict[str, str]:
        """Return the parameters of a time, in seconds from the start."""
        ends = (self.start + timedelta(seconds=seconds) for seconds in (first_s, last_s))
        return dict(
            zip(("from", "to"), (f"{end:%Y-%m-%dT%H:%M:%S.%fZ}" for end in ends), strict=True)
        )

    def query(self, statement: str) -> list[tuple[object, ...]]:
        """Ask the database as its owner."""
        with psycopg.connect(self.settings.db) as connection:
            return connection.execute(statement.encode()).fetchall()

    def run(self, statement: str) -> None:
        """Change the database as its owner."""
        with psycopg.connect(self.settings.db, autocommit=True) as connection:
            connection.execute(statement.encode())


@pytest.fixture
def small(database: str, tmp_path: Path) -> Iterator[Small]:
    """Yield an archive with one call: four buckets of noise, of which the third has no sound."""
    migrate(database)
    settings = settings_for(database, tmp_path)
    start = bucket_start(datetime.now(UTC)) - 12 * BUCKET
    pre = np.random.default_rng(7).integers(-9_000, 9_000, 4 * 5 * RATE).astype(np.int16)
    # Twice as loud, upside down, 100 samples later.
    post = np.concatenate((np.zeros(100, np.int16), -2 * pre[:-100]))
    for samples in (pre, post):
        samples[10 * RATE : 15 * RATE] = 0
    store(settings, start, pre, post)
    with LocalClient(create_app(settings)) as client:
        yield Small(settings, client, start, pre, post)


def store(settings: Settings, start: datetime, pre: Samples, post: Samples) -> None:
    """Offer a call to an archiver; silent buckets come without audio."""
    archive = Archiver(settings, has_retention=False)
    archive.start()
    start_ns = int(start.timestamp()) * NS
    archive.offer(TraceStarted(SMALL, start_ns, "3333", "4444", RATE))
    buckets = len(pre) // (5 * RATE)
    for number in range(buckets):
        part = slice(number * 5 * RATE, (number + 1) * 5 * RATE)
        at = start_ns + number * 5 * NS
        taps = (_tap(Tap.PRE, pre[part], at), _tap(Tap.POST, post[part], at))
        archive.offer(Bucket(SMALL, STATION, at, taps, {"pcm.input_gain_db": 0.0}))
    archive.offer(TraceEnded(SMALL, start_ns + buckets * 5 * NS, EndReason.HOST))
    assert archive.flush(_PATIENCE_S)
    archive.stop(timeout=5.0)


def _tap(tap: Tap, samples: Samples, at: int) -> TapBucket:
    values = {"health.audio_score": 90.0}
    if tap is Tap.POST:
        values |= {"pair.gain_db": 20 * math.log10(2), "pair.delay_ms": 100_000 / RATE}
        values |= {"pair.polarity_inverted": 1.0}
    rows = Aggregates.of_values(values, at)
    runs = (Run(0, samples.astype("<i2").tobytes()),) if samples.any() else ()
    gaps = () if runs else (Gap(0, len(samples), Cause.DISABLED),)
    return TapBucket(tap, RATE, 0, len(samples), runs, gaps, rows)


def bearer(token: str) -> dict[str, str]:
    """Return the header that carries a token."""
    return {"Authorization": f"Bearer {token}"}


def logged(small: Small) -> list[tuple[object, ...]]:
    """Return what the access log has of each answer, in order."""
    return small.query(
        "SELECT token_name, role, tap, first_byte, last_byte, kind FROM audio_access ORDER BY id"
    )

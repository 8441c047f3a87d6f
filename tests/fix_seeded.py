"""An archive with known content: three calls of vendors that differ, with a gap and a turned knob.

Rows and files are written as in production: records are offered to an archiver. The calls end a
minute ago, so that queries of "the last hour" find them.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import numpy as np
import psycopg
import pytest

from archiver import Archiver
from archiver.migrations import migrate
from deploy.cli import main
from exporter.aggregates import Aggregate, Aggregates
from exporter.knobs import shipped_registry
from exporter.model import (
    BUCKET_NS,
    BUCKET_SECONDS,
    Bucket,
    Cause,
    EndReason,
    Gap,
    KnobChanged,
    KnobStep,
    Run,
    Scope,
    Tap,
    TapBucket,
    TraceEnded,
    TraceStarted,
)
from tests.fix_archive import settings

RATE = 8_000
SIZE = BUCKET_SECONDS * RATE
BUCKETS = 12
TURNED_IN = 6
"""In this bucket of each call the gain goes up by 6 dB."""
LOST, HELD = 800, 400
STATIONS = ("St_3_3333", "St_3_4444")
HOSTILE = "</style><script>alert('x')</script> & \"too quiet\", \N{SNOWMAN}\nsecond line"
"""What a person could type as a reason or an attribute."""


@dataclass(frozen=True, slots=True)
class Call:
    """One seeded call."""

    trace_id: str
    call_id: str | None
    lang: str
    vendor: str
    level: float


CALLS = (
    Call("trace_2026-01-03T18-05-01-272Z_3333", "call-77", "en-fr", "acme", 3_000.0),
    Call("seed_2", "call-77", "fr-en", "acme", 2_000.0),
    Call("seed_3", None, "en-fr", "globex", 300.0),
)


@dataclass(frozen=True, slots=True)
class Seeded:
    """A filled archive and the command that uses it."""

    conninfo: str
    folder: Path
    start_ns: int

    @property
    def audio(self) -> Path:
        """Root of the segments."""
        return self.folder / "audio"

    def run(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        """Run the command as a user does; return exit code, output and errors."""
        done = subprocess.run(
            [sys.executable, "-m", "deploy.cli", *arguments],
            check=False,
            env=os.environ | self.environment() | variables,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done.returncode, done.stdout, done.stderr

    def call(self, *arguments: str) -> tuple[int, str, str]:
        """Run the command in this process: the same, without the time that a start takes."""
        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, self.environment()),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                code = main(arguments)
            except SystemExit as ended:
                code = int(str(ended.code))
        return code, out.getvalue(), err.getvalue()

    def environment(self) -> dict[str, str]:
        """Return the variables with which the command finds this archive."""
        return {
            "MONITORING_DB": self.conninfo,
            "MONITORING_AUDIO_PATH": str(self.audio),
            "MONITORING_SPOOL_PATH": str(self.folder / "spool"),
            "COLUMNS": "200",
        }

    def query(self, statement: str) -> list[tuple[object, ...]]:
        """Ask the database as its owner, or tell it something."""
        with psycopg.connect(self.conninfo) as connection:
            found = connection.execute(statement.encode())
            return found.fetchall() if found.description else []


@pytest.fixture
def seeded(database: str, tmp_path: Path) -> Seeded:
    """Return an archive with the three calls."""
    migrate(database)
    end_ns = (time.time_ns() - 60 * 10**9) // BUCKET_NS * BUCKET_NS
    return fill(database, tmp_path, end_ns - BUCKETS * BUCKET_NS)


def fill(conninfo: str, folder: Path, start_ns: int) -> Seeded:
    """Write the calls, which begin at `start_ns`, into a database that has the schema."""
    archiver = Archiver(settings(folder, conninfo), has_retention=False)
    archiver.start()
    for call in CALLS:
        _offer_call(archiver, call, start_ns)
    assert archiver.flush(30)
    archiver.stop(5)
    return Seeded(conninfo, folder, start_ns)


def _offer_call(archiver: Archiver, call: Call, start_ns: int) -> None:
    attributes = {"lang": call.lang, "vendor": call.vendor, "note": HOSTILE}
    archiver.offer(
        TraceStarted(call.trace_id, start_ns, "3333", "4444", RATE, call.call_id, attributes)
    )
    turned_ns = start_ns + TURNED_IN * BUCKET_NS
    archiver.offer(
        KnobChanged(
            str(uuid.uuid4()),
            "pcm.input_gain_db",
            0.0,
            6.0,
            "alice",
            HOSTILE,
            Scope.TRACE_STATION,
            turned_ns,
            call.trace_id,
            STATIONS[0],
            turned_ns + 10**9,
        )
    )
    for number in range(BUCKETS):
        for station in STATIONS:
            archiver.offer(_bucket(call, station, number, start_ns))
    archiver.offer(TraceEnded(call.trace_id, start_ns + BUCKETS * BUCKET_NS, EndReason.HOST))


def _bucket(call: Call, station: str, number: int, start_ns: int) -> Bucket:
    at = start_ns + number * BUCKET_NS
    is_louder = station == STATIONS[0] and number >= TURNED_IN
    amplitude = call.level * (2.0 if is_louder else 1.0)
    is_worst = number == TURNED_IN + 1
    pre = _tap(Tap.PRE, call.level, at)
    post = _tap(Tap.POST, amplitude, at, costs={"lost_speech": 25.0} if is_worst else {})
    if number == 3:
        pre, post = _with_gap(pre, LOST, Cause.NOT_RECEIVED), _with_gap(post, HELD, Cause.HOLD)
    knobs = shipped_registry().defaults()
    is_turning = station == STATIONS[0] and number == TURNED_IN
    steps = (KnobStep("pcm.input_gain_db", 0.0, 6.0, RATE),) if is_turning else ()
    knobs["pcm.input_gain_db"] = 6.0 if is_louder and not is_turning else 0.0
    return Bucket(call.trace_id, station, at, (pre, post), knobs, steps)


def _tap(
    tap: Tap, amplitude: float, at: int, *, costs: dict[str, float] | None = None
) -> TapBucket:
    wave = amplitude * np.sin(2 * np.pi * 440 * np.arange(SIZE) / RATE)
    run = Run(0, wave.astype("<i2").tobytes())
    energy = amplitude**2 / 2 / 32_768**2
    level = 10 * math.log10(energy)
    score = 100.0 - sum((costs or {}).values())
    values = {
        "pcm.rms_dbfs": (level - 3, level + 3, level),
        "pcm.energy": (energy / 2, 2 * energy, energy),
        "pcm.clipping_ratio": (0.0, 0.25, 0.01),
        "pcm.speech_ratio": (0.6,) * 3,
        "advanced.lufs_integrated": (level - 1,) * 3,
        "health.audio_score": (score,) * 3,
    }
    if tap is Tap.POST:
        values |= {
            "pipe.processing_latency_ms": (1.0, 30.0, 4.0),
            "pair.gain_db": (0.0, 6.0, 3.0),
            "pair.limited_ratio": (0.02,) * 3,
            "pair.speech_lost_ratio": (0.1 if costs else 0.0,) * 3,
        }
    aggregates = Aggregates.of(
        Aggregate(key, 250, low, high, 250 * mean, mean, at + BUCKET_NS - 20_000_000)
        for key, (low, high, mean) in values.items()
    )
    return TapBucket(tap, RATE, 0, SIZE, (run,), (), aggregates, costs or {})


def _with_gap(bucket: TapBucket, samples: int, cause: Cause) -> TapBucket:
    """Take samples out after the first second."""
    (run,) = bucket.runs
    after = RATE + samples
    runs = (Run(0, run.pcm[: 2 * RATE]), Run(after, run.pcm[2 * after :]))
    return replace(bucket, runs=runs, gaps=(Gap(RATE, samples, cause),))

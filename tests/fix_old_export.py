"""A synthetic export of an earlier installation, with every hole that such data has."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import soundfile

START = datetime(2026, 1, 3, 18, 5, tzinfo=UTC)
STEM = "trace_2026-01-03T18-05-01-272Z"
ONE, OTHER = f"{STEM}_3333", f"{STEM}_4444"
"""Two directions of one call: they differ in the extension and start in the same millisecond."""
LATER = "trace_2026-01-03T18-20-00-000Z_5555"
ODD = "call 7/\N{LATIN SMALL LETTER O WITH DIAERESIS}"
GLOBAL_CALL = "GLOBAL_2026-01-03"
STATION = "St_3_3333"
BUCKETS = 4
RATE, SLOW = 16_000, 8_000
PASSWORD = "hunter2"  # noqa: S105 - must not be copied

METRIC_COLUMNS = (
    *("id", "trace_id", "station_key", "station_group", "layer", "direction", "tap"),
    *("metric_key", "bucket_ts", "bucket_ms", "count", "min", "max", "sum", "avg", "last"),
    "created_at",
)
SNAPSHOT_COLUMNS = (
    *("id", "trace_id", "station_key", "bucket_ts", "bucket_ms", "knobs_json", "created_at"),
)
EVENT_COLUMNS = (
    *("id", "trace_id", "station_key", "knob_key", "old_value", "new_value", "source", "reason"),
    "occurred_at",
)
CONFIG = {
    "database": {
        "host": "db.example",
        "port": 5432,
        "name": "old",
        "password": PASSWORD,
        "pool": 9,
    },
    "metricsEmitter": {"enabled": True, "port": 9100, "flushMs": 250},
    "audioWriter": {"basePath": "/srv/audio", "bucketMs": 5000, "format": "wav"},
    "audioRecorder": {"enabled": True},
    "stations": {
        STATION: {
            "group": "STTTTS_PCM_INGRESS",
            "direction": "RX",
            "sampleRate": 16000,
            "handler": "Station3_3333_Handler",
            "knobs": {"pcm.input_gain_db": 3.0, "pcm.magic": 1, "limiter.threshold_dbfs": 99},
        }
    },
    "retentionHours": 48,
}

Row = dict[str, object]


def stamp(number: float = 0) -> str:
    """Return the start of a bucket."""
    return f"{START + timedelta(seconds=5 * number):%Y-%m-%dT%H:%M:%S.%fZ}"


def metric(
    number: float = 0, key: str = "pcm.rms_dbfs", mean: float = -20.0, **other: object
) -> Row:
    """Return a row of 250 frames, with other cells as they are told."""
    row: Row = {"trace_id": ONE, "station_key": STATION, "station_group": "STTTTS_PCM_INGRESS"}
    row |= {"layer": "PCM", "direction": "RX", "tap": "PRE", "metric_key": key}
    row |= {"bucket_ts": stamp(number), "bucket_ms": 5000, "count": 250, "min": mean, "max": mean}
    row |= {"sum": mean * 250, "avg": mean, "last": mean, "created_at": stamp(number + 1)}
    return row | other


def _good_metrics() -> list[Row]:
    levels = {"pcm.rms_dbfs": -20.0, "pcm.clipping_ratio": 0.25, "health.audio_score": 80.0}
    return [
        metric(number, key, mean, trace_id=trace_id, tap=tap)
        for trace_id in (ONE, OTHER)
        for number in range(BUCKETS)
        for tap in ("PRE", "POST")
        for key, mean in levels.items()
    ]


def _odd_metrics() -> list[Row]:
    nothing: Row = dict.fromkeys(("min", "max", "sum", "avg", "last"), "")
    return [
        metric(0, "pcm.silence_detected") | nothing,
        metric(0, "pcm.muted_signal", 0.0, min="false", max="false", last="false"),
        metric(0, "pcm.energy", 0.5, avg=""),
        metric(0, "pcm.dc_offset", 0.5, sum=""),
        metric(0, "pcm.crest_factor", 0.25),
        metric(0, "pcm.peak_dbfs", 12.0),
        metric(1, "pcm.peak_dbfs", max="NaN"),
        metric(2, "pcm.peak_dbfs", last="loud"),
        metric(3, "pcm.peak_dbfs", count=0),
        metric(3, "pcm.peak_dbfs", count=""),
        metric(0, "fft.spectral_flux", 0.5, avg=0.75),
        metric(1, "fft.spectral_flux", 0.5, last=0.75),
        metric(0, "fft.spectral_centroid", 900.0, bucket_ms=1000),
        metric(0.2544, "fft.spectral_rolloff", 900.0),
        metric(0, bucket_ts="2026-01-03 18:05:15", station_key="St_3_4444"),
        metric(1, bucket_ts="1767463505000", station_key="St_3_4444"),
        metric(0),
        metric(1, mean=-21.0),
        metric(0, trace_id=""),
        metric(0, station_key=""),
        metric(0, "system.active_traces", 3.0, trace_id="GLOBAL", station_key="global", tap=""),
        metric(0, "asr.words_per_minute", 120.0),
        metric(0, "RMS"),
        metric(0, tap="MIX"),
        metric(0, tap=""),
        metric(0, bucket_ts="yesterday"),
        metric(0, bucket_ts="1970-01-01T00:00:00Z"),
        metric(0, trace_id=ODD),
        metric(0, station_key="St 3/3333"),
    ]


def snapshot(number: int, knobs: object, **other: object) -> Row:
    """Return a row with the knobs of a bucket."""
    text = knobs if isinstance(knobs, str) else json.dumps(knobs)
    row: Row = {"trace_id": ONE, "station_key": STATION, "bucket_ts": stamp(number)}
    return row | {"bucket_ms": 5000, "knobs_json": text, "created_at": stamp(number + 1)} | other


def _snapshots() -> list[Row]:
    plain = {"pcm.input_gain_db": 3.0, "noise_gate.enabled": False}
    return [
        *(snapshot(number, plain) for number in range(BUCKETS)),
        snapshot(0, plain, station_key="global"),
        snapshot(0, plain, trace_id="GLOBAL", station_key="global"),
        snapshot(4, plain | {"pcm.magic": 1}),
        snapshot(5, plain | {"pcm.input_gain_db": 99.0}),
        snapshot(6, plain | {"noise_gate.enabled": "", "limiter.enabled": None}),
        snapshot(7, {"pcm": {"input_gain_db": "4.5"}, "noise_gate": {"enabled": "true"}}),
        snapshot(0, plain),
        snapshot(1, plain | {"pcm.input_gain_db": 5.0}),
        snapshot(8, "{not json"),
        snapshot(8, [1, 2]),
        snapshot(8, '{"pcm.input_gain_db": NaN}'),
        snapshot(8, '{"pcm.mode": "\\ud800"}'),
        snapshot(8, plain, trace_id=""),
        snapshot(8, plain, bucket_ms=10000),
    ]


def event(second: int, **other: object) -> Row:
    """Return a row with a knob that was turned."""
    at = START + timedelta(seconds=second)
    row: Row = {"trace_id": ONE, "station_key": STATION, "knob_key": "pcm.input_gain_db"}
    row |= {"old_value": "0", "new_value": "3.0", "source": "alice", "reason": "too quiet"}
    return row | {"occurred_at": at.isoformat()} | other


def _events() -> list[Row]:
    return [
        event(1),
        event(2, station_key=""),
        event(3, trace_id=""),
        event(4, trace_id="GLOBAL", station_key="global"),
        event(5, knob_key="pcm.magic", old_value="", new_value="on", source=""),
        event(6, new_value="99"),
        event(7, trace_id=LATER),
        event(1),
        event(8, knob_key=""),
        event(9, occurred_at=""),
    ]


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows with ids that count from 1."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows({"id": number, **row} for number, row in enumerate(rows, 1))


def tone(
    seconds: float, rate: int = RATE, pitch: float = 440.0
) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    """Return a sound whose samples are not silence."""
    wave = 8_000 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate + 0.1)
    return wave.astype(np.int16)


def _ms(number: float) -> int:
    return int((START + timedelta(seconds=5 * number)).timestamp() * 1_000)


def _write_audio(root: Path) -> None:
    def write(name: str, seconds: float, rate: int = RATE, form: str = "PCM_16") -> None:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tone(seconds, rate), rate, subtype=form, format="WAV")

    ours = f"2026-01-03/{ONE}/{STATION}"
    for number in range(BUCKETS):
        write(f"{ours}/PRE/segment_{_ms(number)}.wav", 5.0)
        write(f"{ours}/POST/segment_{_ms(number)}.wav", 4.5 if number == 3 else 5.0)
    write(f"{ours}/pre/chunk-{_ms(4)}.wav", 5.05)  # hangs over by 800 samples
    write(f"{ours}/PRE_{_ms(5)}.wav", 5.0)
    write(f"{OTHER}/{STATION}_PRE_2026-01-03T18-05-01-272Z.wav", 12.0, SLOW)
    write(f"flat/{OTHER}_{STATION}_POST_{_ms(0) // 1_000}.wav", 5.0, SLOW, "ULAW")
    write(f"{LATER}/{STATION}_PRE.wav", 7.0)
    write(f"again/{ONE}/{STATION}/PRE/{_ms(0)}.wav", 5.0)  # the same as the first
    write(f"again/{ONE}/{STATION}/PRE/{_ms(1)}.wav", 4.0)  # less of the second: it is there
    write(f"again/{ONE}/{STATION}/POST/{_ms(3)}.wav", 5.0)  # more than is there: which is right?
    write(f"{ours}/PRE/segment_{_ms(20)}.wav", 0.0)
    write(f"{ours}/PRE/segment_{_ms(21)}.wav", 5.0, 11_025)
    write("somewhere/hello.wav", 1.0)
    write(f"somewhere/{STATION}_PRE.wav", 1.0)
    both = np.stack([tone(5.0), tone(5.0)], axis=1)
    soundfile.write(root / f"{ours}/PRE/segment_{_ms(22)}.wav", both, RATE)
    (root / f"{ours}/PRE/segment_{_ms(23)}.wav").write_bytes(b"RIFF, or so it says")


def write_old_export(root: Path) -> Path:
    """Write the export into a new folder, and return the folder."""
    root.mkdir()
    write_csv(root / "metrics.csv", METRIC_COLUMNS, _good_metrics())
    write_csv(root / "metrics_2026-01-03.csv", METRIC_COLUMNS, _odd_metrics())
    with (root / "metrics_2026-01-03.csv").open("a", encoding="utf-8") as stream:
        stream.write("31,cut off")
    write_csv(root / "knob_snapshots.csv", SNAPSHOT_COLUMNS, _snapshots())
    write_csv(root / "knob_events.csv", EVENT_COLUMNS, _events())
    write_csv(root / "metrics_summary.csv", ("metric_key", "mean"), [])
    (root / "monitoring.config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    (root / "notes.txt").write_text("remember the milk")
    (root / "latest.wav").symlink_to("/etc/hostname")
    _write_audio(root / "audio")
    return root

"""`monitoring traces export` as a user runs it: a zip file that explains itself."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import numpy as np
import pytest
import soundfile

from archiver.migrations import migrate
from exporter.model import BUCKET_NS
from tests.fix_seeded import (
    BUCKETS,
    CALLS,
    HOSTILE,
    LOST,
    RATE,
    SIZE,
    STATIONS,
    TURNED_IN,
    Seeded,
)
from tests.fix_speech import Speech

TRACE = CALLS[0].trace_id
TAPS = ("PRE", "POST")
# The page may not have what runs or leads away, whatever it is told.
FORBIDDEN = {"script", "iframe", "object", "embed", "form", "link", "img", "base"}


class Page(HTMLParser):
    """Collects tags, addresses, ids and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.text.append(data)

    def values(self, name: str) -> list[str]:
        """Return the values of all attributes of a name."""
        return [value or "" for key, value in self.attributes if key == name]


def export(seeded: Seeded, path: Path, *options: str) -> tuple[ZipFile, dict[str, Any]]:
    """Export the first call; return the zip file and its manifest."""
    code, _, err = seeded.call("traces", "export", TRACE, "-o", str(path), *options)
    assert 0 == code, err
    bundle = ZipFile(path)
    return bundle, json.loads(bundle.read(f"{TRACE}/manifest.json"))


def names(manifest: dict[str, Any], start: str) -> list[str]:
    """Return the files of a manifest below a folder."""
    return [entry["file"] for entry in manifest["files"] if entry["file"].startswith(start)]


def segment_names(seeded: Seeded, station: str, ending: str = "wav") -> set[str]:
    """Return the names that the sound of a station has in a bundle."""
    start = seeded.start_ns // 10**6
    stamps = [start + number * BUCKET_NS // 10**6 for number in range(BUCKETS)]
    names_of_taps = {f"{tap}/segment_{stamp}.{ending}" for tap in TAPS for stamp in stamps}
    wholes = {f"{tap}/whole.{ending}" for tap in TAPS}
    return {f"audio/{station}/{name}" for name in names_of_taps | wholes}


def test_a_bundle_is_complete_and_verifiable(seeded: Seeded, tmp_path: Path) -> None:
    """Every file is in the manifest with its true hash, and the sound is what the row says."""
    path = tmp_path / "incident.zip"
    code, out, err = seeded.run("traces", "export", TRACE, "-o", str(path), "--json")
    assert 0 == code, err
    with ZipFile(path) as bundle:
        assert bundle.testzip() is None
        manifest = json.loads(bundle.read(f"{TRACE}/manifest.json"))
        files = {entry["file"]: entry for entry in manifest["files"]}
        assert {f"{TRACE}/{name}" for name in (*files, "manifest.json")} == set(bundle.namelist())
        for name, entry in files.items():
            content = bundle.read(f"{TRACE}/{name}")
            assert hashlib.sha256(content).hexdigest() == entry["sha256"], name
            assert len(content) == entry["bytes"]
        stored = {info.filename for info in bundle.infolist() if info.compress_type == ZIP_STORED}

    assert json.loads(out) == manifest
    sound = {name for name in files if name.startswith("audio/")}
    assert segment_names(seeded, STATIONS[0]) | segment_names(seeded, STATIONS[1]) == sound
    assert {f"{TRACE}/{name}" for name in sound} == stored
    rows = seeded.query(f"SELECT sha256 FROM audio_segments_5s WHERE trace_id = '{TRACE}'")
    segments = [files[name]["sha256"] for name in sound if "segment_" in name]
    assert sorted(str(row[0]) for row in rows) == sorted(segments)
    assert [] == manifest["missing"]
    assert {"monitoring_v2", "schema", "PostgreSQL"} == manifest["versions"].keys()
    assert re.fullmatch(r"local:\w+", manifest["exported_by"])
    assert 0o640 == path.stat().st_mode & 0o777


def test_tables_have_every_row(seeded: Seeded, tmp_path: Path) -> None:
    """Metrics, gaps, knob events and snapshots of the call are there, and of no other call."""
    bundle, manifest = export(seeded, tmp_path / "a.zip")
    counts = {entry["file"]: entry["rows"] for entry in manifest["files"] if "rows" in entry}

    with bundle:
        text = {name: bundle.read(f"{TRACE}/{name}").decode() for name in counts}
    tables = {"metrics.csv": "metrics_agg_5s", "gaps.csv": "gaps", "knob_events.csv": "knob_events"}
    for name, table in tables.items():
        rows = list(csv.DictReader(io.StringIO(text[name], newline="")))
        (expected,) = seeded.query(f"SELECT count(*) FROM {table} WHERE trace_id = '{TRACE}'")
        assert expected == (len(rows),) == (counts[name],)
        assert {TRACE} == {row["trace_id"] for row in rows}
    snapshots = [json.loads(line) for line in text["knob_snapshots.jsonl"].splitlines()]
    assert len(STATIONS) * BUCKETS == len(snapshots) == counts["knob_snapshots.jsonl"]
    assert {6.0, 0.0} == {row["knob_values"]["pcm.input_gain_db"] for row in snapshots}
    assert HOSTILE in text["knob_events.csv"].replace('""', '"')


def test_the_report_shows_all_and_runs_nothing(seeded: Seeded, tmp_path: Path) -> None:
    """Hostile texts stay texts; every link and sound of the page leads to what is there."""
    bundle, manifest = export(seeded, tmp_path / "a.zip")
    with bundle:
        page = Page(bundle.read(f"{TRACE}/report.html").decode())

    assert not FORBIDDEN & set(page.tags)
    assert not [key for key, _ in page.attributes if key.startswith("on")]
    assert not [tag for tag in page.tags if page.tags.count("style") != 1]
    sources = page.values("src")
    assert sorted(names(manifest, "audio/")) == sorted(sources)
    ids = page.values("id")
    assert len(set(ids)) == len(ids)
    assert {link[1:] for link in page.values("href")} <= set(ids)
    assert all(link.startswith("#") for link in page.values("href"))
    text = " ".join(page.text)
    for each in (HOSTILE.splitlines()[0], "pcm.input_gain_db", "alice", "not received", "hold"):
        assert each in text
    assert "lost speech \N{MINUS SIGN}25.0" in text
    assert 3 * len(STATIONS) == page.tags.count("svg")


def test_one_piece_is_the_segments_one_after_another(seeded: Seeded, tmp_path: Path) -> None:
    """The whole sound of a tap has gaps as silence, also where a segment is missing."""
    gone = f"bucket_ts = to_timestamp({seeded.start_ns // 10**9 + 20})"
    seeded.query(f"DELETE FROM audio_segments_5s WHERE tap = 'PRE' AND {gone}")
    bundle, manifest = export(seeded, tmp_path / "a.zip", "--station", STATIONS[0])
    with bundle:
        whole = bundle.read(f"{TRACE}/audio/{STATIONS[0]}/PRE/whole.wav")
    samples, rate = soundfile.read(io.BytesIO(whole), dtype="int16")

    assert (RATE, BUCKETS * SIZE) == (rate, len(samples))
    wave = (CALLS[0].level * np.sin(2 * np.pi * 440 * np.arange(SIZE) / RATE)).astype(np.int16)
    pieces = samples.reshape(BUCKETS, SIZE)
    assert np.array_equal(wave, pieces[0])
    assert not pieces[3, RATE : RATE + LOST].any()
    assert np.array_equal(wave[RATE + LOST :], pieces[3, RATE + LOST :])
    assert not pieces[4].any()
    (missing,) = manifest["missing"]
    assert "no sound was kept" == missing["reason"]
    assert {f"audio/{STATIONS[0]}"} == {
        "/".join(n.split("/")[:2]) for n in names(manifest, "audio")
    }


def test_flac_is_smaller_and_the_same(seeded: Seeded, tmp_path: Path) -> None:
    """--flac packs the sound without changing a sample, and keeps the hash of the WAV file."""
    bundle, manifest = export(seeded, tmp_path / "a.zip", "--flac")
    assert segment_names(seeded, STATIONS[0], "flac") <= set(names(manifest, "audio/"))
    with bundle:
        for entry in manifest["files"]:
            if "segment_" in entry["file"]:
                content = bundle.read(f"{TRACE}/{entry['file']}")
                samples, _ = soundfile.read(io.BytesIO(content), dtype="int16")
                place = entry["file"].removeprefix("audio/").replace(".flac", ".wav")
                (path,) = seeded.audio.glob(f"*/{TRACE}/{place}")
                assert np.array_equal(soundfile.read(path, dtype="int16")[0], samples)
                assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256_of_wav"]
                assert len(content) < path.stat().st_size


def test_a_part_has_the_buckets_of_its_time(seeded: Seeded, tmp_path: Path) -> None:
    """--from and --to keep what they touch; the manifest says what that is."""
    start = seeded.start_ns // 10**9
    bounds = ("--from", str(start + TURNED_IN * 5 + 1), "--to", str(start + TURNED_IN * 5 + 9))
    bundle, manifest = export(seeded, tmp_path / "a.zip", *bounds, "--station", STATIONS[0])
    bundle.close()

    stamps = {
        int(name[-17:-4]) // 1_000 - start for name in names(manifest, "audio/") if "_17" in name
    }
    assert {TURNED_IN * 5, TURNED_IN * 5 + 5} == stamps
    assert [STATIONS[0]] == manifest["stations"]
    (rows,) = [entry["rows"] for entry in manifest["files"] if entry["file"] == "metrics.csv"]
    assert 2 * (6 + 10) == rows


def test_the_export_is_in_the_access_log(seeded: Seeded, tmp_path: Path) -> None:
    """One row for each tap, with who, the times and the bytes that left."""
    bundle, manifest = export(seeded, tmp_path / "a.zip")
    bundle.close()

    rows = seeded.query(
        "SELECT station_key, tap, kind, token_name, first_byte, last_byte, "
        "extract(epoch FROM from_ts)::bigint, extract(epoch FROM to_ts)::bigint "
        "FROM audio_access ORDER BY station_key, tap DESC"
    )
    start = seeded.start_ns // 10**9
    last = BUCKETS * (44 + 2 * SIZE) - 1
    who = manifest["exported_by"]
    assert [
        (station, tap, "export", who, 0, last, start, start + 5 * BUCKETS)
        for station in STATIONS
        for tap in TAPS
    ] == rows


def test_without_the_log_nothing_leaves(seeded: Seeded, tmp_path: Path) -> None:
    """When the access log cannot be written, there is no file, whole or half."""
    seeded.query("ALTER TABLE audio_access RENAME TO audio_access_away")

    code, _, err = seeded.call("traces", "export", TRACE, "-o", str(tmp_path / "a.zip"))

    assert (1, True) == (code, "cannot be logged" in err), err
    assert not list(tmp_path.glob("a.zip*"))


def test_what_is_not_right_is_left_out_and_named(seeded: Seeded, tmp_path: Path) -> None:
    """A file that is gone, altered, a link or outside is missing, with the reason; exit code 1."""
    folder = next(seeded.audio.glob(f"*/{TRACE}/{STATIONS[0]}/PRE"))
    gone, altered, linked, *_ = sorted(folder.iterdir())
    gone.unlink()
    altered.write_bytes(altered.read_bytes()[:-2] + b"\x01\x01")
    outside = tmp_path / "outside.wav"
    linked.rename(outside)
    linked.symlink_to(outside)
    seeded.query(
        "UPDATE audio_segments_5s SET file_path = '../outside.wav' "
        f"WHERE trace_id = '{TRACE}' AND station_key = '{STATIONS[0]}' AND tap = 'POST' "
        f"AND bucket_ts = to_timestamp({seeded.start_ns // 10**9})"
    )
    path = tmp_path / "a.zip"

    code, out, err = seeded.call("traces", "export", TRACE, "-o", str(path), "--json")

    assert (1, "") == (code, err.strip())
    manifest = json.loads(out)
    reasons = " / ".join(entry["reason"] for entry in manifest["missing"])
    assert 4 == len(manifest["missing"])
    assert "hash differs" in reasons
    assert "no path below the audio root" in reasons
    assert 2 == reasons.count("not there any more")
    with ZipFile(path) as bundle:
        assert f"{TRACE}/audio/{STATIONS[0]}/PRE/{altered.name}" not in bundle.namelist()
        assert "hash differs" in bundle.read(f"{TRACE}/report.html").decode()


def test_a_call_without_sound_is_a_bundle_too(seeded: Seeded, tmp_path: Path) -> None:
    """Numbers alone: exit code 0, one entry a tap for what was not kept, nothing in the log."""
    seeded.query("DELETE FROM audio_segments_5s")

    bundle, manifest = export(seeded, tmp_path / "a.zip")
    bundle.close()

    assert [] == names(manifest, "audio/")
    assert len(STATIONS) * len(TAPS) == len(manifest["missing"])
    assert [] == seeded.query("SELECT FROM audio_access")


def test_a_file_that_is_there_is_kept(seeded: Seeded, tmp_path: Path) -> None:
    """An existing file is refused, and replaced with --force."""
    path = tmp_path / "a.zip"
    path.write_text("mine")

    code, _, err = seeded.call("traces", "export", TRACE, "-o", str(path))

    assert (1, True, "mine") == (code, "--force" in err, path.read_text())
    assert [] == seeded.query("SELECT FROM audio_access")
    bundle, _ = export(seeded, path, "--force")
    bundle.close()


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (("nobody",), 1, "no trace 'nobody'"),
        (("../../etc",), 1, "no key of the archive"),
        ((TRACE, "--station", "a/b"), 1, "no key of the archive"),
        ((TRACE, "--station", "St_9"), 1, "nothing of this part"),
        ((TRACE, "--to", "1999-01-01"), 1, "nothing of this part"),
        ((TRACE, "--from", "soon"), 2, "--from 'soon'"),
    ],
)
def test_what_cannot_be_exported_is_said(
    seeded: Seeded, tmp_path: Path, arguments: tuple[str, ...], code: int, named: str
) -> None:
    """The message names what is wrong, and no file is left."""
    found, _, err = seeded.call("traces", "export", *arguments, "-o", str(tmp_path / "a.zip"))

    assert (code, True) == (found, named in err), err
    assert not list(tmp_path.glob("a.zip*"))


def test_a_replayed_call_can_be_exported(database: str, speech: Speech, tmp_path: Path) -> None:
    """Real speech through the reference chain: PRE in the bundle is what was fed, bit by bit."""
    migrate(database)
    place = Seeded(database, tmp_path, 0)
    fed = speech.samples[: int(7.3 * speech.rate)]
    recording = tmp_path / "speech.wav"
    soundfile.write(recording, fed, speech.rate, subtype="PCM_16")
    at = ("--at", "2026-01-01T00:00:02.100Z", "--trace-id", "replayed")
    assert 0 == place.call("replay", str(recording), *at)[0]

    code, _, err = place.call("traces", "export", "replayed", "-o", str(tmp_path / "a.zip"))

    assert 0 == code, err
    with ZipFile(tmp_path / "a.zip") as bundle:
        whole = bundle.read("replayed/audio/St_3_3333/PRE/whole.wav")
    first = int(2.1 * speech.rate)
    samples = soundfile.read(io.BytesIO(whole), dtype="int16")[0]
    assert np.array_equal(fed, samples[first : first + len(fed)])

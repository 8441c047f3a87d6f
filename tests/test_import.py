"""`monitoring import`: everything of an old export is kept, or listed with its reason; twice."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import soundfile

from archiver.deletion.ledger import begin
from archiver.drilldown import create_app
from archiver.imports.accounts import NOTES, REASONS, Ledger
from archiver.imports.fields import Reading
from archiver.imports.importer import Importer, Order
from archiver.imports.old_calls import OldCall
from archiver.imports.old_ids import call_of
from archiver.times import iso
from exporter.model import Recording
from tests.fix_drilldown import LocalClient, settings_for
from tests.fix_import import PAGE, by_reason, contents, documented, packed, page_rows, run, sums
from tests.fix_old_export import (
    GLOBAL_CALL,
    LATER,
    ODD,
    ONE,
    OTHER,
    PASSWORD,
    RATE,
    START,
    STATION,
    STEM,
    stamp,
    tone,
)
from tests.fix_seeded import Seeded, fill


@pytest.mark.parametrize("form", [Path, packed], ids=["folder", "tarball"])
def test_an_import_gives_the_documented_counts_twice(
    archive: Seeded, old: Path, form: Callable[[Path], Path]
) -> None:
    """Both times the report is what the page says; the second time nothing changes."""
    path = form(old)

    first = run(archive, path)
    before = contents(archive)
    second = run(archive, path)

    assert documented("kind") == sums(first)
    assert documented("again") == sums(second)
    assert documented("reason") == by_reason(first, "rejected")
    assert documented("note") == by_reason(first, "notes")
    assert by_reason(first, "rejected") == by_reason(second, "rejected")
    for offered, *parts in [*sums(first).values(), *sums(second).values()]:
        assert offered == sum(parts)
    assert before == contents(archive)
    assert {"new": 5, "known": 0} == {name: first["calls"][name] for name in ("new", "known")}
    assert {"new": 0, "known": 5} == {name: second["calls"][name] for name in ("new", "known")}


def test_the_page_tells_every_reason_in_the_words_of_the_report() -> None:
    """Reasons and notes stand on the page in order, each with its meaning."""
    for column, words in (("reason", REASONS), ("note", NOTES)):
        rows = page_rows(column)
        assert [(f"`{name}`", meaning) for name, meaning in words.items()] == [
            (row[0], row[-1]) for row in rows
        ]


def test_a_dry_run_tells_the_same_and_changes_nothing(archive: Seeded, old: Path) -> None:
    """Its counts are those of the real run; no row, partition, file or configuration is there."""
    before = contents(archive)
    new = archive.folder / "new.json"

    dry = run(archive, old, "--dry-run", "-o", str(new))

    assert before == contents(archive)
    assert not new.exists()
    real = run(archive, old)
    assert (dry["kinds"], dry["calls"]) == (real["kinds"], real["calls"])
    again = run(archive, old, "--dry-run")
    assert documented("again") == sums(again)


def test_the_report_lists_each_single_one(archive: Seeded, old: Path) -> None:
    """Its list has as many entries as the counts say, with file and line, and no password."""
    path = archive.folder / "report.json"

    report = run(archive, old, "--report", str(path))

    text = path.read_text(encoding="utf-8")
    written = json.loads(text)
    assert report == {name: part for name, part in written.items() if name != "listed"}
    for kind, account in report["kinds"].items():
        listed = [e["reason"] for e in written["listed"] if e["kind"] == kind and not e["kept"]]
        assert sorted(listed) == sorted(
            reason for reason, count in account["rejected"].items() for _ in range(count)
        )
    (cut,) = [entry for entry in written["listed"] if entry["reason"] == "bad_cells"]
    assert ("metrics_2026-01-03.csv", 31) == (cut["file"], cut["line"])
    assert PASSWORD not in text


def test_what_is_unknown_is_null(archive: Seeded, old: Path) -> None:
    """No sample is said to have been due, and what came is known where there is a recording."""
    run(archive, old)

    query = "SELECT due_samples, received_samples, score FROM tap_buckets_5s WHERE trace_id = "
    taps = archive.query(f"{query}'{ONE}' AND station_key = '{STATION}' ORDER BY tap, bucket_ts")
    heard = [80_000] * 3 + [72_000] + [80_000] * 6
    assert [(None, samples, 80.0) for samples in heard[:8]] == taps[:8]
    assert [(None, 80_000, None)] * 2 == taps[8:]
    totals = "SELECT c.due_samples, c.received_samples, loss_ratio FROM archived_calls c "
    totals += "JOIN call_list USING (trace_id) WHERE trace_id = "
    assert [(None, None, None)] == archive.query(f"{totals}'{ONE}'")  # another station has no sound
    assert [(None, 7 * RATE, None)] == archive.query(f"{totals}'{LATER}'")


def test_what_is_unknown_raises_no_alarm(archive: Seeded, old: Path) -> None:
    """The books of all stations balance: what was never written down as due is not in them."""
    fill(archive.conninfo, archive.folder, int(START.timestamp()) * 10**9)

    run(archive, old)

    books = archive.query(
        "SELECT residual FROM reconciliation('2026-01-03', '2026-01-04') WHERE due_samples > 0"
    )
    assert [(0,)] * 4 == books


def test_calls_are_derived(archive: Seeded, old: Path) -> None:
    """They begin and end with what there is of them; two directions of one have one call_id."""
    run(archive, old)

    found = {
        row[0]: row[1:]
        for row in archive.query(
            "SELECT trace_id, started_at, call_id, src_extension, attributes, ended_at IS NULL "
            "FROM traces"
        )
    }
    assert {ONE, OTHER, LATER, GLOBAL_CALL} < found.keys()
    named = datetime(2026, 1, 3, 18, 5, 1, 272_000, UTC)
    for trace_id, extension in ((ONE, "3333"), (OTHER, "4444")):
        assert (named, STEM, extension) == found[trace_id][:3]
    assert [None] * 3 == [row[1] for name, row in found.items() if name not in {ONE, OTHER}]
    attributes: Any = found[ONE][3]
    assert {"imported", f"{STATION}.group", f"{STATION}.direction"} <= attributes.keys()
    (odd,) = [row[3] for name, row in found.items() if str(name).startswith("call-7-")]
    assert isinstance(odd, dict)
    assert ODD == odd["imported.trace_id"]
    assert not any(row[4] for row in found.values())


def test_an_imported_call_is_shown_and_heard(archive: Seeded, old: Path) -> None:
    """The drill-down has it in its list, with stations, numbers and knobs, and plays its sound."""
    run(archive, old)
    with LocalClient(create_app(settings_for(archive.conninfo, archive.folder))) as client:
        listed = client.get("/api/v1/traces", params={"text": STEM}).json()
        assert {ONE, OTHER} <= {call["trace_id"] for call in listed["items"]}
        call = client.get(f"/api/v1/traces/{ONE}").json()
        assert STATION in [station["station_key"] for station in call["stations"]]
        assert call["loss_ratio"] is None
        answer = client.get(
            f"/api/v1/traces/{ONE}/buckets", params={"station": STATION, "limit": 100}
        )
        first = answer.json()["items"][0]
        assert 3.0 == first["knobs"]["pcm.input_gain_db"]
        tap = first["taps"]["PRE"]
        assert (None, 80_000) == (tap["due_samples"], tap["received_samples"])
        assert -20.0 == tap["metrics"]["pcm.rms_dbfs"]["avg"]
        sound = client.get(tap["audio"])
        assert 200 == sound.status_code
        played, rate = soundfile.read(io.BytesIO(sound.content), dtype="int16")
        assert RATE == rate
        assert np.array_equal(tone(5.0), played)
        silent = client.get(f"/api/v1/traces/{GLOBAL_CALL}/buckets").json()["items"][0]
        assert silent["taps"]["POST"]["received_samples"] is None


def test_an_imported_call_goes_out_as_files(archive: Seeded, old: Path) -> None:
    """Bundle, export and the views for analysts take it like any other."""
    run(archive, old)

    bundle = archive.folder / "call.zip"
    code, _, err = archive.call("traces", "export", ONE, "-o", str(bundle))
    assert 0 == code, err
    days = archive.folder / "days"
    code, _, err = archive.call("export", "--from", "2026-01-03", "--to", "2026-01-04", str(days))
    assert 0 == code, err
    wide = archive.query(
        f"SELECT pre_due_samples, pre_received_samples, pre_pcm_rms_dbfs FROM bucket_wide "
        f"WHERE trace_id = '{ONE}' AND station_key = '{STATION}' ORDER BY bucket_ts LIMIT 1"
    )
    assert [(None, 80_000, -20.0)] == wide
    code, out, _ = archive.call("traces", "show", ONE)
    assert 0 == code
    assert "None" not in out


def test_a_call_of_our_own_is_left_alone(archive: Seeded, old: Path) -> None:
    """Nothing joins a call that the archive recorded itself, not even under its id."""
    archive.query(
        f"INSERT INTO traces (trace_id, started_at, src_extension) VALUES ('{ONE}', now(), '1')"
    )

    report = run(archive, old)

    assert 1 == report["calls"]["refused"]
    assert report["kinds"]["metrics"]["rejected"]["recorded_here"] > 24
    for table in ("metrics_agg_5s", "tap_buckets_5s", "audio_segments_5s", "knob_snapshots_5s"):
        assert [(0,)] == archive.query(f"SELECT count(*) FROM {table} WHERE trace_id = '{ONE}'")
    assert [({},)] == archive.query(f"SELECT attributes FROM traces WHERE trace_id = '{ONE}'")


def test_an_erased_call_stays_erased(archive: Seeded, old: Path) -> None:
    """Neither rows nor files of it come back; the report says how many would have."""
    with psycopg.connect(archive.conninfo) as connection:
        begin(connection, [ONE], "on request")

    report = run(archive, old)

    assert report["kinds"]["metrics"]["rejected"]["erased"] > 24
    assert report["kinds"]["audio"]["rejected"]["erased"] > 8
    for table in ("traces", "metrics_agg_5s", "tap_buckets_5s", "knob_snapshots_5s", "knob_events"):
        assert [(0,)] == archive.query(f"SELECT count(*) FROM {table} WHERE trace_id = '{ONE}'")
    assert not list(archive.audio.glob(f"*/{ONE}/**/*.wav"))


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        (Recording.AUDIO, (True, True)),
        (Recording.NUMBERS, (True, False)),
        (Recording.OFF, (False, False)),
    ],
)
def test_the_policy_for_unknown_consent_counts(
    archive: Seeded, old: Path, policy: Recording, kept: tuple[bool, bool]
) -> None:
    """Nobody knows what the callers of old calls agreed to: no more is kept than of new ones."""
    settings = replace(settings_for(archive.conninfo, archive.folder), consent_unknown=policy)
    ledger = Ledger()

    Importer(Order(old, Reading(UTC), is_dry=False, now=START), settings, ledger).run()

    accounts = [ledger.accounts[kind] for kind in ("metrics", "audio")]
    assert kept == tuple(account.kept > 0 for account in accounts)
    assert kept == tuple(account.rejected["no_consent"] == 0 for account in accounts)
    assert ledger.accounts["knob_snapshots"].kept > 0


def test_a_phone_number_is_masked_in_the_id_alone() -> None:
    """What stands for an extension is in the id; the plain one is for its own column."""
    raw = f"{STEM}_+491701234567"
    reading = Reading(UTC, lambda _: "0badcafe")

    kept = call_of(raw, START, reading, [])

    assert f"{STEM}_0badcafe" == kept
    call = OldCall(raw, START, START)
    assert "+491701234567" == call.extension
    assert "1701234567" not in str(call.attributes(kept))


def test_the_commands_of_the_page_run(
    archive: Seeded, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command that the page shows does what it says."""
    monkeypatch.chdir(old.parent)
    (block,) = re.findall(
        r"^```sh\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    commands = [line.partition("#")[0].split()[1:] for line in block.splitlines()]
    assert 3 == len(commands)

    ended = [archive.call(*command) for command in commands]

    assert [0, 0, 0] == [code for code, _, _ in ended]
    assert "already there" in ended[-1][1]
    assert {"dry.json", "report.json", "new.json", "new.json.env"} <= {
        path.name for path in old.parent.iterdir()
    }
    assert stamp() == f"{iso(START).removesuffix('Z')}.000000Z"

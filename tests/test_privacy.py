"""A phone number stands in one column of SQL; everywhere else stands its keyed hash."""

from __future__ import annotations

import logging
import re
import stat
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver import Archiver
from archiver.drilldown import create_app
from archiver.migrations import migrate
from deploy.doctor import examine
from deploy.finding import Finding
from exporter import Clocks, Monitor
from exporter.config import Settings, load_settings
from exporter.errors import ConfigError
from exporter.keyfile import make_key
from exporter.model import Recording, TraceStarted
from exporter.privacy import Masker, masked_extension, masked_search
from tests.fix_drilldown import LocalClient, settings_for
from tests.fix_host import SECOND, START, Recorder, unchanged
from tests.fix_seeded import Seeded

CALLER, CALLED = "+49 170 5550199", "0044-20-79460123"
CANARIES = ("5550199", "79460123")
KEY = b"k" * 32


@pytest.mark.parametrize("extension", ["", "3333", "123456", "anna", "3333@house", "+49-170"])
def test_extensions_of_the_house_stand_as_they_are(extension: str) -> None:
    """Up to six digits are no phone number."""
    assert extension == masked_extension(extension, KEY)


@pytest.mark.parametrize("number", ["1234567", CALLER, CALLED, "sip:4917055501@host", "٠١٢٣٤٥٦"])
def test_numbers_are_eight_hex_digits(number: str) -> None:
    """More than six digits, in any script and between any signs, are masked."""
    assert re.fullmatch(r"[0-9a-f]{8}", masked_extension(number, KEY))


@given(st.text(max_size=60))
def test_masking_takes_any_text(extension: str) -> None:
    """Whatever comes, the mask is the extension itself or a hash, and never fails."""
    masked = masked_extension(extension, KEY)

    if sum(sign.isdigit() for sign in extension) > 6:
        assert re.fullmatch(r"[0-9a-f]{8}", masked)
    else:
        assert extension == masked


def test_the_mask_depends_on_number_and_key_alone() -> None:
    """Signs between digits make no difference; another digit or another key does."""
    mask = masked_extension(CALLER, KEY)

    assert mask == masked_extension("491705550199", KEY)
    assert mask == masked_extension("(49) 170/555-01.99", KEY)
    assert mask != masked_extension("491705550198", KEY)
    assert mask != masked_extension(CALLER, b"j" * 32)


def test_the_key_is_made_at_the_first_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where none is named there is none until it is needed; then it stays, for its owner alone."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    path = tmp_path / "monitoring_v2" / "privacy.key"
    first = Masker(None)
    assert "3333" == first.mask("3333")
    assert masked_search(CALLER, None) is None
    assert not path.exists()

    mask = first.mask(CALLER)

    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert mask == Masker(None).mask(CALLER) == Masker(path).mask(CALLER)
    assert mask == masked_search(CALLER, None)


def test_without_a_place_for_the_key_it_is_one_for_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Calls begin all the same, and the log says what is lost by it."""
    (tmp_path / "monitoring_v2").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    masker = Masker(None)

    assert masker.mask(CALLER) == masker.mask(CALLER) != Masker(None).mask(CALLER)
    assert "MONITORING_PRIVACY_KEY_FILE" in caplog.text


def test_a_named_key_must_be_one(tmp_path: Path) -> None:
    """A missing or short file ends the start, with the setting and the path."""
    for path in (tmp_path / "none", tmp_path / "short"):
        (tmp_path / "short").write_text("too short")
        with pytest.raises(ConfigError, match=f"MONITORING_PRIVACY_KEY_FILE='{path}'"):
            Monitor(replace(load_settings({}), privacy_key_file=path))


def test_an_extension_may_be_a_number_of_python() -> None:
    """A host that gives 3333 without quotes gets its call, under the text of it."""
    assert ("3333", None) == Masker(None).split(3333)  # type: ignore[arg-type] # that is the point


def test_what_is_searched_for_need_not_be_typed_alike(tmp_path: Path) -> None:
    """A number is looked for by its mask, anything else as it stands."""
    make_key(tmp_path / "key")
    mask = Masker(tmp_path / "key").mask(CALLER)

    assert mask == masked_search("+49 (170) 5550199", tmp_path / "key")
    for words in (None, "", "3333", "trace_2026-01-03T18-05-01-272Z_3333", "call 1234567"):
        assert masked_search(words, tmp_path / "key") is None


@dataclass(frozen=True, slots=True)
class Filled:
    """An archive with one call between two phone numbers, and the page of metrics of that time."""

    settings: Settings
    trace_id: str
    page: bytes

    def query(self, statement: str) -> list[tuple[object, ...]]:
        """Ask the database as its owner."""
        with psycopg.connect(self.settings.db) as connection:
            return connection.execute(statement.encode()).fetchall()


@pytest.fixture
def filled(database: str, tmp_path: Path) -> Filled:
    """Return the archive of a call between two phone numbers."""
    migrate(database)
    make_key(tmp_path / "privacy.key")
    wanted = replace(settings_for(database, tmp_path), privacy_key_file=tmp_path / "privacy.key")
    archive, now = Archiver(wanted, has_retention=False), [START]
    clocks = Clocks(lambda: now[0], lambda: now[0])
    monitor = Monitor(wanted, archive=archive, clocks=clocks, has_thread=False)
    monitor.start()
    trace = monitor.start_trace(CALLER, CALLED)
    station = trace.station("St_3_3333")
    for number in range(400):
        now[0] += SECOND // 50
        station.process(b"\x01\x02" * 320, unchanged)
        if number % 50 == 0:
            monitor.step()
    station.process(b"odd", unchanged)  # there is something to log
    monitor.step()
    monitor.render()
    page = monitor._worker.page.openmetrics + monitor._worker.page.text
    trace.end()
    monitor.step()
    assert archive.flush(20)
    monitor.stop(timeout=5)
    return Filled(wanted, trace.trace_id, page)


def test_numbers_stand_in_one_column(filled: Filled) -> None:
    """Ids, extensions, files, metrics and every other table have the masks."""
    masker = Masker(filled.settings.privacy_key_file)
    mask = masker.mask(CALLER)
    assert filled.trace_id.endswith(f"Z_{mask}")
    found = filled.query("SELECT trace_id, src_extension, dst_extension FROM traces")
    assert [(filled.trace_id, mask, masker.mask(CALLED))] == found
    numbers = filled.query("SELECT side, number FROM phone_numbers ORDER BY 1")
    assert [("dst", CALLED), ("src", CALLER)] == numbers
    tables = filled.query(
        "SELECT c.relname FROM pg_class c WHERE relnamespace = 'public'::regnamespace "
        "AND relkind IN ('r', 'p', 'v') AND relname <> 'phone_numbers'"
    )
    assert 15 < len(tables)
    for (name,) in tables:
        for canary in CANARIES:
            assert [] == filled.query(f"SELECT FROM {name} t WHERE t::text LIKE '%{canary}%'"), name
    names = [str(path) for path in filled.settings.audio_path.rglob("*")]
    assert any(mask in name for name in names)
    assert [] == [name for name in names for canary in CANARIES if canary in name]
    assert filled.trace_id.encode() in filled.page
    assert [] == [canary for canary in CANARIES if canary.encode() in filled.page]


def test_logs_and_reprs_have_no_number(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the log of a call that goes wrong in many ways, nor a record shown, nor the spool."""
    caplog.set_level(logging.DEBUG)
    make_key(tmp_path / "key")
    wanted = replace(
        load_settings({}),
        db="host=127.0.0.1 port=1 dbname=none",
        audio_path=tmp_path / "audio",
        spool_path=tmp_path / "spool",
        privacy_key_file=tmp_path / "key",
    )
    archive, recorder = Archiver(wanted, has_retention=False), Recorder()
    monitor = Monitor(wanted, archive=archive, has_thread=False)
    monitor.start()
    trace = monitor.start_trace(CALLER, CALLED, attributes={"bad": object()})
    trace.station("undeclared").process(b"odd", unchanged)
    monitor.step()
    other = monitor.start_trace(CALLER, CALLED)
    monitor.step()
    monitor.stop(timeout=5)
    other_monitor = Monitor(wanted, archive=recorder, has_thread=False)
    other_monitor.start()
    other_monitor.start_trace(CALLER, CALLED, trace_id=other.trace_id)
    other_monitor.step()
    other_monitor.stop()

    assert "it is dropped" in caplog.text
    (started,) = [each for each in recorder.records if isinstance(each, TraceStarted)]
    assert CALLER == started.src_number
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert 1 < len(written)
    for canary in CANARIES:
        assert canary not in caplog.text
        assert canary not in repr(recorder.records)
        assert canary not in str(list(tmp_path.rglob("*")))
        assert [] == [content for content in written if canary.encode() in content]


def test_a_refused_call_leaves_no_number_beside_the_spool(database: str, tmp_path: Path) -> None:
    """What the database refuses is kept for a person to look at, without the numbers."""
    migrate(database)
    wanted = replace(
        load_settings({}), db=database, audio_path=tmp_path / "a", spool_path=tmp_path / "spool"
    )
    archive = Archiver(wanted, has_retention=False)
    archive.start()
    archive.offer(TraceStarted("nul\0", 0, "aaaaaaaa", src_number=CALLER, dst_number=CALLED))
    assert archive.flush(20)
    archive.stop(5)

    (kept,) = (tmp_path / "spool").rglob("bad/*.json")
    text = kept.read_text()
    assert 2 == text.count('"withheld"')
    assert [] == [canary for canary in CANARIES if canary in text]


@pytest.mark.parametrize("role", ["reader", "drilldown", "writer"])
def test_only_who_must_sees_the_column(filled: Filled, role: str) -> None:
    """Neither Grafana, nor the drill-down, nor the process that wrote it reads it back."""
    with psycopg.connect(filled.settings.db) as connection:
        connection.execute(f"SET ROLE monitoring_{role}".encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT number FROM phone_numbers")


def test_numbers_go_with_their_call(filled: Filled) -> None:
    """Whoever deletes a call deletes its numbers."""
    filled.query("DELETE FROM traces RETURNING trace_id")

    assert [] == filled.query("SELECT FROM phone_numbers")


def test_people_find_a_number_and_never_see_it(filled: Filled) -> None:
    """The drill-down finds a call by either number, typed in any way, and shows masks."""
    with LocalClient(create_app(filled.settings)) as client:
        for query in (
            {"extension": "491705550199"},
            {"extension": "00442079460123"},
            {"q": CALLER},
            {"q": CALLED},
            {"q": "+49 170 5550199", "extension": "00442079460123"},
        ):
            answer = client.get("/api/v1/traces", params=query)
            assert [filled.trace_id] == [each["trace_id"] for each in answer.json()["items"]]
            assert [] == [canary for canary in CANARIES if canary in answer.text]
        for query in (
            {"extension": "491705550198"},
            {"q": "+49 170 5550198"},
            {"q": "nothing", "extension": "491705550199"},
            {"q": CALLER, "extension": "3333"},
        ):
            assert [] == client.get("/api/v1/traces", params=query).json()["items"]


def test_what_people_take_out_has_masks(filled: Filled, tmp_path: Path) -> None:
    """Lists, bundles and exports, also with extensions, have no number in them."""
    installation = Seeded(filled.settings.db, tmp_path, START)
    bundle, folder = tmp_path / "call.zip", tmp_path / "out"
    bounds = ("--from", "2026-01-01", "--to", "2026-01-02")
    said = [
        installation.call("traces", "list", "--json"),
        installation.call("traces", "show", filled.trace_id, "--json"),
        installation.call("traces", "export", filled.trace_id, "-o", str(bundle)),
        installation.call("export", *bounds, str(folder), "--with-extensions"),
    ]

    assert [0, 0, 0, 0] == [code for code, _, _ in said], said
    with zipfile.ZipFile(bundle) as opened:
        contents = [opened.read(name) for name in opened.namelist()]
        contents += [name.encode() for name in opened.namelist()]
    contents += [path.read_bytes() for path in folder.iterdir()]
    contents += [part.encode() for _, out, err in said for part in (out, err)]
    mask = Masker(filled.settings.privacy_key_file).mask(CALLED)
    assert any(mask.encode() in content for content in contents)
    assert [] == [canary for canary in CANARIES for each in contents if canary.encode() in each]


def findings(settings: Settings) -> dict[str, Finding]:
    """Return what the doctor says of consent and key, without a database."""
    wanted = replace(settings, db="host=127.0.0.1 port=1 dbname=none")
    found = {finding.name: finding for finding in examine(wanted)}
    return {name: found[name] for name in ("consent", "privacy key")}


def test_the_doctor_tells_policy_and_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what is kept of whom, and whether the key is there, whole and secret."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    wanted = replace(load_settings({}), consent_unknown=Recording.NUMBERS)
    found = findings(wanted)
    assert "unknown: numbers are, audio is not kept; refused: numbers are" in found["consent"].text
    assert found["privacy key"].is_well
    assert not (tmp_path / "monitoring_v2" / "privacy.key").exists()
    path = tmp_path / "key"
    named = replace(wanted, privacy_key_file=path)
    assert "No such file" in findings(named)["privacy key"].text
    path.write_text("short")
    assert "shorter than 32 bytes" in findings(named)["privacy key"].text
    path.write_bytes(KEY)
    path.chmod(0o644)
    assert "chmod 600" in findings(named)["privacy key"].text
    path.chmod(0o600)
    assert findings(named)["privacy key"].is_well

"""Every answer with sound is in the access log before its first byte, and stays there."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest

from archiver.migrations import migrate
from archiver.pool import Connections
from archiver.tokens import create_token
from tests.fix_drilldown import SMALL, STATION, Small, bearer, logged
from tests.fix_postgres import is_allowed_to

BASE = f"/audio/{SMALL}/{STATION}"
CALL = f"/api/v1/traces/{SMALL}"


def test_each_answer_with_sound_is_one_row(small: Small) -> None:
    """Listens and downloads, whole and in parts, with who, what and which bytes; nothing else."""
    token = create_token(small.settings.db, "anna", ["listen", "download"])
    span = small.span(0, 1)
    size = 44 + 32_000
    for path, given in (
        (f"{BASE}/PRE.wav", {"params": span}),
        (f"{BASE}/POST.wav", {"params": span, "headers": {"Range": "bytes=10-19"}}),
        (f"{BASE}/PRE.wav", {"params": {**span, "download": "1"}, "headers": bearer(token)}),
        (f"{BASE}/delta.wav", {"params": span}),
        (small.path("PRE"), {"headers": {"Range": "bytes=999999-"}}),
        (f"/audio/nobody/{STATION}/PRE.wav", {}),
        (f"{CALL}/peaks?station={STATION}&tap=PRE", {}),
    ):
        small.client.get(path, **given)

    assert [
        ("local", "listen", "PRE", 0, size - 1, "listen"),
        ("local", "listen", "POST", 10, 19, "listen"),
        ("anna", "download", "PRE", 0, size - 1, "download"),
        ("local", "listen", "DELTA", 0, size - 1, "listen"),
    ] == logged(small)
    kept = small.query("SELECT DISTINCT from_ts, to_ts, trace_id, station_key FROM audio_access")
    assert [(small.start, small.start + timedelta(seconds=1), SMALL, STATION)] == kept


def test_the_row_is_there_before_the_first_byte(small: Small) -> None:
    """When the first message of an answer leaves the application, its row can be read."""
    rows: list[int] = []
    for path in (small.path("PRE"), f"{BASE}/PRE.flac"):
        small.client.raw(path.encode(), look=lambda: rows.append(len(logged(small))))

    assert sorted(rows) == rows
    assert [1, 2] == sorted(set(rows))


def test_without_its_log_no_sound_leaves(small: Small) -> None:
    """With the log's table gone: 503 and no byte of sound, for every kind; numbers go on."""
    small.run("ALTER TABLE audio_access RENAME TO elsewhere")
    for path in (small.path("PRE"), f"{BASE}/PRE.wav", f"{BASE}/PRE.flac", f"{BASE}/delta.wav"):
        answer = small.client.get(path)

        assert 503 == answer.status_code
        assert "application/problem+json" == answer.headers["content-type"]
    assert 200 == small.client.get(CALL).status_code
    small.run("ALTER TABLE elsewhere RENAME TO audio_access")
    assert 200 == small.client.get(small.path("PRE")).status_code


def test_a_player_that_fetches_in_parts_listens_once(small: Small) -> None:
    """Rows of one token and segment within ten minutes are one listen; a download is none."""
    for first in (0, 1_000, 2_000):
        small.client.get(small.path("PRE"), headers={"Range": f"bytes={first}-{first + 999}"})
    small.client.get(small.path("PRE", 1))
    small.client.get(small.path("PRE"), params={"download": "1"})
    # Of another quarter of an hour: the log itself cannot be changed, so a row is made up.
    for minutes in (20, 29, 45):
        small.run(
            "INSERT INTO audio_access (at, token_name, role, trace_id, station_key, tap, from_ts, "
            "to_ts, first_byte, last_byte, kind, client_hash) SELECT "
            f"at - interval '{minutes} minutes', token_name, role, trace_id, station_key, tap, "
            "from_ts, to_ts, 0, 1, kind, client_hash FROM audio_access ORDER BY id LIMIT 1"
        )

    listens = small.query("SELECT from_ts, answers FROM listens ORDER BY from_ts, began_at")

    one, other = small.start, small.start + timedelta(seconds=5)
    assert [(one, 1), (one, 2), (one, 3), (other, 1)] == listens
    assert [(8,)] == small.query("SELECT count(*) FROM audio_access")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audio_access SET kind = 'listen'",
        "DELETE FROM audio_access",
        "TRUNCATE audio_access",
    ],
)
def test_nobody_changes_the_log(small: Small, statement: str) -> None:
    """Not even the owner: the log is append-only."""
    small.client.get(small.path("PRE"))
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        small.run(statement)


@pytest.mark.parametrize(
    ("role", "statement", "is_allowed"),
    [
        ("drilldown", "SELECT count(*) FROM audio_segments_5s", True),
        ("drilldown", "SELECT count(*) FROM call_list", True),
        ("drilldown", "SELECT count(*) FROM access_tokens", True),
        ("drilldown", "SELECT count(*) FROM audio_access", False),
        ("drilldown", "UPDATE traces SET ended_at = now()", False),
        ("drilldown", "DELETE FROM traces", False),
        ("drilldown", "UPDATE access_tokens SET revoked_at = NULL", False),
        ("drilldown", "INSERT INTO traces VALUES ('x', now(), now(), 'x')", False),
        ("writer", "SELECT count(*) FROM access_tokens", False),
        ("writer", "INSERT INTO access_tokens VALUES ('x', 'x', '{erase}')", False),
        ("writer", "SELECT count(*) FROM listens", False),
        ("writer", "SELECT count(*) FROM audio_access", False),
        ("reader", "SELECT count(*) FROM call_list", True),
        ("reader", "SELECT count(*) FROM listens", False),
        ("reader", "SELECT count(*) FROM audio_access", False),
        ("retention", "DELETE FROM call_totals", True),
        ("retention", "DELETE FROM audio_access", False),
        ("retention", "SELECT count(*) FROM access_tokens", False),
    ],
)
def test_roles_of_the_database_are_as_narrow_as_their_work(
    database: str, role: str, statement: str, *, is_allowed: bool
) -> None:
    """The page reads and writes its log alone; nobody else sees log or tokens."""
    migrate(database)

    assert is_allowed == is_allowed_to(role, statement, database)


def test_the_page_asks_in_transactions_that_only_read(small: Small) -> None:
    """Whatever a query would do: it runs read-only, and under the role of the page."""
    connections = Connections(small.settings.db)
    with connections.reading() as connection:
        found = connection.execute(
            "SELECT current_user, current_setting('transaction_read_only')"
        ).fetchall()
    connections.close()

    assert [("monitoring_drilldown", "on")] == found

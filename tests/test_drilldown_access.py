"""Who may do what: tokens and their roles, this machine, signed addresses, logins."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from archiver.drilldown import create_app
from archiver.tokens import Role, TokenError, create_token, list_tokens, revoke_token
from archiver.web.signing import LONGEST_S, Signer, load_key
from exporter.config import load_settings
from exporter.errors import ConfigError
from tests.fix_drilldown import SMALL, STATION, LocalClient, Small, bearer, logged

BASE = f"/audio/{SMALL}/{STATION}"
AWAY = "192.0.2.7"
CALL = f"/api/v1/traces/{SMALL}"
PLACE = f"station={STATION}&tap=PRE"
NEEDED = {
    "/api/v1/status": Role.NUMBERS,
    "/api/v1/traces": Role.NUMBERS,
    "/api/v1/traces/active": Role.NUMBERS,
    CALL: Role.NUMBERS,
    f"{CALL}/buckets": Role.NUMBERS,
    f"{CALL}/series": Role.NUMBERS,
    f"{CALL}/gaps": Role.NUMBERS,
    f"{CALL}/knob-events": Role.NUMBERS,
    f"{CALL}/snapshots": Role.NUMBERS,
    "/api/v1/worst": Role.NUMBERS,
    "/api/v1/now": Role.NUMBERS,
    "/api/v1/metrics": Role.NUMBERS,
    f"{CALL}/peaks?{PLACE}": Role.LISTEN,
    f"{CALL}/spectrogram?{PLACE}": Role.LISTEN,
    f"{BASE}/PRE.wav": Role.LISTEN,
    f"{BASE}/PRE.flac": Role.LISTEN,
    f"{BASE}/delta.wav": Role.LISTEN,
    f"{BASE}/PRE.wav?download=1": Role.DOWNLOAD,
    f"{BASE}/PRE.flac?download=1": Role.DOWNLOAD,
}
OPEN = ("/openapi.json", "/", "/login", "/static/app.css")


def test_each_role_opens_what_it_says(small: Small) -> None:
    """A matrix of tokens and addresses: without a token 401, without the role 403."""
    held = [
        {Role.NUMBERS},
        {Role.LISTEN},
        {Role.LISTEN, Role.DOWNLOAD},
        {Role.CHANGE, Role.ERASE},
        set(Role),
    ]
    tokens = [create_token(small.settings.db, f"t{n}", roles) for n, roles in enumerate(held)]
    with LocalClient(create_app(small.settings), AWAY) as away:
        for path in OPEN:
            assert 200 == away.get(path).status_code, path
        for path, needed in NEEDED.items():
            assert 401 == away.get(path).status_code, path
            for token, roles in zip(tokens, held, strict=True):
                expected = 200 if needed in roles else 403

                assert expected == away.get(path, headers=bearer(token)).status_code, path


def test_only_the_hash_of_a_token_is_stored(small: Small) -> None:
    """The token has 256 bits and stands nowhere in the database, nor in what a role may read."""
    token = create_token(small.settings.db, "anna", ["numbers"])

    assert 43 == len(token)
    dump = str(small.query("SELECT * FROM access_tokens"))
    assert token not in dump
    assert "anna" in dump


@pytest.mark.parametrize("why", ["revoked", "expired", "altered", "basic"])
def test_a_token_that_is_not_good_opens_nothing(small: Small, why: str) -> None:
    """Also on this machine: who shows a token is judged by it."""
    token = create_token(small.settings.db, "anna", ["numbers"], days=1)
    assert 200 == small.client.get("/api/v1/status", headers=bearer(token)).status_code
    headers = bearer(token)
    if why == "revoked":
        revoke_token(small.settings.db, "anna")
    elif why == "expired":
        small.run("UPDATE access_tokens SET expires_at = now()")
    elif why == "altered":
        headers = bearer(token[:-1])
    else:
        headers = {"Authorization": f"Basic {token}"}

    answer = small.client.get("/api/v1/status", headers=headers)

    assert (401, "Bearer") == (answer.status_code, answer.headers["www-authenticate"])


def test_names_of_tokens_are_taken_once(small: Small) -> None:
    """A name is free again when its token is revoked; wrong names and roles are refused."""
    conninfo = small.settings.db
    create_token(conninfo, "anna", ["numbers", "listen"])
    for name, roles in (
        ("anna", ["numbers"]),
        ("", ["numbers"]),
        ("bob", ["king"]),
        ("bob", []),
        ("local", ["erase"]),
    ):
        with pytest.raises(TokenError):
            create_token(conninfo, name, roles)
    revoke_token(conninfo, "anna")
    with pytest.raises(TokenError):
        revoke_token(conninfo, "anna")
    create_token(conninfo, "anna", ["erase"])

    found = [(token.name, token.roles, token.revoked_at is None) for token in list_tokens(conninfo)]
    assert [("anna", ["erase"], True), ("anna", ["listen", "numbers"], False)] == found


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
    ],
)
def test_this_machine_means_this_machine(small: Small, headers: dict[str, str]) -> None:
    """Neither a foreign name that leads here nor a proxy passes for a client of this machine."""
    assert 200 == small.client.get("/api/v1/status", headers={"Host": "localhost"}).status_code
    assert 401 == small.client.get("/api/v1/status", headers=headers).status_code


@pytest.mark.parametrize(("roles", "status"), [((), 401), (("numbers",), 403)])
def test_this_machine_may_what_its_setting_says(
    small: Small, roles: tuple[str, ...], status: int
) -> None:
    """MONITORING_LOCAL_ROLES: no role is no access without a token."""
    with LocalClient(create_app(replace(small.settings, local_roles=roles))) as client:
        assert status == client.get(small.path("PRE")).status_code


def test_wrong_settings_are_named(small: Small, tmp_path: Path) -> None:
    """An unknown role, a missing key file and a short key end the start with key and value."""
    settings = load_settings({"MONITORING_LOCAL_ROLES": "numbers,king"})
    with pytest.raises(ConfigError, match="MONITORING_LOCAL_ROLES='numbers,king'"):
        create_app(replace(settings, signing_key_file=small.settings.signing_key_file))
    short = tmp_path / "short.key"
    short.write_bytes(b"too short")
    for path in (tmp_path / "none.key", short):
        with pytest.raises(ConfigError, match=f"MONITORING_SIGNING_KEY_FILE='{path}'"):
            load_key(replace(settings, signing_key_file=path))


def test_the_key_is_made_once_and_kept_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the first start, by whoever comes first, with mode 0600; the others take it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    keys: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: keys.append(load_key(load_settings({})))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    (path,) = (tmp_path / "monitoring_v2").iterdir()
    assert {path.read_bytes()} == set(keys)
    assert (8, 0o100600, 64) == (len(keys), path.stat().st_mode, len(keys[0]))


def signed(small: Small, **changed: Any) -> str:
    """Return a signed address of one second, with a part changed after the signing."""
    signer = Signer(load_key(small.settings))
    expires_at = int(time.time()) + changed.pop("lasts_s", 60)
    path: str = changed.pop("path", f"{BASE}/PRE.wav")
    address = httpx.URL(signer.address(f"{BASE}/PRE.wav", small.span(0, 1), expires_at))
    return path + "?" + str(address.copy_merge_params(changed).params)


def test_a_signed_address_needs_no_token(small: Small) -> None:
    """Anybody who has it hears that second, also in parts, also in a page of another site."""
    with LocalClient(create_app(small.settings), AWAY) as away:
        answer = away.get(signed(small), headers={"Range": "bytes=44-", "Host": "mon.example"})

    assert (206, 32_000) == (answer.status_code, len(answer.content))
    assert "cross-origin" == answer.headers["cross-origin-resource-policy"]
    assert [("link", "listen", "PRE", 44, 32_043, "listen")] == logged(small)


@pytest.mark.parametrize(
    "changed",
    [
        {"lasts_s": -1},
        {"lasts_s": LONGEST_S + 60},
        {"path": f"{BASE}/POST.wav"},
        {"path": f"{BASE}/PRE.flac"},
        {"path": f"/audio/other/{STATION}/PRE.wav"},
        {"to": "2100-01-01T00:00:00Z"},
        {"download": "1"},
        {"exp": str(int(time.time()) + 3_600)},
        {"exp": "never"},
        {"sig": "0" * 64},
        {"sig": ""},
        {"sig": "\u00e9"},
    ],
)
def test_an_address_that_is_not_as_signed_opens_nothing(
    small: Small, changed: dict[str, Any]
) -> None:
    """Altered, expired, too long or of another path: the same 403, on this machine as well."""
    address = signed(small, **changed)

    answer = small.client.get(address)

    assert 403 == answer.status_code
    assert "this address is not valid, or not any more" == answer.json()["detail"]
    assert [] == logged(small)


def test_a_signed_address_opens_no_numbers(small: Small) -> None:
    """Exp and sig mean nothing outside of /audio, and twice the same name is refused."""
    query = signed(small).partition("?")[2]
    with LocalClient(create_app(small.settings), AWAY) as away:
        assert 401 == away.get(f"{CALL}?{query}").status_code
        assert 403 == away.get(f"{signed(small)}&from=2000-01-01").status_code


def test_a_login_is_a_cookie_that_scripts_cannot_read(small: Small) -> None:
    """The token of a login opens what it opens as a header, until the logout."""
    token = create_token(small.settings.db, "anna", ["numbers"])
    with LocalClient(create_app(small.settings), AWAY) as away:
        assert 401 == away.post("/login", data={"token": "wrong"}).status_code
        answer = away.post("/login", data={"token": f" {token} "})
        cookie = answer.headers["set-cookie"]
        held = {"Cookie": cookie.partition(";")[0]}

        assert ["numbers"] == answer.json()["roles"]
        for word in ("HttpOnly", "SameSite=strict", "Path=/"):
            assert word in cookie
        assert 200 == away.get("/api/v1/status", headers=held).status_code
        assert 403 == away.get(f"{BASE}/PRE.wav", headers=held).status_code
        gone = away.post("/logout", headers=held).headers["set-cookie"]
        assert "Max-Age=0" in gone


@pytest.mark.parametrize(
    ("wanted", "leads_to"),
    [("/call/x?a=b", "/call/x?a=b"), ("//evil.example", "/"), ("https://evil.example", "/")],
)
def test_a_form_leads_back_to_our_own_pages(small: Small, wanted: str, leads_to: str) -> None:
    """A browser without scripts is sent on; never to another host."""
    token = create_token(small.settings.db, "anna", ["numbers"])
    page = {"Accept": "text/html"}

    good = small.client.post("/login", data={"token": token, "next": wanted}, headers=page)
    bad = small.client.post("/login", data={"token": "x"}, headers=page)

    assert (303, leads_to) == (good.status_code, good.headers["location"])
    assert (303, "/login?failed=1") == (bad.status_code, bad.headers["location"])


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"x" * 5_000, 413), (b"{", 400), (b"[]", 400), (b"{}", 401), (b"\xff", 400)],
)
def test_a_login_is_small_and_well_formed(small: Small, body: bytes, status: int) -> None:
    """What is no login is refused before anybody is asked."""
    headers = {"Content-Type": "application/json"}

    answer = small.client.post("/login", content=body, headers=headers)

    assert status == answer.status_code

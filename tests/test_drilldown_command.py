"""The commands about the drill-down, run as a user runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx

from tests.fix_drilldown import SMALL, STATION, Small, bearer, served


def command(small: Small, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    environment = {
        **os.environ,
        "MONITORING_DB": small.settings.db,
        "MONITORING_SIGNING_KEY_FILE": str(small.settings.signing_key_file),
        **more,
    }
    return subprocess.run(
        [sys.executable, "-m", "deploy.cli", *arguments],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_tokens_are_made_listed_and_revoked_by_the_command(small: Small) -> None:
    """`monitoring tokens`: shown once, listed without the token, refused after a revocation."""
    made = command(small, "tokens", "create", "anna", "--role", "numbers", "--role", "listen")
    token = made.stdout.strip()
    listed = json.loads(command(small, "tokens", "list", "--json").stdout)

    assert 200 == small.client.get("/api/v1/status", headers=bearer(token)).status_code
    assert [("anna", ["listen", "numbers"])] == [(each["name"], each["roles"]) for each in listed]
    assert 1 == command(small, "tokens", "create", "anna", "--role", "numbers").returncode
    assert 2 == command(small, "tokens", "create", "bob", "--role", "king").returncode
    assert 0 == command(small, "tokens", "revoke", "anna").returncode
    assert 401 == small.client.get("/api/v1/status", headers=bearer(token)).status_code


def test_a_play_url_plays(small: Small) -> None:
    """`monitoring traces play-url` prints an address that anybody can play until it expires."""
    at = f"{small.start + timedelta(seconds=1):%Y-%m-%dT%H:%M:%SZ}"
    place = ("traces", "play-url", SMALL, "--station", STATION, "--tap", "PRE", "--at", at)
    with served(replace(small.settings, local_roles=())) as address:
        done = command(small, *place, "--seconds", "2", MONITORING_PUBLIC_URL=address)
        with httpx.Client() as client:
            answer = client.get(done.stdout.strip())

    assert small.pre[16_000:48_000].tobytes() == answer.content[44:]
    for wrong in (("--seconds", "4000"), ("--hours", "13"), ("--at", "then")):
        assert 2 == command(small, *place, *wrong).returncode


def test_the_command_serves(small: Small) -> None:
    """`monitoring serve` says where, answers there, and ends on SIGTERM."""
    environment = {
        **os.environ,
        "MONITORING_DB": small.settings.db,
        "MONITORING_SERVE_PORT": "0",
        "MONITORING_SIGNING_KEY_FILE": str(small.settings.signing_key_file),
    }
    arguments = [sys.executable, "-m", "deploy.cli", "serve", "--json"]
    with subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            address = json.loads((process.stdout or sys.stdin).readline())["address"]
            call = httpx.get(f"{address}api/v1/traces/{SMALL}").json()
            busy = command(small, "serve", "--port", address.rstrip("/").rpartition(":")[2])
        finally:
            process.terminate()
            process.wait(20)

    assert SMALL == call["trace_id"]
    assert (1, True) == (busy.returncode, "MONITORING_SERVE_PORT" in busy.stderr)
    assert 0 == process.returncode


def test_a_child_ends_with_its_parent(small: Small) -> None:
    """The page that somebody started goes when they go, however they went."""
    environment = {
        **os.environ,
        "MONITORING_DB": small.settings.db,
        "MONITORING_SERVE_PORT": "0",
        "MONITORING_SIGNING_KEY_FILE": str(small.settings.signing_key_file),
    }
    arguments = [sys.executable, "-m", "deploy.cli", "serve", "--parent", "1"]
    begun = datetime.now(UTC)
    done = subprocess.run(arguments, check=False, env=environment, capture_output=True, timeout=60)

    assert 0 == done.returncode, done.stderr
    assert datetime.now(UTC) - begun < timedelta(seconds=30)

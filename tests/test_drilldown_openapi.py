"""Answers are as the OpenAPI document says, and every one has its security headers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from archiver.drilldown import OPERATIONS
from archiver.web.assets import STATIC
from tests.fix_drilldown import BAD, STATION, Drilldown

SCHEMA_CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_schema_conformance,response_headers_conformance,negative_data_rejection,"
    "unsupported_method,ignored_auth"
)


def run_schemathesis(address: str, folder: Path, *more: str) -> str:
    """Let schemathesis ask what the document allows and what it does not; return its report."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(folder / "st.toml")),
            *("run", f"{address}/openapi.json", "--max-examples", "15", "--seed", "1"),
            *("--no-color", "--checks", SCHEMA_CHECKS, *more),
        ],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=110,
    )
    assert 0 == done.returncode, done.stdout[-8_000:] + done.stderr[-2_000:]
    return done.stdout


@pytest.mark.parametrize("is_known", [False, True])
def test_answers_are_as_the_document_says(
    drilldown: Drilldown, tmp_path: Path, *, is_known: bool
) -> None:
    """Schemathesis finds no 5xx and no answer that the document does not describe.

    Once with any ids, and once with those of a call that is there.
    """
    ((event_id,),) = drilldown.query("SELECT event_id::text FROM knob_events LIMIT 1")
    bucket_ms = int(drilldown.calls[BAD].first_bucket.timestamp() * 1_000)
    known = (
        f'[parameters]\ntrace_id = "{BAD}"\nstation_key = "{STATION}"\nstation = "{STATION}"\n'
        f'event_id = "{event_id}"\nbucket_ms = {bucket_ms}\n'
    )
    (tmp_path / "st.toml").write_text(known if is_known else "", encoding="utf-8")

    report = run_schemathesis(drilldown.address, tmp_path)

    assert f"Tested: {len(OPERATIONS)}" in report
    assert is_known == ("Missing test data" not in report)


def test_every_page_answers_with_security_headers(drilldown: Drilldown) -> None:
    """Shells and static files come from this host alone, with nothing inline."""
    names = [path.name for path in STATIC.iterdir() if path.is_file()]
    pages_ = ["/", f"/call/{BAD}", "/go", "/knob/x", "/now", "/login"]
    with drilldown.client() as client:
        for path in [*pages_, *(f"/static/{name}" for name in names), "/api/v1/status", "/no"]:
            answer = client.get(path)

            policy = answer.headers["content-security-policy"]
            assert "script-src 'self';" in policy
            assert "unsafe" not in policy
            assert "nosniff" == answer.headers["x-content-type-options"]
            assert "no-referrer" == answer.headers["referrer-policy"]
            assert "same-site" == answer.headers["cross-origin-resource-policy"]
            assert path == "/no" or 200 == answer.status_code, path

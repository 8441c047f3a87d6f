"""The wheel: what is built from this checkout works without it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import psycopg
import pytest
import soundfile

from tests.fix_speech import Speech

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the packages of a freshly built wheel, and nothing of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("monitoring_v2-*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def run(installed: Path, folder: Path, *arguments: str, **variables: str) -> str:
    """Run the command of the wheel in another folder; return what it printed."""
    kept = {name: value for name, value in os.environ.items() if "MONITORING" not in name}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=kept | {"PYTHONPATH": str(installed)} | variables,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout


def test_the_wheel_brings_its_data(installed: Path) -> None:
    """Schema, demo speech, the service and type marks are in it; tests and benchmarks are not."""
    names = {str(path.relative_to(installed)) for path in installed.rglob("*") if path.is_file()}

    assert {"sql/001_schema.sql", "deploy/speech/caller_en.flac", "exporter/py.typed"} <= names
    assert {"deploy/requirements.lock", "deploy/backup_monitoring.sh"} <= names
    service = {"deploy/install.sh", "deploy/.env.example", "deploy/service/monitoring.sh"}
    assert service <= names
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "docs"))]


def test_the_wheel_replays_into_a_database(
    installed: Path, database: str, speech: Speech, tmp_path: Path
) -> None:
    """Outside the checkout, `db init` and `replay` work on the wheel's own files."""
    soundfile.write(tmp_path / "speech.wav", speech.samples[:80_000], speech.rate, subtype="PCM_16")
    paths = {
        "MONITORING_DB": database,
        "MONITORING_AUDIO_PATH": str(tmp_path / "audio"),
        "MONITORING_SPOOL_PATH": str(tmp_path / "spool"),
    }
    origin = run(installed, tmp_path, "-c", "import deploy, sql; print(deploy.__file__)")
    run(installed, tmp_path, "-m", "deploy.cli", "db", "init", **paths)
    run(installed, tmp_path, "-m", "deploy.cli", "replay", "speech.wav", **paths)

    assert origin.startswith(str(installed))
    with psycopg.connect(database) as connection:
        received = connection.execute("SELECT sum(received_samples) FROM tap_buckets_5s").fetchone()
    assert (160_000,) == received


def test_the_wheel_runs_the_demo(installed: Path, tmp_path: Path) -> None:
    """The demo needs nothing but the wheel and what it depends on."""
    out = run(
        installed,
        tmp_path,
        *("-m", "deploy.cli", "demo", "--duration", "3"),
        MONITORING_METRICS_PORT="19464-19999",
    )

    assert "aggregates" in out
